"""The real core and client in a simulated world, where anything may go wrong in any order, the same way each time.

`simulate(seed)` delivers a few files through the real `UploadClient`: over a virtual clock, on one thread, against a
store and a validator that keep the archive's documented rules, under a swarm of faults that the seed draws, with deaths
at any call of a port. An independent judge then looks at what is left. The same seed always gives the same bytes.
"""

from __future__ import annotations

from typing import Final

import attrs

from upload_adapters.simulation.evidence import Evidence
from upload_adapters.simulation.faults import FAULTS
from upload_adapters.simulation.invariants import INVARIANTS, Violation
from upload_adapters.simulation.judge import judge
from upload_adapters.simulation.world import World

__all__ = ["FAULTS", "INVARIANTS", "Evidence", "Run", "Violation", "World", "simulate"]

SLOWEST: Final = 3
"""How many times the steps of an undisturbed run it may take to end once nothing goes wrong any more."""


@attrs.frozen
class Run:
    """One simulation: what there is to judge it by, and what was found."""

    seed: int
    evidence: Evidence
    violations: list[Violation]
    faults: dict[str, int]
    """Kind of fault -> how often it happened."""
    story: list[str]

    @property
    def journal(self) -> bytes:
        """The journal's bytes: the same for the same seed."""
        return self.evidence.journal

    @property
    def steps_after(self) -> int:
        """Steps that were taken after nothing went wrong any more."""
        return self.evidence.steps - self.evidence.calm_step


def simulate(seed: int, *, steps: int | None = None, telling: bool = False, in_time: bool = False) -> Run:
    """One run and its judgement.

    `steps` says after how many nothing goes wrong any more, if the seed shall not; `telling` keeps the story. With
    `in_time` an undisturbed run of the same seed is made as well, and ending must not take more than three times as long.
    """
    world = World(seed, steps=steps, telling=telling)
    evidence = world.run()
    run = Run(seed, evidence, judge(evidence), world.swarm.seen, world.story or [])
    if in_time and not run.violations:
        undisturbed = World(seed, steps=0).run().steps
        if run.steps_after > SLOWEST * undisturbed:
            what = f"in {run.steps_after} steps after the last fault; an undisturbed run takes {undisturbed}"
            run.violations.append(Violation("it ends", what))
    return run
