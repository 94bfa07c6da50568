"""One life of a client's process: every call of a port passes here, and here it goes wrong.

A call is counted, may find its process dead or kill it, may find the machine asleep, and meets what the swarm has for
requests. A dead process reaches nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from upload_adapters.simulation.evidence import Request
from upload_adapters.simulation.store import StoreRefusedError
from upload_adapters.simulation.timeline import ClientClock
from upload_core.errors import ArchiveUnavailableError, IdentityError, UploadClientError

if TYPE_CHECKING:
    from upload_adapters.simulation.world import World

T = TypeVar("T")

DEATHS_MAX: Final = 10
"""More of them in one run would only keep it from getting anywhere."""
LATE_MS_MAX: Final = 6_000
IN_WORKERS: Final = ("archive.put", "archive.begin", "archive.part", "archive.complete", "archive.stat")
TIMEOUT_MS: Final = 400
"""How long nobody answers before a client gives a request up."""


class Killed(BaseException):
    """The process was killed here; a `BaseException`, so that nothing tidies up behind it."""


class Life:
    """A process of a client, from its start to its end or death."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.dead = False
        self.power_cut = False
        self.clock = ClientClock(world.timeline, self.idle)
        self.clock.skew_ms, self.clock.error_ms = world.skew_ms, world.error_ms
        self.on_stop: Callable[[str], None] = lambda _: None

    # --- death and stillness ----------------------------------------------------------------------

    def boundary(self, where: str) -> None:
        """A moment at which the process may die; raises `Killed`."""
        if self.dead:
            raise Killed(where)
        swarm = self.world.swarm
        if swarm.calm or self.world.deaths >= DEATHS_MAX:
            return
        if swarm.strikes("kill"):
            self._die(f"the process is killed ({where})")
        if swarm.strikes("power cut"):
            self.power_cut = True
            self._die(f"the power is cut ({where})")

    def _die(self, story: str) -> None:
        self.dead = True
        self.world.deaths += 1
        self.world.tell("fault", story)
        raise Killed(story)

    def stand_still(self) -> None:
        """The machine may sleep now, or the process be stopped; the world goes on meanwhile."""
        world, swarm = self.world, self.world.swarm
        if swarm.calm:
            return
        for kind, words in (("sleep", "the machine sleeps"), ("halt", "the process is stopped")):
            if swarm.strikes(kind):
                duration_ms = swarm.pause_s(world.limits.lock_staleness_s) * 1000
                world.tell("fault", f"{words} for {duration_ms // 1000} s")
                world.timeline.pass_ms(duration_ms)
                if kind == "sleep":
                    self.clock.asleep_ms += duration_ms
                world.tell("world", "it goes on")
        if swarm.strikes("clock"):
            self.clock.skew_ms = world.skew_ms = world.chance.between(-3_600_000, 3_600_000)
            self.clock.error_ms = world.error_ms = world.chance.between(-15_000, 15_000)
            world.tell("fault", f"the machine's clock is set to {world.skew_ms / 1000:+.0f} s of the right time")

    def idle(self, duration_ms: int) -> None:
        """The client waits."""
        self.boundary("while it waits")
        self.stand_still()
        self.world.timeline.pass_ms(duration_ms + self.world.lag_ms)
        if self.world.swarm.strikes("stop"):
            self.world.tell("fault", "somebody asks for an end in order")
            self.on_stop("asked for by the simulation")
        if self.dead:
            raise Killed("while it waits")

    # --- calls ------------------------------------------------------------------------------------

    def local(self, where: str) -> None:
        """A call that needs no network."""
        self.boundary(where)
        self.world.count_step()

    def request(
        self,
        port: str,
        method: str,
        act: Callable[[], T],
        *,
        about: str = "",
        writes: bool = False,
        counts: bool = True,
        may_be_late: bool = True,
        upload_id: str = "",
        number: int = 0,
        data: bytes = b"",
    ) -> T:
        """What `act` gives, unless something goes wrong; `writes` is noted as evidence when it leaves."""
        world = self.world
        where = f"{port}.{method} {about}".rstrip()
        self.boundary(f"before {where}")
        if counts:
            world.count_step()
        if writes:
            world.evidence.requests.append(
                Request(
                    world.evidence.steps,
                    world.timeline.now_ms(),
                    self.number,
                    method,
                    about,
                    world.journal.synced,
                    world.lock_holder(),
                    upload_id,
                    number,
                    data,
                    method in ("put", "complete") and world.holds_original(about),
                )
            )
            world.tell("client", where)
        self.stand_still()
        result = self._with_its_fate(where, about, act, late=writes and may_be_late)
        self.boundary(f"after {where}")
        return result

    def _with_its_fate(self, where: str, about: str, act: Callable[[], T], *, late: bool) -> T:
        world, swarm, timeline = self.world, self.world.swarm, self.world.timeline
        timeline.pass_ms(5 + world.chance.below(40))
        if swarm.calm:
            return act()
        if swarm.strikes("slow answers"):
            timeline.pass_ms(world.chance.between(500, 8_000))
        if swarm.strikes("outage"):
            world.begin_outage()
        if world.outage_until_ms > timeline.now_ms():
            timeline.pass_ms(TIMEOUT_MS)
            raise self._no_answer(where, "no route to host")
        if swarm.strikes("slow down"):
            world.tell("fault", f"{where}: the archive asks for patience")
            raise ArchiveUnavailableError("SlowDown: please reduce your request rate")
        if swarm.strikes("credentials"):
            world.tell("fault", f"{where}: the credentials have expired")
            raise IdentityError("ExpiredToken: sign in again")
        if swarm.strikes("request lost"):
            world.tell("fault", f"{where}: the request is lost")
            timeline.pass_ms(TIMEOUT_MS)
            raise self._no_answer(where, "connection refused")
        if late and swarm.strikes("request late"):
            delay_ms = world.chance.between(100, LATE_MS_MAX)
            world.note_late(about)
            world.tell("fault", f"{where}: no answer comes, it takes effect {delay_ms / 1000:.1f} s later")

            def arrive() -> None:
                world.tell("world", f"{where} arrives late")
                with suppress(UploadClientError, StoreRefusedError):
                    act()

            timeline.after(delay_ms, arrive)
            raise self._no_answer(where, "timed out")
        result = act()
        if swarm.strikes("request twice"):
            world.tell("fault", f"{where}: the request arrives twice")
            return act()
        if swarm.strikes("answer lost"):
            world.tell("fault", f"{where}: the answer is lost")
            raise self._no_answer(where, "connection reset by peer")
        return result

    def _no_answer(self, where: str, why: str) -> Exception:
        """What an adapter raises: some let the network's own errors through to the worker, which sorts them."""
        if where.startswith(IN_WORKERS):
            return self.world.chance.pick([ArchiveUnavailableError, ConnectionError, TimeoutError])(why)
        return ArchiveUnavailableError(why)
