"""The kinds of faults, in plain words; and the swarm, which decides what goes wrong in one simulation, and when.

A seed switches each kind on or off and gives it a rate, so that some runs know only one fault and others nearly all:
what is rare among many faults is frequent among few.
"""

from __future__ import annotations

from typing import Final

from upload_adapters.simulation.chance import Chance

FAULTS: Final[dict[str, str]] = {
    # requests
    "request lost": "A request does not arrive, and no answer comes.",
    "answer lost": "A request takes effect, but no answer comes.",
    "request twice": "A request takes effect twice; the client hears the second answer.",
    "request late": "No answer comes, and the request takes effect seconds later.",
    "slow down": "The archive asks for patience instead of doing anything.",
    "slow answers": "Answers take seconds.",
    "credentials": "The credentials have expired beyond what renewing mends.",
    "outage": "For seconds to minutes no request arrives.",
    # time
    "clock": "The machine's clock is set, forwards or back.",
    "sleep": "The machine sleeps, from seconds to longer than the lock lives.",
    "halt": "The process is stopped, from seconds to longer than the lock lives.",
    # the client's process
    "kill": "The process is killed before, after or within a call.",
    "power cut": "The machine loses its power; what was not synced is lost, torn or followed by zeros.",
    "full disk": "The journal cannot be written.",
    "stop": "Somebody asks the client for an end in order.",
    # the validator
    "validator dies": "The validator ends without a word and leaves its lock.",
    "validator dawdles": "The validator takes up to half a minute for its next look at the log.",
    "row repeated": "A row of the validator's log is there twice.",
    "row torn": "A row of the validator's log comes in two pieces, or its end never comes.",
    "row odd": "The validator's log has rows that nobody expects: other paths, other words, no text at all.",
    "log replaced": "The validator's log is replaced by a new one.",
    "start refused": "The pipeline refuses a start.",
    "start dawdles": "The validator takes a minute to come up.",
    # the lock
    "rival": "Another agent waits for the lock and takes it over as soon as it is free or stale.",
    "lock stolen": "Somebody overwrites the lock although it is fresh, and gives it back later.",
    "lock deleted": "Somebody deletes the lock.",
    # files
    "source unreadable": "A file cannot be opened or read for a moment.",
    "source changes": "A file is rewritten while it is read, and restored later.",
    "parts gone": "The store forgets an upload in parts.",
}
"""Kind -> what happens."""

_RATES: Final[dict[str, tuple[float, float]]] = {
    "outage": (0.001, 0.02),
    "clock": (0.002, 0.05),
    "sleep": (0.001, 0.02),
    "halt": (0.001, 0.02),
    "kill": (0.003, 0.05),
    "power cut": (0.003, 0.05),
    "full disk": (0.001, 0.02),
    "stop": (0.0005, 0.005),
    "credentials": (0.001, 0.01),
    "validator dies": (0.002, 0.05),
    "log replaced": (0.001, 0.01),
    "lock stolen": (0.0005, 0.005),
    "lock deleted": (0.0005, 0.005),
    "source unreadable": (0.02, 0.4),
    "source changes": (0.02, 0.4),
    "row repeated": (0.02, 0.5),
    "row torn": (0.01, 0.3),
    "row odd": (0.01, 0.3),
    "start refused": (0.05, 0.5),
    "start dawdles": (0.1, 0.8),
}
"""Kind -> its lowest and highest rate per occasion; all others are faults of requests."""

SHARE_ON: Final = 0.3
LAST_STEP_MAX: Final = 600


class Swarm:
    """What goes wrong in one simulation: each kind at its own rate, and nothing after the step at which it calms down."""

    def __init__(self, chance: Chance, steps: int | None) -> None:
        """`steps` is when it calms down, if that is not left to chance; 0 is a run without faults."""
        self.chance = chance
        on = chance.some(list(FAULTS), chance.pick([0.1, SHARE_ON, SHARE_ON, 0.6]))
        self.rates = {kind: chance.magnitude(*_RATES.get(kind, (0.01, 0.2))) for kind in on}
        drawn = round(chance.magnitude(20, LAST_STEP_MAX))
        self.last_step = drawn if steps is None else steps
        self.calm = self.last_step <= 0
        self.seen: dict[str, int] = {}
        """Kind -> how often it happened."""

    def strikes(self, kind: str) -> bool:
        """Whether that fault happens now; it is counted if it does."""
        if self.calm:
            return False
        rate = self.rates.get(kind)
        if rate is None or not self.chance.happens(rate):
            return False
        self.seen[kind] = self.seen.get(kind, 0) + 1
        return True

    def pause_s(self, lock_life_s: float) -> int:
        """How long a machine sleeps or a process is stopped."""
        return round(self.chance.magnitude(5, 2 * lock_life_s))

    def has(self, kind: str) -> bool:
        """Whether that kind may happen in this run, now or later."""
        return not self.calm and kind in self.rates
