"""Deliveries of data sets to an archive, as an event-sourced state machine that can be killed anywhere.

Start with `UploadClient`; `upload_adapters` holds the adapters, which hosts may replace.
"""

from upload_core.client import UploadClient
from upload_core.dataroot import Bucket, DataRoot
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ChecksumMismatchError,
    ConfigurationError,
    IdentityError,
    IndexProblemsError,
    JournalDamagedError,
    JournalError,
    JournalInUseError,
    JournalVersionError,
    JournalWriteError,
    LockHeldError,
    LockLostError,
    NothingToDoError,
    NotReadyError,
    PipelineError,
    SourceError,
    StoppedError,
    UploadClientError,
    ValidatorStoppedError,
)
from upload_core.files import ClientFile
from upload_core.journal import Record
from upload_core.outcomes import Summary
from upload_core.ports import Ports
from upload_core.release import __version__
from upload_core.replayed import Replayed, replay

resume = UploadClient.resume

__all__ = [
    "ArchiveError",
    "ArchiveUnavailableError",
    "Bucket",
    "ChecksumMismatchError",
    "ClientFile",
    "ConfigurationError",
    "DataRoot",
    "IdentityError",
    "IndexProblemsError",
    "JournalDamagedError",
    "JournalError",
    "JournalInUseError",
    "JournalVersionError",
    "JournalWriteError",
    "LockHeldError",
    "LockLostError",
    "NotReadyError",
    "NothingToDoError",
    "PipelineError",
    "Ports",
    "Record",
    "Replayed",
    "SourceError",
    "StoppedError",
    "Summary",
    "UploadClient",
    "UploadClientError",
    "ValidatorStoppedError",
    "__version__",
    "replay",
    "resume",
]
