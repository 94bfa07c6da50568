"""What happened: one frozen struct per kind of fact, and nothing else.

An event is written to the journal before anything believes it. Its time and sequence number sit on the
record, not here, so that events stay plain facts. `file` is the row of the file in the journal's file table.
New fields get defaults; a new kind raises the journal's format version.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

FileNumber = Annotated[int, msgspec.Meta(ge=0)]
"""Row of a file in the journal's file table."""

FileRuns = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,12}(-[0-9]{1,12})?(,|$))*$")]
"""Rows of the file table as runs, "0-41,43"; `jobs.ranges` writes them."""

OK: Final = "ok"
"""The status word by which the validator accepts a file or says that all is well."""


class Event(msgspec.Struct, frozen=True, tag_field="kind", tag=True, omit_defaults=True, gc=False):
    """Base of all events; its class name is the `kind` that the journal shows."""


class FileEvent(Event, frozen=True, tag_field="kind", tag=True, omit_defaults=True, gc=False):
    """Base of the events in one file's life."""

    file: FileNumber


# --- a file's transfer ---------------------------------------------------------------------------


class TransferQueued(FileEvent, frozen=True):
    """The file was put in line."""


class TransferRetried(FileEvent, frozen=True):
    """The failed file was put in line for another attempt; this spends one of its retries."""


class TransferStarted(FileEvent, frozen=True):
    """The file was handed to a worker."""


class TransferCompleted(FileEvent, frozen=True):
    """The archive acknowledged the whole file; `checksum` is the CRC32 that the archive asserted."""

    size: int
    checksum: str
    etag: str = ""


class TransferFailed(FileEvent, frozen=True):
    """The attempt failed by a fault of the file; it may go again while it has retries left."""

    message: str


class TransferAbandoned(FileEvent, frozen=True):
    """The attempt failed in a way that no further attempt can mend."""

    message: str


class TransferInterrupted(FileEvent, frozen=True):
    """The attempt ended without an answer (a crash, a stop, an outage); it spends no retry.

    The archive is asked about the file before it is sent again.
    """

    message: str = ""


# --- a large file's parts ------------------------------------------------------------------------


class UploadBegun(FileEvent, frozen=True):
    """The archive opened a multipart upload for the file as it was when it was opened: `fingerprint` says which content.

    Parts are `part_size` bytes, the last one what is left. The next attempt goes on with this upload.
    """

    upload_id: str
    part_size: int
    fingerprint: str


class PartStored(FileEvent, frozen=True):
    """The archive acknowledged part `number` (from 1) of the open upload under the CRC32 `checksum`."""

    number: int
    checksum: str


class UploadEnded(FileEvent, frozen=True):
    """The file's multipart upload is over, completed or aborted; what was known of it no longer counts."""


# --- jobs that a service of the archive carries out ------------------------------------------------


class CopyJobRequested(Event, frozen=True):
    """A service is about to be asked to copy these files by itself; `token` makes it one job, however often it is asked.

    `files` are rows of the file table as runs ("0-41,43"). A source written after `unmodified_since` (seconds since the
    epoch) is not copied.
    """

    token: str
    files: FileRuns
    unmodified_since: int


class CopyJobCreated(Event, frozen=True):
    """The service took the job, and calls it `job_id`."""

    token: str
    job_id: str


class CopyJobProgressed(Event, frozen=True):
    """The job is in the service's `status`; of its `total` files so many are copied, and so many failed."""

    token: str
    status: str
    copied: int = 0
    failed: int = 0
    total: int = 0


class CopyJobEnded(Event, frozen=True):
    """The job is over and its report is read: what became of each of its files is recorded."""

    token: str
    status: str
    message: str = ""


# --- what recovery learnt about a file -----------------------------------------------------------


class FileSighted(FileEvent, frozen=True):
    """The archive lists an object of this name and size that this journal knows nothing of."""


class FileFoundStored(FileEvent, frozen=True):
    """The archive already holds the file as it was indexed: it is not sent again."""

    size: int
    checksum: str
    etag: str = ""


class FileFoundMissing(FileEvent, frozen=True):
    """The archive does not hold the file as it was indexed: it is sent."""

    message: str = ""


class FileFoundValid(FileEvent, frozen=True):
    """The archive holds the file as it was indexed and an earlier validation run accepted it."""

    size: int
    checksum: str


class FileRequeued(FileEvent, frozen=True):
    """A file that failed or was found invalid in a finished session gets a new chance, retries included."""


class FileRevised(FileEvent, frozen=True):
    """The index was revised for this file; whatever was known of the old one no longer counts."""


# --- the validator's word on a file --------------------------------------------------------------


class FileReported(FileEvent, frozen=True):
    """The file was announced to the current validation run."""


class ReportLapsed(FileEvent, frozen=True):
    """The validation run that was told of the file ended without judging it; the next run is told anew."""


class FileValidated(FileEvent, frozen=True):
    """The validator accepted the file."""

    message: str = ""


class FileInvalidated(FileEvent, frozen=True):
    """The validator rejected the file, or judged it in an irregular way; `message` says why."""

    message: str


class VerdictDeferred(FileEvent, frozen=True):
    """A verdict came for a file of which the archive is still to be asked; what it holds says what the verdict means."""

    status: str
    message: str = ""


class VerdictRepeated(FileEvent, frozen=True):
    """The validator repeated a verdict word for word in meaning; it has no effect."""


# --- the validator's log -------------------------------------------------------------------------


class ValidatorStarted(Event, frozen=True):
    """The validator's `init ok` row was read; `agent` is the name under which it writes."""

    message: str
    agent: str = ""


class ValidatorStartFailed(Event, frozen=True):
    """The validator's `init` row reports that it could not start."""

    message: str


class ValidatorKeptAlive(Event, frozen=True):
    """The validator's `keepalive` row was read; the message counts its work."""

    message: str


class ValidatorShutDown(Event, frozen=True):
    """The validator's `shutdown` row was read: it ends its run; `message` is its own summary."""

    status: str
    message: str


class ValidatorStopped(Event, frozen=True):
    """The validator's `stop` row was read: the run is over."""


class ValidatorLost(Event, frozen=True):
    """Nothing was heard of the validator for as long as it may be silent, or it did not start within its time."""

    message: str


class UnexpectedVerdictFound(Event, frozen=True):
    """The validator judged a path that the index does not hold; nobody's state changes."""

    path: str
    status: str
    message: str


class LogLineRejected(Event, frozen=True):
    """A line of the validator's log could not be understood; its neighbours are unaffected."""

    offset: int
    reason: str
    text: str


class LogEntryNoted(Event, frozen=True):
    """A well-formed log entry of a category this release does not know; it has no effect."""

    category: str
    ref: str
    status: str
    message: str


class ValidatorLogRead(Event, frozen=True):
    """Everything before byte `offset` of the validator's log has been turned into events, `verdicts` of them verdicts.

    `mark` is the CRC32 of the last bytes before it, by which a later session knows the log again.
    """

    offset: int
    verdicts: int = 0
    mark: str = ""


class ValidatorLogRestarted(Event, frozen=True):
    """The validator's log shrank or was replaced: it is read again from its first byte."""

    message: str


# --- our side of the conversation ----------------------------------------------------------------


class ClientLogAppended(Event, frozen=True):
    """Our log in the control bucket now ends at byte `size`.

    `told` files were announced by it, `note` names rows that announce none.
    """

    size: int
    told: int = 0
    note: str = ""


class LabelWritten(Event, frozen=True):
    """The delivery's label was put in the control bucket."""

    key: str


class IndexWritten(Event, frozen=True):
    """The session's index was put in the control bucket; the validator will expect `expected` files."""

    key: str
    expected: int


class PipelineRequested(Event, frozen=True):
    """The validation pipeline is about to be asked to start a new run.

    The run was told of exactly the transfer rows beyond byte `client_log_size` of our log.
    """

    key: str
    client_log_size: int


class PipelineAccepted(Event, frozen=True):
    """The pipeline answered that it starts, or that a run is at work; one is believed only once its `init` row is read."""

    message: str = ""


class PipelineAttached(Event, frozen=True):
    """A validation run of this delivery is already at work: this session goes on with it."""

    message: str = ""


class PipelineRefused(Event, frozen=True):
    """The archive refused to start the pipeline; `message` holds its reason."""

    message: str


class RunAwaited(Event, frozen=True):
    """This session waits, for so many seconds at most, for what an earlier one began: `message` says for what."""

    message: str
    seconds: int


class RunConfirmed(Event, frozen=True):
    """The validator judged a file we announced: it reads our log, and every row from here on reaches it."""


class StopReported(Event, frozen=True):
    """Our `stop` row was appended: the validator drains its queue and ends."""


# --- sessions ------------------------------------------------------------------------------------


class DeliveryCreated(Event, frozen=True):
    """The first event of every journal: what is delivered, whence and where to.

    `n_threads` and `max_retries` are what a session takes if none was opened before.
    """

    dataset: str
    delivery_id: str
    transfer_type: str
    agent_id: str
    source: str
    archive: str
    index_digest: str
    files: int
    settings: dict[str, Any] = {}
    n_threads: int = 1
    max_retries: int = 2


class IndexRevised(Event, frozen=True):
    """The index was replaced by a revision that changes or adds files; table `revision` holds its rows."""

    revision: int
    index_digest: str
    files: int


class SessionOpened(Event, frozen=True):
    """A process began to work on the delivery; `n_threads` and `max_retries` hold from here on.

    `n_threads` 0 lets concurrency find its own level (`ConcurrencyChanged`).
    """

    session: int
    agent_id: str
    n_threads: int
    max_retries: int
    source: str = ""
    host: str = ""
    pid: int = 0
    release: str = ""


class SignedIn(Event, frozen=True):
    """The identity accepted us; `principal` is a public name, never a token."""

    principal: str


class LockAcquired(Event, frozen=True):
    """The delivery's lock object is ours; `taken_over` names a stale holder we replaced."""

    etag: str
    taken_over: str = ""


class LockRenewed(Event, frozen=True):
    """The lock object was rewritten before it could go stale."""

    etag: str


class LockLost(Event, frozen=True):
    """The lock object is no longer ours: nothing more is written to the archive."""

    message: str


class LockReleased(Event, frozen=True):
    """The lock object was deleted by us."""


class OutageBegan(Event, frozen=True):
    """The archive cannot be reached: transfers wait, no file spends a retry."""

    message: str


class OutageEnded(Event, frozen=True):
    """The archive answers again."""


class SuspensionNoticed(Event, frozen=True):
    """The process stood still for about `seconds`: the machine slept, or somebody stopped the process.

    Connections are opened anew, and the lock is looked at before anything else is written.
    """

    seconds: int


class ConcurrencyChanged(Event, frozen=True):
    """From here on up to `level` transfers run at a time; nobody fixed the number, and `reason` is what it was found by."""

    level: int
    reason: str


class TransfersPaused(Event, frozen=True):
    """No further file is begun, for the sake of `by` (user, window or host); what is under way finishes."""

    by: str
    message: str = ""


class TransfersContinued(Event, frozen=True):
    """`by` no longer keeps files from being begun; they are once nobody does."""

    by: str


class StopRequested(Event, frozen=True):
    """The user or host asked for an end in order."""

    reason: str


class JournalRepaired(Event, frozen=True):
    """A torn tail was cut off after a copy was kept; `lost_bytes` could not be read as whole batches."""

    segment: int
    offset: int
    lost_bytes: int
    kept_as: str


class ClientCrashed(Event, frozen=True):
    """The client met an error it cannot go on from."""

    error: str
    message: str


class SessionClosed(Event, frozen=True):
    """The session ended in order; `outcome` is complete, incomplete, interrupted, crashed or refused, `reason` who ended it."""

    outcome: str
    reason: str = ""
    message: str = ""


def _concrete(base: type[Event]) -> tuple[type[Event], ...]:
    found: list[type[Event]] = []
    for child in base.__subclasses__():
        if child is not FileEvent:
            found.append(child)
        found.extend(_concrete(child))
    return tuple(found)


FILE_EVENTS: tuple[type[Event], ...] = _concrete(FileEvent)
"""Every kind of event that belongs to one file."""

EVENTS: tuple[type[Event], ...] = tuple(dict.fromkeys(_concrete(Event)))
"""Every kind of event, in the order of this page."""

KINDS: dict[str, type[Event]] = {event.__name__: event for event in EVENTS}
"""Kind as written in the journal -> its class."""
