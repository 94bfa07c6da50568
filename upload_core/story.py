"""What a whole journal tells about a delivery, in one pass: how it went, what went wrong, and what is stored.

`Story` folds every record once. It keeps some 60 bytes per file (what the archive acknowledged), and whatever else it
learns in bounded room: a timeline of bins, groups of reasons, the slowest few. It reads no file and no clock.
"""

from __future__ import annotations

import functools
import heapq
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, Literal

import attrs
import msgspec

from upload_core import events as ev
from upload_core.checksum import crc32_base64, parse_checksum
from upload_core.delivery import PLAIN_TABLE, Delivery
from upload_core.files import FileTable
from upload_core.journal import record_at
from upload_core.lifecycle import ABANDONED, FAILED, INVALID, PublicFileState
from upload_core.messages import describe, plain
from upload_core.timeline import Span, Timeline
from upload_core.timestamps import parse_iso

SLOWEST_MAX: Final = 10
GROUPS_MAX: Final = 500
NAMES_MAX: Final = 5
DIARY_MAX: Final = 300
LARGE_MAX: Final = 2_000
SAMPLES_MAX: Final = 64
DURATIONS_MS: Final = (
    *(1, 3, 10, 30, 100, 300),
    *(1000 * seconds for seconds in (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000, 86_400, 259_200)),
)
"""Upper ends of the classes of durations: 1 ms, 3 ms, 10 ms and so on to 3 days; what takes longer is the last."""
LEFT_OUT_MS: Final = 60_000
"""A shorter stand-still is not worth a gap in a chart."""

DIARY: Final = frozenset(
    {ev.SessionOpened, ev.SessionClosed, ev.IndexRevised, ev.LockLost, ev.OutageBegan, ev.OutageEnded}
    | {ev.SuspensionNoticed, ev.TransfersPaused, ev.TransfersContinued, ev.StopRequested, ev.JournalRepaired}
    | {ev.ClientCrashed, ev.ValidatorStarted, ev.ValidatorStartFailed, ev.ValidatorShutDown, ev.ValidatorStopped}
    | {ev.ValidatorLost, ev.PipelineRefused, ev.PipelineAttached, ev.UnexpectedVerdictFound, ev.LogLineRejected}
    | {ev.ValidatorLogRestarted}
)
"""What a person wants to find in a delivery's diary; everything else is a chart or a table."""


class Told(msgspec.Struct, gc=False):
    """All that nearly every record has to tell."""

    seq: int
    time: str
    kind: Literal[tuple(ev.KINDS)]  # type: ignore[valid-type]  # a literal of all kinds decodes to the same few strings
    file: int = -1
    size: int = 0
    checksum: str = ""
    etag: str = ""


_told = msgspec.json.Decoder(Told)
_PLAIN: Final = {kind.__name__: tuple(row) for kind, row in PLAIN_TABLE.items()}


@attrs.define
class Session:
    """One process's work on the delivery; `outcome` is "" while it is open, and `cut off` if it never closed."""

    number: int
    begin_ms: int
    end_ms: int
    host: str = ""
    outcome: str = ""
    reason: str = ""
    message: str = ""
    sent_files: int = 0
    sent_bytes: int = 0
    judged: int = 0
    retries: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One line of the diary."""

    time_ms: int
    kind: str
    text: str


@attrs.define
class Group:
    """Files (or attempts) with the same reason, numbers in it aside; `reason` is the first one's, word for word.

    `varies` tells that others have other numbers in it.
    """

    state: str
    reason: str
    count: int = 0
    names: list[str] = attrs.field(factory=list)
    varies: bool = False


class Groups:
    """Reasons and how often each was given, in bounded room."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, state: str, message: str, path: str) -> None:
        """Count one more.

        >>> groups = Groups()
        >>> groups.add("invalid", "a: 3 bytes are too few", "a")
        >>> groups.add("invalid", "b: 4 bytes are too few", "b")
        >>> [(group.reason, group.count, group.names, group.varies) for group in groups]
        [('…: 3 bytes are too few', 2, ['a', 'b'], True)]
        """
        reason = plain(message or "no reason was given").replace(path, "…")
        key = state, _NUMBERS.sub("0", reason)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                key, reason = (state, ""), "other reasons"
            group = self._groups.setdefault(key, Group(state, reason))
        group.count += 1
        group.varies = group.varies or reason != group.reason
        if len(group.names) < NAMES_MAX and path not in group.names:
            group.names.append(path)

    def __iter__(self) -> Iterator[Group]:
        """The groups, the largest first."""
        return iter(sorted(self._groups.values(), key=lambda group: -group.count))

    def __len__(self) -> int:
        return len(self._groups)


_NUMBERS: Final = re.compile(r"\d[\d,.]*")


@attrs.define
class LargeFile:
    """A file that was sent in parts: how often it was begun, and how its parts came together."""

    file: int
    part_size: int
    begin_ms: int
    end_ms: int
    uploads: int = 0
    """Multipart uploads that were opened for it; more than one if what was stored could not be gone on with."""
    interruptions: int = 0
    sent_again: int = 0
    """Parts that were acknowledged although the same upload had them."""
    parts: int = 0
    samples: list[tuple[int, int]] = attrs.field(factory=list)
    """Moments and how many parts were there."""

    def look(self, time_ms: int, parts: int) -> None:
        """Note how many parts are there now; every other sample goes when there are too many."""
        self.end_ms, self.parts = time_ms, parts
        if len(self.samples) >= SAMPLES_MAX:
            del self.samples[1:-1:2]
        self.samples.append((time_ms, parts))


class Slow(msgspec.Struct, frozen=True, order=True):
    """A file and how long its successful attempt took."""

    ms: int
    file: int


class StoredColumn:
    """What the archive acknowledged of each file, packed: CRC32, etag and when."""

    def __init__(self, files: int) -> None:
        self.times = array("q", bytes(8 * files))
        """When it was stored, 0 if it is not known to be."""
        self._crcs = array("q", bytes(8 * files))
        self._places = array("Q", bytes(8 * files))
        self._etags = bytearray(b"\0")

    def put(self, file: int, time_ms: int, checksum: str, etag: str) -> None:
        """Take down what was acknowledged, instead of what was before."""
        self.times[file] = time_ms
        try:
            self._crcs[file] = parse_checksum(checksum)
        except ValueError:  # an archive that said none
            self._crcs[file] = -1
        self._places[file] = len(self._etags) if etag else 0
        if etag:
            self._etags += etag.encode() + b"\0"

    def drop(self, file: int) -> None:
        """Nothing is known to be stored any more."""
        self.times[file] = 0

    def checksum(self, file: int) -> str:
        """The CRC32 (base64) that the archive asserted, "" if it said none."""
        return crc32_base64(self._crcs[file]) if self._crcs[file] >= 0 else ""

    def etag(self, file: int) -> str:
        """The archive's own mark of the object, "" if it gave none."""
        place = self._places[file]
        return self._etags[place : self._etags.index(b"\0", place)].decode() if place else ""


class Row(msgspec.Struct, frozen=True):
    """A file as the delivery left it; of one that is not stored `checksum` is the index's, and `etag` is empty."""

    path: str
    size: int
    checksum: str
    etag: str
    state: PublicFileState
    stored: bool
    message: str


class Story:
    """A delivery as its journal tells it from the first record to the last that it was given."""

    def __init__(self, created: ev.DeliveryCreated, table: FileTable) -> None:
        """`table` is the index as it stands in the end, revisions included."""
        self.created, self.table = created, table
        self.delivery = Delivery.begin(created, table)
        self.first_counts = tuple(self.delivery.counts)
        self.timeline = Timeline()
        self.sessions: list[Session] = []
        self.outages: list[Span] = []
        self.pauses: list[Span] = []
        self.standstills: list[Span] = []
        self.diary: list[Entry] = []
        self.diary_left_out = 0
        self.setbacks = Groups()
        """Attempts that failed or were cut off, whatever became of the file later."""
        self.sending = [0] * (len(DURATIONS_MS) + 1)
        """Files by how long their successful attempt took."""
        self.judging = [0] * (len(DURATIONS_MS) + 1)
        """Files by how long their verdict took, from when they were stored."""
        self.slowest: list[Slow] = []
        self.large: dict[int, LargeFile] = {}
        self.large_left_out = 0
        self.stored = StoredColumn(len(table))
        self.attempts = self.sent_bytes = self.level_changes = 0
        self.first_ms = self.now_ms = 0
        self._before_ms = 0
        self._time = ""
        self._bin = self.timeline.at(0)
        self._bin_end = 0
        self._started: dict[int, int] = {}
        self._part_sizes: dict[int, int] = {}
        self._open: dict[str, tuple[int, str]] = {}

    # --- telling ---------------------------------------------------------------------------------

    def take(self, piece: bytes) -> None:
        """Go on with the journal's next lines, whole batches that were verified before."""
        delivery = self.delivery
        states, counts, started = delivery.states, delivery.counts, self._started
        seq, start = delivery.facts.seq, 0
        for told in _told.decode_lines(piece):
            if told.time != self._time:
                self._move_to(told.time)
            seq, kind, file = told.seq, told.kind, told.file
            row = _PLAIN.get(kind)
            if row is None:
                record, start = record_at(piece, seq, start)
                self._take_in_full(record.event)
                continue
            old = states[file]
            states[file] = new = row[old]
            counts[old] -= 1
            counts[new] += 1
            if kind == "TransferStarted":
                started[file] = self.now_ms
                self.attempts += 1
                if delivery.uploads and (upload := delivery.uploads.get(file)) is not None:
                    self._part_sizes[file] = upload.part_size
            elif kind == "TransferCompleted":
                self._completed(file, told)
            elif kind == "FileValidated":
                self._bin.accepted += 1
                self._judged(file)
        delivery.facts.seq = seq

    def finish(self) -> None:
        """The journal ends here."""
        self.delivery.refresh_derived()
        self._bin.counts = tuple(self.delivery.counts)
        for name in list(self._open):
            self._end(name, self.now_ms)
        if self.sessions and not self.sessions[-1].outcome:
            self.sessions[-1].end_ms = self.now_ms
        self.slowest.sort(reverse=True)

    def failed(self) -> Groups:
        """Files that are failed or invalid, by reason."""
        groups, delivery = Groups(), self.delivery
        for file in sorted(delivery.files_in(FAILED, ABANDONED, INVALID)):
            groups.add(delivery.state_of(file), delivery.message_of(file) or "", self.table.path(file))
        return groups

    def rows(self) -> Iterator[Row]:
        """Every file, in index order."""
        delivery, table, stored = self.delivery, self.table, self.stored
        for file, path in enumerate(table.paths()):
            there = bool(stored.times[file])
            yield Row(
                path,
                table.size(file),
                stored.checksum(file) if there else table.checksum(file) or "",
                stored.etag(file) if there else "",
                delivery.state_of(file),
                there,
                delivery.message_of(file) or "",
            )

    # --- one record after the other --------------------------------------------------------------

    def _move_to(self, time: str) -> None:
        self._time, self._before_ms = time, self.now_ms
        # a clock that was set back makes nothing happen before what it followed
        self.now_ms = max(parse_iso(time), self.now_ms)
        if self.now_ms < self._bin_end:
            return
        self._bin.counts = tuple(self.delivery.counts)
        if not self.first_ms:
            self.first_ms = self.now_ms
            self.timeline.bins.clear()
        self._bin = self.timeline.at(self.now_ms)
        self._bin_end = self.timeline.end_of(self.now_ms)

    def _completed(self, file: int, told: Told) -> None:
        self.stored.put(file, self.now_ms, told.checksum, told.etag)
        session = self.sessions[-1] if self.sessions else None
        if self._part_sizes.pop(file, None) is None:
            self._sent(told.size)
        self._bin.sent_files += 1
        if session is not None:
            session.sent_files += 1
        begin_ms = self._started.pop(file, None)
        if begin_ms is None:
            return
        took = self.now_ms - begin_ms
        self.sending[bisect_right(DURATIONS_MS, took)] += 1
        if len(self.slowest) < SLOWEST_MAX:
            heapq.heappush(self.slowest, Slow(took, file))
        elif took > self.slowest[0].ms:
            heapq.heapreplace(self.slowest, Slow(took, file))

    def _sent(self, size: int) -> None:
        self.sent_bytes += size
        self._bin.sent_bytes += size
        if self.sessions:
            self.sessions[-1].sent_bytes += size

    def _judged(self, file: int) -> None:
        if self.sessions:
            self.sessions[-1].judged += 1
        if stored_ms := self.stored.times[file]:
            self.judging[bisect_right(DURATIONS_MS, self.now_ms - stored_ms)] += 1

    def _take_in_full(self, event: ev.Event) -> None:
        if isinstance(event, ev.FileEvent):
            self._of_file(event)
        else:
            self._of_delivery(event)
        self.delivery.apply(event, self.now_ms)

    def _of_file(self, event: ev.FileEvent) -> None:
        """Before the event is applied."""
        file = event.file
        match event:
            case ev.PartStored():  # first, since a large file has thousands
                self._part_stored(event)
            case ev.TransferFailed() | ev.TransferAbandoned() | ev.TransferInterrupted():
                self._bin.faults += 1
                self._started.pop(file, None)
                if (large := self.large.get(file)) is not None:
                    large.interruptions += 1
                kind = "was cut off" if isinstance(event, ev.TransferInterrupted) else "failed"
                self.setbacks.add(kind, event.message, self.table.path(file))
            case ev.TransferRetried():
                self._bin.retries += 1
                if self.sessions:
                    self.sessions[-1].retries += 1
            case ev.FileInvalidated():
                self._bin.rejected += 1
                self._judged(file)
            case ev.FileFoundStored():
                self.stored.put(file, self.now_ms, event.checksum, event.etag)
            case ev.FileFoundValid():
                self.stored.put(file, self.now_ms, event.checksum, "")
            case ev.FileRevised() | ev.FileFoundMissing():
                self.stored.drop(file)
            case ev.UploadBegun():
                self._part_sizes[file] = event.part_size
                large = self.large.get(file)
                if large is None:
                    if len(self.large) >= LARGE_MAX:
                        self.large_left_out += 1
                        return
                    large = self.large[file] = LargeFile(file, event.part_size, self.now_ms, self.now_ms)
                large.uploads += 1
                large.part_size = event.part_size
                large.look(self.now_ms, 0)

    def _part_stored(self, event: ev.PartStored) -> None:
        file = event.file
        part_size = self._part_sizes.get(file, 0)
        self._sent(max(0, min(part_size, self.table.size(file) - (event.number - 1) * part_size)))
        large, upload = self.large.get(file), self.delivery.uploads.get(file)
        if large is not None and upload is not None:
            again = event.number in upload.parts
            large.sent_again += again
            large.look(self.now_ms, len(upload.parts) + (not again))

    def _of_delivery(self, event: ev.Event) -> None:
        """Before the event is applied."""
        match event:
            case ev.SessionOpened():
                self._cut_off()
                self.sessions.append(Session(event.session, self.now_ms, self.now_ms, event.host))
                self._bin.level = event.n_threads
            case ev.IndexRevised() | ev.JournalRepaired():
                self._cut_off()  # both come before the session that they belong to
            case ev.SessionClosed():
                self._close(self.now_ms, event.outcome, event.reason, event.message)
            case ev.OutageBegan():
                self._open.setdefault("outage", (self.now_ms, plain(event.message)))
            case ev.OutageEnded():
                self._end("outage", self.now_ms)
            case ev.TransfersPaused():
                self._open.setdefault(f"pause {event.by}", (self.now_ms, plain(event.message)))
            case ev.TransfersContinued():
                self._end(f"pause {event.by}", self.now_ms)
            case ev.SuspensionNoticed():
                self.standstills.append(Span(self.now_ms - event.seconds * 1000, self.now_ms))
            case ev.ConcurrencyChanged():
                self._bin.level = event.level
                self.level_changes += 1
        if type(event) in DIARY:
            if len(self.diary) >= DIARY_MAX:
                del self.diary[DIARY_MAX // 2]
                self.diary_left_out += 1
            self.diary.append(Entry(self.now_ms, type(event).__name__, describe(event)))

    def _cut_off(self) -> None:
        """If a session is open, its process died: it ended with the last record before the present ones."""
        if self.sessions and not self.sessions[-1].outcome:
            self._close(self._before_ms, "cut off", "", "")

    def _close(self, end_ms: int, outcome: str, reason: str, message: str) -> None:
        for name in list(self._open):
            self._end(name, end_ms)
        if self.sessions:
            session = self.sessions[-1]
            session.end_ms = max(session.begin_ms, end_ms)
            session.outcome, session.reason, session.message = outcome, reason, message

    def _end(self, name: str, end_ms: int) -> None:
        if name in self._open:
            begin_ms, text = self._open.pop(name)
            spans = self.outages if name == "outage" else self.pauses
            spans.append(Span(begin_ms, max(begin_ms, end_ms), text))


@functools.cache
def size_class(bit_length: int) -> int:
    """The class of a size of that bit length: 0 for nothing, else n for less than 1 KiB times 4 to the power n - 1.

    >>> [size_class(size.bit_length()) for size in (0, 1, 1023, 1024, 4095, 4096)]
    [0, 1, 1, 2, 2, 3]
    """
    return 0 if bit_length == 0 else max(0, (bit_length - 10 + 1) // 2) + 1
