"""Transfers on threads of this process.

Orders and outcomes travel through two queues; what is due is known to the engine's thread alone, so nothing but the
cut and the deadline is shared, and both are single assignments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

import attrs

from upload_core.attempt import OrderAttempt
from upload_core.effects import FileNews, FileOrder, FileOutcome
from upload_core.errors import LockLostError, NotReadyError
from upload_core.ports import Archive, Clock, Dispatcher, Source
from upload_core.worker import execute, failed, stopped

BACKLOG: Final = 64
"""Orders kept waiting beyond the running ones: enough small files for workers not to idle during one turn of the engine."""

CUT_S: Final = 2.0
"""How long a cut worker may take to its next read or commit point before its order is given up as unanswered."""


@attrs.define(eq=False)
class Crew:
    """What the workers of one session share; a worker that outlives its session keeps its own and harms no other."""

    source: Source
    archive: Archive
    clock: Clock
    orders: SimpleQueue[FileOrder | None] = attrs.field(factory=SimpleQueue)
    news: SimpleQueue[FileNews | None] = attrs.field(factory=SimpleQueue)
    hold_until_ms: int | None = None
    cut: bool = False

    def commit(self) -> None:
        """Raises `LockLostError` once nothing may become visible any more."""
        if self.cut:
            raise LockLostError("stopped before it was finished")
        if self.hold_until_ms is not None and self.clock.now_ms() > self.hold_until_ms:
            raise LockLostError("the delivery's lock was not renewed in time; nothing more is stored")

    def work(self) -> None:
        """Carry out orders until there is a None among them."""
        while (order := self.orders.get()) is not None:
            try:
                attempt = OrderAttempt(order, self.commit, self.news.put)
                outcome = execute(order, self.source, self.archive, attempt)
            except BaseException as error:  # noqa: BLE001 - every order is answered, even if its doer calls sys.exit
                outcome = failed(order, error)
            self.news.put(outcome)


class ThreadDispatcher:
    """Runs up to `n_threads` orders at a time, each on a thread of its own.

    Everything but `wake` belongs to one thread, the engine's.
    """

    def __init__(self, clock: Clock, *, backlog: int = BACKLOG) -> None:
        self._clock = clock
        self._backlog = backlog
        self._crew: Crew | None = None
        self._threads: list[threading.Thread] = []
        self._due: dict[int, FileOrder] = {}

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        """Start the workers. Until `hold_until` is first called there is no deadline."""
        assert self._crew is None, "close comes before the next open"
        self._crew = crew = Crew(source, archive, self._clock)
        # Daemons: a host that forgets to close must still be able to end.
        self._threads = [
            threading.Thread(target=crew.work, name=f"upload-{number}", daemon=True)
            for number in range(max(1, n_threads))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def slots(self) -> int:
        if self._crew is None:
            return 0
        return max(0, len(self._threads) + self._backlog - len(self._due))

    def submit(self, orders: Sequence[FileOrder]) -> None:
        """Begin these orders; raises `NotReadyError` unless open."""
        if self._crew is None:
            raise NotReadyError("the dispatcher is not open; open it first")
        due = self._due
        for order in orders:
            assert order.file not in due, "one order per file at a time: its outcome names the file alone"
            due[order.file] = order
        self._hand_over(orders)

    def _hand_over(self, orders: Sequence[FileOrder]) -> None:
        """Give orders, which are noted as due, to whoever carries them out."""
        assert self._crew is not None, "submit has looked"
        for order in orders:
            self._crew.orders.put(order)

    def collect(self, timeout_s: float) -> list[FileNews]:
        crew = self._crew
        news: list[FileNews] = []
        if crew is None:
            return news
        try:
            told = crew.news.get(timeout=max(0.0, timeout_s))
            while True:
                if told is not None:  # None was put by wake
                    if isinstance(told, FileOutcome):
                        del self._due[told.file]
                    news.append(told)
                told = crew.news.get_nowait()
        except Empty:
            return news

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
        try:
            while (order := crew.orders.get_nowait()) is not None:
                del self._due[order.file]
                waiting.append(stopped(order))
        except Empty:
            pass
        for _ in self._threads:
            crew.orders.put(None)
        self._join(grace_s)
        crew.cut = True
        self._join(CUT_S)
        news = [*waiting, *self.collect(0)]
        # Whoever still hangs in a call has an order whose end nobody will hear of; the archive is asked at resume.
        news += [stopped(order, "stopped while it was running") for order in self._due.values()]
        self._due.clear()
        self._threads.clear()
        self._crew = None
        return news

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + max(0.0, seconds)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = ThreadDispatcher
