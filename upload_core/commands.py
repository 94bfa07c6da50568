"""What the host, the clock and the ports tell the core; each is decided by one function (see `delivery.DECIDERS`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from upload_core.effects import Effect, News
from upload_core.events import Event
from upload_core.validation import Entry, MalformedLine


@attrs.frozen
class Decision:
    """Events to append and apply, in this order, and effects to perform after that."""

    events: Sequence[Event] = ()
    effects: Sequence[Effect] = ()


NOTHING = Decision()


@attrs.frozen
class OpenSession:
    """A process takes up the delivery."""

    agent_id: str
    n_threads: int
    max_retries: int
    source: str = ""
    host: str = ""
    pid: int = 0
    release: str = ""


@attrs.frozen
class SightStored:
    """The archive lists these objects; asked for only when the journal is new."""

    sizes: Sequence[tuple[str, int]]


@attrs.frozen
class QueueNext:
    """Put up to `count` more files in line."""

    count: int


@attrs.frozen
class Tick:
    """Time has passed.

    `slots` more transfers are worth starting (of files in line only, unless `queue`), `busy` are those workers are at,
    `probe` says that the archive may be asked again during an outage, `failed` are files whose attempt failed since
    the validator was last told.
    """

    slots: int = 0
    busy: Collection[int] = ()
    queue: bool = True
    probe: bool = True
    failed: Collection[int] = ()


@attrs.frozen
class SettleDoubts:
    """The archive shall be asked about up to `slots` files in doubt that no worker is at."""

    slots: int
    busy: Collection[int]


@attrs.frozen
class OutcomesFound:
    """Workers handed back these outcomes, and news of what they and services are at."""

    outcomes: Sequence[News]


@attrs.frozen
class ClientLogFound:
    """What our log in the control bucket holds beyond what the journal knows; its rows and its size now."""

    entries: Sequence[Entry | MalformedLine]
    size: int


@attrs.frozen
class ValidatorLogFound:
    """New entries of the validator's log, which has been read up to byte `offset`, a place that `mark` is known by."""

    entries: Sequence[Entry | MalformedLine]
    offset: int
    restarted: str = ""
    mark: str = ""


@attrs.frozen
class FilesReported:
    """The rows of a `ReportFiles` are in our log, which now ends at byte `size`."""

    stored: Sequence[int]
    failed: Sequence[int]
    size: int


@attrs.frozen
class RequestRun:
    """The validation pipeline shall be asked for a run."""


@attrs.frozen
class WorldFailed:
    """The archive could not be reached for something that concerns no file."""

    message: str


@attrs.frozen
class WorldAnswered:
    """The archive answered; `again` says that it was asked what it had not answered when the outage began."""

    again: bool = False
