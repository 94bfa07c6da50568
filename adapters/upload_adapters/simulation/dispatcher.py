"""Transfers on one thread, in any order that workers on many could bring about.

An order that waits is carried out when chance picks it; what is told of it is queued, and reaches the engine piece by
piece, mixed with that of others. Where a session is cut, some orders are cut at one of their own checks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from upload_adapters.pacing import Meter, Pace, PacedAttempt, Slots
from upload_adapters.simulation.life import Life
from upload_core.effects import FileNews, FileOrder
from upload_core.errors import LockLostError
from upload_core.ports import Archive, Dispatcher, Load, Source
from upload_core.worker import execute, stopped

LEVEL_MAX: Final = 8


class SimulatedDispatcher:
    """The workers of one process."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._chance = life.world.chance
        self._orders: list[FileOrder] = []
        self._news: list[deque[FileNews]] = []
        """What is told of each order that was carried out, in its order."""
        self._target: tuple[Source, Archive] | None = None
        self._level = 0
        self._pace = Pace(Slots(LEVEL_MAX))
        self._waited = False
        self._hold_until_ms: int | None = None
        self._commits_left: int | None = None
        self._woken = False

    @property
    def level_max(self) -> int:
        return LEVEL_MAX

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        self._target = source, archive
        self._level = n_threads
        self._pace.meter = Meter()
        self._hold_until_ms = None

    def set_level(self, level: int) -> None:
        self._level = level

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        pass

    def load(self) -> Load:
        waited, self._waited = self._waited, False
        return self._pace.meter.read(saturated=waited)

    @property
    def slots(self) -> int:
        return max(0, 2 * self._level - len(self._orders) - len(self._news)) if self._target else 0

    def submit(self, orders: Sequence[FileOrder]) -> None:
        self._orders.extend(orders)

    def collect(self, timeout_s: float) -> list[FileNews]:
        self._life.boundary("dispatcher.collect")
        chance = self._chance
        self._waited = self._waited or len(self._orders) > self._level > 0
        if self._orders and self._level and self._target and (not self._news or chance.happens(0.6)):
            self._carry_out(self._orders.pop(chance.below(len(self._orders))), *self._target)
        if self._news and (not self._orders or chance.happens(0.7)):
            return self._some_news()
        if not self._woken and not self._orders:
            self._life.idle(round(timeout_s * 1000))
        self._woken = False
        return []

    def _carry_out(self, order: FileOrder, source: Source, archive: Archive) -> None:
        news: deque[FileNews] = deque()
        attempt = PacedAttempt(order, self._commit, news.append, self._pace)
        outcome = execute(order, source, archive, attempt)
        attempt.ended(outcome)
        news.append(outcome)
        self._news.append(news)

    def _some_news(self) -> list[FileNews]:
        """The beginning of what is told of one order, or of several."""
        told: list[FileNews] = []
        while self._news:
            number = self._chance.below(len(self._news))
            queue = self._news[number]
            told.extend([queue.popleft() for _ in range(1 + self._chance.below(len(queue)))])
            if not queue:
                del self._news[number]
            if self._chance.happens(0.5):
                break
        return told

    def wake(self) -> None:
        self._woken = True

    def hold_until(self, time_ms: int) -> None:
        self._hold_until_ms = time_ms

    def close(self, grace_s: float) -> list[FileNews]:
        self._life.boundary("dispatcher.close")
        told: list[FileNews] = []
        for order in self._orders:
            if self._target is not None and self._level and self._chance.happens(0.3):
                self._commits_left = self._chance.below(6)
                self._carry_out(order, *self._target)
            else:
                told.append(stopped(order))
        for queue in self._news:
            told.extend(queue)
        self._orders.clear()
        self._news.clear()
        self._target = None
        self._commits_left = None
        return told

    def _commit(self) -> None:
        if self._commits_left is not None:
            if self._commits_left <= 0:
                raise LockLostError("stopped before it was finished")
            self._commits_left -= 1
        if self._hold_until_ms is not None and self._life.clock.now_ms() > self._hold_until_ms:
            raise LockLostError("the delivery's lock was not renewed in time")


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = SimulatedDispatcher
