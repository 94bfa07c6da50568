"""Where the core finds adapters when a host passes none: the entry point group `upload_core.wiring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from upload_core.errors import ConfigurationError
from upload_core.ports import Archive, Ports, Source, TransferType

if TYPE_CHECKING:
    from datetime import datetime
    from os import PathLike

    from upload_core.dataroot import Bucket
    from upload_core.delivery import Delivery

GROUP: Final = "upload_core.wiring"


@attrs.frozen
class WiringRequest:
    """What a host says of the delivery it wants ports for; None is left to configuration and defaults."""

    dataset: str
    delivery_id: str
    transfer_type: TransferType
    source: str | PathLike[str] | Bucket
    to: str | None = None
    journal: str | PathLike[str] | None = None
    label: str | PathLike[str] | None = None
    check: str | Any | None = None
    """A callable `check(path, relpath) -> problems` for the local archive's validator, or `package.module:function`."""
    browser: bool = True
    """Whether a sign-in may open a browser here; otherwise its address is shown and the answer pasted."""
    allow_case_duplicates: bool = False
    """Whether paths may differ by letter case or Unicode form alone."""
    settings: Mapping[str, str] = attrs.field(factory=dict)
    """Settings of a deployment by name, over its file and the environment."""
    dispatch: str | None = None
    """Where transfers run: `threads` of this process (None, too), `dask://HOST:PORT`, `dask` for processes here, `s3-batch`."""


class Wiring(Protocol):
    """What a provider of adapters offers; a module with these functions will do."""

    def wire(self, request: WiringRequest) -> Ports:
        """Ports for a delivery; raises `ConfigurationError` if the request cannot be met."""

    def wire_journal(self, journal: str | PathLike[str], overrides: Mapping[str, Any]) -> Ports:
        """Ports for the delivery that a journal recorded; `overrides` replaces what it recorded, where not None."""

    def replay(self, journal: str | PathLike[str], until: int | str | datetime | None) -> tuple[Delivery, int, str]:
        """The state that a journal led to, and number and time of the last record of it; see `upload_core.replay`."""

    def dataframe(self, columns: Mapping[str, Sequence[Any]], library: str | None) -> Any:
        """Columns as a data frame; raises `ConfigurationError` if there is no library for it."""

    def open_source(self, source: str | PathLike[str] | Bucket) -> Source:
        """The read side of a place."""

    def open_archive(self, bucket: Bucket) -> Archive:
        """A bucket as a destination."""


@cache
def default_wiring() -> Wiring:
    """The installed provider of adapters; raises `ConfigurationError` if there is none."""
    # Here, because half of it is a mail parser: a host that brings its own ports pays for none of that.
    from importlib.metadata import entry_points

    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name != "default")
    if not found:
        raise ConfigurationError(f"no package offers adapters (entry point group {GROUP}); pass ports= or install one")
    wiring: Wiring = found[0].load()
    return wiring
