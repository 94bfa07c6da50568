"""What each error means to a shell: error class -> exit code. The nearest class among an error's bases decides."""

from __future__ import annotations

from typing import Final

from upload_core import errors

BUG: Final = 70
"""EX_SOFTWARE of sysexits.h: an error that is not yours."""
INTERRUPTED: Final = 130

MEANINGS: Final[dict[int, str]] = {
    0: "every indexed file is `valid` (also when there was nothing left to do)",
    1: "finished, but some files failed or are `invalid` (each is named)",
    2: "usage, index or configuration: nothing was started",
    4: "another agent holds the delivery, or another process the journal",
    5: "sign-in or credentials",
    6: "stopped early: too many failures, or the validator stopped; `resume` goes on",
    7: "the journal is damaged or from a newer release",
    8: "the archive, the network or the journal's disk cannot be used now; `resume` goes on",
    BUG: "a bug in upload-core; `resume` may go on",
    INTERRUPTED: "interrupted by the user; `resume` goes on",
}
"""Exit code -> what it means."""

ERROR_CODES: Final[dict[type[BaseException], int]] = {
    errors.NothingToDoError: 0,
    errors.ConfigurationError: 2,
    errors.IndexProblemsError: 2,
    errors.SourceError: 2,
    errors.LockHeldError: 4,
    errors.LockLostError: 4,
    errors.JournalInUseError: 4,
    errors.IdentityError: 5,
    errors.PipelineError: 6,
    errors.ValidatorStoppedError: 6,
    errors.JournalError: 2,  # none of those below: there is no journal where one was named
    errors.JournalDamagedError: 7,
    errors.JournalVersionError: 7,
    errors.JournalWriteError: 8,
    errors.ArchiveError: 8,
    errors.StoppedError: INTERRUPTED,
    errors.NotReadyError: BUG,
    errors.IllegalEventError: BUG,
    errors.UploadClientError: BUG,
    KeyboardInterrupt: INTERRUPTED,
    BaseException: BUG,
}
"""Error -> exit code."""

OUTCOMES: Final[dict[int, str]] = {0: "complete", 1: "incomplete", 2: "refused", 4: "refused", 5: "refused"} | {
    6: "interrupted",
    7: "refused",
    8: "interrupted",
    BUG: "crashed",
    INTERRUPTED: "interrupted",
}
"""Exit code -> the outcome of a command that ended by an error, where no session recorded one."""


def exit_code_of_error(error: BaseException) -> int:
    """The exit code of a command that this error ended."""
    return next(ERROR_CODES[kind] for kind in type(error).__mro__ if kind in ERROR_CODES)
