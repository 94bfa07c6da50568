"""The state of a delivery: a fold of events, in columns.

`apply` is the only code that changes state; `decide` only says what should be recorded and done. Neither touches a
clock, a thread, a file or a socket. Files are rows of a table; what the lifecycle knows of a row is one byte.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs
import msgspec

from upload_core import commands as cmd
from upload_core import events as ev
from upload_core import sessions, transfers, verdicts
from upload_core.commands import Decision
from upload_core.effects import OpenUpload
from upload_core.errors import IllegalEventError
from upload_core.facts import FACT_CHANGES, Facts
from upload_core.files import FileTable
from upload_core.lifecycle import (
    ABANDONED,
    FAILED,
    FILE_STATES,
    FILE_TABLE,
    FILE_TABLE_SPENT,
    ILLEGAL,
    INVALID,
    PENDING,
    PUBLIC_STATES,
    READY,
    TRANSFERRING,
    UNRESOLVED,
    VALID,
    ClientLifecycle,
    PublicFileState,
)
from upload_core.ports import Limits
from upload_core.recovery import Run
from upload_core.retry import delay_ms

PLAIN_KINDS: Final = (
    ev.TransferQueued,
    ev.TransferStarted,
    ev.TransferCompleted,
    ev.FileReported,
    ev.ReportLapsed,
    ev.FileValidated,
)
"""Events that move one byte of the state column and nothing else, and so need no more than their kind and file.

They make up nearly all of a journal; replay and the live path treat them by table alone.
"""
PLAIN_TABLE: Final[dict[type[ev.Event], bytes]] = {kind: FILE_TABLE[kind.__name__] for kind in PLAIN_KINDS}
_FILE_TABLE_OF_KIND: Final[dict[type[ev.Event], bytes]] = {
    kind: FILE_TABLE[kind.__name__] for kind in ev.EVENTS if issubclass(kind, ev.FileEvent)
}
_SHOWN: Final = tuple(PUBLIC_STATES.index(state.shown_as) for state in FILE_STATES)
_WITH_MESSAGE: Final = frozenset({FAILED, ABANDONED, INVALID})
_PACE_KEPT: Final = 0.7
"""Share of the validator's pace that one slow look leaves: it writes in bursts."""


@attrs.define(eq=False)
class Delivery:
    """One delivery as its journal tells it."""

    table: FileTable
    created: ev.DeliveryCreated
    states: bytearray = attrs.field(repr=False)
    retries: bytearray = attrs.field(repr=False)
    counts: list[int]
    facts: Facts = attrs.field(factory=Facts)
    client: ClientLifecycle = attrs.field(factory=ClientLifecycle, repr=False)
    messages: dict[int, str] = attrs.field(factory=dict, repr=False)
    deferred: dict[int, tuple[str, str]] = attrs.field(factory=dict, repr=False)
    uploads: dict[int, OpenUpload] = attrs.field(factory=dict, repr=False)
    """Multipart uploads that are open; only files that are sent in parts have one."""
    limits: Limits = attrs.field(factory=Limits)
    """How the host paces this client; not part of the state."""
    retry_due_ms: OrderedDict[int, int] = attrs.field(factory=OrderedDict, repr=False)
    """Failed files in the order they failed and when each may go again; derived from events, not part of the state.

    Its first entry is taken again and again: a plain dict would walk over all that were taken before.
    """
    run_seen_ms: int = 0
    """When this session first heard of the run at work, 0 once that has shown that it follows our log; derived as well."""
    verdicts_per_s: float = 0.0
    """How fast the validator judges, by the verdicts that were read last; derived as well."""
    _judged_ms: int = 0
    _hints: list[int] = attrs.field(factory=lambda: [0] * len(FILE_STATES), repr=False)

    @classmethod
    def begin(cls, created: ev.DeliveryCreated, table: FileTable) -> Delivery:
        """The delivery before its first event: every file ready."""
        counts = [0] * len(FILE_STATES)
        counts[READY] = created.files
        delivery = cls(table, created, bytearray(created.files), bytearray(created.files), counts)
        delivery.facts.agent_id = created.agent_id
        delivery.facts.source = created.source
        delivery.facts.index_digest = created.index_digest
        delivery.facts.n_threads, delivery.facts.max_retries = created.n_threads, created.max_retries
        return delivery

    # --- what callers see ------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.states)

    @property
    def client_state(self) -> str:
        """Name of the client's state."""
        return self.client.state

    def state_of(self, file: int) -> PublicFileState:
        """The state of a file, in the seven words that callers know."""
        return FILE_STATES[self.states[file]].shown_as

    def message_of(self, file: int) -> str | None:
        """Why the file is failed or invalid; None in every other state."""
        return self.messages.get(file) if self.states[file] in _WITH_MESSAGE else None

    def public_counts(self) -> dict[PublicFileState, int]:
        """How many files are in each of the seven states."""
        counts = [0] * len(PUBLIC_STATES)
        for code, count in enumerate(self.counts):
            counts[_SHOWN[code]] += count
        return dict(zip(PUBLIC_STATES, counts, strict=True))

    @property
    def n_complete(self) -> int:
        """How many files are judged, or given up after their last attempt."""
        counts = self.counts
        return counts[VALID] + counts[INVALID] + counts[ABANDONED]

    @property
    def transfer_complete(self) -> bool:
        """No file is left to send, being sent, or in doubt."""
        counts = self.counts
        return not (counts[READY] or counts[UNRESOLVED] or counts[PENDING] or counts[TRANSFERRING] or counts[FAILED])

    @property
    def validation_complete(self) -> bool:
        """Nothing is left to do for any file."""
        return self.n_complete == len(self.states)

    @property
    def all_valid(self) -> bool:
        """Every indexed file is `valid`."""
        return self.counts[VALID] == len(self.states)

    @property
    def run_state(self) -> Run:
        """What the events say of the latest validation run."""
        if not self.facts.run_open:
            if self.facts.stop_reported:
                return Run.DISMISSED
            if self.facts.run == 0:
                return Run.NONE
            return Run.REFUSED if self.facts.run_refused_ms else Run.OVER
        if self.facts.stop_reported:
            return Run.ENDING
        if not self.facts.run_started:
            return Run.REQUEST_OUTDATED if self.facts.run_outdated else Run.REQUESTED
        return Run.OUTDATED if self.facts.run_outdated else Run.STARTED

    def next_file(self, now_ms: int) -> int | None:
        """The file that goes next: one whose rest after a failure is over, else a ready one, else one that still rests."""
        resting = next(iter(self.retry_due_ms), None)
        if not self.counts[READY] or (resting is not None and self.retry_due_ms[resting] <= now_ms):
            return resting
        file = self.states.find(READY, self._hints[READY])
        self._hints[READY] = file if file >= 0 else self.states.find(READY)
        return self._hints[READY]

    def take(self, code: int, count: int) -> list[int]:
        """Up to `count` files in that state, going round the index so that repeated calls stay cheap."""
        states, found, start = self.states, [], self._hints[code]
        for _ in range(min(count, self.counts[code])):
            file = states.find(code, start)
            if file < 0:
                file = states.find(code)
            found.append(file)
            start = file + 1
        self._hints[code] = start
        return found

    def files_in(self, *codes: int) -> Iterator[int]:
        """Every file in one of these states, in index order; scans the whole column."""
        for code in codes:
            file = self.states.find(code)
            while file >= 0:
                yield file
                file = self.states.find(code, file + 1)

    def find(self, relpath: str) -> int | None:
        """The row of a path, or None if it is not indexed."""
        file = self.table.find(relpath)
        return file if file is not None and file < len(self.states) else None

    # --- decide ----------------------------------------------------------------------------------

    def decide(self, what: object, now_ms: int) -> Decision:
        """What to record and do about a command, an outcome or a tick; changes nothing."""
        return DECIDERS[type(what)](self, what, now_ms)

    # --- apply -----------------------------------------------------------------------------------

    def check(self, events: Sequence[ev.Event]) -> None:
        """Raises `IllegalEventError` if these events could not be applied one after the other.

        What cannot be replayed must never reach the journal: it would take everything before it along.
        """
        codes: dict[int, int] = {}
        states, client = self.states, self.client.state
        for event in events:
            row = _FILE_TABLE_OF_KIND.get(type(event))
            if row is not None:
                file: int = event.file  # type: ignore[attr-defined]  # these kinds are file events
                old = codes[file] if file in codes else states[file]
                codes[file] = new = row[old]
                if new == ILLEGAL:
                    raise self._illegal(event, file, old)
            else:
                client = self.client.after(type(event).__name__, client)

    def apply(self, event: ev.Event, time_ms: int) -> None:
        """Change the state by one event; raises `IllegalEventError`, and changes nothing, where the lifecycles say no."""
        row = PLAIN_TABLE.get(type(event))
        if row is not None:
            file: int = event.file  # type: ignore[attr-defined]  # plain kinds are file events
            self._set(event, file, row[self.states[file]])
        elif isinstance(event, ev.FileEvent):
            self._apply_to_file(event, time_ms)
        else:
            if isinstance(event, ev.IndexRevised) and event.files < len(self.states):
                raise IllegalEventError(
                    f"the delivery has {len(self.states)} file(s), a revision cannot leave {event.files}"
                )
            self.client.trigger_by(type(event).__name__)
            change = FACT_CHANGES.get(type(event))
            if change is not None:
                change(self.facts, event, time_ms)
            if isinstance(event, ev.ValidatorStarted | ev.PipelineAttached):
                self.run_seen_ms = time_ms
            elif isinstance(event, ev.ValidatorKeptAlive):
                self.run_seen_ms = 0
            elif isinstance(event, ev.ValidatorLogRead) and event.verdicts:
                passed_s = max(1.0, (time_ms - self._judged_ms) / 1000) if self._judged_ms else 1.0
                self.verdicts_per_s = max(event.verdicts / passed_s, self.verdicts_per_s * _PACE_KEPT)
                self._judged_ms = time_ms
            if isinstance(event, ev.IndexRevised):
                self._extend(event.files - len(self.states))
        self.facts.seq += 1

    def _set(self, event: ev.Event, file: int, new: int) -> None:
        old = self.states[file]
        if new == ILLEGAL:
            raise self._illegal(event, file, old)
        self.states[file] = new
        counts = self.counts
        counts[old] -= 1
        counts[new] += 1

    def _illegal(self, event: ev.Event, file: int, state: int) -> IllegalEventError:
        what, name = type(event).__name__, FILE_STATES[state].name if state < len(FILE_STATES) else "undefined"
        return IllegalEventError(f"{what} cannot happen to {self.table.path(file)!r} while it is {name}")

    def _apply_to_file(self, event: ev.FileEvent, time_ms: int) -> None:
        file, kind = event.file, type(event).__name__
        before = self.states[file]
        table = FILE_TABLE if self.retries[file] < self.facts.max_retries else FILE_TABLE_SPENT
        self._set(event, file, table[kind][self.states[file]])
        self.retry_due_ms.pop(file, None)
        match event:
            case ev.PartStored():  # first, since a large file has thousands
                if (upload := self.uploads.get(file)) is not None:
                    upload.parts[event.number] = event.checksum
            case ev.TransferRetried():
                self.retries[file] += 1
                self.facts.retries_total += 1
            case ev.TransferFailed():
                self.messages[file] = event.message
                if self.states[file] == FAILED:
                    self.retry_due_ms[file] = time_ms + delay_ms(self.retries[file])
            case ev.TransferAbandoned() | ev.FileInvalidated():
                self.messages[file] = event.message
            case ev.VerdictDeferred():
                self.deferred[file] = (event.status, event.message)
                if before == ABANDONED and self.facts.run_open:
                    self.facts.run_outdated = True  # it may have been given up before the run's index was written
            case ev.UploadBegun():
                self.uploads[file] = OpenUpload(event.upload_id, event.part_size, event.fingerprint, {})
            case ev.UploadEnded():
                self.uploads.pop(file, None)
            case ev.FileFoundStored() | ev.FileFoundMissing() | ev.FileFoundValid():
                self.deferred.pop(file, None)
            case ev.FileRequeued() | ev.FileRevised():
                if isinstance(event, ev.FileRequeued) and self.facts.run_open:
                    self.facts.run_outdated = True
                self.retries[file] = 0
                self.messages.pop(file, None)
                self.deferred.pop(file, None)

    def _extend(self, added: int) -> None:
        self.states.extend(bytes([READY]) * added)
        self.retries.extend(bytes(added))
        self.counts[READY] += added

    def refresh_derived(self) -> None:
        """Rebuild what follows from the columns: counters and the retry queue; after a replay or a snapshot."""
        self.counts[:] = [self.states.count(code) for code in range(len(FILE_STATES))]
        if sum(self.counts) != len(self.states):
            raise IllegalEventError("an event came in a state whose lifecycle has no row for it")
        self.retry_due_ms = OrderedDict.fromkeys(self.files_in(FAILED), 0)

    # --- canonical form --------------------------------------------------------------------------

    def canonical(self) -> bytes:
        """The whole state as bytes: equal states give equal bytes on every machine, different ones do not."""
        head = {
            "client": self.client.state,
            "created": self.created,
            "facts": self.facts,
            "messages": sorted(self.messages.items()),
            "deferred": sorted(self.deferred.items()),
            "files": len(self.states),
        }
        if self.uploads:  # left out when empty, as any fact at its default
            head["uploads"] = [
                (file, upload.upload_id, upload.part_size, upload.fingerprint, sorted(upload.parts.items()))
                for file, upload in sorted(self.uploads.items())
            ]
        return msgspec.json.encode(head, order="deterministic") + b"\n" + bytes(self.states) + bytes(self.retries)

    @classmethod
    def from_canonical(cls, data: bytes, table: FileTable) -> Delivery:
        """The delivery whose `canonical()` gave `data`; raises `msgspec.MsgspecError` or `ValueError` on anything else."""
        head_line, _, columns = data.partition(b"\n")
        head = msgspec.json.decode(head_line, type=_Head)
        if len(columns) != 2 * head.files:
            raise ValueError(f"state columns hold {len(columns)} bytes, not {2 * head.files}")
        delivery = cls(
            table,
            head.created,
            bytearray(columns[: head.files]),
            bytearray(columns[head.files :]),
            [0] * len(FILE_STATES),
            facts=head.facts,
            messages=dict(head.messages),
            deferred=dict(head.deferred),
            uploads={
                file: OpenUpload(upload_id, part_size, fingerprint, dict(parts))
                for file, upload_id, part_size, fingerprint, parts in head.uploads
            },
        )
        delivery.client.restore(head.client)
        delivery.refresh_derived()
        return delivery

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical state."""
        return hashlib.sha256(self.canonical()).hexdigest()


class _Head(msgspec.Struct):
    client: str
    created: ev.DeliveryCreated
    facts: Facts
    messages: list[tuple[int, str]]
    deferred: list[tuple[int, tuple[str, str]]]
    files: int
    uploads: list[tuple[int, str, int, str, list[tuple[int, str]]]] = []


DECIDERS: Final[dict[type, Callable[[Delivery, Any, int], Decision]]] = {
    cmd.OpenSession: sessions.open_session,
    cmd.SightStored: sessions.sight_stored,
    cmd.RequestRun: sessions.request_run,
    cmd.ClientLogFound: sessions.client_log_found,
    cmd.WorldFailed: sessions.world_failed,
    cmd.WorldAnswered: sessions.world_answered,
    cmd.Tick: sessions.tick,
    cmd.QueueNext: transfers.queue_next,
    cmd.SettleDoubts: transfers.settle_doubts,
    cmd.OutcomesFound: transfers.outcomes_found,
    cmd.FilesReported: transfers.files_reported,
    cmd.ValidatorLogFound: verdicts.validator_log_found,
}
"""What comes in -> the function that decides it."""
