"""What a benchmark measures and how: interleaved rounds, CPU seconds, medians, and the goal beside the figure.

Contenders of one comparison run in the same process, in turn, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

ROOT: Final = Path(__file__).resolve().parent.parent

Timed = Callable[[], float]
"""Prepares whatever it needs, does the work once, and returns the seconds that the work took."""


@dataclass(frozen=True)
class Scale:
    """How much work a run may do; `quick` shows the order of magnitude, only the full run is judged."""

    quick: bool = False
    rounds: int = 5

    def __call__(self, full: int, quick: int) -> int:
        """The size to use."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Goal:
    """A bound that a measured value should keep."""

    bound: Literal["<=", ">="]
    value: float
    unit: str = "x"

    def __str__(self) -> str:
        return f"{self.bound} {number(self.value)}{_spaced(self.unit)}"

    def reached(self, measured: float) -> bool:
        """Whether the measured value keeps the bound."""
        return measured <= self.value if self.bound == "<=" else measured >= self.value


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, against which goal, and the seconds behind it."""

    key: str
    what: str
    goal: Goal | None
    measured: float
    unit: str = "x"
    beside: Mapping[str, str] = field(default_factory=dict)
    """Each contender's own median, readable."""
    note: str = ""

    @property
    def verdict(self) -> str:
        """`yes` or `NO`, or nothing where no goal was set."""
        if self.goal is None:
            return ""
        return "yes" if self.goal.reached(self.measured) else "NO"

    @property
    def shown(self) -> str:
        """The measured value with its unit."""
        return f"{number(self.measured)}{_spaced(self.unit)}"

    def as_row(self) -> tuple[str, ...]:
        """The cells of the table."""
        beside = "; ".join(f"{name} {value}" for name, value in self.beside.items())
        return (
            self.key,
            self.what,
            str(self.goal or ""),
            self.shown,
            self.verdict,
            beside + (f" ({self.note})" * bool(self.note)),
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, for the record from which the page is made."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figure:
        """The inverse of `as_json`."""
        goal = data.pop("goal")
        return cls(goal=Goal(**goal) if goal else None, **data)


def _spaced(unit: str) -> str:
    return unit if unit in ("x", "%", "") else f" {unit}"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.6f}"


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds (user and system, all threads) that `work` takes."""
    gc.collect()
    before = time.process_time()
    work()
    return time.process_time() - before


def wall(work: Callable[[], object]) -> float:
    """Seconds on the wall that `work` takes; only where waiting is what is measured."""
    gc.collect()
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def interleave(contenders: Mapping[str, Timed], rounds: int) -> dict[str, float]:
    """The median of each contender over rounds in which all take their turn, in changing order."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(contenders[name]())
    return {name: statistics.median(values) for name, values in seconds.items()}


def per(seconds: float, count: int, unit: str = "event") -> str:
    """Seconds spread over `count` things, in the unit that reads best."""
    micro = seconds / count * 1e6
    if micro >= 1000:
        return f"{number(micro / 1000)} ms/{unit}"
    return f"{number(micro)} us/{unit}"


def child(code: str, *arguments: str) -> Any:
    """What a fresh interpreter prints as JSON: for figures that a warm process would spoil."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise RuntimeError(f"a benchmark's child process failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    """Where the figures were measured."""
    model = "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = f"{len(lines)} x {lines[0].partition(':')[2].strip()}" if lines else model
    return f"{model}, {platform.system()} {platform.machine()}, CPython {platform.python_version()}"
