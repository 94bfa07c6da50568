"""Virtual time: what is due in the world happens while a client waits, works or sleeps, and never in real time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

START_MS: Final = 1_800_000_000_000
"""When every simulation begins: some morning in January 2027."""


class Timeline:
    """The world's own time; every other clock is wrong by something."""

    def __init__(self) -> None:
        self._time_ms = START_MS
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._time_ms

    def after(self, delay_ms: int, act: Callable[[], None]) -> None:
        """Have `act` called once that time has passed; acts of the same moment in the order in which they were asked for."""
        heapq.heappush(self._due, (self._time_ms + max(0, delay_ms), next(self._numbers), act))

    def pass_ms(self, duration_ms: int) -> None:
        """Let that time pass, and whatever is due in it happen."""
        until, due = self._time_ms + max(0, duration_ms), self._due
        while due and due[0][0] <= until:
            at_ms, _, act = heapq.heappop(due)
            self._time_ms = max(self._time_ms, at_ms)
            act()
        self._time_ms = until


class WorldClock:
    """The timeline as the `Clock` of whoever stores and validates; they only read it."""

    def __init__(self, timeline: Timeline) -> None:
        self.now_ms = self.machine_ms = self.monotonic_ms = timeline.now_ms

    def sleep(self, seconds: float) -> None:
        raise AssertionError("only clients wait; the world takes turns")


class ClientClock:
    """The clock of a client's machine: set wrongly by `skew_ms`, corrected by the archive's answers but for `error_ms`."""

    def __init__(self, timeline: Timeline, idle: Callable[[int], None]) -> None:
        """`idle` lets time pass in which the client does nothing."""
        self._timeline = timeline
        self._idle = idle
        self.skew_ms = 0
        self.error_ms = 0
        self.asleep_ms = 0
        """How long the machine slept: its monotonic clock stood still meanwhile."""

    def now_ms(self) -> int:
        return self._timeline.now_ms() + self.error_ms

    def machine_ms(self) -> int:
        return self._timeline.now_ms() + self.skew_ms

    def monotonic_ms(self) -> int:
        return self._timeline.now_ms() - START_MS - self.asleep_ms

    def sleep(self, seconds: float) -> None:
        self._idle(max(1, round(seconds * 1000)))


if TYPE_CHECKING:
    from upload_core.ports import Clock

    _world: type[Clock] = WorldClock
    _client: type[Clock] = ClientClock
