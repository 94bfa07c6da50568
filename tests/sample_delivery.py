"""A delivery that never happened, as a journal: two days, an outage, a nap, a pause, a kill, failures, large files.

For pages and tests that need a delivery with everything in it, in a second. Every event is checked as the engine does.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from upload_adapters.journal_file import DirectoryJournal
from upload_core import events as ev
from upload_core.checksum import crc32_base64
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.timestamps import parse_iso

BEGIN_MS: Final = parse_iso("2026-11-20T19:04:11.000Z")
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
PART: Final = 64 * 1024**2
LARGE: Final = 5
LEVELS: Final = ((0, 8), (40_000, 16), (95_000, 32), (700_000, 40), (2_400_000, 24), (3_000_000, 30))
"""Since the session began: how many transfers run at a time."""
VERDICT_MS: Final = 3_300
"""What the validator takes for one file, on average."""
HOURS: Final = 6.5
"""What the sending of all small files takes together, at the first level that lasts."""


class Block(NamedTuple):
    """Time in which nothing is sent."""

    begin: int
    end: int
    kind: str


class Plan(NamedTuple):
    """A session: when it begins and at the latest ends, whether it is killed, and when nothing goes."""

    begin: int
    end: int
    killed: bool
    blocks: Sequence[Block] = ()


PLANS: Final = (
    Plan(0, 95 * MINUTE, True, [Block(52 * MINUTE, 59 * MINUTE, "outage")]),
    Plan(
        13 * HOUR,
        40 * HOUR,
        False,
        [
            Block(13 * HOUR + 21 * MINUTE, 13 * HOUR + 33 * MINUTE, "pause"),
            Block(13 * HOUR + 55 * MINUTE, 15 * HOUR + 20 * MINUTE, "sleep"),
            Block(15 * HOUR + 48 * MINUTE, 15 * HOUR + 50 * MINUTE, "outage"),
        ],
    ),
)


def table(files: int, chance: random.Random) -> FileTable:
    """An index of images, light curves and a few large cubes."""
    paths, sizes = [], []
    for number in range(files):
        if number < LARGE:
            paths.append(f"cubes/field_{number:02d}.fits")
            sizes.append(int(chance.uniform(4, 30) * 1024**3))
        elif number % 3:
            paths.append(f"images/night_{number % 14:02d}/frame_{number:05d}.fits")
            sizes.append(2880 * int(chance.lognormvariate(8.6, 0.6)))
        else:
            paths.append(f"lightcurves/star_{number:05d}.csv")
            sizes.append(int(chance.lognormvariate(9.5, 1.1)))
    checksums = [crc32_base64(zlib.crc32(path.encode())) for path in paths]
    return FileTable.from_columns(paths, sizes, checksums)


class Sample:
    """Makes up events in any order and writes them in order."""

    def __init__(self, files: int, seed: int = 7) -> None:
        self.chance = random.Random(seed)
        self.table = table(files, self.chance)
        self.events: list[tuple[int, int, ev.Event]] = []
        self.waiting = list(range(LARGE, files))
        self.waiting.reverse()
        self.again: list[tuple[int, int]] = []
        """From when on which file may go again."""
        self.large = list(range(min(LARGE, files)))
        self.stored_parts: dict[int, int] = {}
        self.doubt: list[int] = []
        self.unjudged: list[tuple[int, bool]] = []
        """Stored files without a verdict, and whether the validator was told of them."""
        self.bad = dict.fromkeys(self.chance.sample(range(LARGE, files), max(1, files // 400)))
        self.refused = set(self.chance.sample(range(LARGE, files), 2))
        self.small_ms = HOURS * HOUR * 24 / max(1, files)
        self.log = 0
        self.stored: list[tuple[int, int]] = []

    def tell(self, ms: int, *events: ev.Event) -> None:
        """Those happened then."""
        for event in events:
            self.events.append((ms, len(self.events), event))

    def make(self) -> None:
        """The whole delivery."""
        for number, plan in enumerate(PLANS, 1):
            self._session(number, plan)

    # --- a session -------------------------------------------------------------------------------

    def _session(self, number: int, plan: Plan) -> None:
        begin = plan.begin
        self.tell(begin, ev.SessionOpened(number, "ada@ridge:4f2a", 0, 2, host="ridge", pid=4711 + number))
        self.tell(begin + 300, ev.SignedIn("ada"), ev.LockAcquired(f'"lock-{number}"'))
        for file in self.doubt:
            self.tell(begin + 20, ev.TransferInterrupted(file, "the session that sent it ended"))
            self.tell(begin + 400, ev.FileFoundMissing(file))
            if file < LARGE:
                self.large.insert(0, file)
            else:
                heapq.heappush(self.again, (begin + 500, file))
        self.doubt = []
        self.tell(begin + 900, ev.PipelineRequested(f"ada@ridge:{number}", self.log), ev.PipelineAccepted())
        self.tell(begin + 4_000, ev.ValidatorStarted("validation pipeline started"))
        unjudged, self.unjudged = self.unjudged, []
        for file, told in unjudged:
            if told:
                self.tell(begin + 600, ev.ReportLapsed(file))
            self._judge(begin + 5_500, file)
        for since, level in LEVELS:
            why = (
                "to begin with" if not since else "throughput grows" if level != 24 else "the archive asks for patience"
            )
            if begin + since < plan.end:
                self.tell(begin + since + 1_000, ev.ConcurrencyChanged(level, why))
        self._tell_blocks(plan)
        self.tell(begin + 6_000, ev.RunConfirmed())
        last = max(self._send_large(plan), self._send_small(plan), self._judge_all(plan)) + 2_000
        if plan.killed:
            return
        self.tell(last, ev.ClientLogAppended(self.log + 40, note="stop"), ev.StopReported())
        self.tell(last + 900, ev.ValidatorShutDown("ok", "client stopped"), ev.ValidatorStopped())
        self.tell(last + 1_500, ev.LockReleased(), ev.SessionClosed("incomplete"))

    def _tell_blocks(self, plan: Plan) -> None:
        for block in plan.blocks:
            if block.kind == "outage":
                self.tell(block.begin, ev.OutageBegan("no answer from s3.example.org: connection timed out"))
                self.tell(block.end, ev.OutageEnded())
            elif block.kind == "pause":
                self.tell(block.begin, ev.TransfersPaused("user", "the telescope needs the line"))
                self.tell(block.end, ev.TransfersContinued("user"))
            else:
                self.tell(
                    block.end, ev.SuspensionNoticed((block.end - block.begin) // 1000), ev.LockRenewed('"lock-9"')
                )

    def _blocked(self, plan: Plan, ms: int) -> Block | None:
        return next((block for block in plan.blocks if block.begin <= ms < block.end), None)

    def _broken(self, plan: Plan, begin: int, end: int) -> Block | None:
        """What breaks off a transfer: a pause lets it finish."""
        return next((b for b in plan.blocks if begin <= b.begin < end and b.kind != "pause"), None)

    def _level(self, plan: Plan, ms: int) -> int:
        return [level for since, level in LEVELS if since <= ms - plan.begin][-1]

    def _send_small(self, plan: Plan) -> int:
        workers = [(plan.begin + 7_000 + 40 * number, number) for number in range(40)]
        heapq.heapify(workers)
        last = plan.begin
        while (self.waiting or self.again) and workers:
            ms, worker = heapq.heappop(workers)
            block = self._blocked(plan, ms)
            if ms >= plan.end:
                continue
            if block is not None:
                heapq.heappush(workers, (block.end + 900 + 40 * worker, worker))
            elif worker >= self._level(plan, ms):
                heapq.heappush(workers, (ms + 15_000, worker))
            elif not self.waiting and self.again[0][0] > ms:
                heapq.heappush(workers, (ms + 1_000, worker))
            else:
                again = bool(self.again) and self.again[0][0] <= ms
                last = self._attempt(plan, ms, heapq.heappop(self.again)[1] if again else self.waiting.pop())
                heapq.heappush(workers, (last + self.chance.randrange(5, 60), worker))
        return last

    def _attempt(self, plan: Plan, ms: int, file: int, retries: int = 0) -> int:
        took = int(self.small_ms * (0.15 + self.table.size(file) / 24e6) * self.chance.lognormvariate(0, 0.5)) + 30
        self.tell(ms, ev.TransferRetried(file) if retries else ev.TransferQueued(file), ev.TransferStarted(file))
        end = ms + took
        broken = self._broken(plan, ms, end)
        if broken is not None:
            at = broken.end if broken.kind == "sleep" else broken.begin
            self.tell(at + 5, ev.TransferInterrupted(file, "connection timed out"))
            self.tell(broken.end + 600, ev.FileFoundMissing(file))
            heapq.heappush(self.again, (broken.end + 700, file))
            return broken.end + 700
        if end >= plan.end:
            self.doubt.append(file)
            return plan.end
        if file in self.refused:
            self.tell(end, ev.TransferAbandoned(file, "the archive refuses this object: AccessDenied (403)"))
            return end
        if self.chance.random() < 0.012 and retries < 2 and end + 5_000 < plan.end:
            self.tell(end, ev.TransferFailed(file, "it changed while it was read"))
            return self._attempt(plan, end + 500 * 2**retries, file, retries + 1)
        self.tell(end, ev.TransferCompleted(file, self.table.size(file), self._crc(file), f'"{file:032x}"'))
        self._judge(end, file)
        return end

    def _send_large(self, plan: Plan) -> int:
        ms = plan.begin + 30_000
        last = ms
        for file in list(self.large):
            if ms >= plan.end:
                break
            self.large.remove(file)
            self.tell(ms, ev.TransferQueued(file), ev.TransferStarted(file))
            if file not in self.stored_parts:
                self.tell(ms + 5, ev.UploadBegun(file, f"upload-{file}", PART, f"inode-{file}"))
                self.stored_parts[file] = 0
            parts = -(-self.table.size(file) // PART)
            while self.stored_parts[file] < parts:
                ms += self.chance.randrange(6_000, 11_000)
                block = self._blocked(plan, ms)
                if ms >= plan.end:
                    self.doubt.append(file)
                    return plan.end
                if block is not None and block.kind != "pause":
                    self.tell(block.end + 400, ev.TransferInterrupted(file, "connection timed out"))
                    self.tell(block.end + 600, ev.FileFoundMissing(file))
                    ms = block.end + 1_000
                    self.tell(ms, ev.TransferQueued(file), ev.TransferStarted(file))
                self.stored_parts[file] += 1
                self.tell(ms + 10, ev.PartStored(file, self.stored_parts[file], self._crc(file)))
            ms += 2_000
            done = ev.TransferCompleted(file, self.table.size(file), self._crc(file), f'"{file:032x}-{parts}"')
            self.tell(ms, ev.UploadEnded(file), done)
            self._judge(ms, file)
            last = ms = ms + 500
        return last

    def _judge(self, ms: int, file: int) -> None:
        """The validator is told at the next full second, and takes one after the other."""
        self.stored.append(((ms // 1000 + 1) * 1000, file))

    def _judge_all(self, plan: Plan) -> int:
        """What was stored in this session; what comes too late for it waits for the next one."""
        free = plan.begin
        stored, self.stored = sorted(self.stored), []
        for told, file in stored:
            if told >= plan.end:
                self.unjudged.append((file, False))
                continue
            self.log += 60
            self.tell(told, ev.FileReported(file), ev.ClientLogAppended(self.log, 1))
            free = max(free, told) + int(VERDICT_MS * self.chance.lognormvariate(0, 0.7))
            if plan.killed and free >= plan.end:
                self.unjudged.append((file, True))
                continue
            if file not in self.bad:
                self.tell(free, ev.FileValidated(file))
                continue
            why = f"not a whole FITS file: {self.table.size(file) - 1000} bytes are no multiple of 2880"
            if file % 5 == 0:
                why = f"{self.table.path(file)}: keyword TELESCOP is missing from the primary header"
            self.tell(free, ev.FileInvalidated(file, f'problems:\n- "{why}"'))
        return free

    def _crc(self, file: int) -> str:
        return self.table.checksum(file) or ""

    # --- written down ----------------------------------------------------------------------------

    def write(self, path: Path) -> None:
        """The journal of what was made up; raises `IllegalEventError` if it could not have happened."""
        created = ev.DeliveryCreated(
            "ridge-survey",
            "2026-11",
            "staging",
            "ada@ridge:4f2a",
            "/data/ridge",
            "aws:sky archive:ridge-survey-2026-11-staging",
            self.table.digest,
            len(self.table),
        )
        journal = DirectoryJournal(path, sync=_no_sync, segment_bytes=2_000_000)
        delivery = journal.create(created, self.table, time_ms=BEGIN_MS - 50)
        delivery.apply(created, BEGIN_MS - 50)
        batch: list[ev.Event] = []
        batch_ms = 0
        for ms, _, event in sorted(self.events):
            if batch and ms // 200 != batch_ms // 200:
                self._append(journal, delivery, batch, batch_ms)
                batch = []
            batch, batch_ms = [*batch, event], ms
        self._append(journal, delivery, batch, batch_ms)
        journal.close(delivery)

    def _append(self, journal: DirectoryJournal, delivery: Delivery, batch: Sequence[ev.Event], ms: int) -> None:
        delivery.check(batch)
        journal.append(batch, time_ms=BEGIN_MS + ms)
        for event in batch:
            delivery.apply(event, BEGIN_MS + ms)


def _no_sync(descriptor: int) -> None:
    """Nobody cuts the power."""


def write_sample(path: Path, files: int = 4_000, seed: int = 7) -> None:
    """Write the sample's journal to a directory that is not there yet."""
    sample = Sample(files, seed)
    sample.make()
    sample.write(path)
