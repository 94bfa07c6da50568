"""docs/performance.md from what was measured: one table per benchmark module, and the commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from figures import Figure


def render(kept: Mapping[str, Any], modules: Mapping[str, ModuleType]) -> str:
    """The whole page, in MyST Markdown."""
    return "\n".join(_lines(kept, modules)) + "\n"


def _lines(kept: Mapping[str, Any], modules: Mapping[str, ModuleType]) -> Iterator[str]:
    yield "% Made by `make bench ARGS=--write`; edit benchmarks/, not this page."
    yield "# Performance"
    yield ""
    yield "Every figure is measured side by side with what it is compared to, in one process or one script, in rounds that"
    yield "take turns; what counts is the median. Seconds are CPU seconds (user and system) unless a line says otherwise,"
    yield "because they depend less on whatever else the machine does. `x` is how many times the other one; goals with `>=`"
    yield "ask how many times dearer the peer is, goals with `<=` how many times dearer we may be."
    yield ""
    yield "```"
    yield "make bench                            # everything"
    yield 'make bench ARGS="journal --quick"     # one module, small'
    yield 'make bench ARGS="J5 J8 --rounds 9"    # some figures'
    yield "make bench ARGS=--write               # and put the figures on this page"
    yield "```"
    for name, module in modules.items():
        if name not in kept:
            continue
        runs = [kept[name][key] for key in module.FIGURES if key in kept[name]]
        yield ""
        yield f"## {module.TITLE}"
        yield ""
        if module.__doc__:
            yield module.__doc__.strip().splitlines()[0]
            yield ""
        yield "| # | figure | goal | measured | reached | medians |"
        yield "|---|---|---|---|---|---|"
        for run in runs:
            for data in run["figures"]:
                cells = [cell.replace("|", "\\|") for cell in Figure.from_json(dict(data)).as_row()]
                yield f"| {' | '.join(cells)} |"
        yield ""
        for where in sorted({f"{run['machine']}, {run['day']}" for run in runs}):
            yield f"Measured on {where}."
        yield "Rounds behind each figure (at most 3 count where one takes minutes), and the load average when it was taken:"
        yield ", ".join(_circumstances(kept[name], module)) + "."
        missing = [key for key in module.FIGURES if key not in kept[name]]
        if missing:
            yield f"Not measured in full yet: {', '.join(missing)}."
        yield ""
        yield f'`make bench ARGS="{name}"`'


def _circumstances(runs: Mapping[str, Any], module: ModuleType) -> Iterator[str]:
    for key in module.FIGURES:
        if key in runs:
            yield f"{key} {runs[key]['rounds']} at {runs[key].get('load', 'a load that was not noted')}"
