"""Transfers on a thread that moves only when the engine looks: what an archive tells of a file is journaled before it
goes on, and the same seed always gives the same order of calls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from upload_adapters.testing import Killed
from upload_core.attempt import OrderAttempt
from upload_core.effects import FileNews, FileOrder, FileOutcome, FileProgress
from upload_core.errors import LockLostError
from upload_core.ports import Archive, Clock, Dispatcher, Load, Source
from upload_core.worker import execute, stopped

PATIENCE_S = 30


class LockstepDispatcher:
    """One order at a time; a `collect` takes in what is told next and lets it go on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._orders: deque[FileOrder] = deque()
        self._target: tuple[Source, Archive] | None = None
        self._n_threads = 0
        self._hold_until_ms: int | None = None
        self._life = _Life()
        self._running = False

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        self._target = source, archive
        self._n_threads = n_threads
        self._hold_until_ms = None
        self._orders.clear()

    @property
    def level_max(self) -> int:
        return 1

    def set_level(self, level: int) -> None:
        self._n_threads = level

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        pass

    def load(self) -> Load:
        return Load()

    @property
    def slots(self) -> int:
        return max(0, self._n_threads - len(self._orders) - self._running) if self._target else 0

    def submit(self, orders: Sequence[FileOrder]) -> None:
        assert self._target is not None, "open comes before submit"
        self._orders.extend(orders)

    def collect(self, timeout_s: float) -> list[FileNews]:
        life = self._life
        if self._running:
            life.go_on.put(None)
        elif self._orders and self._target is not None and self._n_threads:
            self._running = True
            threading.Thread(target=life.work, args=(self._orders.popleft(), *self._target, self._commit)).start()
        else:
            self._clock.sleep(timeout_s)
            return []
        told = life.told.get(timeout=PATIENCE_S)
        if isinstance(told, BaseException):
            self._running = False
            raise told
        self._running = not isinstance(told, FileOutcome)
        return [told]

    def wake(self) -> None:
        pass

    def hold_until(self, time_ms: int) -> None:
        self._hold_until_ms = time_ms

    def close(self, grace_s: float) -> list[FileNews]:
        news: list[FileNews] = [stopped(order) for order in self._orders]
        self._orders.clear()
        while self._running:  # cut at its next read, part or commit
            self._hold_until_ms = 0
            news += self.collect(0)
        self._target = None
        return news

    def die(self) -> None:
        """End the worker as its process's death does: where it is, without another effect."""
        life, self._life = self._life, _Life()
        life.dead = True
        self._target = None
        if self._running:
            self._running = False
            life.go_on.put(None)
            while not isinstance(life.told.get(timeout=PATIENCE_S), FileOutcome | BaseException):
                life.go_on.put(None)

    def _commit(self) -> None:
        if self._hold_until_ms is not None and self._clock.now_ms() > self._hold_until_ms:
            raise LockLostError("the delivery's lock was not renewed in time")


class _Life:
    """What a worker shares with the process that it lives in."""

    def __init__(self) -> None:
        self.told: SimpleQueue[FileNews | BaseException] = SimpleQueue()
        self.go_on: SimpleQueue[None] = SimpleQueue()
        self.dead = False

    def work(self, order: FileOrder, source: Source, archive: Archive, commit: object) -> None:
        try:
            self.told.put(execute(order, source, archive, OrderAttempt(order, commit, self._tell)))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - raised in the engine's thread, where a kill would be
            self.told.put(error)

    def _tell(self, news: FileProgress) -> None:
        if not self.dead:
            self.told.put(news)
            self.go_on.get(timeout=PATIENCE_S)
        if self.dead:
            raise Killed("telling", type(news).__name__)


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = LockstepDispatcher
