"""`upload-core simulate`: deliveries in a simulated world in which anything goes wrong; one seed is told as a story."""

from __future__ import annotations

import hashlib

import click

from upload_adapters.simulation import Run, simulate

FAILURES_SHOWN = 5


class SeedRange(click.ParamType[range]):
    """`FROM..TO`, both included."""

    name = "FROM..TO"

    def convert(self, value: str | range, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        first, dots, last = value.partition("..")
        if not dots or not (first.isdecimal() and last.isdecimal()) or int(first) > int(last):
            self.fail(f"{value!r} is no range of seeds; write it as 1..1000", param, ctx)
        return range(int(first), int(last) + 1)


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="Replay this one and tell its story.")
@click.option("--seeds", type=SeedRange(), help="Run all of these, and name those that fail.")
@click.option("--steps", type=click.IntRange(min=0), help="Nothing goes wrong after so many; otherwise the seed says.")
def command(seed: int | None, seeds: range | None, steps: int | None) -> int:
    """Deliver in a simulated world where anything goes wrong.

    The real program delivers a few files on a virtual clock, while requests, processes, machines, logs and locks fail in
    an order that the seed draws; an independent judge looks at what is left. Nothing outside this process is touched.
    The same seed gives the same bytes everywhere. Ends with exit code 1 if a promise was broken.
    """
    if (seed is None) == (seeds is None):
        raise click.UsageError("name one seed (--seed 7) or a range of them (--seeds 1..1000)")
    if seeds is not None:
        return _search(seeds, steps)
    assert seed is not None
    run = simulate(seed, steps=steps, telling=True, in_time=True)
    for line in run.story:
        click.echo(line)
    evidence = run.evidence
    click.echo(
        f"\nseed {seed}: {evidence.steps} steps in {len(evidence.ended)} lives of the client; "
        f"the last fault may come at step {evidence.calm_step}; journal SHA-256 {hashlib.sha256(run.journal).hexdigest()}"
    )
    click.echo("faults: " + (", ".join(f"{kind} ({count})" for kind, count in run.faults.items()) or "none"))
    return _verdict(run, steps)


def _search(seeds: range, steps: int | None) -> int:
    failed = 0
    for seed in seeds:
        run = simulate(seed, steps=steps, in_time=True)
        if run.violations:
            failed += 1
            if failed <= FAILURES_SHOWN:
                _verdict(run, steps)
    click.echo(f"{len(seeds) - failed:,} of {len(seeds):,} seeds passed", err=True)
    return 1 if failed else 0


def _verdict(run: Run, steps: int | None) -> int:
    if not run.violations:
        click.echo("every promise was kept")
        return 0
    for violation in run.violations:
        click.echo(f"seed {run.seed} broke a promise: {violation}")
    limit = "" if steps is None else f" --steps {steps}"
    click.echo(f"replay it with: upload-core simulate --seed {run.seed}{limit}", err=True)
    return 1
