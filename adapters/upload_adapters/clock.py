"""The machine's own clock as the `Clock` port."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from upload_core.ports import Clock


class SystemClock:
    """UTC by the machine's clock, never going backwards within a process; any thread may ask.

    After the machine's clock was set back, time here runs on at half speed until both agree again: it neither jumps
    nor stands still, so that no deadline is lost.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._last_ns = time.time_ns()
        self._last_monotonic_ns = time.monotonic_ns()

    def now_ms(self) -> int:
        with self._mutex:
            monotonic_ns = time.monotonic_ns()
            # The monotonic clock alone would not do: on Linux it stands still while a laptop sleeps.
            at_least_ns = self._last_ns + (monotonic_ns - self._last_monotonic_ns) // 2
            self._last_ns = max(time.time_ns(), at_least_ns)
            self._last_monotonic_ns = monotonic_ns
            return self._last_ns // 1_000_000

    def machine_ms(self) -> int:
        return self.now_ms()

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


if TYPE_CHECKING:
    _clock: type[Clock] = SystemClock
