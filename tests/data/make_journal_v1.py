"""Made the journals of format 1 in `journal-v1/`, once. They are kept as they are: whoever changes the format adds its own.

python -m tests.data.make_journal_v1 DIRECTORY [NAME ...]
"""

import json
import sys
from pathlib import Path

from tests.crash.recordings import recording
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.files import FileTable

START_MS = 1_800_000_000_000
TABLE = FileTable.from_columns(
    ["plain.dat", "naïve ☃.txt", 'quo"ted\\.csv', "empty", "late.fits", "NA"],
    [10, 20, 30, 0, 40, 50],
    ["yH2GHg==", "AAAAAQ==", "AAAAAg==", "AAAAAA==", "AAAABA==", "AAAABQ=="],
)
REVISED = FileTable.from_columns(
    [*TABLE.paths(), "added.dat"],
    [11, *(TABLE.size(row) for row in range(1, 6)), 60],
    ["AAAACw==", *(TABLE.checksum(row) for row in range(1, 6)), "AAAABg=="],
)

EVERY_KIND: list[list[ev.Event]] = [
    [ev.SessionOpened(1, "ada@host:1", 2, 1, source="/data", host="host", pid=42, release="0.1.0")],
    [ev.SignedIn("ada"), ev.LockAcquired('"etag-1"', taken_over="old@host")],
    [ev.FileSighted(5)],
    [ev.FileFoundStored(5, 50, "AAAABQ==", '"e5"')],
    [ev.LabelWritten("demo-1-label.yaml"), ev.IndexWritten("demo-1-staging-index.csv", 6)],
    [ev.PipelineRequested("ada@host:1:1", 0), ev.PipelineAccepted("status: success")],
    [*(ev.TransferQueued(n) for n in range(5)), *(ev.TransferStarted(n) for n in range(5))],
    [ev.ValidatorStarted("validation pipeline started"), ev.ValidatorLogRead(80)],
    [ev.TransferCompleted(0, 10, "yH2GHg==", '"e0"'), ev.TransferFailed(1, "it is being rewritten")],
    [ev.TransferRetried(1), ev.TransferStarted(1), ev.TransferFailed(1, "it is being rewritten \u2028 again")],
    [ev.TransferAbandoned(2, "refused for good"), ev.TransferInterrupted(3, "connection reset")],
    [ev.OutageBegan("connection reset"), ev.OutageEnded()],
    [ev.VerdictDeferred(3, "ok"), ev.ValidatorLogRead(160, 1)],
    [ev.FileFoundMissing(3, "nothing is stored"), ev.TransferQueued(3), ev.TransferStarted(3)],
    [ev.TransferCompleted(3, 0, "AAAAAA=="), ev.FileValidated(3)],
    [ev.FileReported(0), ev.FileReported(5), ev.ClientLogAppended(200, 2)],
    [ev.RunConfirmed(), ev.FileValidated(0, "fine"), ev.VerdictRepeated(0), ev.ValidatorLogRead(300, 2)],
    [ev.FileInvalidated(5, 'problems:\n- "no header"\t!'), ev.ValidatorKeptAlive("2 / 6"), ev.ValidatorLogRead(400, 1)],
    [ev.UnexpectedVerdictFound("unknown", "ok", ""), ev.LogLineRejected(400, "not UTF-8", "\\xff")],
    [ev.LogEntryNoted("weather", "self", "ok", "sunny"), ev.ValidatorLogRead(500)],
    [ev.LockRenewed('"etag-2"')],
    [ev.ValidatorLogRestarted("it was replaced"), ev.ValidatorLogRead(60)],
    [ev.StopRequested("enough for today"), ev.ClientLogAppended(260, note="stop"), ev.StopReported()],
    [ev.ValidatorShutDown("ok", "reason: client stopped"), ev.ValidatorStopped(), ev.ValidatorLogRead(140)],
    [ev.LockReleased(), ev.SessionClosed("interrupted", "user", "enough for today")],
    [ev.JournalRepaired(1, 4_000, 17, "events-000001.ndjson.torn")],
    [ev.TransferInterrupted(4, "the session that sent it ended")],
    [ev.SessionOpened(2, "ada@host:1", 2, 2), ev.LockAcquired('"etag-3"')],
    [ev.FileFoundStored(4, 40, "AAAABA==")],
    [ev.PipelineRequested("ada@host:1:2", 260), ev.PipelineRefused("transfer app lockfile invalid or not present")],
    [ev.LockLost("taken over by rival@elsewhere"), ev.SessionClosed("interrupted", "lock", "taken over")],
    [ev.SessionOpened(3, "ada@host:1", 2, 2), ev.LockAcquired('"etag-4"'), ev.PipelineRequested("ada@host:1:3", 260)],
    [ev.PipelineAttached("a validation run is at work"), ev.FileReported(4), ev.ClientLogAppended(320, 1)],
    [ev.ValidatorLost("nothing was heard of the validator for 120 s"), ev.ReportLapsed(4)],
    [ev.PipelineRequested("ada@host:1:4", 320), ev.ValidatorStartFailed("could not acquire lock")],
    [ev.ClientCrashed("ValueError", "a bug"), ev.SessionClosed("crashed", "error", "ValueError: a bug")],
    [ev.IndexRevised(1, REVISED.digest, 7), ev.FileRevised(0)],
    [ev.SessionOpened(4, "ada@host:1", 2, 2), ev.LockAcquired('"etag-5"')],
    [ev.FileRequeued(1), ev.FileRequeued(2), ev.FileRequeued(5), ev.FileFoundValid(5, 50, "AAAABQ==")],
    [ev.TransferQueued(6), ev.TransferStarted(6)],
]


IN_PARTS: list[list[ev.Event]] = [
    [ev.SessionOpened(1, "ada@host:1", 2, 1), ev.LockAcquired('"etag-1"')],
    [*(ev.TransferQueued(n) for n in (0, 1)), *(ev.TransferStarted(n) for n in (0, 1))],
    [ev.UploadBegun(0, "upload/0+a==", 6, "9f-a-17b-17c"), ev.UploadBegun(1, "upload-1", 8, '"etag"')],
    [ev.PartStored(0, 1, "AAAAAQ=="), ev.PartStored(1, 3, "AAAAAw=="), ev.PartStored(1, 1, "AAAAAQ==")],
    [ev.UploadEnded(0), ev.TransferFailed(0, "it changed while it was read")],
    [ev.TransferRetried(0), ev.TransferStarted(0), ev.UploadBegun(0, "upload-2", 6, "9f-a-18b-18c")],
    [ev.PartStored(0, 2, "AAAABA=="), ev.PartStored(0, 1, "AAAAAg=="), ev.UploadEnded(0)],
    [ev.TransferCompleted(0, 10, "yH2GHg=="), ev.PartStored(1, 2, "AAAAAg==")],
    [ev.TransferInterrupted(1, "the session that sent it ended"), ev.SessionOpened(2, "ada@host:1", 2, 1)],
]


PACED: list[list[ev.Event]] = [
    [ev.SessionOpened(1, "ada@host:1", 0, 1), ev.LockAcquired('"etag-1"'), ev.ConcurrencyChanged(8, "to begin with")],
    [ev.TransferQueued(0), ev.TransferStarted(0), ev.ConcurrencyChanged(16, "throughput grows")],
    [ev.TransfersPaused("user", "lunch"), ev.TransfersPaused("window", "")],
    [ev.OutageBegan("no route to host"), ev.SuspensionNoticed(28_800), ev.LockRenewed('"etag-2"'), ev.OutageEnded()],
    [ev.TransfersContinued("window"), ev.OutageBegan("SlowDown"), ev.TransferInterrupted(0, "SlowDown")],
    [ev.SuspensionNoticed(60)],
]


IN_JOBS: list[list[ev.Event]] = [
    [ev.SessionOpened(1, "ada@host:1", 0, 1), ev.LockAcquired('"etag-1"')],
    [*(ev.TransferQueued(n) for n in (0, 1, 2, 4)), *(ev.TransferStarted(n) for n in (0, 1, 2, 4))],
    [ev.CopyJobRequested("0123456789abcdef", "0-2", 1_799_999_999), ev.CopyJobRequested("fedcba", "4", 1_800_000_000)],
    [ev.CopyJobCreated("0123456789abcdef", "job-1"), ev.CopyJobProgressed("0123456789abcdef", "Active", 1, 1, 3)],
    [ev.CopyJobProgressed("0123456789abcdef", "Complete", 2, 1, 3), ev.TransferCompleted(0, 10, "yH2GHg==")],
    [ev.SessionOpened(2, "ada@host:1", 0, 1), ev.LockAcquired('"etag-2"')],
    [
        *(ev.TransferCompleted(1, 20, "AAAAAQ=="), ev.TransferFailed(2, "copying failed")),
        ev.CopyJobEnded("0123456789abcdef", "Complete"),
    ],
]


IN_DOUBT: list[list[ev.Event]] = [
    [ev.SessionOpened(1, "ada@host:1", 2, 1), ev.LockAcquired('"etag-1"')],
    [ev.PipelineRequested("ada@host:1:1:0", 0), ev.OutageBegan("connection reset"), ev.OutageEnded()],
    [ev.PipelineRefused("transfer app lockfile invalid or not present")],
    [ev.LockReleased(), ev.SessionClosed("interrupted", "validator", "transfer app lockfile invalid or not present")],
    [ev.SessionOpened(2, "ada@host:1", 2, 1), ev.LockAcquired('"etag-2"')],
    [ev.RunAwaited("a validation run that an earlier session asked for may begin yet", 287)],
]


def every_kind(path: Path) -> None:
    """One of each kind of event, in a life that is odd but legal."""
    created = ev.DeliveryCreated(
        "demo",
        "1",
        "staging",
        "ada@host:1",
        "/data",
        "file:///archive",
        TABLE.digest,
        len(TABLE),
        {"to": "file:///archive"},
    )
    journal = DirectoryJournal(path, segment_bytes=2_500)
    journal.create(created, TABLE, time_ms=START_MS)
    for number, events in enumerate(EVERY_KIND, 1):
        if isinstance(events[0], ev.IndexRevised):
            journal.add_revision(1, REVISED, [0, 6])
        journal.append(events, time_ms=START_MS + 977 * number)
    journal.close()


def delivered(path: Path) -> None:
    """A delivery that was killed, resumed under another index, and finished; closed with a snapshot."""
    recorded = recording("a revised index")
    recorded.write(path, segment_bytes=5_000).close(recorded.state_after(len(recorded.batches)))


def in_parts(path: Path) -> None:
    """A large file whose upload was ended and begun anew, and another one that was interrupted in the middle."""
    _write(path, "2", IN_PARTS)


def paced(path: Path) -> None:
    """A level that found itself, pauses, and a machine that slept, once in an outage."""
    _write(path, "3", PACED, step_ms=29_000_000)


def in_jobs(path: Path) -> None:
    """One job that was taken in over two sessions, and another that is not known to have been taken."""
    _write(path, "4", IN_JOBS, source="s3://b")


def in_doubt(path: Path) -> None:
    """A request for a run that may have taken effect, was refused at last, and whose run is waited for."""
    _write(path, "5", IN_DOUBT)


def _write(
    path: Path, delivery: str, batches: list[list[ev.Event]], *, source: str = "/data", step_ms: int = 977
) -> None:
    created = ev.DeliveryCreated("demo", delivery, "staging", "ada@host:1", source, "s3://a", TABLE.digest, len(TABLE))
    journal = DirectoryJournal(path)
    journal.create(created, TABLE, time_ms=START_MS)
    for number, events in enumerate(batches, 1):
        journal.append(events, time_ms=START_MS + step_ms * number)
    journal.close()


def main(directory: Path, *names: str) -> None:
    """Write them (or those named), and what they must replay to."""
    pinned = directory.joinpath("pins.json")
    pins = json.loads(pinned.read_text("utf-8")) if pinned.exists() else {}
    for make in (every_kind, delivered, in_parts, paced, in_jobs, in_doubt):
        if names and make.__name__ not in names:
            continue
        path = directory / make.__name__.replace("_", "-")
        make(path)
        path.joinpath("journal.lock").unlink(missing_ok=True)
        reader = JournalReader(path, snapshots=False)
        assert reader.advance()
        delivery = reader.delivery
        pins[path.name] = {
            "records": delivery.facts.seq,
            "digest": delivery.digest,
            "client": delivery.client_state,
            "files": {p: delivery.state_of(row) for row, p in enumerate(delivery.table.paths())},
        }
    pinned.write_text(json.dumps(pins, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
