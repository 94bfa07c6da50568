"""Every port in memory, for a host's tests: no disk, no network, no threads, no time that passes by itself.

The adapters keep the promises of the real ones, conditional writes and checksums included; they join the same contract
tests. `memory_ports` bundles them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from upload_core.files import FileTable
from upload_core.ports import Dispatcher, IndexBuilder, Limits, Ports, Source, TransferType
from upload_core.wire import Keys

from .buckets import MemoryArchive, MemoryControlBucket
from .host import (
    InlineDispatcher,
    ManualClock,
    MemoryConsole,
    MemoryIdentity,
    MemoryStateDump,
)
from .journal import MemoryJournal
from .pipeline import Check, MemoryPipeline, MemoryValidator, StartRequest
from .source import MemoryFile, MemorySource

__all__ = [
    "Check",
    "InlineDispatcher",
    "ManualClock",
    "MemoryArchive",
    "MemoryConsole",
    "MemoryControlBucket",
    "MemoryFile",
    "MemoryIdentity",
    "MemoryJournal",
    "MemoryPipeline",
    "MemoryPorts",
    "MemorySource",
    "MemoryStateDump",
    "MemoryValidator",
    "StartRequest",
    "memory_ports",
]


def index_in_memory(file_index: object, source: Source) -> FileTable:
    """The default index builder: any data frame, checked in full as for every archive."""
    from upload_adapters.indexing import build_table

    return build_table(file_index, source)


@attrs.define(kw_only=True)
class MemoryPorts(Ports):
    """`Ports` whose adapters show what they hold: `archive.contents()`, `console.messages`, `clock.advance()`."""

    journal: MemoryJournal
    source: MemorySource
    archive: MemoryArchive
    control: MemoryControlBucket
    pipeline: MemoryPipeline
    identity: MemoryIdentity
    console: MemoryConsole
    clock: ManualClock
    dump: MemoryStateDump


def memory_ports(
    files: Mapping[str, bytes],
    *,
    journal: MemoryJournal | None = None,
    index: IndexBuilder | None = None,
    dataset: str = "demo",
    delivery_id: str = "1",
    transfer_type: TransferType = "staging",
    check: Check | None = None,
    dispatcher: Dispatcher | None = None,
    clock: ManualClock | None = None,
    limits: Limits | None = None,
) -> MemoryPorts:
    """All ports of one delivery of `files`; whoever keeps them can kill a client and start another on the same ones.

    `check` adds a host's own findings to the validator's. Transfers run inline unless a `dispatcher` is given.
    """
    clock = clock or ManualClock()
    limits = limits or Limits()
    control, archive = MemoryControlBucket(clock), MemoryArchive()
    keys = Keys(dataset, delivery_id, transfer_type)
    return MemoryPorts(
        journal=journal or MemoryJournal(),
        index=index or index_in_memory,
        source=MemorySource(files),
        archive=archive,
        control=control,
        pipeline=MemoryPipeline(control, archive, clock, keys, check=check, limits=limits),
        identity=MemoryIdentity(),
        dispatcher=dispatcher or InlineDispatcher(clock),
        console=MemoryConsole(),
        clock=clock,
        dump=MemoryStateDump(),
        limits=limits,
        archive_name="memory:",
        agent_id="memory-agent",
    )


if TYPE_CHECKING:
    _bundle: type[Ports] = MemoryPorts
