"""A report's charts as shapes in a box of 1,000 x 100 that is stretched to fit, with all text beside them in HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

import attrs

from upload_adapters.report import words
from upload_adapters.report.axis import Axis
from upload_core.lifecycle import (
    ABANDONED,
    DONE,
    FAILED,
    INVALID,
    PENDING,
    READY,
    REPORTED,
    TRANSFERRING,
    UNRESOLVED,
    VALID,
)
from upload_core.timeline import Bin, Timeline

COLUMNS_MAX: Final = 180
"""Columns of a rate: more would be thinner than a phone's pixels."""
ROWS_MAX: Final = 40
"""Rows of the table behind a chart."""


@attrs.frozen
class Kind:
    """A band of the chart of states: its name in the page, what people call it, and what of the lifecycle it holds."""

    key: str
    name: str
    word: str
    codes: tuple[int, ...]

    def of(self, counts: Sequence[int]) -> int:
        """How many files are in it."""
        return sum(counts[code] for code in self.codes)


KINDS: Final = (
    Kind("valid", "accepted", "valid", (VALID,)),
    Kind("done", "stored, not judged yet", "done", (DONE, REPORTED)),
    Kind("sending", "being sent", "transferring", (TRANSFERRING,)),
    Kind("waiting", "waiting", "ready, pending", (READY, UNRESOLVED, PENDING)),
    Kind("failed", "not stored", "failed", (FAILED, ABANDONED)),
    Kind("invalid", "rejected", "invalid", (INVALID,)),
)
"""From the bottom to the top of the chart."""


@attrs.frozen
class Shape:
    """An area: its look, and its outline as the `d` of a path."""

    key: str
    name: str
    d: str


@attrs.frozen
class Line:
    """A line across the chart, `y` per cent from the top, with its label."""

    y: float
    label: str


@attrs.frozen
class Chart:
    """One chart and the table behind it."""

    key: str
    title: str
    description: str
    """What somebody who cannot see it should know."""
    shapes: tuple[Shape, ...]
    lines: tuple[Line, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def states(timeline: Timeline, first: Sequence[int], axis: Axis) -> Chart:
    """How many files were in which state, stacked."""
    total = max(1, sum(first))
    moments: list[tuple[float, Sequence[int]]] = [(0.0, first)]
    before = first
    for number, bin_ in timeline.bins.items():
        begin, end = axis.x(number * timeline.width_ms), axis.x((number + 1) * timeline.width_ms)
        if begin > moments[-1][0]:
            moments.append((begin, before))
        moments.append((end, bin_.counts))
        before = bin_.counts
    moments.append((100.0, before))
    shapes = []
    floor = [0] * len(moments)
    for kind in KINDS:
        top = [low + kind.of(counts) for low, (_, counts) in zip(floor, moments, strict=True)]
        # from the first file on: what is outlined would be seen even where nothing is
        thick = [high > low for high, low in zip(top, floor, strict=True)]
        if any(thick):
            since = max(0, thick.index(True) - 1)
            xs = [x for x, _ in moments[since:]]
            shapes.append(Shape(kind.key, kind.name, _area(xs, top[since:], floor[since:], total)))
        floor = top
    lines = (Line(0, words.files(total)), Line(50, f"{total / 2:,.0f}")) if total > 1 else (Line(0, "1 file"),)
    table = _coarse(timeline, ROWS_MAX)
    rows = tuple(
        (_when(ms, table.width_ms), *(f"{kind.of(bin_.counts):,}" for kind in KINDS)) for ms, bin_ in _ends(table)
    )
    said = ", ".join(f"{kind.of(before):,} {kind.name}" for kind in KINDS if kind.of(before))
    return Chart(
        "states",
        "Where the files were",
        f"Stacked areas of the number of files in each state over time. In the end: {said or 'no files'}.",
        tuple(shapes),
        lines,
        ("Until (UTC)", *(f"{kind.name} ({kind.word})" for kind in KINDS)),
        rows,
    )


def throughput(timeline: Timeline, axis: Axis) -> Chart:
    """How many bytes per second the archive acknowledged."""
    columns = _coarse(timeline, COLUMNS_MAX, axis.whole_ms)
    rate = _rates(columns, lambda bin_: bin_.sent_bytes)
    highest = max((value for _, _, value in rate), default=0.0)
    top, labels = _scale(highest, 1024)
    table = _coarse(timeline, ROWS_MAX, axis.whole_ms)
    rows = tuple(
        (
            _when(ms, table.width_ms),
            words.size(bin_.sent_bytes),
            f"{bin_.sent_files:,}",
            f"{bin_.accepted:,}",
            f"{bin_.rejected:,}",
            f"{bin_.faults:,}",
            f"{bin_.retries:,}",
        )
        for ms, bin_ in _ends(table)
    )
    return Chart(
        "throughput",
        "How fast it went",
        f"Bytes per second that the archive acknowledged; at most {words.size(highest)}/s.",
        (Shape("rate", "bytes per second", _steps(rate, axis, top)),),
        tuple(Line(100 - 100 * value / top, f"{words.size(value)}/s") for value in labels),
        ("Until (UTC)", "sent", "files stored", "accepted", "rejected", "attempts failed or cut off", "retries"),
        rows,
    )


def level(timeline: Timeline, axis: Axis) -> Chart | None:
    """How many transfers ran at a time; None if it was never said."""
    known: list[tuple[int, int, int]] = []
    for number, bin_ in timeline.bins.items():
        if bin_.level:
            known.append((number * timeline.width_ms, (number + 1) * timeline.width_ms, bin_.level))
    if not known:
        return None
    end_ms = axis.spans[-1].end_ms
    steps = [
        (begin, after[0], float(value)) for (begin, _, value), after in zip(known, [*known[1:], (end_ms,)], strict=True)
    ]
    highest = max(value for _, _, value in known)
    top, labels = _scale(highest, 10)
    changes = [known[0], *(row for before, row in pairwise(known) if row[2] != before[2])]
    return Chart(
        "level",
        "How many transfers ran at a time",
        f"A line in steps, from {known[0][2]} to {known[-1][2]}, at most {highest}.",
        (Shape("level", "transfers at a time", _steps(steps, axis, top)),),
        tuple(Line(100 - 100 * value / top, f"{value:,.0f}") for value in labels),
        ("From (UTC)", "at a time"),
        tuple((_when(begin), str(value)) for begin, _, value in changes[:: -(-len(changes) // ROWS_MAX)]),
    )


def sparkline(samples: Sequence[tuple[int, int]], parts: int) -> str:
    """How a large file's parts came together, as the `d` of a path in a box of 100 x 20."""
    begin, end = samples[0][0], max(samples[-1][0], samples[0][0] + 1)
    points = [(100 * (ms - begin) / (end - begin), 20 - 20 * min(1, count / max(1, parts))) for ms, count in samples]
    return "M0 20" + "".join(f"L{_n(x)} {_n(y)}" for x, y in points) + "V20Z"


# --- pieces --------------------------------------------------------------------------------------


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _when(ms: int, width_ms: int = 1000) -> str:
    return words.moment(ms) + (f".{ms % 1000:03d}" if width_ms < 1000 else "")


def _area(xs: Sequence[float], top: Sequence[int], floor: Sequence[int], total: int) -> str:
    upper = _path(xs, top, total)
    lower = _path(list(reversed(xs)), list(reversed(floor)), total)
    return "M" + "L".join(upper) + "L" + "L".join(lower) + "Z"


def _path(xs: Sequence[float], ys: Sequence[int], total: int) -> list[str]:
    """The points, without those in the middle of a level stretch."""
    points: list[str] = []
    for place, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if 0 < place < len(xs) - 1 and ys[place - 1] == y == ys[place + 1]:
            continue
        points.append(f"{_n(10 * x)} {_n(100 - 100 * y / total)}")
    return points


def _steps(rows: Iterable[tuple[float, float, float]], axis: Axis, top: float) -> str:
    """An area of columns, each from one moment to another; where none is, it is at the bottom."""
    d, at = "M0 100", 0.0
    for begin, end, value in rows:
        left, right = axis.x(begin), axis.x(end)
        if right <= left:
            continue
        if left > at + 0.01:
            d += f"V100H{_n(10 * left)}"
        d += f"V{_n(100 - 100 * value / top)}H{_n(10 * right)}"
        at = right
    return d + "V100Z"


def _coarse(timeline: Timeline, most: int, whole_ms: int = 0) -> Timeline:
    """The same in at most so many bins; with `whole_ms`, so wide that all of that time would be."""
    coarse = timeline.copy()
    while len(coarse.bins) > most or whole_ms / coarse.width_ms > most:
        coarse.widen(coarse.width_ms * 2)
    return coarse


def _ends(timeline: Timeline) -> list[tuple[int, Bin]]:
    return [((number + 1) * timeline.width_ms, bin_) for number, bin_ in timeline.bins.items()]


def _rates(timeline: Timeline, of: Callable[[Bin], int]) -> list[tuple[float, float, float]]:
    width = timeline.width_ms
    return [(n * width, (n + 1) * width, 1000 * of(bin_) / width) for n, bin_ in timeline.bins.items()]


def _scale(highest: float, base: int) -> tuple[float, list[float]]:
    """A round upper end of a scale, and the values to be labelled.

    >>> _scale(830, 10), _scale(3_000_000, 1024)
    ((1000.0, [500.0, 1000.0]), (4194304.0, [2097152.0, 4194304.0]))
    """
    unit = 1.0
    while highest > unit * base:
        unit *= base
    steps = (1, 2, 4, 5, 10) if base == 10 else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    top = next(unit * step for step in steps if unit * step >= highest)
    return top, [top / 2, top]
