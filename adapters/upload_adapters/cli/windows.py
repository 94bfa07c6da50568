"""Times of day in which files may be begun, as `--window` names them: local time, an end before its start is tomorrow's."""

from __future__ import annotations

import re
from typing import Final

import attrs
import click

DAY: Final = 24 * 60
_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


@attrs.frozen
class Windows:
    """Spans of minutes of the day; a span's end no longer belongs to it."""

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Windows:
        """The windows of `22:00-06:00,12:00-13:30`; raises `ValueError` that says what is wrong.

        >>> Windows.parse("22:00-06:00").spans
        ((1320, 360),)
        """
        return cls(tuple(_span(part.strip()) for part in text.split(",")))

    def hold(self, minute: int) -> bool:
        """Whether files may be begun in that minute of the day."""
        return any(
            start <= minute < end if start < end else minute >= start or minute < end for start, end in self.spans
        )

    def next_start(self, minute: int) -> str:
        """When the next window opens, as a clock shows it."""
        wait = min((start - minute) % DAY for start, _ in self.spans)
        return "{:02}:{:02}".format(*divmod((minute + wait) % DAY, 60))


def _span(text: str) -> tuple[int, int]:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no window: write HH:MM-HH:MM, for example 22:00-06:00")
    hours, minutes, end_hours, end_minutes = map(int, found.groups())
    start, end = hours * 60 + minutes, end_hours * 60 + end_minutes
    if minutes > 59 or end_minutes > 59 or start >= DAY or end > DAY:
        raise ValueError(f"{text!r} is no window: a day goes from 00:00 to 24:00")
    if start == end:
        raise ValueError(f"{text!r} is no window: it ends when it begins")
    return start, end % DAY if end == DAY and start else end


def window_option(command: click.decorators.FC) -> click.decorators.FC:
    """`--window HH:MM-HH:MM[,...]`."""

    def parsed(_: click.Context, __: click.Parameter, text: str | None) -> Windows | None:
        try:
            return None if text is None else Windows.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return click.option(
        "--window",
        metavar="HH:MM-HH:MM",
        callback=parsed,
        help="Begin files only between these times of day (local time; several with commas), such as 22:00-06:00.",
    )(command)
