"""The time axis of a report's charts: time in which nobody worked is left out, and marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from upload_adapters.report import words
from upload_core.timeline import Span

GAP: Final = 1.6
"""Per cent of the width that a gap takes, however long it was."""
GAPS_MAX: Final = 20
WORTH_A_GAP: Final = 0.04
"""Time that is a smaller share of the whole is shown as it was."""
TICKS: Final = 9
STEPS_MS: Final = tuple(
    1000 * seconds for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
) + tuple(86_400_000 * days for days in (1, 2, 5, 10, 20, 50, 100, 200, 500))
NEAREST: Final = 9.0
"""Per cent of the width that a label takes."""


@attrs.frozen
class Tick:
    """A moment on the axis, `x` per cent from the left; every other one may be left out where there is little room."""

    x: float
    label: str
    day: str = ""
    minor: bool = False


@attrs.frozen
class Block:
    """Something that lasted, on the axis; `kind` is how it looks."""

    x: float
    width: float
    kind: str
    text: str
    label: str = ""
    """What stands in it, as far as there is room."""


class Axis:
    """Moments as per cent of the width."""

    def __init__(self, worked: Sequence[Span]) -> None:
        """`worked` is the time to be shown, in order and without overlaps."""
        spans = [Span(span.begin_ms, max(span.end_ms, span.begin_ms + 1)) for span in worked] or [Span(0, 1)]
        while True:
            whole = sum(span.end_ms - span.begin_ms for span in spans)
            narrow = [
                number
                for number in range(1, len(spans))
                if spans[number].begin_ms - spans[number - 1].end_ms < WORTH_A_GAP * whole
            ]
            if not narrow and len(spans) <= GAPS_MAX:
                break
            # the smallest gap is closed first, so that those remain that explain most
            candidates = narrow or range(1, len(spans))
            number = min(candidates, key=lambda n: spans[n].begin_ms - spans[n - 1].end_ms)
            spans[number - 1 : number + 1] = [Span(spans[number - 1].begin_ms, spans[number].end_ms)]
        self.spans = spans
        self.whole_ms = whole
        self._scale = (100 - GAP * (len(spans) - 1)) / whole
        self._starts: list[float] = []
        start = 0.0
        for span in spans:
            self._starts.append(start)
            start += (span.end_ms - span.begin_ms) * self._scale + GAP

    def x(self, ms: float) -> float:
        """Where that moment is; one that is left out is at the edge of its gap."""
        place = 0.0
        for start, span in zip(self._starts, self.spans, strict=True):
            if ms < span.begin_ms:
                break
            place = start + (min(ms, span.end_ms) - span.begin_ms) * self._scale
        return round(min(100.0, place), 3)

    def blocks(self, spans: Iterable[Span], kind: str, text: str, label: str = "") -> list[Block]:
        """Each span as a block that can be seen, however short it was; `text` is followed by how long, and by why."""
        found = []
        for span in spans:
            x = min(self.x(span.begin_ms), 99.6)
            width = max(0.4, self.x(span.end_ms) - x)
            why = f": {span.text}" if span.text else ""
            when = f"{words.moment(span.begin_ms)}, {words.duration(span.end_ms - span.begin_ms)}"
            found.append(Block(x, round(width, 3), kind, f"{text} ({when}){why}", label))
        return found

    def gaps(self) -> list[Block]:
        """What is left out."""
        found = []
        for number in range(1, len(self.spans)):
            before, after = self.spans[number - 1], self.spans[number]
            lasted = words.duration(after.begin_ms - before.end_ms)
            found.append(Block(round(self._starts[number] - GAP, 3), GAP, "gap", f"{lasted} left out"))
        return found

    def ticks(self) -> list[Tick]:
        """Round moments, some `TICKS` of them, and the day wherever it changes."""
        step = next((step for step in STEPS_MS if self.whole_ms / step <= TICKS), STEPS_MS[-1])
        moments = []
        for span in self.spans:
            first = -(-span.begin_ms // step) * step
            inside = list(range(first, span.end_ms + 1, step))
            moments += inside or [span.begin_ms]
        found: list[Tick] = []
        shown_day = ""
        for moment in moments:
            x = self.x(moment)
            if (found and x - found[-1].x < NEAREST) or x > 100 - NEAREST / 2:
                continue
            day = words.day(moment)
            label = words.clock(moment, seconds=step < 60_000)
            minor = len(found) % 2 == 1 and day == shown_day
            found.append(Tick(x, label, "" if day == shown_day else day, minor))
            shown_day = day
        return found
