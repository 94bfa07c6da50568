"""A journal in memory that its process and its machine can be taken away from, at any byte.

It holds the real records. What was written and not synced is there after the process was killed, and is lost, torn or
followed by zeros after the power was cut; opening mends that by the rules of the journal's format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from upload_adapters.memory import MemoryJournal
from upload_adapters.simulation.chance import Chance
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import JournalDamagedError, JournalWriteError
from upload_core.files import FileTable
from upload_core.journal import Header, Position, encode_batch, encode_header, is_torn, replay
from upload_core.timestamps import parse_iso

if TYPE_CHECKING:
    from upload_core.ports import Journal


class SimulatedJournal(MemoryJournal):
    """`on_call` is told of each call and of each moment within one at which a process may die; it may raise."""

    def __init__(self, on_call: Callable[[str], None], full: Callable[[], bool], chance: Chance) -> None:
        """`full` says whether the disk has no room for the write that is due."""
        super().__init__()
        self._on_call = on_call
        self._full = full
        self._chance = chance
        self._synced_bytes = 0
        self.synced = 0
        """Number of the last record that survives whatever happens."""
        self.torn: list[bytes] = []
        """Segments as they were before their torn tail was cut off."""
        self._snapshot: tuple[bytes, Position] | None = None

    # --- beginning -------------------------------------------------------------------------------

    def open(self) -> Delivery | None:
        self._take()
        self._on_call("open")
        if self._created is None or self._table is None:
            return None
        delivery = self._replayed_from_snapshot() or self.replayed()
        tail = bytes(self._data[self._end.offset :])
        self._synced_bytes, self.synced = len(self._data), self._end.seq
        if tail:
            if not is_torn(tail, self._end.seq):
                raise JournalDamagedError(f"damaged after record {self._end.seq}: {len(tail)} bytes")
            self.torn.append(self.data)
            repaired = ev.JournalRepaired(1, self._end.offset, len(tail), f"torn-{len(self.torn)}")
            del self._data[self._end.offset :]
            self._synced_bytes = len(self._data)
            time_ms = parse_iso(self._end.time)
            self.append([repaired], time_ms=time_ms)
            delivery.apply(repaired, time_ms)
        return delivery

    def _replayed_from_snapshot(self) -> Delivery | None:
        """From a snapshot and what came after it, where there is one; it holds only what was synced, so it always fits."""
        if self._snapshot is None or self._table is None:
            return None
        canonical, position = self._snapshot
        delivery = Delivery.from_canonical(canonical, self._table)
        self._end, _ = replay([self.data[position.offset :]], position, delivery)
        delivery.refresh_derived()
        return delivery

    def create(self, created: ev.DeliveryCreated, table: FileTable, *, time_ms: int) -> Delivery:
        """The journal appears whole and synced, or not at all."""
        self._take()
        self._on_call("create")
        head, start = encode_header(Header.first(created, "simulated"))
        body, end = encode_batch([created], time_ms, start)
        self._data = bytearray(head + body)
        self._created, self._table, self._start, self._end = created, table, start, end
        self._synced_bytes, self.synced = len(self._data), end.seq
        delivery = Delivery.begin(created, table)
        delivery.apply(created, time_ms)
        self._on_call("created")
        return delivery

    # --- appending -------------------------------------------------------------------------------

    def append(self, events: Sequence[ev.Event], *, time_ms: int) -> None:
        if self.failure is not None:
            raise JournalWriteError(self.failure)
        data, end = encode_batch(events, time_ms, self._end)
        self._on_call("append")
        if self._full():
            self._data += data[: self._chance.below(len(data) + 1)]
            self.failure = "no space left on device; make room, then resume"
            raise JournalWriteError(self.failure)
        self._data += data
        try:
            self._on_call("written")
        except BaseException:
            if self._chance.happens(0.5):  # within the write, not after it
                del self._data[len(self._data) - 1 - self._chance.below(len(data)) :]
            raise
        self._synced_bytes, self.synced, self._end = len(self._data), end.seq, end
        self._on_call("synced")

    def snapshot(self, delivery: Delivery) -> None:
        self._snapshot = delivery.canonical(), self._end

    # --- end -------------------------------------------------------------------------------------

    def close(self, delivery: Delivery | None = None) -> None:
        self._on_call("close")
        if delivery is not None and self.failure is None:
            self.snapshot(delivery)
        self.die(power=False)

    def die(self, *, power: bool) -> None:
        """The process is gone; with `power` everything that was not synced is anything."""
        unsynced = len(self._data) - self._synced_bytes
        if power and unsynced > 0:
            kept = self._chance.below(unsynced + 1)
            del self._data[self._synced_bytes + kept :]
            if self._chance.happens(0.3):
                self._data += bytes(unsynced - kept)
        self.failure = None
        self.kill()


if TYPE_CHECKING:
    _journal: type[Journal] = SimulatedJournal
