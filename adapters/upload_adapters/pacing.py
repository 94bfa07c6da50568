"""What dispatchers share to hold a pace: rights to requests, and the count of what was done. Safe to use by many threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final

import attrs

from upload_core.attempt import OrderAttempt
from upload_core.effects import (
    ArchiveHolds,
    Fault,
    FileInspected,
    FileNotStored,
    FileOrder,
    FileOutcome,
    FileProgress,
    FileStored,
    OpenUpload,
    StoredPart,
)
from upload_core.errors import LockLostError
from upload_core.ports import Attempt, Load

BURST_S: Final = 0.1
"""What an idle line may catch up."""
HEED_S: Final = 0.2
"""How long somebody who waits for bandwidth may not notice that he was cut."""

SLEEP_MIN_S: Final = 0.001
"""A clock of milliseconds would not move for less, and the waiting never end."""


class Slots:
    """Rights to have a request with bytes under way, as many as the level says; entered for each one.

    A level that falls takes no right away: whoever holds one goes on, and the next waits.
    """

    def __init__(self, level: int) -> None:
        self._freed = threading.Condition(threading.Lock())
        self._level = max(1, level)
        self._used = 0
        self._waiting = 0
        self._waited = False
        self._closed = False

    def resize(self, level: int) -> None:
        """From now on so many, but at least one."""
        with self._freed:
            self._level = max(1, level)
            self._freed.notify_all()

    def close(self) -> None:
        """Nobody waits any more, and nobody gets another: `LockLostError` is raised instead."""
        with self._freed:
            self._closed = True
            self._freed.notify_all()

    def scarce(self) -> bool:
        """Whether anybody had to wait since this was last asked, or does now."""
        with self._freed:
            waited, self._waited = self._waited or self._waiting > 0, False
            return waited

    def __enter__(self) -> None:
        with self._freed:
            if self._used >= self._level and not self._closed:
                self._waited = True
                self._waiting += 1
                try:
                    self._freed.wait_for(lambda: self._closed or self._used < self._level)
                finally:
                    self._waiting -= 1
            if self._closed:
                raise LockLostError("stopped before it was finished")
            self._used += 1

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._freed:
            self._used -= 1
            self._freed.notify()


class Bandwidth:
    """A bucket of bytes that fills at a steady rate; whoever takes more than it holds waits, and so do those behind him.

    Over any time no more is given out than the rate allows, beside one burst of `BURST_S`.
    """

    def __init__(
        self,
        bytes_per_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`monotonic` and `sleep` are the time, for whoever has another one."""
        assert bytes_per_s > 0, "without a limit there is no bucket"
        self.bytes_per_s = bytes_per_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._mutex = threading.Lock()
        self._free_s = -math.inf
        """When all that was given out has flowed in."""

    def reserve(self, size_bytes: int) -> float:
        """Take these bytes; the seconds to wait before they may be sent. Never blocks, for whoever waits another way."""
        with self._mutex:
            now = self._monotonic()
            begin = max(self._free_s, now - BURST_S)
            self._free_s = begin + size_bytes / self.bytes_per_s
            return max(0.0, begin - now)

    def spend(self, size_bytes: int, heed: Callable[[], None], holds: Callable[[], bool] = lambda: True) -> bool:
        """Wait until these bytes may be sent; false if this limit no longer `holds`, and another one may.

        `heed` is called every now and then as well, and ends the waiting by raising.
        """
        until = self._monotonic() + self.reserve(size_bytes)
        while (left_s := until - self._monotonic()) > 0:
            heed()
            if not holds():
                return False
            self._sleep(max(SLEEP_MIN_S, min(left_s, HEED_S)))
        return True


class Meter:
    """Counts what was done since it was last read."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._files = 0
        self._bytes = 0
        self._pushbacks = 0

    def add(self, *, files: int = 0, size_bytes: int = 0, pushbacks: int = 0) -> None:
        with self._mutex:
            self._files += files
            self._bytes += size_bytes
            self._pushbacks += pushbacks

    def read(self, *, saturated: bool) -> Load:
        """What was counted; the count begins anew."""
        with self._mutex:
            load = Load(self._files, self._bytes, self._pushbacks, saturated)
            self._files = self._bytes = self._pushbacks = 0
            return load


@attrs.define(eq=False)
class Pace:
    """What the attempts of one session share."""

    slots: Slots
    meter: Meter = attrs.field(factory=Meter)
    bandwidth: Bandwidth | None = None
    """None sends as fast as it goes."""


class PacedAttempt(OrderAttempt):
    """The attempt that an order asks for, held to a pace and counted; bytes of a large file count part by part."""

    def __init__(
        self, order: FileOrder, commit: Callable[[], None], tell: Callable[[FileProgress], None], pace: Pace
    ) -> None:
        super().__init__(order, commit, tell)
        self._pace = pace
        self._size = order.size
        self._counted = _known_bytes(self.upload)
        self._part_size = 0 if self.upload is None else self.upload.part_size
        self._mutex = threading.Lock()

    def slot(self) -> AbstractContextManager[None]:
        return self._pace.slots

    def spend(self, size_bytes: int) -> None:
        pace = self._pace
        while (limit := pace.bandwidth) is not None:
            if limit.spend(size_bytes, self.commit, lambda limit=limit: pace.bandwidth is limit):  # type: ignore[misc]
                return

    def pushed_back(self, why: str) -> None:
        self._pace.meter.add(pushbacks=1)

    def upload_begun(self, upload: OpenUpload) -> None:
        with self._mutex:
            self._counted = _known_bytes(upload)
            self._part_size = upload.part_size
        super().upload_begun(upload)

    def part_stored(self, part: StoredPart) -> None:
        self._count(self._part_size)
        super().part_stored(part)

    def ended(self, outcome: FileOutcome) -> None:
        """Count the end of the order; a store that does not answer is one that asks for patience."""
        match outcome:
            case FileStored():
                self._count(self._size)
                self._pace.meter.add(files=1)
            case FileInspected() if outcome.holds is not ArchiveHolds.UNKNOWN:
                self._pace.meter.add(files=1)
            case FileNotStored() | FileInspected() if outcome.fault is Fault.WORLD:
                self._pace.meter.add(pushbacks=1)

    def _count(self, size_bytes: int) -> None:
        with self._mutex:
            new = max(0, min(size_bytes, self._size - self._counted))
            self._counted += new
        self._pace.meter.add(size_bytes=new)


def _known_bytes(upload: OpenUpload | None) -> int:
    """What of a large file an earlier attempt has stored; it is no work of this one."""
    return 0 if upload is None else len(upload.parts) * upload.part_size


if TYPE_CHECKING:
    _attempt: type[Attempt] = PacedAttempt
