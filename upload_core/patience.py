"""How a session waits: for outages to end, for time to pass, and what it notices when it stood still.

One clock for an outage (`OutageBegan` in the journal), one pace for all that asks the archive during it (`OutageProbe`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from upload_core import commands as cmd
from upload_core.delivery import Delivery
from upload_core.errors import ArchiveUnavailableError, SignInCutError
from upload_core.ports import Ports
from upload_core.retry import OutageProbe, insist
from upload_core.sessions import outlasted

T = TypeVar("T")

SLICE_S: Final = 0.5
"""How often a wait looks up: whoever asks for an end gets it within a second."""
SUSPENSION_MS: Final = 30_000
"""A wait that took so much longer than it was asked to, or clocks that differ by so much, mean that we stood still."""
TURN_MAX_S: Final = 600.0
"""Longest time that requests take between two waits, by the adapters' own timeouts."""


class Session(Protocol):
    """What is needed of whoever waits."""

    delivery: Delivery
    ports: Ports

    def now_ms(self) -> int:
        """The time."""

    def take(self, what: object) -> None:
        """Decide about it, record and act."""

    def guard(self) -> None:
        """Make sure of the lock."""

    def heed_stop(self) -> None:
        """Raises `StoppedError` if an end was asked for."""


class Patience:
    """The patience of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._probe = OutageProbe(0, 0)
        self.hasty = False
        """Whether the session ends early, so that no outage is waited for."""
        self.waited_ms = 0
        """How long single requests waited for outages to end."""
        self._seen_ms: tuple[int, int] | None = None
        self._lost_ms = 0

    # --- outages ---------------------------------------------------------------------------------

    def insist(self, act: Callable[[], T], *, guarded: bool = True) -> T:
        """What `act`, which may be repeated, returns; an outage is waited for, and the lock kept meanwhile (`guarded`).

        Raises `ArchiveUnavailableError` once the outage has lasted too long, `StoppedError` if an end is asked for while
        it lasts. A session that ends early waits for no outage and tries a few times.
        """
        session, delivery = self._session, self._session.delivery
        if self.hasty:
            return act() if delivery.facts.outage_ms else insist(act, session.ports.clock)
        ours = not delivery.facts.outage_ms
        while True:
            try:
                result = act()
            except SignInCutError:
                raise
            except ArchiveUnavailableError as error:
                session.take(cmd.WorldFailed(str(error)))
                if outlasted(delivery, session.now_ms()):
                    raise
                began_ms = session.now_ms()
                while not self.may_ask():
                    self.wait(SLICE_S)
                self.waited_ms += session.now_ms() - began_ms
                if guarded:
                    session.guard()
            else:
                session.take(cmd.WorldAnswered(again=ours))
                return result

    def may_ask(self) -> bool:
        """Whether the archive may be asked now: always, except between the probes of an outage."""
        delivery = self._session.delivery
        began_ms = delivery.facts.outage_ms
        if not began_ms:
            return True
        if self._probe.began_ms != began_ms:
            self._probe = OutageProbe(began_ms, began_ms + int(delivery.limits.outage_s * 1000))
            self.reconnect()
        if not self._probe.due(self._session.now_ms()):
            return False
        self.reconnect()
        return True

    def answered(self) -> None:
        """A question was answered: the next probe of an outage, if there is one, comes at once."""
        self._probe.answered()

    def reconnect(self) -> None:
        """Have new connections opened from here on."""
        if self._session.ports.reconnect is not None:
            self._session.ports.reconnect()

    def wait(self, seconds: float) -> None:
        """Let that time pass, or a little more; raises `StoppedError` as soon as an end is asked for."""
        session = self._session
        until_ms = session.now_ms() + round(seconds * 1000)
        while (left_ms := until_ms - session.now_ms()) > 0:
            session.heed_stop()
            slice_s = min(SLICE_S, left_ms / 1000)
            self.look()
            session.ports.clock.sleep(slice_s)
            self.look(slice_s)
        session.heed_stop()

    # --- standing still --------------------------------------------------------------------------

    def look(self, may_take_s: float | None = None) -> None:
        """Notice that we stood still since the last look, which is no longer ago than that (or a turn) if we did not.

        A clock that nobody sets stands still while a machine sleeps (on Linux and macOS), so the machine's time of day
        gets ahead of it. Where it goes on, or where only the process was stopped, a wait took much longer than asked.
        A time of day that was set back is neither.
        """
        clock = self._session.ports.clock
        now, before = (clock.machine_ms(), clock.monotonic_ms()), self._seen_ms
        self._seen_ms = now
        if before is None:
            return
        day_ms, passed_ms = now[0] - before[0], now[1] - before[1]
        may_take_ms = round((TURN_MAX_S if may_take_s is None else may_take_s) * 1000)
        lost_ms = max(day_ms - passed_ms, passed_ms - may_take_ms)
        if lost_ms >= SUSPENSION_MS:
            self._lost_ms += lost_ms

    def lost_s(self) -> int:
        """How long we stood still since this was last asked, 0 if we did not."""
        lost_ms, self._lost_ms = self._lost_ms, 0
        return lost_ms // 1000
