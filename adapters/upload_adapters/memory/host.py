"""The host's side in memory: time that passes when told, an identity, a console and a dump that remember."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from upload_adapters.pacing import Bandwidth, Meter, Pace, PacedAttempt, Slots
from upload_core.effects import FileNews, FileOrder
from upload_core.errors import IdentityError, LockLostError
from upload_core.ports import (
    Archive,
    Clock,
    Console,
    Dispatcher,
    Identity,
    Load,
    MessageType,
    Source,
    StateDump,
)
from upload_core.text import spreadsheet_cell
from upload_core.worker import execute, stopped

START_MS: Final = 1_800_000_000_000
"""Where a `ManualClock` begins unless told otherwise: some morning in January 2027."""


class ManualClock:
    """Time that passes only by `sleep` and `advance`, so that an hour of waiting takes no time."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def machine_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let that time pass; never back."""
        self._monotonic_ms += max(0, round(seconds * 1000))
        self._now_ms += max(0, round(seconds * 1000))

    def suspend(self, seconds: float) -> None:
        """Let that time pass while the machine sleeps: the monotonic clock stands still."""
        self._now_ms += max(0, round(seconds * 1000))


class InlineDispatcher:
    """Runs transfers one after the other inside `collect`, in the order they were submitted.

    A `collect` that finds nothing to do lets its timeout pass on the clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._orders: deque[FileOrder] = deque()
        self._target: tuple[Source, Archive] | None = None
        self._n_threads = 0
        self._pace = Pace(Slots(self.level_max))
        self._waited = False
        self._hold_until_ms: int | None = None
        self._woken = False

    @property
    def level_max(self) -> int:
        return 512

    def set_level(self, level: int) -> None:
        self._n_threads = level

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        self._pace.bandwidth = (
            None
            if bytes_per_s is None
            else Bandwidth(bytes_per_s, monotonic=lambda: self._clock.now_ms() / 1000, sleep=self._clock.sleep)
        )

    def load(self) -> Load:
        waited, self._waited = self._waited, False
        return self._pace.meter.read(saturated=waited)

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        self._target = source, archive
        self._n_threads = n_threads
        self._pace.meter = Meter()
        self._hold_until_ms = None
        self._orders.clear()

    @property
    def slots(self) -> int:
        return max(0, self._n_threads - len(self._orders)) if self._target else 0

    def submit(self, orders: Sequence[FileOrder]) -> None:
        assert self._target is not None, "open comes before submit"
        self._orders.extend(orders)

    def collect(self, timeout_s: float) -> list[FileNews]:
        news: list[FileNews] = []
        self._waited = self._waited or len(self._orders) >= self._n_threads > 0
        while self._orders and self._target is not None and self._n_threads:
            order = self._orders.popleft()
            attempt = PacedAttempt(order, self._commit, news.append, self._pace)
            outcome = execute(order, *self._target, attempt)
            attempt.ended(outcome)
            news.append(outcome)
        if not news and not self._woken:
            self._clock.sleep(timeout_s)
        self._woken = False
        return news

    def wake(self) -> None:
        self._woken = True

    def hold_until(self, time_ms: int) -> None:
        self._hold_until_ms = time_ms

    def close(self, grace_s: float) -> list[FileNews]:
        # Nothing runs between two calls, so there is nothing to wait for.
        outcomes: list[FileNews] = [stopped(order) for order in self._orders]
        self._orders.clear()
        self._target = None
        return outcomes

    def _commit(self) -> None:
        if self._hold_until_ms is not None and self._clock.now_ms() > self._hold_until_ms:
            raise LockLostError("the delivery's lock was not renewed in time")


class MemoryIdentity:
    """Signs in as `principal`, or is refused with the reason in `refusal`; `sign_ins` counts the successes."""

    def __init__(self, principal: str = "memory", refusal: str | None = None) -> None:
        self.principal = principal
        self.refusal = refusal
        self.sign_ins = 0

    def sign_in(self) -> str:
        if self.refusal is not None:
            raise IdentityError(self.refusal)
        self.sign_ins += 1
        return self.principal


class MemoryConsole:
    """Shows nothing and remembers everything: `messages` with their types, `printed` as they came."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, MessageType]] = []
        self.printed: list[object] = []

    def message(self, text: str, mtype: MessageType) -> None:
        self.messages.append((text, mtype))

    def print(self, renderable: object, *, padded: bool = True) -> None:
        self.printed.append(renderable)


class MemoryStateDump:
    """Keeps each dump's rows, header first, in `dumps` under the place that `write` returned."""

    def __init__(self) -> None:
        self.dumps: dict[str, list[tuple[str, ...]]] = {}

    def write(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        table = [tuple(header), *(tuple(map(spreadsheet_cell, row)) for row in rows)]
        place = f"memory:{name}-{len(self.dumps) + 1}.csv"
        self.dumps[place] = table
        return place


if TYPE_CHECKING:
    _clock: type[Clock] = ManualClock
    _dispatcher: type[Dispatcher] = InlineDispatcher
    _identity: type[Identity] = MemoryIdentity
    _console: type[Console] = MemoryConsole
    _dump: type[StateDump] = MemoryStateDump
