#!/usr/bin/env python
"""Runs the benchmarks and prints one table; `--write` puts it into docs/performance.md.

    make bench                              everything, judged against the goals
    make bench ARGS="journal --quick"       one module, small: minutes become seconds
    make bench ARGS="J5 J8 --rounds 9"      some figures
    make bench ARGS="--write"               what was measured replaces its lines in docs/performance.md

A module is a file `bench_NAME.py` beside this one with a TITLE and FIGURES (key -> function of a Scale).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from figures import ROOT, Figure, Scale, machine
from page import render

HERE: Final = Path(__file__).resolve().parent
MEASURED: Final = HERE / "measured.json"
PAGE: Final = ROOT / "docs" / "performance.md"
HEAD: Final = ("#", "figure", "goal", "measured", "reached", "medians")
WIDEST: Final = 60

Measure = Callable[[Scale], Iterator[Figure]]


def modules() -> dict[str, ModuleType]:
    """Every benchmark module by its name."""
    found = sorted(HERE.glob("bench_*.py"))
    return {path.stem.removeprefix("bench_"): importlib.import_module(path.stem) for path in found}


def chosen(wanted: Sequence[str], known: dict[str, ModuleType]) -> list[tuple[str, str, Measure]]:
    """Module, key and function of each figure to measure; raises `SystemExit` for a name that nothing has."""
    every = [(name, key, measure) for name, module in known.items() for key, measure in module.FIGURES.items()]
    names = {name for name, _, _ in every} | {key for _, key, _ in every}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    return [(name, key, measure) for name, key, measure in every if not wanted or name in wanted or key in wanted]


def show(figures: Sequence[Figure]) -> str:
    """The table for a terminal; long cells are wrapped."""
    rows = [[_wrapped(cell) for cell in row] for row in (HEAD, *(figure.as_row() for figure in figures))]
    widths = [max(len(line) for row in rows for line in row[column]) for column in range(len(HEAD))]
    lines: list[str] = []
    for number, row in enumerate(rows):
        for line in range(max(map(len, row))):
            cells = [cell[line] if line < len(cell) else "" for cell in row]
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDEST:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def record(name: str, key: str, figures: Sequence[Figure], scale: Scale) -> None:
    """Let what was measured replace its older lines, and make the page anew."""
    kept: dict[str, Any] = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    kept.setdefault(name, {})[key] = {
        "day": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "rounds": scale.rounds,
        "figures": [figure.as_json() for figure in figures],
    }
    MEASURED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(render(kept, modules()))


def main() -> int:
    """Measure what was asked for; 1 if a benchmark failed to run, or with `--strict` a goal was missed."""
    parser = argparse.ArgumentParser(description="Measure, beside peers, what the goals are about.")
    parser.add_argument("names", nargs="*", help="modules (journal, local) or figures (J5); all if none is named")
    parser.add_argument("--quick", action="store_true", help="small amounts and three rounds: shows the order only")
    parser.add_argument("--rounds", type=int, help="interleaved rounds whose median counts (default 5)")
    parser.add_argument("--write", action="store_true", help="put what was measured into docs/performance.md")
    parser.add_argument("--page", action="store_true", help="only make docs/performance.md anew from what was measured")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON lines instead of a table")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a goal is missed")
    options = parser.parse_args()
    known = modules()
    if options.page:
        PAGE.write_text(render(json.loads(MEASURED.read_text()), known))
        return 0
    if options.write and options.quick:
        parser.error("--quick figures are not for the page")
    scale = Scale(options.quick, options.rounds or (3 if options.quick else 5))
    every: list[Figure] = []
    failed = []
    for name, key, measure in chosen(options.names, known):
        print(f"measuring {key} ...", file=sys.stderr, flush=True)
        try:
            every += (figures := list(measure(scale)))
            if options.write:  # at once: a run that is cut short keeps what it has
                record(name, key, figures, scale)
        except Exception:  # noqa: BLE001 - one benchmark that cannot run must not cost the others their figures
            traceback.print_exc()
            failed.append(key)
    if options.json:
        print("\n".join(json.dumps(figure.as_json()) for figure in every))
    else:
        print(machine())
        print(show(every))
    judged = [figure for figure in every if figure.goal is not None]
    missed = [figure for figure in judged if figure.verdict == "NO"]
    print(f"{len(judged) - len(missed)} of {len(judged)} goals reached", file=sys.stderr)
    if failed:
        print(f"could not be measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed) or (options.strict and bool(missed)))


if __name__ == "__main__":
    sys.exit(main())
