"""How a delivery went over time, in a bounded number of bins however long it took.

A bin is as wide as it has to be: whenever there would be too many, each two neighbours become one. Time in which
nothing was recorded has no bins, so a night between two sessions costs no detail of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

WIDTH_MS: Final = 50
"""A bin's first width; every other one is this times a power of two, so that any two timelines can be joined."""
BINS_MAX: Final = 512


@attrs.define
class Bin:
    """What happened in one span of time, and how many files were in each state at its end."""

    counts: tuple[int, ...] = ()
    level: int = 0
    """How many transfers ran at a time at its end; 0 where that was fixed by the user."""
    sent_bytes: int = 0
    sent_files: int = 0
    accepted: int = 0
    rejected: int = 0
    retries: int = 0
    faults: int = 0
    """Attempts that failed, and those that were cut off."""

    def add(self, later: Bin) -> None:
        """Take a later bin in: what happened is added up, how it stood at the end is replaced."""
        self.counts = later.counts or self.counts
        self.level = later.level or self.level
        self.sent_bytes += later.sent_bytes
        self.sent_files += later.sent_files
        self.accepted += later.accepted
        self.rejected += later.rejected
        self.retries += later.retries
        self.faults += later.faults


@attrs.define
class Timeline:
    """Bins by number, in order of time; number `n` begins at `n * width_ms` (milliseconds since the epoch)."""

    width_ms: int = WIDTH_MS
    bins: dict[int, Bin] = attrs.field(factory=dict)

    def at(self, time_ms: int) -> Bin:
        """The bin of that moment, which is never before the latest one.

        >>> timeline = Timeline()
        >>> for second in range(1000):
        ...     timeline.at(second * 1000).accepted += 1
        >>> len(timeline.bins) <= BINS_MAX, timeline.width_ms, sum(bin.accepted for bin in timeline.bins.values())
        (True, 3200, 1000)
        """
        found = self.bins.get(time_ms // self.width_ms)
        if found is None:
            if len(self.bins) >= BINS_MAX:
                self.widen(self.width_ms * 2)
                return self.at(time_ms)
            found = self.bins[time_ms // self.width_ms] = Bin()
        return found

    def end_of(self, time_ms: int) -> int:
        """Where the bin of that moment ends."""
        return (time_ms // self.width_ms + 1) * self.width_ms

    def widen(self, width_ms: int) -> None:
        """Make the bins that wide, which must be the present width times a power of two."""
        while self.width_ms < width_ms:
            bins, self.bins = self.bins, {}
            self.width_ms *= 2
            for number, bin_ in bins.items():
                kept = self.bins.get(number // 2)
                if kept is None:
                    self.bins[number // 2] = bin_
                else:
                    kept.add(bin_)

    def copy(self) -> Timeline:
        """The same, to be changed apart."""
        return Timeline(self.width_ms, {number: attrs.evolve(bin_) for number, bin_ in self.bins.items()})


def joined(timelines: Sequence[tuple[Timeline, Sequence[int]]]) -> Timeline:
    """One timeline of deliveries side by side; each comes with the counts of its states before its first bin.

    >>> one, other = Timeline(), Timeline()
    >>> one.at(100).counts, other.at(250).counts = (3, 1), (0, 5)
    >>> [(number, bin.counts) for number, bin in joined([(one, (4, 0)), (other, (5, 0))]).bins.items()]
    [(2, (8, 1)), (5, (3, 6))]
    """
    copies = [(timeline.copy(), tuple(first)) for timeline, first in timelines]
    width_ms = max((timeline.width_ms for timeline, _ in copies), default=WIDTH_MS)
    while True:
        for timeline, _ in copies:
            timeline.widen(width_ms)
        numbers = sorted({number for timeline, _ in copies for number in timeline.bins})
        if len(numbers) <= BINS_MAX:
            break
        width_ms *= 2
    standing = [Bin(counts=first) for _, first in copies]
    result = Timeline(width_ms)
    for number in numbers:
        whole = result.bins[number] = Bin()
        for stands, (timeline, _) in zip(standing, copies, strict=True):
            found = timeline.bins.get(number)
            if found is not None:
                whole.add(found)
                stands.counts, stands.level = found.counts or stands.counts, found.level or stands.level
        whole.counts = _sums(stands.counts for stands in standing)
        whole.level = sum(stands.level for stands in standing)
    return result


def _sums(columns: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*columns, strict=True)))


@attrs.frozen
class Span:
    """Something that lasted: from `begin_ms` to `end_ms`."""

    begin_ms: int
    end_ms: int
    text: str = ""


def merged(spans: Iterable[Span]) -> list[Span]:
    """The time that the spans cover, as spans that do not touch, in order.

    >>> merged([Span(5, 7), Span(1, 3), Span(2, 4)])
    [Span(begin_ms=1, end_ms=4, text=''), Span(begin_ms=5, end_ms=7, text='')]
    """
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.begin_ms):
        if found and span.begin_ms <= found[-1].end_ms:
            found[-1] = Span(found[-1].begin_ms, max(found[-1].end_ms, span.end_ms))
        else:
            found.append(Span(span.begin_ms, span.end_ms))
    return found


def without(spans: Iterable[Span], left_out: Iterable[Span]) -> list[Span]:
    """The time of the first spans that none of the others covers.

    >>> without([Span(0, 10)], [Span(2, 3), Span(8, 20)])
    [Span(begin_ms=0, end_ms=2, text=''), Span(begin_ms=3, end_ms=8, text='')]
    """
    kept = merged(spans)
    for hole in merged(left_out):
        pieces: list[Span] = []
        for span in kept:
            if hole.end_ms <= span.begin_ms or hole.begin_ms >= span.end_ms:
                pieces.append(span)
                continue
            if span.begin_ms < hole.begin_ms:
                pieces.append(Span(span.begin_ms, hole.begin_ms))
            if hole.end_ms < span.end_ms:
                pieces.append(Span(hole.end_ms, span.end_ms))
        kept = pieces
    return kept
