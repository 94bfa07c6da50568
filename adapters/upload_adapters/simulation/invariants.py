"""What must hold in every simulated run, in plain words."""

from __future__ import annotations

from typing import Final, NamedTuple

INVARIANTS: Final[dict[str, str]] = {
    "it ends": "Once nothing goes wrong any more, the delivery comes to its end, every file as it must be.",
    "no bug": "No error leaves the client that it does not name; no session ends as crashed; the journal opens.",
    "state is the fold": "What a client says of its files is what the journal's records add up to.",
    "every file has a state": "No file is ever in no state, or in two.",
    "valid means judged": "A file is valid only by a row of the validator's log that says so.",
    "once": "A verdict takes effect once, and none is passed over.",
    "cursor": "The place up to which the validator's log was read goes forwards, row by row; ours only grows.",
    "bytes": "What is visible in the archive is a file as it was indexed, whole.",
    "never again": "A file is sent only while the journal says so; a part that the journal knows is never sent again.",
    "told is synced": "What an observer, the validator or the pipeline was told was in the synced journal before.",
    "one holder": "Nobody else's fresh lock is ever overwritten.",
    "lock first": "Nothing is written without the lock, nor after it was lost.",
    "one start": "Each run is started once, and none beside another.",
    "manners": "The validator is told of a file once, after it spoke, and of one alone until it has judged; it never dies of us.",
    "retries": "Retries are spent on faults of the file alone.",
    "others": "What belongs to somebody else is left alone, and nothing of ours is left behind.",
    "honest end": "A session ends complete only if every file is valid.",
}
"""Invariant -> what it says."""


class Violation(NamedTuple):
    """A broken invariant."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"
