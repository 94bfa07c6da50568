"""What the core wants done, and the plain outcomes that come back.

Effects are imperative and carry everything their doer needs; outcomes are facts without judgement.
Whoever performs an effect never touches the journal or a file's state.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """Base of effects and outcomes: immutable, compared by value, safe to send to another process."""


class Fault(Enum):
    """Whose fault a failed attempt was; it decides whether the file spends a retry."""

    FILE = "file"
    """The file itself, in a way that may pass: it spends a retry."""
    FILE_FOR_GOOD = "file for good"
    """The file itself, and no further attempt can help."""
    CHECKSUM = "checksum"
    """The bytes do not have the indexed CRC32: read once more, then given up."""
    WORLD = "world"
    """The archive or the network: no retry is spent, and it is tried again for a while."""
    IDENTITY = "identity"
    """The credentials, beyond what renewing mends: no retry is spent, and the session ends for a person to act."""
    STOPPED = "stopped"
    """We cut the attempt ourselves: no retry is spent."""


class ArchiveHolds(Enum):
    """What the archive holds under a file's name, compared with the file as it was indexed."""

    NOTHING = "nothing"
    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """The archive did not answer."""


# --- large files, which an archive may take in parts ----------------------------------------------


class StoredPart(Value, frozen=True):
    """One part of a multipart upload as the archive confirmed it: its number, from 1, and its CRC32 (base64)."""

    number: int
    checksum: str
    etag: str = ""


class OpenUpload(Value, frozen=True):
    """A multipart upload that is neither completed nor aborted, as far as is known.

    `fingerprint` is that of the source file whose bytes its parts are; `parts` are those acknowledged, number -> CRC32.
    Parts are `part_size` bytes, the last one what is left.
    """

    upload_id: str
    part_size: int
    fingerprint: str
    parts: dict[int, str] = {}


# --- effects on files: performed by the dispatcher's workers -------------------------------------


class TransferFile(Value, frozen=True):
    """Store the source file `relpath` whole and equal, or not at all; answered by `FileStored` or `FileNotStored`.

    `size` is the indexed size in bytes; `checksum` the indexed CRC32 (base64), or None if the index has none; `upload`
    what an earlier attempt left open, to be gone on with.
    """

    file: int
    relpath: str
    size: int
    checksum: str | None
    upload: OpenUpload | None = None


class InspectFile(Value, frozen=True):
    """Compare what the archive holds under `relpath` with the source; answered by `FileInspected`."""

    file: int
    relpath: str
    size: int
    checksum: str | None


FileOrder = TransferFile | InspectFile


class FileStored(Value, frozen=True):
    """The archive acknowledged the whole file under the CRC32 `checksum`."""

    file: int
    size: int
    checksum: str
    etag: str = ""


class FileNotStored(Value, frozen=True):
    """The attempt failed; nothing of it is visible in the archive."""

    file: int
    fault: Fault
    message: str


class FileInspected(Value, frozen=True):
    """What the archive holds for the file; size, checksum and etag are those of the stored object."""

    file: int
    holds: ArchiveHolds
    size: int = 0
    checksum: str = ""
    etag: str = ""
    message: str = ""
    fault: Fault | None = None
    """Whose fault it is that the archive did not answer."""


FileOutcome = FileStored | FileNotStored | FileInspected
"""How an order ends: each order is answered by exactly one of these."""


class UploadBegun(Value, frozen=True):
    """The archive opened a multipart upload for the file; the order goes on."""

    file: int
    upload: OpenUpload


class PartStored(Value, frozen=True):
    """The archive acknowledged a part of the file; the order goes on."""

    file: int
    part: StoredPart


class UploadEnded(Value, frozen=True):
    """The file's multipart upload was completed or aborted; the order goes on."""

    file: int


FileProgress = UploadBegun | PartStored | UploadEnded
"""What is heard of an order while it is carried out, any number of times before its outcome."""

FileNews = FileOutcome | FileProgress


# --- jobs: many orders that a service carries out by itself ----------------------------------------


class JobRequested(Value, frozen=True):
    """A service is about to be asked to copy the files `files` (`jobs.ranges`), under the token that names the job.

    It is asked once this is in the journal: when `collect` is called again.
    """

    token: str
    files: str
    unmodified_since: int


class JobCreated(Value, frozen=True):
    """The service took the job, and calls it `job_id`."""

    token: str
    job_id: str


class JobProgressed(Value, frozen=True):
    """How far the job is, in the service's own words and numbers."""

    token: str
    status: str
    copied: int
    failed: int
    total: int


class JobEnded(Value, frozen=True):
    """The job is over, and each of its files was answered, those that were not stored together with this."""

    token: str
    status: str
    message: str = ""


JobNews = JobRequested | JobCreated | JobProgressed | JobEnded

News = FileNews | JobNews
"""All that a dispatcher tells."""


# --- effects on the delivery: performed by the engine itself -------------------------------------


class RenewLock(Value, frozen=True):
    """Rewrite the lock object if it is still ours."""


class ReportFiles(Value, frozen=True):
    """Append one `transfer` row for each file to our log, in one append: `ok` for stored, `error` for failed ones."""

    stored: tuple[int, ...]
    failed: tuple[int, ...] = ()


class KeepAlive(Value, frozen=True):
    """Append a `keepalive` row and an `info` row, which together reset the validator's patience."""


class StartRun(Value, frozen=True):
    """Put the index of what is still to be judged, and have the archive start a validation run."""


class CloseSession(Value, frozen=True):
    """End the session in order: stop the validator if it runs, release the lock, close the journal."""

    outcome: str
    reason: str
    message: str


Effect = TransferFile | InspectFile | RenewLock | ReportFiles | KeepAlive | StartRun | CloseSession
