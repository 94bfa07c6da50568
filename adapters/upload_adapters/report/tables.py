"""A report's distributions and lists of files, as rows: sizes, durations, the slowest, the large ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import attrs

from upload_adapters.report import charts, words
from upload_core.story import Story
from upload_core.tally import DURATIONS_MS, LargeFile, size_class


@attrs.frozen
class Bar:
    """One class of a distribution; `width` is per cent of the longest."""

    label: str
    width: float
    cells: tuple[str, ...]


@attrs.frozen
class Large:
    """A file that was sent in parts."""

    path: str
    size: str
    parts: str
    took: str
    notes: str
    d: str
    state: str


def sizes(stories: Sequence[Story]) -> list[Bar]:
    counts: Counter[int] = Counter()
    totals: Counter[int] = Counter()
    for story in stories:
        sizes = story.table.raw_columns().sizes
        for bits, count in Counter(map(int.bit_length, sizes)).items():
            counts[size_class(bits)] += count
        for size in sizes:
            totals[size.bit_length()] += size
    of_class: Counter[int] = Counter()
    for bits, total in totals.items():
        of_class[size_class(bits)] += total
    if not counts:
        return []
    most = max(counts.values())
    return [
        Bar(_size_label(number), 100 * counts[number] / most, (f"{counts[number]:,}", words.size(of_class[number])))
        for number in range(min(counts), max(counts) + 1)
    ]


def _size_label(number: int) -> str:
    if number == 0:
        return "empty"
    upper = 1024 * 4 ** (number - 1)
    return f"under {words.size(upper)}" if number == 1 else f"{words.size(upper // 4)} to {words.size(upper)}"


def durations(columns: Sequence[Sequence[int]]) -> list[Bar]:
    counts = [sum(column) for column in zip(*columns, strict=True)]
    used = [number for number, count in enumerate(counts) if count]
    if not used:
        return []
    most, whole = max(counts), sum(counts)
    return [
        Bar(
            _duration_label(number),
            100 * counts[number] / most,
            (f"{counts[number]:,}", words.share(counts[number], whole)),
        )
        for number in range(used[0], used[-1] + 1)
    ]


def _duration_label(number: int) -> str:
    if number == 0:
        return f"under {words.duration(DURATIONS_MS[0])}"
    lower = words.duration(DURATIONS_MS[number - 1])
    return f"{lower} or more" if number == len(DURATIONS_MS) else f"{lower} to {words.duration(DURATIONS_MS[number])}"


def said(columns: Sequence[Sequence[int]]) -> str:
    """Half of the files, and nearly all of them, in words."""
    counts = [sum(column) for column in zip(*columns, strict=True)]
    whole = sum(counts)
    if not whole:
        return ""
    sums = list(accumulate(counts))
    within = []
    for share in (0.5, 0.95):
        reached = next(number for number, seen in enumerate(sums) if seen >= share * whole)
        within.append(words.duration(DURATIONS_MS[min(reached, len(DURATIONS_MS) - 1)]))
    if within[0] == within[1]:
        return f"Nearly all within {within[0]}."
    return f"Half within {within[0]}, nearly all within {within[1]}."


def slowest(stories: Sequence[Story]) -> list[Bar]:
    rows = sorted(
        ((slow.ms, number, slow.file) for number, story in enumerate(stories) for slow in story.slowest), reverse=True
    )
    found = []
    for ms, number, file in rows[:10]:
        story = stories[number]
        size = story.table.size(file)
        rate = f"{words.size(1000 * size / ms)}/s" if ms else "–"
        retries = story.delivery.retries[file]
        cells = words.duration(ms), words.size(size), rate, f"{retries:,}" if retries else "–"
        found.append(Bar(story.table.path(file), 100 * ms / max(1, rows[0][0]), cells))
    return found


def large(story: Story, file: LargeFile) -> Large:
    size = story.table.size(file.file)
    parts = -(-size // max(1, file.part_size))
    notes = []
    if file.interruptions:
        notes.append(f"broken off {file.interruptions:,} ×")
    if file.uploads > 1:
        notes.append(f"begun {file.uploads:,} ×")
    notes.append(f"{words.many(file.sent_again, 'part')} sent again" if file.sent_again else "no part sent twice")
    return Large(
        story.table.path(file.file),
        words.size(size),
        f"{file.parts:,} of {parts:,} × {words.size(file.part_size)}",
        words.duration(file.end_ms - file.begin_ms),
        ", ".join(notes),
        charts.sparkline(file.samples, parts),
        story.delivery.state_of(file.file),
    )
