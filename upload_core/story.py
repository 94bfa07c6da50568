"""What a whole journal tells about a delivery, in one pass: how it went, what went wrong, and what is stored.

`Story` folds every record once. It keeps some 60 bytes per file (what the archive acknowledged), and whatever else it
learns in bounded room: a timeline of bins, groups of reasons, the slowest few. It reads no file and no clock.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, Literal

import attrs
import msgspec

from upload_core import events as ev
from upload_core.delivery import PLAIN_TABLE, Delivery
from upload_core.files import FileTable
from upload_core.journal import record_at, recorded_ms
from upload_core.lifecycle import ABANDONED, FAILED, INVALID, PublicFileState
from upload_core.messages import describe, plain
from upload_core.tally import DURATIONS_MS, Groups, LargeFile, StoredColumn
from upload_core.timeline import Span, Timeline

SLOWEST_MAX: Final = 10
DIARY_MAX: Final = 300
LARGE_MAX: Final = 2_000
LEFT_OUT_MS: Final = 60_000
"""A shorter stand-still is not worth a gap in a chart."""

DIARY: Final = frozenset(
    {ev.SessionOpened, ev.SessionClosed, ev.IndexRevised, ev.LockLost, ev.OutageBegan, ev.OutageEnded}
    | {ev.SuspensionNoticed, ev.TransfersPaused, ev.TransfersContinued, ev.StopRequested, ev.JournalRepaired}
    | {ev.ClientCrashed, ev.ValidatorStarted, ev.ValidatorStartFailed, ev.ValidatorShutDown, ev.ValidatorStopped}
    | {
        ev.ValidatorLost,
        ev.PipelineRefused,
        ev.PipelineAttached,
        ev.RunAwaited,
        ev.UnexpectedVerdictFound,
        ev.LogLineRejected,
    }
    | {ev.ValidatorLogRestarted, ev.CopyJobRequested, ev.CopyJobCreated, ev.CopyJobEnded}
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


class Slow(msgspec.Struct, frozen=True, order=True):
    """A file and how long its successful attempt took."""

    ms: int
    file: int


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
        self.now_ms = max(recorded_ms(time), self.now_ms)
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
