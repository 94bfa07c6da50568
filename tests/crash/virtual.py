"""Many transfers at a time in virtual time: each request takes its latency on the clock, and a store may push it back."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from upload_adapters.memory import ManualClock
from upload_adapters.pacing import Pace, PacedAttempt, Slots
from upload_core.effects import Fault, FileNews, FileNotStored, FileOrder
from upload_core.ports import Archive, Dispatcher, Load, Source
from upload_core.worker import execute, stopped

TRIES: Final = 5
"""An adapter asks so often before it gives a request up."""
WAIT_MS: Final = 200
GATHER_MS: Final = 20


class VirtualDispatcher:
    """Up to `level` orders at a time; `limit_per_s` says how many requests a second the store answers at a moment."""

    def __init__(
        self, clock: ManualClock, *, latency_ms: int, limit_per_s: Callable[[int], float], level_max: int
    ) -> None:
        self._clock = clock
        self._latency_ms = latency_ms
        self._limit_per_s = limit_per_s
        self._level_max = level_max
        self._level = 0
        self._orders: deque[FileOrder] = deque()
        self._under_way: list[tuple[int, int, int, FileOrder]] = []
        self._numbers = itertools.count()
        self._allowance = 0.0
        self._allowed_ms = 0
        self._waited = False
        self._pace = Pace(Slots(1))
        self._target: tuple[Source, Archive] | None = None

    @property
    def level_max(self) -> int:
        return self._level_max

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        self._target = source, archive
        self._level = n_threads

    def set_level(self, level: int) -> None:
        self._level = level

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        pass

    def load(self) -> Load:
        waited, self._waited = self._waited, False
        return self._pace.meter.read(saturated=waited)

    @property
    def slots(self) -> int:
        return max(0, 5 * self._level - len(self._orders) - len(self._under_way)) if self._target else 0

    def submit(self, orders: Sequence[FileOrder]) -> None:
        self._orders.extend(orders)

    def collect(self, timeout_s: float) -> list[FileNews]:
        news: list[FileNews] = []
        until = self._clock.now_ms() + round(timeout_s * 1000)
        self._begin()
        while self._under_way and self._under_way[0][0] <= until:
            done_ms, _, tries, order = heapq.heappop(self._under_way)
            self._clock.advance((done_ms - self._clock.now_ms()) / 1000)
            self._answer(order, tries, news)
            if len(news) == 1:
                until = min(until, self._clock.now_ms() + GATHER_MS)
            self._begin()
        self._clock.advance((until - self._clock.now_ms()) / 1000)
        return news

    def _begin(self) -> None:
        while self._orders and len(self._under_way) < self._level:
            self._send(self._orders.popleft(), 1, 0)
        self._waited = self._waited or (bool(self._orders) and self._level > 0)

    def _send(self, order: FileOrder, tries: int, wait_ms: int) -> None:
        due_ms = self._clock.now_ms() + wait_ms + self._latency_ms
        heapq.heappush(self._under_way, (due_ms, next(self._numbers), tries, order))

    def _answer(self, order: FileOrder, tries: int, news: list[FileNews]) -> None:
        assert self._target is not None, "closed, and still at work"
        attempt = PacedAttempt(order, lambda: None, news.append, self._pace)
        now = self._clock.now_ms()
        limit = self._limit_per_s(now)
        self._allowance = min(max(1.0, limit / 10), self._allowance + (now - self._allowed_ms) * limit / 1000)
        self._allowed_ms = now
        if self._allowance >= 1:
            self._allowance -= 1
            outcome = execute(order, *self._target, attempt)
        elif tries < TRIES:
            attempt.pushed_back("SlowDown")
            self._send(order, tries + 1, WAIT_MS * 2**tries)
            return
        else:
            outcome = FileNotStored(order.file, Fault.WORLD, "SlowDown: please reduce your request rate")
        attempt.ended(outcome)
        news.append(outcome)

    def wake(self) -> None:
        pass

    def hold_until(self, time_ms: int) -> None:
        pass

    def close(self, grace_s: float) -> list[FileNews]:
        left = [*self._orders, *(order for *_, order in self._under_way)]
        self._orders.clear()
        self._under_way.clear()
        self._target = None
        return [stopped(order) for order in left]


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = VirtualDispatcher
