"""How a session ended, as one value; and the exit code that says the same to a shell."""

from __future__ import annotations

from typing import Final

import msgspec

from upload_core.lifecycle import PublicFileState

EXIT_CODES: Final[dict[tuple[str, str], int]] = {
    # outcome, reason
    ("complete", ""): 0,
    ("incomplete", ""): 1,
    ("refused", "usage"): 2,
    ("refused", "lock"): 4,
    ("interrupted", "lock"): 4,
    ("refused", "identity"): 5,
    ("interrupted", "identity"): 5,
    ("interrupted", "validator"): 6,
    ("refused", "journal"): 7,
    ("interrupted", "outage"): 8,
    ("interrupted", "journal"): 8,
    ("interrupted", "user"): 130,
    ("crashed", "error"): 70,
}
"""(outcome, reason) -> exit code; 70 is EX_SOFTWARE of sysexits.h: an error that is not yours."""


class FailedFile(msgspec.Struct, frozen=True):
    """A file that did not become `valid`, and why."""

    relpath: str
    state: PublicFileState
    message: str | None


class Summary(msgspec.Struct, frozen=True):
    """One session and the delivery as it stands after it; `bytes` and `seconds` are those of the session."""

    outcome: str
    """`complete`, `incomplete`, `interrupted`, `refused` or `crashed`."""
    exit_code: int
    """What the command line would end with."""
    counts: dict[str, int]
    """How many files are in each state, by the words of `ClientFile.state`."""
    files: int
    """How many the index has."""
    retries: int
    """How many further attempts all files took together."""
    bytes: int
    """What was stored."""
    seconds: float
    """How long it took."""
    journal: str
    """Where the journal is."""
    failed: list[FailedFile]
    """Every file that failed or is invalid: `relpath`, `state` and `message`."""
    reason: str = ""
    """Why it ended early: `user`, `lock`, `identity`, `validator`, `outage`, `journal`, `usage` or `error`."""
    message: str = ""
    """The same in words."""
    copy_jobs: int = 0
    """Jobs that a service of the archive goes on with by itself; the next session takes them over."""


def exit_code_of(outcome: str, reason: str) -> int:
    """The exit code of a session's end."""
    return EXIT_CODES[outcome, reason]
