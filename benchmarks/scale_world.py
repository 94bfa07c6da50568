"""A delivery of any size on any number of workers, in virtual time: the real client, engine and core, and nothing else real.

Workers take drawn times for their transfers and succeed; the validator judges whatever it is told; logs keep what is not
read yet, the journal is encoded and thrown away. So ten million files fit in memory, and what is left to measure is what
the core costs per file.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import attrs

from upload_adapters.memory import (
    ManualClock,
    MemoryArchive,
    MemoryConsole,
    MemoryIdentity,
    MemoryStateDump,
)
from upload_core import UploadClient
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.effects import FileNews, FileOrder, FileStored
from upload_core.errors import OffsetConflictError
from upload_core.files import FileTable
from upload_core.journal import Header, Position, encode_batch, encode_header
from upload_core.ports import (
    ControlBucket,
    Dispatcher,
    Journal,
    Limits,
    Load,
    ObjectInfo,
    Pipeline,
    Ports,
    Source,
    SourceFile,
)
from upload_core.wire import SELF, Keys, encode_rows

FILE_BYTES: Final = 4096
CHECKSUM: Final = "yH2GHg=="
MEDIAN_S: Final = 0.2
SIGMA: Final = 0.8
"""Times of transfers are lognormal: half take 0.2 s or less, one in a hundred more than 1.3 s."""
DRAWN: Final = 10_007
GATHER_MS: Final = 20
BACKLOG: Final = 1_000
KEPT: Final = 1 << 17
"""Bytes of a log before what was read last: its reader knows a place again by those before it."""
_AGENT: Final = "scale-validator"


class EncodedJournal:
    """Encodes every record as a journal on disk does, and keeps none."""

    def __init__(self) -> None:
        self.bytes = self.records = self.batches = 0
        self._end = Position(1, 0, 0, 0)

    name = "nowhere"

    def open(self) -> Delivery | None:
        return None

    def create(self, created: ev.DeliveryCreated, table: FileTable, *, time_ms: int) -> Delivery:
        head, self._end = encode_header(Header.first(created, "nowhere"))
        self.bytes += len(head)
        delivery = Delivery.begin(created, table)
        self.append([created], time_ms=time_ms)
        delivery.apply(created, time_ms)
        return delivery

    def add_revision(self, revision: int, table: FileTable, changed: Sequence[int]) -> None:
        raise AssertionError("no index is revised here")

    def append(self, events: Sequence[ev.Event], *, time_ms: int) -> None:
        data, self._end = encode_batch(events, time_ms, self._end)
        self.bytes += len(data)
        self.records += len(events)
        self.batches += 1

    def snapshot(self, delivery: Delivery) -> None:
        """What one costs is a figure of its own (J8)."""

    def close(self, delivery: Delivery | None = None) -> None: ...


@attrs.define
class _Object:
    base: int = 0
    """Bytes before the ones that are kept."""
    data: bytearray = attrs.field(factory=bytearray)
    etag: int = 0
    modified: float = 0.0

    @property
    def size(self) -> int:
        return self.base + len(self.data)


class Control:
    """Small objects and logs of which only the end is kept; counts what it is asked."""

    def __init__(self, clock: ManualClock, keys: Keys) -> None:
        self.asked: Counter[str] = Counter()
        self.before_read: Callable[[str], None] = lambda _: None
        self._clock, self._logs = clock, {keys.client_log, keys.validator_log}
        self._objects: dict[str, _Object] = {}
        self._etags = itertools.count(1)

    def head(self, key: str) -> ObjectInfo | None:
        self.asked["head"] += 1
        found = self._objects.get(key)
        return None if found is None else self._info(found)

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        self.asked["read"] += 1
        self.before_read(key)
        return self.peek(key, start)

    def peek(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        """The same without being counted; what lies far before is forgotten."""
        found = self._objects.get(key)
        if found is None:
            return None
        if key in self._logs and (old := start - KEPT - found.base) > KEPT:
            del found.data[:old]
            found.base += old
        return bytes(memoryview(found.data)[max(0, start - found.base) :]), self._info(found)

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        self.asked["put"] += 1
        kept = bytearray(data if len(data) < KEPT else b"")  # nobody reads an index here
        self._objects[key] = made = _Object(len(data) - len(kept), kept)
        return self._written(made)

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        self.asked["append"] += 1
        return self.add(key, data, offset)

    def add(self, key: str, data: bytes, offset: int) -> ObjectInfo:
        """The same without being counted."""
        found = self._objects.setdefault(key, _Object())
        if found.size != offset:
            raise OffsetConflictError(f"{key} has {found.size} bytes, not {offset}")
        found.data += data
        return self._written(found)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self.asked["delete"] += 1
        self._objects.pop(key, None)

    def size(self, key: str) -> int:
        found = self._objects.get(key)
        return 0 if found is None else found.size

    def _written(self, found: _Object) -> ObjectInfo:
        found.etag, found.modified = next(self._etags), self._clock.now_ms() / 1000
        return self._info(found)

    def _info(self, found: _Object) -> ObjectInfo:
        return ObjectInfo(found.size, f'"{found.etag}"', found.modified, self._clock.now_ms() / 1000)


class Elsewhere:
    """CPU seconds of what only stands in for the world: they are not the core's."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._began


class Validator:
    """Finds every file good that our log names, a look at a time."""

    def __init__(self, control: Control, clock: ManualClock, keys: Keys, elsewhere: Elsewhere) -> None:
        self.judged = 0
        self._control, self._clock, self._keys, self._elsewhere = control, clock, keys, elsewhere
        self._offset: int | None = None
        self._written = self._wrote_ms = 0
        self.alive = False
        control.before_read = self._look

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        self.alive = True
        return ""

    def is_running(self) -> bool:
        return self.alive

    def close(self) -> None: ...

    def _look(self, key: str) -> None:
        if key != self._keys.validator_log or not self.alive:
            return
        with self._elsewhere:
            self._turn()

    def _turn(self) -> None:
        if self._offset is None:
            self._offset = self._control.size(self._keys.client_log)
            self._say([("init", SELF, "ok", "started")])
            return
        found = self._control.peek(self._keys.client_log, self._offset)
        data = b"" if found is None else found[0]
        self._offset += len(data)
        verdicts: list[tuple[str, str, str, str]] = []
        for row in data.decode().splitlines():
            _, category, path, status, *_ = row.split("\t")
            if category == "transfer" and status == "ok":
                verdicts.append(("validation", path, "ok", ""))
            elif category == "stop":
                verdicts += [("shutdown", SELF, "ok", ""), ("stop", SELF, "ok", "")]
                self.alive = False
        self.judged += sum(row[0] == "validation" for row in verdicts)
        if not verdicts and self._clock.now_ms() - self._wrote_ms >= 10_000:
            verdicts.append(("keepalive", SELF, "ok", str(self.judged)))
        self._say(verdicts)

    def _say(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        if rows:
            now_ms = self._wrote_ms = self._clock.now_ms()
            data = encode_rows([(now_ms, *row, _AGENT) for row in rows], backslash_escapes=True)
            self._written = self._control.add(self._keys.validator_log, data, self._written).size


class Workers:
    """So many workers, each with one file at a time for as long as was drawn."""

    def __init__(self, clock: ManualClock, elsewhere: Elsewhere, workers: int, seed: int) -> None:
        chance = random.Random(seed)
        self._times = [max(1, round(1000 * MEDIAN_S * chance.lognormvariate(0, SIGMA))) for _ in range(DRAWN)]
        self._clock, self._elsewhere, self._workers = clock, elsewhere, workers
        self._waiting: deque[FileOrder] = deque()
        self._busy: list[tuple[int, int, FileOrder]] = []
        self._number = 0
        self.turns = 0

    @property
    def level_max(self) -> int:
        return self._workers

    def open(self, source: Source, archive: object, n_threads: int) -> None: ...

    def set_level(self, level: int) -> None: ...

    def set_bandwidth(self, bytes_per_s: float | None) -> None: ...

    def load(self) -> Load:
        return Load()

    @property
    def slots(self) -> int:
        return max(0, self._workers + BACKLOG - len(self._waiting) - len(self._busy))

    def submit(self, orders: Sequence[FileOrder]) -> None:
        self._waiting.extend(orders)

    def collect(self, timeout_s: float) -> list[FileNews]:
        with self._elsewhere:
            return self._pass(round(timeout_s * 1000))

    def _pass(self, timeout_ms: int) -> list[FileNews]:
        """Let time pass to the first that ends, and some more for those that end with it."""
        self.turns += 1
        now = self._clock.now_ms()
        until = now + timeout_ms
        self._begin(now)
        news: list[FileNews] = []
        while self._busy and self._busy[0][0] <= until:
            now, _, order = heapq.heappop(self._busy)
            if not news:
                until = min(until, now + GATHER_MS)
            news.append(FileStored(order.file, order.size, CHECKSUM))
            self._begin(now)
        self._clock.advance((until - self._clock.now_ms()) / 1000)
        return news

    def _begin(self, now: int) -> None:
        while self._waiting and len(self._busy) < self._workers:
            self._number += 1
            heapq.heappush(self._busy, (now + self._times[self._number % DRAWN], self._number, self._waiting.popleft()))

    def wake(self) -> None: ...

    def hold_until(self, time_ms: int) -> None: ...

    def close(self, grace_s: float) -> list[FileNews]:
        assert not self._busy, "nobody stops early here"
        return []


class Nothing:
    """A source that is not looked at: workers only take their time."""

    name = "nothing:"

    def problem_with(self, relpath: str) -> str | None:
        return None

    def size(self, relpath: str) -> int:
        return FILE_BYTES

    def open(self, relpath: str) -> AbstractContextManager[SourceFile]:
        raise AssertionError("workers only take their time here")

    def ls(self, prefix: str = "") -> tuple[str, ...]:
        return ()


@attrs.frozen
class Delivered:
    """What one delivery cost."""

    files: int
    workers: int
    core_s: float
    """CPU seconds without those of what stands in for the world."""
    virtual_s: float
    turns: int
    records: int
    journal_bytes: int
    asked: Mapping[str, int]
    """Requests to the control bucket by their kind."""

    @property
    def per_file_us(self) -> float:
        """CPU of the core for one file."""
        return self.core_s / self.files * 1e6


def table_of(files: int) -> FileTable:
    """An index of so many files in folders of a thousand."""
    paths = (f"night-{number // 1000:05}/image-{number:08}.fits" for number in range(files))
    return FileTable.from_columns(paths, itertools.repeat(FILE_BYTES, files))


def deliver(files: int, workers: int, *, seed: int = 1, observe: Collection[Callable[[Any], None]] = ()) -> Delivered:
    """Deliver so many files by so many workers, to the end. Raises `AssertionError` unless every one is valid."""
    table, clock, elsewhere = table_of(files), ManualClock(), Elsewhere()
    keys = Keys("scale", "1", "staging")
    control, journal = Control(clock, keys), EncodedJournal()
    validator = Validator(control, clock, keys, elsewhere)
    dispatcher = Workers(clock, elsewhere, workers, seed)
    ports = Ports(
        journal=journal,
        source=Nothing(),
        archive=MemoryArchive(),
        control=control,
        pipeline=validator,
        identity=MemoryIdentity(),
        dispatcher=dispatcher,
        console=MemoryConsole(),
        clock=clock,
        dump=MemoryStateDump(),
        index=lambda _index, _source: table,
        limits=Limits(),
        archive_name="nowhere:",
        agent_id="scale",
    )
    client = UploadClient(
        dataset="scale",
        delivery_id="1",
        file_index=None,
        transfer_type="staging",
        source="nothing:",
        ports=ports,
        n_threads=workers,
    )
    for callback in observe:
        client.subscribe(callback)
    began_ms, began = clock.now_ms(), time.process_time()
    summary = client.run()
    core_s = time.process_time() - began - elsewhere.seconds
    assert (summary.outcome, summary.counts["valid"], validator.judged) == ("complete", files, files), summary
    return Delivered(
        files,
        workers,
        core_s,
        (clock.now_ms() - began_ms) / 1000,
        dispatcher.turns,
        journal.records,
        journal.bytes,
        dict(control.asked),
    )


if TYPE_CHECKING:
    _control: type[ControlBucket] = Control
    _journal: type[Journal] = EncodedJournal
    _pipeline: type[Pipeline] = Validator
    _workers: type[Dispatcher] = Workers
    _source: type[Source] = Nothing
