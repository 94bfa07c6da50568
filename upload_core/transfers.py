"""Decisions about sending: what goes next, and what the outcome of an attempt means."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core import jobs
from upload_core.commands import Decision
from upload_core.lifecycle import DONE, FILE_STATES, PENDING, READY, TRANSFERRING, UNRESOLVED
from upload_core.recovery import Verdict, file_case
from upload_core.retry import FAULT_RULES

if TYPE_CHECKING:
    from upload_core.delivery import Delivery

SENDING_STATES: Final = frozenset({"connected", "starting", "running"})
"""Client states in which files may be sent; sending need not wait for the validator, only announcing must."""


def _queue(d: Delivery, count: int, now_ms: int) -> list[ev.FileEvent]:
    """Up to `count` files to put in line: those whose rest after a failure is over go first."""
    queued: list[ev.FileEvent] = []
    for file, due_ms in d.retry_due_ms.items():
        if len(queued) == count or due_ms > now_ms:
            break
        queued.append(ev.TransferRetried(file))
    queued.extend(ev.TransferQueued(file) for file in d.take(READY, count - len(queued)))
    return queued


def queue_next(d: Delivery, command: cmd.QueueNext, now_ms: int) -> Decision:
    """Put up to `count` more files in line; they start when workers are free.

    A file that rests after a failure goes at once if no other is left: whoever asks for it has waited long enough.
    """
    queued = _queue(d, command.count, now_ms)
    return Decision(queued or [ev.TransferRetried(file) for file in islice(d.retry_due_ms, command.count)])


def start_transfers(d: Delivery, slots: int, now_ms: int, *, queue: bool = True) -> Decision:
    """Hand up to `slots` files to workers: those in line first, then (if `queue`) more of those that are ready."""
    waiting = d.take(PENDING, slots)
    queued = _queue(d, slots - len(waiting), now_ms) if queue else []
    files = [*waiting, *(event.file for event in queued)]
    table = d.table
    return Decision(
        [*queued, *(ev.TransferStarted(file) for file in files)],
        [fx.TransferFile(f, table.path(f), table.size(f), table.checksum(f), _left_open(d, f)) for f in files],
    )


def _left_open(d: Delivery, file: int) -> fx.OpenUpload | None:
    """The upload that the file's next attempt goes on with: a copy, since a worker will read it on another thread."""
    upload = d.uploads.get(file) if d.uploads else None
    return None if upload is None else msgspec.structs.replace(upload, parts=dict(upload.parts))


def inspect(d: Delivery, slots: int, busy: Collection[int]) -> list[fx.InspectFile]:
    """Ask the archive about up to `slots` files that are in doubt and that no worker is at."""
    table = d.table
    found = (file for file in d.files_in(UNRESOLVED) if file not in busy)
    return [
        fx.InspectFile(f, table.path(f), table.size(f), table.checksum(f))
        for f, _ in zip(found, range(slots), strict=False)
    ]


def settle_doubts(d: Delivery, command: cmd.SettleDoubts, now_ms: int) -> Decision:
    """Ask the archive about files in doubt."""
    return Decision(effects=inspect(d, command.slots, command.busy))


def outcomes_found(d: Delivery, found: cmd.OutcomesFound, now_ms: int) -> Decision:
    """What the workers' outcomes and news mean, in one batch; and whether they begin or end an outage."""
    events: list[ev.Event] = []
    stored = False
    unreachable: str | None = None
    for outcome in found.outcomes:
        match outcome:
            case fx.FileStored():
                events.extend(_stored(d, outcome))
                stored = True
            case fx.FileNotStored():
                events.extend(_not_stored(d, outcome))
                if FAULT_RULES[outcome.fault].outage:
                    unreachable = outcome.message
            case fx.FileInspected():
                events.extend(_inspected(d, outcome))
                if outcome.holds is fx.ArchiveHolds.UNKNOWN and outcome.fault is not fx.Fault.IDENTITY:
                    unreachable = outcome.message
            case fx.UploadBegun() | fx.PartStored() | fx.UploadEnded():
                events.extend(_progressed(d, outcome))
            case fx.JobRequested() | fx.JobCreated() | fx.JobProgressed() | fx.JobEnded():
                events.extend(jobs.told(d, outcome))
    if d.facts.outage_ms:
        # an archive that answers questions may still refuse bytes (a full disk): only a stored file ends the outage
        if stored:
            events.append(ev.OutageEnded())
    elif unreachable is not None and not stored:
        events.append(ev.OutageBegan(unreachable))
    return Decision(events)


def _progressed(d: Delivery, told: fx.FileProgress) -> list[ev.Event]:
    """What is known of a large file's parts, for the attempt that may have to go on with them."""
    file = told.file
    if d.states[file] != TRANSFERRING:
        return []
    match told:
        case fx.UploadBegun(upload=upload):
            return [ev.UploadBegun(file, upload.upload_id, upload.part_size, upload.fingerprint)]
        case fx.PartStored(part=part):
            return [ev.PartStored(file, part.number, part.checksum)]
        case fx.UploadEnded():
            return [ev.UploadEnded(file)]
        case _:
            assert_never(told)


def _stored(d: Delivery, outcome: fx.FileStored) -> list[ev.Event]:
    """The file is `done`, unless it was settled another way meanwhile."""
    file = outcome.file
    if d.states[file] != TRANSFERRING:
        return []
    return [ev.TransferCompleted(file, outcome.size, outcome.checksum, outcome.etag)]


def _not_stored(d: Delivery, outcome: fx.FileNotStored) -> list[ev.Event]:
    """The attempt failed: by whose fault decides whether the file spends a retry (`retry.FAULT_RULES`)."""
    file = outcome.file
    if d.states[file] != TRANSFERRING:
        return []
    rule = FAULT_RULES[outcome.fault]
    kind = rule.event
    if rule.patience is not None and d.retries[file] >= rule.patience:
        kind = ev.TransferAbandoned
    return [kind(file, outcome.message)]


def _inspected(d: Delivery, outcome: fx.FileInspected) -> list[ev.Event]:
    """What the archive holds settles a file that was in doubt (`recovery.FILE_CASES`)."""
    file, verdict = outcome.file, Verdict.NONE
    if file in d.deferred:
        verdict = Verdict.OK if d.deferred[file][0] == ev.OK else Verdict.NOT_OK
    case = file_case(FILE_STATES[d.states[file]].name, outcome.holds, verdict)
    if case.event is ev.FileFoundStored:
        return [ev.FileFoundStored(file, outcome.size, outcome.checksum, outcome.etag)]
    if case.event is ev.FileFoundValid:
        return [ev.FileFoundValid(file, outcome.size, outcome.checksum)]
    if case.event is ev.FileFoundMissing:
        return [ev.FileFoundMissing(file, outcome.message)]
    return []


def files_reported(d: Delivery, outcome: cmd.FilesReported, now_ms: int) -> Decision:
    """The rows are in our log: the validator may judge these files from here on."""
    note = f"{len(outcome.failed)} failed" if outcome.failed else ""
    # where the answer was late, the validator may have read and judged some of them before we heard of it
    told = [ev.FileReported(file) for file in outcome.stored if d.states[file] == DONE]
    return Decision([*told, ev.ClientLogAppended(outcome.size, len(outcome.stored), note)])
