"""What passes between the client of a delivery and the workers of its cluster.

Rule: nothing of this is part of a task's name, and nothing says a file's name where Dask shows it. A scheduler may log
whole messages: keys travel sealed, and never with a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Final, Protocol

import attrs

from upload_core.effects import FileNews, FileOrder, FileOutcome, OpenUpload
from upload_core.ports import Clock, Load

LEASE_S: Final = 60.0
"""A worker that has not heard of the client for so long makes nothing visible any more, until it does."""


def topic(token: str) -> str:
    """Where workers speak to the client that goes by this token."""
    return f"upload-core-{token}"


def _counted(things: Sized) -> str:
    return f"<{len(things)}>"


class Recipe(Protocol):
    """How a worker makes a source or an archive; travels in place of it."""

    def build(self, keys: Callable[[], Any], clock: Clock) -> Any:
        """The source or archive; `keys` says at any time by which keys it is reached now."""


@attrs.frozen
class Supplies:
    """What a worker needs once: source and archive (or their recipes), and what of the source it must see."""

    source: Any
    archive: Any
    sample: tuple[tuple[str, int], ...] = attrs.field(repr=_counted)
    """Some of the source's files with their sizes."""


@attrs.frozen
class SealedKeys:
    """Keys of the source and of the archive, to be opened by one worker alone; a higher version is newer."""

    version: int
    sealed: str = attrs.field(repr=False)


@attrs.frozen
class Terms:
    """What every worker has to keep to from `generation` on."""

    generation: int
    share: int
    """Orders, and requests with bytes, at a time on one worker; 0 begins nothing."""
    bandwidth: float | None
    """Bytes per second on one worker."""
    hold_s: float | None
    """How long from being asked something may become visible; None if nobody has set a deadline yet."""


@attrs.frozen
class Batch:
    """Orders for one task. It holds no more than that: what else a worker needs it asks for."""

    token: str
    delivery: str
    number: int
    generation: int
    orders: tuple[FileOrder, ...] = attrs.field(repr=_counted)
    goes_on: bool
    """Whether an earlier run of this batch may have stored parts, of which the client has heard."""


@attrs.frozen
class BatchDone:
    """How the orders of a batch ended, and what its worker did since it last said so."""

    token: str
    number: int
    outcomes: list[FileOutcome] = attrs.field(repr=_counted)
    load: Load


@attrs.frozen
class Question:
    """A worker that asks how things stand; the answer counts from the moment at which this was asked."""

    token: str
    worker: str
    nonce: int
    needs_supplies: bool
    keys_version: int
    public: dict[str, Any] = attrs.field(repr=False)
    """With what keys for this worker are sealed."""
    batch: int | None = None
    run: str = ""
    """Which run of that batch asks: what is told by any other does not count any more."""


@attrs.frozen
class Answer:
    """What the client says to one worker (to all of them, if `nonce` is None)."""

    token: str
    terms: Terms
    nonce: int | None = None
    supplies: Supplies | None = attrs.field(default=None, repr=False)
    keys: SealedKeys | None = None
    uploads: dict[int, OpenUpload | None] = attrs.field(factory=dict, repr=_counted)
    """Multipart uploads of the asking batch as they stand, by file."""


@attrs.frozen
class Told:
    """What is heard of a batch while it runs."""

    token: str
    batch: int
    run: str
    news: list[FileNews] = attrs.field(repr=_counted)
    load: Load
