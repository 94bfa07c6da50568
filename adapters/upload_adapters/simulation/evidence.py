"""What a third person can find after a run: bytes, logs and who asked for what when; nothing that a client says of itself
but what it told its user.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs


class Request(NamedTuple):
    """One write that a client sent out, as it was when it left."""

    step: int
    time_ms: int
    life: int
    kind: str
    """Which one: put, begin, part, complete, abort, append, control put, delete, start."""
    about: str
    """File, key of a control object, or idempotency key."""
    synced: int
    """The last record that was certainly in the journal when it left."""
    holder: str
    """Who was named in the lock object then, "" for nobody."""
    upload_id: str = ""
    number: int = 0
    data: bytes = b""
    again: bool = False
    """Whether the archive held just these bytes under this name when it left."""


class LockChange(NamedTuple):
    """The lock object was written or deleted; `holder` "" is deleted."""

    time_ms: int
    life: int
    before: str
    before_age_ms: int
    holder: str
    how: str
    """client, rival (who waits until it is free or stale), or rude (who does not)."""


class Start(NamedTuple):
    """A validator was started."""

    time_ms: int
    key: str
    synced: int
    alive: int
    """How many validators were at work or coming up already."""
    client_log_size: int


class Told(NamedTuple):
    """A record that an observer was told of."""

    seq: int
    kind: str
    synced: int


class Ended(NamedTuple):
    """How a client's life ended, and what it said of itself then."""

    life: int
    step: int
    how: str
    """killed, or the outcome and reason of its summary."""
    seq: int
    states: dict[str, str]
    """Path -> state, in the words that callers see."""
    outcome: str = ""


@attrs.define(kw_only=True)
class FileFact:
    """A file as it was indexed and as it lay there; `versions` are all contents it ever had."""

    path: str
    size: int
    checksum: str | None
    content: bytes
    """What the index was made from."""
    ends: str
    """The state that it must end in."""
    versions: list[bytes]
    faults: int = 0
    """How often the file itself was at fault."""
    bad: bool = False
    late: bool = False
    """Whether one of its requests took effect after its time."""


@attrs.define(kw_only=True)
class Evidence:
    """Everything there is to judge one run by."""

    seed: int
    agent: str
    staleness_ms: int
    files: list[FileFact]
    journal: bytes = b""
    damaged: str = ""
    """Why the journal could not be opened."""
    client_log: bytes = b""
    validator_logs: list[bytes] = attrs.field(factory=list)
    """The validator's log; more than one if it was replaced, the last one is the latest."""
    contents: dict[str, bytes] = attrs.field(factory=dict)
    shown: list[tuple[str, bytes]] = attrs.field(factory=list)
    uploads: dict[str, str] = attrs.field(factory=dict)
    foreign_objects: dict[str, bytes] = attrs.field(factory=dict)
    foreign_uploads: dict[str, str] = attrs.field(factory=dict)
    requests: list[Request] = attrs.field(factory=list)
    locks: list[LockChange] = attrs.field(factory=list)
    starts: list[Start] = attrs.field(factory=list)
    spoke_ms: list[int] = attrs.field(factory=list)
    """When a validator wrote its first row."""
    judged_ms: list[int] = attrs.field(factory=list)
    """When a validator wrote a verdict, whatever became of its row."""
    validators_killed: list[str] = attrs.field(factory=list)
    """What each validator that died of a row of ours said of it."""
    told: list[Told] = attrs.field(factory=list)
    ended: list[Ended] = attrs.field(factory=list)
    broken: list[str] = attrs.field(factory=list)
    """Errors that no client may end in."""
    finished: bool = False
    steps: int = 0
    """Calls of ports that did something."""
    calm_step: int = 0
    """The step after which nothing went wrong any more."""
    final_lock: str = ""
