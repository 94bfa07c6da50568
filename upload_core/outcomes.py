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
    exit_code: int
    counts: dict[str, int]
    files: int
    retries: int
    bytes: int
    seconds: float
    journal: str
    failed: list[FailedFile]
    reason: str = ""
    message: str = ""


def exit_code_of(outcome: str, reason: str) -> int:
    """The exit code of a session's end."""
    return EXIT_CODES[outcome, reason]
