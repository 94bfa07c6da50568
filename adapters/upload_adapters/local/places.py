"""Where one delivery lies below a directory, and the figures that pace it there."""

from __future__ import annotations

import os
from typing import Final

import attrs

from upload_core.errors import ConfigurationError
from upload_core.ports import Limits, TransferType
from upload_core.wire import Keys

from .archive import DirectoryArchive
from .control import DirectoryControlBucket
from .disk import demand_usable

LOCAL_LIMITS: Final = Limits(
    poll_interval_s=0.05,  # a look costs 50 us here, a person notices 100 ms
    report_interval_s=0.05,  # one fsync each: at most 20 per second of a disk that does a hundred
    keepalive_interval_s=10.0,  # the same patience as anywhere, but it costs nothing to be far from its end
    lock_staleness_s=3600.0,  # a machine may sleep as long as that; whoever died re-enters by its journal at once
    validator_start_s=30.0,  # it reads an index of a million rows in a few seconds
    validator_blind_s=0.0,  # it finds its place before its first word
    validator_silence_s=45.0,  # it writes every 10 s, however busy it is
    validator_stop_s=600.0,  # a callable may need long for each of the files that are still in its queue
    outage_s=900.0,  # time enough to make room on a full disk
)
"""The figures of a local archive."""


def local_limits(*, lock_staleness_s: float | None = None) -> Limits:
    """`LOCAL_LIMITS` with another time after which a silent owner's lock may be taken over."""
    return LOCAL_LIMITS if lock_staleness_s is None else attrs.evolve(LOCAL_LIMITS, lock_staleness_s=lock_staleness_s)


def _one_name(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value or value.startswith(".") or "/" in value or not value.isprintable():
        raise ConfigurationError(f"{attribute.name} {value!r} must be one plain name: it becomes a part of a path")


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)


@attrs.frozen
class LocalPlaces:
    """One delivery below `directory`: objects in one directory of it, control objects in another."""

    directory: str = attrs.field(converter=_absolute)
    dataset: str = attrs.field(validator=_one_name)
    delivery_id: str = attrs.field(validator=_one_name)
    transfer_type: TransferType = "staging"

    @property
    def keys(self) -> Keys:
        """The names of the control objects."""
        return Keys(self.dataset, self.delivery_id, self.transfer_type)

    @property
    def archive_root(self) -> str:
        """The directory of the objects."""
        return os.path.join(self.directory, f"{self.dataset}-{self.delivery_id}-{self.transfer_type}")

    @property
    def control_root(self) -> str:
        """The directory of the control objects."""
        return os.path.join(self.directory, f"{self.dataset}-{self.delivery_id}-control")

    def demand_usable(self) -> None:
        """Raises `ConfigurationError` if this user cannot make or write them; nothing is made to find out."""
        for root in (self.control_root, self.archive_root):
            demand_usable(root)

    def archive(self) -> DirectoryArchive:
        """The transfer bucket; nothing is made before it is written to."""
        return DirectoryArchive(self.archive_root)

    def control(self) -> DirectoryControlBucket:
        """The control bucket; nothing is made before it is written to."""
        return DirectoryControlBucket(self.control_root)
