"""`MemoryJournal`: the journal's real records in memory, so that a host's tests can kill a client and resume it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import JournalInUseError, JournalWriteError
from upload_core.files import FileTable
from upload_core.journal import Header, Position, encode_batch, encode_header, replay
from upload_core.ports import Journal


class MemoryJournal:
    """One segment of bytes; `kill` lets go of it as a killed process would, `failure` makes every append fail."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.failure: str | None = None
        self._table: FileTable | None = None
        self._revisions: list[bytes] = []
        self._created: ev.DeliveryCreated | None = None
        self._start = self._end = Position(1, 0, 0, 0)
        self._in_use = False

    @property
    def name(self) -> str:
        return "memory:"

    @property
    def data(self) -> bytes:
        """The segment as it stands; a copy, so that appending need not copy all that is there."""
        return bytes(self._data)

    def open(self) -> Delivery | None:
        self._take()
        if self._created is None or self._table is None:
            return None
        return self.replayed()

    def replayed(self) -> Delivery:
        """The state that the records give, in a delivery of its own."""
        assert self._created is not None
        assert self._table is not None
        delivery = Delivery.begin(self._created, self._table)
        self._end, _ = replay([self.data[self._start.offset :]], self._start, delivery)
        delivery.refresh_derived()
        for rows in self._revisions[: delivery.facts.index_revision]:
            delivery.table = delivery.table.revised([rows])
        return delivery

    def create(self, created: ev.DeliveryCreated, table: FileTable, *, time_ms: int) -> Delivery:
        self._take()
        header = Header.first(created, "memory")
        head, self._start = encode_header(header)
        self._data = bytearray(head)
        self._created, self._table, self._end = created, table, self._start
        delivery = Delivery.begin(created, table)
        self.append([created], time_ms=time_ms)
        delivery.apply(created, time_ms)
        return delivery

    def add_revision(self, revision: int, table: FileTable, changed: Sequence[int]) -> None:
        self._revisions = [*self._revisions[: revision - 1], table.encode_rows(changed)]

    def append(self, events: Sequence[ev.Event], *, time_ms: int) -> None:
        if self.failure is not None:
            raise JournalWriteError(self.failure)
        data, self._end = encode_batch(events, time_ms, self._end)
        self._data += data

    def snapshot(self, delivery: Delivery) -> None:
        """Nothing to do: memory replays fast enough."""

    def close(self, delivery: Delivery | None = None) -> None:
        self._in_use = False

    def kill(self) -> None:
        """Let go of the journal as a process that was killed does."""
        self._in_use = False

    def _take(self) -> None:
        # `create` follows an `open` that found nothing
        if self._in_use and self._created is not None:
            raise JournalInUseError("another client works with this journal; close it, or kill() it")
        self._in_use = True


if TYPE_CHECKING:
    _journal: type[Journal] = MemoryJournal
