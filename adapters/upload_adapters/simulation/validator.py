"""The archive's validator in virtual time: as strict as the real one, as slow, and as mortal.

It looks at our log only some time after its first word, and what stands there by then it never reads. Its rows may come
in pieces, twice or beside others that nobody understands; none of that is its client's fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from upload_adapters.memory import MemoryValidator
from upload_adapters.memory.pipeline import KEEPALIVE_S
from upload_core.wire import SELF, encode_rows

if TYPE_CHECKING:
    from upload_adapters.simulation.world import World

TURN_MS: Final = 1_000
BLIND_MS_MAX: Final = 2_500
"""How long after its first word it finds its place in our log."""
ODD: Final = (
    b"\xff\xfe not text at all\n",
    b"a line of somebody's debugging\n",
    b"2027-01-15T08:00:00.000Z\tvalidation\n",
    b"\n",
)


class SimulatedValidator(MemoryValidator):
    """One run, from its coming up to its end or death."""

    def __init__(self, world: World) -> None:
        super().__init__(
            world.control, world.store, world.clock, world.keys, check=world.problems_of, limits=world.limits
        )
        self._world = world
        self._blind = False
        """Whether it has yet to find its place in our log."""
        self._held = b""
        """The rest of a row whose beginning is in the log."""

    @property
    def begun(self) -> bool:
        """Whether it wrote its first row."""
        return self._begun

    def next_turn(self) -> None:
        """Take a turn, and have the next one come."""
        if not self.alive:
            return
        world, swarm = self._world, self._world.swarm
        if swarm.strikes("validator dies"):
            self.kill()
            world.tell("fault", "the validator dies without a word")
            return
        if swarm.strikes("log replaced"):
            self._replace_log()
        if not self._blind and self._has_work():
            self.turn()
        if self.killed:
            world.evidence.validators_killed.append(self.killed)
            world.tell("validator", f"dies: {self.killed}")
        pause_ms = world.chance.between(2_000, 30_000) if swarm.strikes("validator dawdles") else TURN_MS
        world.timeline.after(pause_ms, self.next_turn)

    def _has_work(self) -> bool:
        """Whether a turn would do anything: most find nothing, and hours of them are waited through."""
        quiet_s = self._now_s() - self._wrote_s
        return not self._begun or quiet_s >= KEEPALIVE_S or self._control.size(self._keys.client_log) != self._offset

    def _begin(self) -> None:
        super()._begin()
        self._world.evidence.spoke_ms.append(self._clock.now_ms())
        self._blind = self.alive
        self._world.timeline.after(self._world.chance.between(0, BLIND_MS_MAX), self._find_place)

    def _find_place(self) -> None:
        self._blind = False
        self._offset = self._control.size(self._keys.client_log)

    def _replace_log(self) -> None:
        world = self._world
        world.keep_replaced_log()
        self._control.delete(self._keys.validator_log)
        self._held = b""
        world.tell("fault", "the validator's log is replaced by a new one")

    def _write(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        swarm, chance = self._world.swarm, self._world.chance
        now_ms = self._clock.now_ms()
        data, self._held = self._held, b""
        for row in rows:
            if row[0] == "validation":
                self._world.evidence.judged_ms.append(now_ms)
            encoded = encode_rows([(now_ms, *row, "memory-validator")], backslash_escapes=True)
            self._world.tell("validator", " ".join(row[:3]) + (f": {row[3]}" if row[3] else ""))
            if swarm.strikes("row odd"):
                data += self._odd(now_ms)
            data += encoded
            if swarm.strikes("row repeated"):
                data += encoded
            if swarm.strikes("row torn"):
                cut = len(data) - 1 - chance.below(len(encoded) - 1)
                data, rest = data[:cut], data[cut:]
                self._world.tell("fault", "a row of the validator's log is torn")
                if chance.happens(0.7):
                    self._held = rest  # it comes with the next turn
                    break_off = rows[rows.index(row) + 1 :]
                    if break_off:
                        self._held += encode_rows(
                            [(now_ms, *left, "memory-validator") for left in break_off], backslash_escapes=True
                        )
                    break
        if data:
            self._append(data)
            self._wrote_s = self._now_s()
        if self._held and rows:
            self._world.timeline.after(300 + chance.below(3_000), self._finish_row)

    def _finish_row(self) -> None:
        if self._held and not self.killed:
            data, self._held = self._held, b""
            self._append(data)

    def _append(self, data: bytes) -> None:
        key = self._keys.validator_log
        self._control.append(key, data, offset=self._control.size(key))

    def _odd(self, now_ms: int) -> bytes:
        chance = self._world.chance
        kind = chance.below(4)
        self._world.tell("fault", "the validator's log has a row that nobody expects")
        if kind == 0:
            return chance.pick(ODD)
        if kind == 1:
            rows = [("validation", "nobody/knows.dat", chance.pick(["ok", "failure"]), "")]
        elif kind == 2:
            rows = [("weather", SELF, "ok", "fine")]
        else:  # a word on a file that may not have been sent
            fact = chance.pick(self._world.evidence.files)
            # a validator that accepts what it should not is believed: nobody else could know
            status = chance.pick(["ok", "failure"]) if fact.ends == "valid" else "failure"
            rows = [("validation", fact.path, status, "odd")]
            self._world.evidence.judged_ms.append(now_ms)
        return encode_rows([(now_ms, *row, "memory-validator") for row in rows], backslash_escapes=True)
