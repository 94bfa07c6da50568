"""What goes wrong at a call, and when: an error for some calls, an outage, something that happens meanwhile, or a storm."""

from __future__ import annotations

import random
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import attrs

from upload_adapters.memory import ManualClock
from upload_adapters.testing.calls import Killed
from upload_core.errors import ArchiveUnavailableError

TIMEOUT_S: Final = 1.0
"""How long nobody answers before a call is given up."""
REMOTE: Final = ("archive.", "control.", "pipeline.", "identity.")


class Fault(Protocol):
    """Something that may go wrong."""

    def meet(self, where: str, act: Callable[[], Any]) -> Any:
        """Make the call `act` of `port.method`, or have it go wrong."""


@attrs.define
class _Nth:
    """Counts the calls that a glob names, and picks `times` of them (0: all) from the `nth` on."""

    glob: str
    nth: int
    times: int
    seen: int = 0

    def picks(self, where: str) -> bool:
        if not fnmatchcase(where, self.glob):
            return False
        self.seen += 1
        return self.seen >= self.nth and (not self.times or self.seen < self.nth + self.times)


@attrs.frozen
class Refusal:
    """The calls that are picked raise `error`, before or after they took effect."""

    picked: _Nth
    error: Exception
    done: bool

    def meet(self, where: str, act: Callable[[], Any]) -> Any:
        if not self.picked.picks(where):
            return act()
        if self.done:
            act()
        raise self.error


@attrs.frozen
class Meanwhile:
    """Something happens before the call that is picked."""

    picked: _Nth
    happens: Callable[[], object]

    def meet(self, where: str, act: Callable[[], Any]) -> Any:
        if self.picked.picks(where):
            self.happens()
        return act()


@attrs.define
class Outage:
    """From the call that is picked on nothing that is remote answers, for so long by the clock."""

    picked: _Nth
    clock: ManualClock
    seconds: float
    until_ms: int = 0

    def meet(self, where: str, act: Callable[[], Any]) -> Any:
        if self.picked.picks(where) and not self.until_ms:
            self.until_ms = self.clock.now_ms() + round(self.seconds * 1000)
        if self.clock.now_ms() < self.until_ms and where.startswith(REMOTE):
            self.clock.advance(TIMEOUT_S)
            raise ArchiveUnavailableError("no route to host")
        return act()


@attrs.define
class Storm:
    """For so many calls each may be lost, lose its answer, be asked for patience, begin an outage, or kill the process."""

    clock: ManualClock
    chance: random.Random
    calls: int
    share: float
    until_ms: int = 0
    happened: list[str] = attrs.field(factory=list)
    """What went wrong, in order, and where."""

    def meet(self, where: str, act: Callable[[], Any]) -> Any:
        self.calls -= 1
        if self.clock.now_ms() < self.until_ms and where.startswith(REMOTE):
            self.clock.advance(TIMEOUT_S)
            raise ArchiveUnavailableError("no route to host")
        if self.calls < 0 or self.chance.random() >= self.share:
            return act()
        if not where.startswith(REMOTE):
            self._note("killed", where)
            raise Killed(where)
        kind = self._note(
            self.chance.choice(("killed", "killed after", "lost", "answer lost", "slow down", "outage")), where
        )
        if kind == "killed":
            raise Killed(where)
        if kind in ("killed after", "answer lost"):
            act()
        if kind == "killed after":
            raise Killed(where)
        if kind == "outage":
            self.until_ms = self.clock.now_ms() + self.chance.randint(20, 900) * 1000
        raise ArchiveUnavailableError(
            "SlowDown: please reduce your request rate" if kind == "slow down" else f"{kind}: no answer"
        )

    def _note(self, kind: str, where: str) -> str:
        self.happened.append(f"{kind}: {where}")
        return kind


def picked(glob: str, nth: int, times: int) -> _Nth:
    """The calls of `port.method`s that the glob names, from the `nth` on, `times` of them (0: all)."""
    if nth < 1 or times < 0:
        raise ValueError("calls are counted from 1, and times is 0 for all of them")
    return _Nth(glob, nth, times)
