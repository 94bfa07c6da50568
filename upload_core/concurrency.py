"""How many transfers run at a time when nobody fixed it: `Concurrency` finds the level by what the last one brought.

It knows neither clock nor threads. Once per interval it is told what was done, and answers with a change of level or
with nothing. A level is judged by whole windows: what began under the level before goes by unjudged.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from upload_core.ports import Load

INTERVAL_S: Final = 0.25
"""How often it wants to be told."""
LEVEL_START: Final = 8
LEVEL_MAX: Final = 512

FILE_COST_BYTES: Final = 128 << 10
"""What a file costs beside its bytes: a request takes about as long as this many bytes, so that a delivery of mixed
sizes has one throughput."""
DOUBLED_GAIN: Final = 1.08
"""A doubled level must bring so much more, or the one before was as good; at most this share is missed by going back."""
PROBED_GAIN: Final = 1.05
"""The same for a probe, which changes the level by a quarter."""
LOWERED_GAIN: Final = 1.03
"""A lower level must be better by so much: where threads are in each other's way it is, elsewhere it never seems to be."""
STEEP_GAIN: Final = 1.15
"""A probe that brings so much (of 1.25 that are possible) found a new slope: it is climbed by doubling."""
STEP: Final = 1.25

SETTLE_MAX: Final = 8
MEASURE_MIN: Final = 2
MEASURE_MAX: Final = 8
"""Intervals: a window ends once as many files were done as are under way, and is at least and at most so long."""
HOLD_FIRST: Final = 8
HOLD_LONGEST: Final = 120
"""Intervals between two probes; each that found nothing doubles them. The longest is half a minute."""
HOLD_PUSHED: Final = 48
"""The longest below a level that was pushed back: a store's bad quarter of an hour passes, and shall be noticed."""

CALM: Final = 4
"""Intervals without a pushback after which a halved level rises again, and between two steps of that rise."""
RISE: Final = 1.8
BELOW_CEILING: Final = 0.9
"""How near to the level that was pushed back it comes without asking; beyond that only careful probes lead."""


@attrs.frozen
class Change:
    """Another level, and why in a few words."""

    level: int
    reason: str


class Phase(Enum):
    """What the controller is at."""

    DOUBLING = "doubling"
    HOLDING = "holding"
    PROBING = "probing"
    RISING = "rising"


@attrs.define
class _Window:
    """What was done under the present level, from the moment on when it shows."""

    settled: bool = False
    intervals: int = 0
    seconds: float = 0.0
    files: int = 0
    work: float = 0.0
    saturated: int = 0

    def add(self, load: Load, seconds: float, level: int) -> None:
        self.intervals += 1
        self.files += load.files
        self.seconds += seconds
        self.work += load.bytes + load.files * FILE_COST_BYTES
        self.saturated += load.saturated
        if not self.settled and (self.files >= level or self.intervals >= SETTLE_MAX):
            # what began before the level was changed is through
            self.settled, self.intervals, self.seconds, self.files, self.work, self.saturated = True, 0, 0.0, 0, 0.0, 0

    def full(self, level: int) -> bool:
        """Whether it is long enough to be judged; nothing done at all says nothing."""
        if not self.settled or self.intervals < MEASURE_MIN or not self.work or self.seconds <= 0:
            return False
        return self.files >= 2 * level or self.intervals >= MEASURE_MAX

    @property
    def used(self) -> bool:
        """Whether the whole level was made use of nearly all the time."""
        return self.saturated * 4 >= self.intervals * 3

    @property
    def rate(self) -> float:
        return self.work / self.seconds


@attrs.define
class Concurrency:
    """The level of one session, between 1 and `level_max`."""

    level_max: int = LEVEL_MAX
    level: int = attrs.field(init=False)
    phase: Phase = attrs.field(init=False, default=Phase.DOUBLING)
    _window: _Window = attrs.field(init=False, factory=_Window)
    _base: int = attrs.field(init=False, default=0)
    """The level that the present one is compared with, 0 if there is none."""
    _base_rate: float = attrs.field(init=False, default=0.0)
    _hold: int = attrs.field(init=False, default=HOLD_FIRST)
    _held: int = attrs.field(init=False, default=0)
    _down_next: bool = attrs.field(init=False, default=False)
    _ceiling: int = attrs.field(init=False, default=0)
    """The level at which pushbacks last began, 0 if there were none."""
    _calm: int = attrs.field(init=False, default=0)
    _proven: int = attrs.field(init=False, default=0)
    """The level at which the archive last did anything, 0 if it did nothing since it was out of reach."""

    def __attrs_post_init__(self) -> None:
        self.level_max = max(1, min(LEVEL_MAX, self.level_max))
        self.level = min(LEVEL_START, self.level_max)

    def observe(self, load: Load, seconds: float) -> Change | None:
        """Take in what was done in the last `seconds`, one interval; the new level, or None if it stays."""
        before, worked = self.level, bool(load.files or load.bytes)
        if worked and not load.pushbacks:
            self._proven = self.level
        slowed = self.phase is Phase.RISING and load.pushbacks
        reason = self._pushed_back(load) if load.pushbacks else self._went_on(load, seconds)
        if worked and slowed:
            self._proven = self.level  # an archive that goes on working while it pushes back is not out of reach
        return Change(self.level, reason) if self.level != before else None

    def cut_off(self) -> Change | None:
        """The archive is out of reach: what was pushed back since it last did anything was that, and says nothing."""
        level, self._proven = self._proven, 0
        if not level:
            return None
        before = self.level
        if level != before or self.phase is Phase.RISING:
            self._hold_here()
        self._go_to(level)
        self._hold, self._ceiling = HOLD_FIRST, 0  # where it pushed back is older than what happened to it
        return Change(self.level, "as before the archive was out of reach") if self.level != before else None

    # --- pushbacks -------------------------------------------------------------------------------

    def _pushed_back(self, load: Load) -> str:
        if self.phase is not Phase.RISING or self._calm >= CALM:
            # the first of a series: here it began
            if self._ceiling and self.level <= self._ceiling:
                self._hold = min(HOLD_PUSHED, self._hold * 2)
            self._ceiling = self.level
        self.phase = Phase.RISING
        self._calm = 0
        self._go_to(max(1, self.level // 2))
        return "the archive asked for patience" + (f" {load.pushbacks} times" if load.pushbacks > 1 else "")

    def _rise(self) -> str:
        """Back up towards the level that was pushed back; the steps do not wait for a proof, they are known ground."""
        self._calm += 1
        if self._calm % CALM:
            return ""
        target = max(1, int(self._ceiling * BELOW_CEILING))
        if self.level < target:
            self._go_to(min(target, max(self.level + 1, int(self.level * RISE))))
        if self.level >= target:
            self._hold_here()
        return "the archive takes more again"

    # --- growth ----------------------------------------------------------------------------------

    def _went_on(self, load: Load, seconds: float) -> str:
        if self.phase is Phase.RISING:
            return self._rise()
        self._window.add(load, seconds, self.level)
        self._held += 1
        if not self._window.full(self.level):
            return ""
        window, self._window = self._window, _Window(settled=True)
        match self.phase:
            case Phase.DOUBLING:
                return self._judge_doubling(window)
            case Phase.PROBING:
                return self._judge_probe(window)
            case Phase.HOLDING:
                return self._keep_or_probe(window)
        raise AssertionError(self.phase)

    def _judge_doubling(self, window: _Window) -> str:
        if not window.used:
            return self._go_back("so many are not used")
        if self._base and window.rate < self._base_rate * DOUBLED_GAIN:
            return self._go_back("more did not help")
        self._base, self._base_rate = self.level, window.rate
        if self.level >= self._most():
            self._hold_here()
            return ""
        self._go_to(min(self._most(), self.level * 2))
        return "throughput grows"

    def _keep_or_probe(self, window: _Window) -> str:
        self._base, self._base_rate = self.level, window.rate
        if self._held < self._hold or not window.used:
            return ""
        if self.level_max == 1:
            return ""
        # both ways in turn, but at an end there is one only
        down = self.level == self.level_max or (self._down_next and self.level > 1)
        self._down_next = not down
        level = int(self.level / STEP) if down else min(self.level_max, max(self.level + 1, int(self.level * STEP)))
        self.phase = Phase.PROBING
        self._go_to(level)
        return "to see whether fewer do as well" if down else "to see whether more help"

    def _judge_probe(self, window: _Window) -> str:
        up = self.level > self._base
        gain = window.rate / self._base_rate
        if gain < (PROBED_GAIN if up else LOWERED_GAIN) or (up and not window.used):
            self._hold = min(HOLD_LONGEST, self._hold * 2)
            return self._go_back("more did not help" if up else "fewer did not help")
        self._hold = HOLD_FIRST
        if up and self.level > self._ceiling:
            self._ceiling = 0  # what was too much then no longer is
        if up and gain >= STEEP_GAIN and not self._ceiling:
            self.phase = Phase.DOUBLING
            return self._judge_doubling(window)
        self._down_next = not up  # the same way once more
        self._hold_here()
        return ""

    def _most(self) -> int:
        """How far doubling may go: not to where the archive pushed back."""
        return min(self.level_max, int(self._ceiling * BELOW_CEILING) or 1) if self._ceiling else self.level_max

    def _go_back(self, why: str) -> str:
        if self._base:
            self._go_to(self._base)
        self._hold_here()
        return why

    def _hold_here(self) -> None:
        self.phase = Phase.HOLDING
        self._held = 0

    def _go_to(self, level: int) -> None:
        self.level = level
        self._window = _Window()
