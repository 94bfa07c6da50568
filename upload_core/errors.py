"""Every error this library raises, grouped by who has to act.

Rule: an error names the thing, the cause and the next step, and nothing below the host's own code is
ever reported by printing or exiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class UploadClientError(Exception):
    """Base of all errors of this library; what an AWS adapter raises is a botocore `ClientError` as well."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)


# --- the host or user has to act -----------------------------------------------------------------


class ConfigurationError(UploadClientError):
    """An argument, option or setting cannot work; nothing was started."""


class IndexProblemsError(UploadClientError):
    """The file index cannot be delivered as it is; `problems` lists every reason, nothing was started."""

    def __init__(self, problems: Sequence[Any], shown: int = 20) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:shown]]
        if len(self.problems) > shown:
            lines.append(f"... and {len(self.problems) - shown} more")
        count = len(self.problems)
        head = f"the index has {count} problem{'s' if count != 1 else ''}; mend the index or the files, then run again:"
        super().__init__("\n  ".join([head, *lines]))


class NothingToDoError(ValueError):
    """All files are already validated, so there is nothing to connect for."""


class NotReadyError(UploadClientError):
    """A command was given in a client state that does not allow it; the state is unchanged."""


class IllegalEventError(UploadClientError):
    """An event came in a state whose lifecycle has no row for it; the state is unchanged. This is a bug or a forged journal."""


class StoppedError(UploadClientError):
    """The host asked for an end while the session was still beginning; `resume` goes on."""


# --- another owner holds what we need ------------------------------------------------------------


class LockHeldError(UploadClientError):
    """Another agent holds the delivery; `holder` and `since` (epoch seconds, archive's clock) say who and since when."""

    def __init__(self, message: str, *, holder: str = "", since: float = 0.0) -> None:
        self.holder, self.since = holder, since
        super().__init__(message)


class LockLostError(UploadClientError):
    """The delivery's lock is no longer ours; nothing further was written."""


class JournalInUseError(UploadClientError):
    """Another process has this journal open."""


# --- the identity has to act ---------------------------------------------------------------------


class IdentityError(UploadClientError):
    """Sign-in or credentials were refused or have expired beyond refreshing."""


# --- the archive: `transient` errors spend no retries of a file ----------------------------------


class ArchiveError(UploadClientError):
    """The archive refused a request for good: the same request will be refused again."""


class ArchiveUnavailableError(ArchiveError):
    """The archive or the way to it does not work now; the same request may succeed later."""


class SignInCutError(ArchiveUnavailableError):
    """The way to the archive broke while a person signed in: asking again would ask the person again."""


class PreconditionFailedError(ArchiveError):
    """A conditional write found another object than the one named; nothing was written."""


class OffsetConflictError(ArchiveError):
    """An append named another offset than the object's size; nothing was written."""


class ChecksumMismatchError(ArchiveError):
    """The bytes sent do not have the CRC32 that was asserted; nothing was stored."""

    def __init__(self, relpath: str, *, expected: str, actual: str) -> None:
        self.relpath, self.expected, self.actual = relpath, expected, actual
        super().__init__(
            f"checksum of {relpath!r} differs: expected {expected}, its bytes give {actual}; "
            "mend the file or its line in the index"
        )


class PipelineError(UploadClientError):
    """The archive's validation pipeline could not be started; the message holds its own reason."""


class ValidatorStoppedError(UploadClientError):
    """The validator ended or fell silent before every file was judged."""


# --- a source file: these are a file's own faults and spend its retries --------------------------


class SourceError(UploadClientError):
    """A source file cannot be read as it was indexed."""


class SourceMissingError(SourceError):
    """The indexed file does not exist (any more)."""


class SourceChangedError(SourceError):
    """The file changed between being indexed and being stored; nothing was stored."""


# --- the journal ---------------------------------------------------------------------------------


class JournalError(UploadClientError):
    """The journal cannot be used; the message says where and what to do."""


class JournalDamagedError(JournalError):
    """The journal is damaged beyond its torn tail; it was left untouched."""


class JournalVersionError(JournalError):
    """The journal was written by a newer release; it was left untouched."""


class JournalWriteError(JournalError):
    """A write, sync or read of the journal failed; the journal accepts nothing more until it is opened again."""
