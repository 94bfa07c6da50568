"""Events in plain words, for people: one sentence per kind, in `MESSAGES`.

A sentence about a file continues the file's name ("was put in line"); all others stand alone. Text from outside goes
through `printable`, so a sentence is one line that no terminal obeys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from upload_core import events as ev
from upload_core.jobs import runs_of
from upload_core.text import printable

SHOWN_MAX: Final = 400
"""Characters of a message from outside; the journal keeps all of it."""

WHOLE_MAX: Final = 10_000
"""Where a program reads it, or a spreadsheet."""

REPORT_KEYS: Final = frozenset({"summary", "exception"})
TRACEBACK_KEYS: Final = frozenset({"filename", "lineno", "name"})
"""What the archive's validator adds to an exception: a traceback of its own code, which helps nobody else."""


def describe(event: ev.Event) -> str:
    """The event as one printable line.

    >>> describe(ev.TransferCompleted(file=7, size=4096, checksum="yH2GHg=="))
    'was stored in the archive: 4,096 bytes, CRC32 yH2GHg=='
    """
    return MESSAGES[type(event)](event)


def _fixed(sentence: str) -> Callable[[Any], str]:
    return lambda _: sentence


def _because(sentence: str) -> Callable[[Any], str]:
    """The sentence, followed by the event's own message if it has one."""
    return lambda event: f"{sentence}: {_shown(event.message)}" if event.message else sentence


def plain(message: str, limit: int = SHOWN_MAX) -> str:
    r"""A message from outside in one line; of a validator's list of problems (YAML) only they are left.

    Of a validator's report (YAML as well) its summary comes first, and where in its own code it happened is left out.

    >>> plain('problems:\n- "no header"\n- "two \\"ends\\""')
    'no header; two "ends"'
    >>> plain("exception: 'bad: key'\nlineno:\n- 128\nsummary: problem with label\n")
    "problem with label; exception: 'bad: key'"
    """
    lines = [line.strip() for line in _telling(message.strip().split("\n"))]
    items = lines[1:] if lines[0] == "problems:" else lines
    if items and all(line.startswith("- ") for line in items):
        return printable("; ".join(_scalar(line[2:]) for line in items), limit)
    return printable(" ".join(lines), limit)


def _telling(lines: list[str]) -> list[str]:
    """The lines of a validator's report, its summary first, without its traceback; any other text as it stands."""
    parts: dict[str, list[str]] = {}
    key = ""
    for line in lines:
        name, colon, _ = line.partition(":")
        if colon and name and not name.startswith((" ", "-", '"', "'")):
            key = name
        parts.setdefault(key, []).append(line)
    if not REPORT_KEYS & parts.keys():
        return lines
    told = ["\n".join(parts.pop("summary", [])).removeprefix("summary:")]
    told += ["\n".join(part) for name, part in parts.items() if name not in TRACEBACK_KEYS]
    return ["; ".join(" ".join(part.split()) for part in told if part.strip())]


def _scalar(text: str) -> str:
    """A YAML scalar that is quoted as JSON, without its quotes; any other as it stands."""
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.MsgspecError:
        return text


_shown = plain


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60):,} min"


def _created(e: ev.DeliveryCreated) -> str:
    what = f"{_shown(e.dataset)}-{_shown(e.delivery_id)} ({_shown(e.transfer_type)})"
    return f"the delivery {what} was begun: {_files(e.files)} from {_shown(e.source)} to {_shown(e.archive)}"


def _session_opened(e: ev.SessionOpened) -> str:
    where = f" on {_shown(e.host)}" if e.host else ""
    who = f" by process {e.pid}{where}" if e.pid else where
    at_a_time = f"{e.n_threads} at a time" if e.n_threads else "as many at a time as do well"
    return f"session {e.session} began{who}: {at_a_time}, up to {e.max_retries} retries per file"


def _session_closed(e: ev.SessionClosed) -> str:
    return f"the session ended {_shown(e.outcome)}" + (f": {_shown(e.message)}" if e.message else "")


def _job_requested(e: ev.CopyJobRequested) -> str:
    return f"a service is asked to copy {_files(sum(map(len, runs_of(e.files))))} in one job"


def _job_progressed(e: ev.CopyJobProgressed) -> str:
    failed = f", {e.failed:,} failed" if e.failed else ""
    return f"the copy job is {_shown(e.status)}: {e.copied:,} of {_files(e.total)} copied{failed}"


def _repaired(e: ev.JournalRepaired) -> str:
    return (
        f"the journal's torn tail was cut off at offset {e.offset:,} of segment {e.segment} "
        f"({e.lost_bytes:,} bytes, a copy is kept in {_shown(e.kept_as)})"
    )


def _unexpected(e: ev.UnexpectedVerdictFound) -> str:
    return f"the validator judged {_shown(e.path)!r} ({_shown(e.status)}), which the index does not hold"


def _noted(e: ev.LogEntryNoted) -> str:
    said = f": {_shown(e.message)}" if e.message else ""
    return f"the validator wrote a row {_shown(e.category)!r} that means nothing to this run{said}"


def _deferred(e: ev.VerdictDeferred) -> str:
    return f"was judged ({_shown(e.status)}) before its storage was known for certain; the verdict waits for that"


def _lock_acquired(e: ev.LockAcquired) -> str:
    return f"the lock of the stale agent {_shown(e.taken_over)} was taken over" if e.taken_over else "the lock is ours"


def _appended(e: ev.ClientLogAppended) -> str:
    return f"our log ends at byte {e.size:,}" + (f" ({_shown(e.note)})" if e.note else "")


MESSAGES: Final[dict[type[ev.Event], Callable[[Any], str]]] = {
    # --- a file ---
    ev.TransferQueued: _fixed("was put in line"),
    ev.TransferRetried: _fixed("was put in line for another attempt"),
    ev.TransferStarted: _fixed("was handed to a worker"),
    ev.TransferCompleted: lambda e: f"was stored in the archive: {e.size:,} bytes, CRC32 {_shown(e.checksum)}",
    ev.TransferFailed: _because("was not stored"),
    ev.TransferAbandoned: _because("was not stored, and no further attempt can help"),
    ev.TransferInterrupted: _because("was cut off without an answer"),
    ev.UploadBegun: lambda e: f"is sent in parts of {e.part_size:,} bytes",
    ev.PartStored: lambda e: f"has part {e.number:,} in the archive",
    ev.UploadEnded: _fixed("has no open upload in parts any more"),
    ev.FileSighted: _fixed("is in the archive's listing with its size, so the archive is asked before it is sent"),
    ev.FileFoundStored: lambda e: f"is in the archive already as indexed: {e.size:,} bytes, CRC32 {_shown(e.checksum)}",
    ev.FileFoundMissing: _because("is not in the archive as indexed, so it is sent"),
    ev.FileFoundValid: _fixed("is in the archive as indexed, and an earlier validation run accepted it"),
    ev.FileRequeued: _fixed("gets a new chance, retries included"),
    ev.FileRevised: _fixed("has a new size or checksum in the index; what was known of the old one no longer counts"),
    ev.FileReported: _fixed("was announced to the validator"),
    ev.ReportLapsed: _fixed("was not judged before that validation run ended; the next run is told anew"),
    ev.FileValidated: _because("was accepted by the validator"),
    ev.FileInvalidated: _because("was found invalid"),
    ev.VerdictDeferred: _deferred,
    ev.VerdictRepeated: _fixed("was judged the same once more, which changes nothing"),
    # --- jobs ---
    ev.CopyJobRequested: _job_requested,
    ev.CopyJobCreated: lambda e: f"the copy job is {_shown(e.job_id)}",
    ev.CopyJobProgressed: _job_progressed,
    ev.CopyJobEnded: _because("the copy job is over"),
    # --- the validator's log ---
    ev.ValidatorStarted: _because("the validator started"),
    ev.ValidatorStartFailed: _because("the validator could not start"),
    ev.ValidatorKeptAlive: _because("the validator is alive"),
    ev.ValidatorShutDown: _because("the validator ends its run"),
    ev.ValidatorStopped: _fixed("the validator stopped"),
    ev.ValidatorLost: _because("the validator is lost"),
    ev.UnexpectedVerdictFound: _unexpected,
    ev.LogLineRejected: lambda e: f"a line of the validator's log (byte {e.offset:,}) is no row: {_shown(e.reason)}",
    ev.LogEntryNoted: _noted,
    ev.ValidatorLogRead: lambda e: f"the validator's log was read up to byte {e.offset:,}",
    ev.ValidatorLogRestarted: _because("the validator's log was replaced and is read again from its first byte"),
    # --- our side of the conversation ---
    ev.ClientLogAppended: _appended,
    ev.LabelWritten: lambda e: f"the label was put at {_shown(e.key)}",
    ev.IndexWritten: lambda e: f"the index was put at {_shown(e.key)}; {_files(e.expected)} to be validated",
    ev.PipelineRequested: _fixed("the archive was asked to start a validation run"),
    ev.PipelineAccepted: _because("the archive answers the request for a validation run"),
    ev.PipelineAttached: _fixed("this session goes on with the validation run that is at work"),
    ev.PipelineRefused: _because("the validation run could not be started"),
    ev.RunAwaited: lambda e: f"waiting for up to {_duration(e.seconds)}: {_shown(e.message)}",
    ev.RunConfirmed: _fixed("the validator reads our log"),
    ev.StopReported: _fixed("the validator was told that nothing more comes"),
    # --- sessions ---
    ev.DeliveryCreated: _created,
    ev.IndexRevised: lambda e: f"revision {e.revision} of the index was taken over: it holds {_files(e.files)}",
    ev.SessionOpened: _session_opened,
    ev.SignedIn: lambda e: f"signed in as {_shown(e.principal)}",
    ev.LockAcquired: _lock_acquired,
    ev.LockRenewed: _fixed("the lock was renewed"),
    ev.LockLost: _because("the lock is no longer ours"),
    ev.LockReleased: _fixed("the lock was given back"),
    ev.OutageBegan: _because("the archive cannot be reached; transfers wait"),
    ev.OutageEnded: _fixed("the archive answers again"),
    ev.SuspensionNoticed: lambda e: f"this process stood still for {_duration(e.seconds)}; connections are opened anew",
    ev.TransfersPaused: lambda e: (
        f"no further file is begun ({_shown(e.by)})" + (f": {_shown(e.message)}" if e.message else "")
    ),
    ev.TransfersContinued: lambda e: f"files may be begun again ({_shown(e.by)})",
    ev.ConcurrencyChanged: lambda e: f"{e.level} at a time from here on: {_shown(e.reason)}",
    ev.StopRequested: lambda e: f"a stop was asked for: {_shown(e.reason)}",
    ev.JournalRepaired: _repaired,
    ev.ClientCrashed: lambda e: f"the client met an error it cannot go on from: {_shown(e.error)}: {_shown(e.message)}",
    ev.SessionClosed: _session_closed,
}
"""Event -> its sentence; every kind has one."""
