"""Transfers on threads of this process.

Orders wait in a queue from which as many workers as the level says take them; outcomes travel back through another.
What is due is known to the engine's thread alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

import attrs

from upload_adapters.pacing import Bandwidth, Pace, PacedAttempt, Slots
from upload_core.effects import FileNews, FileOrder, FileOutcome
from upload_core.errors import LockLostError, NotReadyError
from upload_core.ports import Archive, Clock, Dispatcher, Load, Source
from upload_core.worker import execute, failed, stopped

THREADS_MAX: Final = 32
"""Levels above this are for dispatchers that need no thread for each transfer: here more threads make all slower."""

BACKLOG_PER_LEVEL: Final = 4
BACKLOG_MIN: Final = 64
BACKLOG_MAX: Final = 2_000
"""Orders kept waiting beyond the running ones: enough small files for workers not to idle during one turn of the engine."""

GATHER_S: Final = 0.02
GATHER_SLICE_S: Final = 0.005
FEW_DUE: Final = 4
"""Outcomes that come close together share the journal's syncs: the first waits so long for others, unless few are due."""

CUT_S: Final = 2.0
"""How long a cut worker may take to its next read or commit point before its order is given up as unanswered."""


def backlog(level: int) -> int:
    """How many orders to keep waiting at that level."""
    return min(BACKLOG_MAX, max(BACKLOG_MIN, BACKLOG_PER_LEVEL * level))


class _Line:
    """Orders that wait for a worker; no more workers take one at a time than the level says."""

    def __init__(self, level: int) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._orders: deque[FileOrder] = deque()
        self._level = level
        self._running = 0
        self._waited = False
        self._ended = False

    def put(self, orders: Sequence[FileOrder]) -> int:
        """Let them wait; returns how many workers there is work for."""
        with self._changed:
            self._orders.extend(orders)
            self._changed.notify(len(orders))
            return self._wanted

    def resize(self, level: int) -> int:
        """Let so many run at a time; returns how many workers there is work for."""
        with self._changed:
            self._level = level
            self._changed.notify_all()
            return self._wanted

    @property
    def _wanted(self) -> int:
        return 0 if self._ended else min(self._level, self._running + len(self._orders))

    def take(self, *, again: bool) -> FileOrder | None:
        """The next order as soon as it may run, None once there are no more; `again` gives back the turn before."""
        with self._changed:
            self._running -= again
            self._changed.wait_for(lambda: self._ended or (self._orders and self._running < self._level))
            if not self._orders:
                return None
            self._running += 1
            order = self._orders.popleft()
            self._waited = self._waited or self._scarce
            return order

    def end(self) -> list[FileOrder]:
        """Nothing more is taken; the orders that still wait."""
        with self._changed:
            left = list(self._orders)
            self._orders.clear()
            self._ended = True
            self._changed.notify_all()
            return left

    @property
    def _scarce(self) -> bool:
        return bool(self._orders) and self._running >= self._level > 0

    def scarce(self) -> bool:
        """Whether orders had to wait for the level since this was last asked, or do now."""
        with self._changed:
            waited, self._waited = self._waited or self._scarce, False
            return waited


@attrs.define(eq=False)
class Crew:
    """What the workers of one session share; a worker that outlives its session keeps its own and harms no other."""

    source: Source
    archive: Archive
    clock: Clock
    line: _Line
    pace: Pace
    news: SimpleQueue[FileNews | None] = attrs.field(factory=SimpleQueue)
    hold_until_ms: int | None = None
    cut: bool = False
    threads: list[threading.Thread] = attrs.field(factory=list)
    _hiring: threading.Lock = attrs.field(factory=threading.Lock)

    def put(self, orders: Sequence[FileOrder]) -> None:
        """Have these orders carried out by threads; safe in any thread."""
        self._hire(self.line.put(orders))

    def resize(self, level: int) -> None:
        """Let so many orders run at a time; threads of a higher level before stay, and wait."""
        self._hire(self.line.resize(level))

    def _hire(self, wanted: int) -> None:
        """A thread for each order that may run: where a channel carries all, there is none."""
        if len(self.threads) >= wanted:
            return
        with self._hiring:
            for number in range(len(self.threads), min(wanted, THREADS_MAX)):
                # Daemons: a host that forgets to close must still be able to end.
                thread = threading.Thread(target=self.work, name=f"upload-{number}", daemon=True)
                self.threads.append(thread)
                thread.start()

    def commit(self) -> None:
        """Raises `LockLostError` once nothing may become visible any more."""
        if self.cut:
            raise LockLostError("stopped before it was finished")
        if self.hold_until_ms is not None and self.clock.now_ms() > self.hold_until_ms:
            raise LockLostError("the delivery's lock was not renewed in time; nothing more is stored")

    def work(self) -> None:
        """Carry out orders until there are no more."""
        again = False
        while (order := self.line.take(again=again)) is not None:
            again = True
            attempt = PacedAttempt(order, self.commit, self.news.put, self.pace)
            try:
                outcome = execute(order, self.source, self.archive, attempt)
            except BaseException as error:  # noqa: BLE001 - every order is answered, even if its doer calls sys.exit
                outcome = failed(order, error)
            attempt.ended(outcome)
            self.news.put(outcome)


class ThreadDispatcher:
    """Runs up to `level` orders at a time, each on a thread of its own.

    Everything but `wake` belongs to one thread, the engine's.
    """

    def __init__(self, clock: Clock, *, level_max: int = THREADS_MAX) -> None:
        self._clock = clock
        self._level_max = level_max
        self._level = 0
        self._bandwidth: Bandwidth | None = None
        self._crew: Crew | None = None
        self._due: dict[int, FileOrder] = {}

    @property
    def level_max(self) -> int:
        return self._level_max

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        """Start the workers. Until `hold_until` is first called there is no deadline."""
        assert self._crew is None, "close comes before the next open"
        self._level = max(1, n_threads)
        self._crew = Crew(
            source, archive, self._clock, _Line(self._level), Pace(Slots(self._level), bandwidth=self._bandwidth)
        )

    def set_level(self, level: int) -> None:
        crew = self._crew
        if crew is None:
            return
        self._level = max(0, level)
        if self._level:
            crew.pace.slots.resize(self._level)
        crew.resize(self._level)

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        self._bandwidth = None if bytes_per_s is None else Bandwidth(bytes_per_s)
        if self._crew is not None:
            self._crew.pace.bandwidth = self._bandwidth

    def load(self) -> Load:
        crew = self._crew
        if crew is None:
            return Load()
        waited, scarce = crew.line.scarce(), crew.pace.slots.scarce()
        return crew.pace.meter.read(saturated=waited or scarce)

    @property
    def slots(self) -> int:
        if self._crew is None or not self._level:
            return 0
        return max(0, self._level + backlog(self._level) - len(self._due))

    def submit(self, orders: Sequence[FileOrder]) -> None:
        """Begin these orders; raises `NotReadyError` unless open."""
        if self._crew is None:
            raise NotReadyError("the dispatcher is not open; open it first")
        for order in orders:
            assert order.file not in self._due, "one order per file at a time: its outcome names the file alone"
            self._due[order.file] = order
        self._hand_over(orders)

    def _hand_over(self, orders: Sequence[FileOrder]) -> None:
        """Give orders, which are noted as due, to whoever carries them out."""
        assert self._crew is not None, "submit has looked"
        self._crew.put(orders)

    def collect(self, timeout_s: float) -> list[FileNews]:
        crew = self._crew
        news: list[FileNews] = []
        if crew is None:
            return news
        try:
            woken = self._take_in(crew.news.get(timeout=max(0.0, timeout_s)), news)
        except Empty:
            return news
        deadline = time.monotonic() + min(GATHER_S, timeout_s)
        while not self._drain(crew, news) and not woken and len(self._due) > max(FEW_DUE, 2 * self._level):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(left_s, GATHER_SLICE_S))
        return news

    def _take_in(self, told: FileNews | None, news: list[FileNews]) -> bool:
        """Whether this was no news but a wake."""
        if told is None:
            return True
        if isinstance(told, FileOutcome):
            del self._due[told.file]
        news.append(told)
        return False

    def _drain(self, crew: Crew, news: list[FileNews]) -> bool:
        """Take in all that is at hand; whether there was a wake among it."""
        woken = False
        try:
            while True:
                woken = self._take_in(crew.news.get_nowait(), news) or woken
        except Empty:
            return woken

    def wake(self) -> None:
        # SimpleQueue.put may even interrupt itself, so a signal handler can call this.
        if (crew := self._crew) is not None:
            crew.news.put(None)

    def hold_until(self, time_ms: int) -> None:
        if self._crew is not None:
            self._crew.hold_until_ms = time_ms

    def close(self, grace_s: float) -> list[FileNews]:
        crew = self._crew
        if crew is None:
            return []
        waiting: list[FileNews] = []
        for order in crew.line.end():
            del self._due[order.file]
            waiting.append(stopped(order))
        _join(crew.threads, grace_s)
        crew.cut = True
        crew.pace.slots.close()
        _join(crew.threads, CUT_S)
        news = [*waiting, *self.collect(0)]
        # Whoever still hangs in a call has an order whose end nobody will hear of; the archive is asked at resume.
        news += [stopped(order, "stopped while it was running") for order in self._due.values()]
        self._due.clear()
        self._crew = None
        return news


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + max(0.0, seconds)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = ThreadDispatcher
