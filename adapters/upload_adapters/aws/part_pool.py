"""Threads that send the parts of all large files: several of one file and of several files at once, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs

AT_ONCE: Final = 8
"""Parts under way at a time, of all files together."""
HELD_MAX: Final = 64 << 20
"""Bytes of parts held in memory at a time, of all files together."""
IDLE_S: Final = 5.0
"""A thread that found nothing to do for so long ends; the next part makes a new one."""

Job = tuple[int, Callable[[], object]]
"""Bytes that are held while it is done, and what is done."""


@attrs.define(eq=False)
class _Batch:
    """The jobs of one caller."""

    under_way: int = 0
    failure: BaseException | None = None


class PartPool:
    """Carries out jobs of many callers; safe to use by many threads, and ended by nobody: idle threads end themselves."""

    def __init__(self, *, at_once: int = AT_ONCE, held_max: int = HELD_MAX) -> None:
        self._at_once = at_once
        self._held_max = held_max
        self._mutex = threading.Lock()
        self._job_waits = threading.Condition(self._mutex)
        self._job_done = threading.Condition(self._mutex)
        self._jobs: deque[tuple[_Batch, int, Callable[[], object]]] = deque()
        self._under_way = 0
        self._held = 0
        self._threads = 0

    def run(self, jobs: Iterable[Job]) -> None:
        """Do all these jobs, each as soon as there is room for it; returns, or raises the first failure, when none is
        under way any more. After a failure no further one is begun.
        """
        batch = _Batch()
        try:
            for held, act in jobs:
                if not self._admit(batch, min(held, self._held_max), act):
                    break
        finally:
            # Whatever happens here: what the jobs use is the caller's, and he may close it as soon as this returns.
            with self._mutex:
                self._job_done.wait_for(lambda: not batch.under_way)
        if batch.failure is not None:
            raise batch.failure

    def _admit(self, batch: _Batch, held: int, act: Callable[[], object]) -> bool:
        """Wait for room and begin the job; False if one of its batch has failed meanwhile."""
        with self._mutex:
            self._job_done.wait_for(lambda: batch.failure is not None or self._has_room(held))
            if batch.failure is not None:
                return False
            self._under_way += 1
            self._held += held
            batch.under_way += 1
            self._jobs.append((batch, held, act))
            if self._threads < self._under_way:  # so that no job that was begun waits for a thread
                self._begin_thread(batch, held)
            else:
                self._job_waits.notify()
            return True

    def _begin_thread(self, batch: _Batch, held: int) -> None:
        """One more; where the system has none to give, those that are there do the job, and without any it is refused."""
        try:
            # Daemons: a host that forgets to close must still be able to end.
            threading.Thread(target=self._work, name="s3-part", daemon=True).start()
            self._threads += 1
        except RuntimeError:
            if not self._threads:
                self._jobs.pop()
                self._under_way -= 1
                self._held -= held
                batch.under_way -= 1
                raise

    def _has_room(self, held: int) -> bool:
        return self._under_way < self._at_once and self._held + held <= self._held_max

    def _work(self) -> None:
        while True:
            with self._mutex:
                if not self._job_waits.wait_for(lambda: self._jobs, IDLE_S):
                    self._threads -= 1
                    return
                batch, held, act = self._jobs.popleft()
            failure: BaseException | None = None
            try:
                if batch.failure is None:
                    act()
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
                failure = error
            with self._mutex:
                batch.failure = batch.failure or failure
                batch.under_way -= 1
                self._under_way -= 1
                self._held -= held
                self._job_done.notify_all()
