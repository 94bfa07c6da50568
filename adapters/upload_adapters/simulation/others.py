"""Other people in the world: an agent that waits for the lock, and somebody who takes it without asking."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from upload_core.errors import OffsetConflictError, PreconditionFailedError
from upload_core.wire import SELF, encode_rows

if TYPE_CHECKING:
    from upload_adapters.simulation.world import World

RIVAL: Final = "rival@elsewhere"
THIEF: Final = "thief@elsewhere"


class Rival:
    """An agent that keeps the rules: it takes the lock when it is free or stale, holds it a while, and gives it back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._holds = False
        self._turn_later()

    def _turn_later(self) -> None:
        self._world.timeline.after(self._world.chance.between(5_000, 60_000), self._turn)

    def _turn(self) -> None:
        world = self._world
        self._holds = self._holds and world.lock_holder() == RIVAL
        if self._holds:
            if world.swarm.calm or world.chance.happens(0.3):
                self._give_back()
                if world.swarm.calm:
                    return
            else:
                self._take()
        elif world.swarm.calm:
            return
        elif world.lock_age_ms() > world.evidence.staleness_ms or (
            not world.lock_holder() and world.swarm.strikes("rival")
        ):
            self._take()
        self._turn_later()

    def _take(self) -> None:
        world, key = self._world, self._world.keys.client_lock
        found = world.control.head(key)
        try:
            with world.watching_lock(key, 0, "rival"):
                if found is None:
                    world.control.put(key, RIVAL.encode(), if_absent=True)
                else:
                    world.control.put(key, RIVAL.encode(), if_match=found.etag)
        except PreconditionFailedError:
            self._holds = False
            return
        if not self._holds:
            world.tell("fault", "a rival takes the lock over")
        self._holds = True
        if world.chance.happens(0.5):
            self._write()

    def _write(self) -> None:
        world, key = self._world, self._world.keys.client_log
        row = encode_rows([(world.timeline.now_ms(), "info", SELF, "ok", "here I am", RIVAL)])
        with suppress(OffsetConflictError):
            world.control.append(key, row, offset=world.control.size(key))

    def _give_back(self) -> None:
        world, key = self._world, self._world.keys.client_lock
        self._holds = False
        found = world.control.read(key)
        if found is not None and found[0] == RIVAL.encode():
            with world.watching_lock(key, 0, "rival"):
                world.control.delete(key, if_match=found[1].etag)
            world.tell("world", "the rival gives the lock back")


def steal_lock(world: World) -> None:
    """Overwrite the lock, fresh or not; it is given back some minutes later."""
    key = world.keys.client_lock
    with world.watching_lock(key, 0, "rude"):
        world.control.put(key, THIEF.encode())
    world.tell("fault", "somebody overwrites the lock")

    def give_back() -> None:
        found = world.control.read(key)
        if found is not None and found[0] == THIEF.encode():
            with world.watching_lock(key, 0, "rude"):
                world.control.delete(key)
            world.tell("world", "the lock that was stolen is free again")

    world.timeline.after(world.chance.between(10_000, 300_000), give_back)


def delete_lock(world: World) -> None:
    """Delete the lock, whoever holds it."""
    key = world.keys.client_lock
    with world.watching_lock(key, 0, "rude"):
        world.control.delete(key)
    world.tell("fault", "somebody deletes the lock")
