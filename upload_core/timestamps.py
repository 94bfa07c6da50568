"""Times as text and back: milliseconds since the epoch, UTC, written `2026-11-22T07:24:36.959Z`.

Text and number say the same millisecond, so text also sorts by time. Nothing here reads a clock.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - every time here is UTC, and naive arithmetic is the faster one
_FRACTION_AND_ZONE = re.compile(r"(?:\.([0-9]{1,9}))?(?:Z|\+00:00)")


# Rows of one log mostly share their second with their neighbours: the calendar is worked out once for each.
@lru_cache(maxsize=4096)
def _second_to_text(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).isoformat()


@lru_cache(maxsize=4096)
def _text_to_second(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.isoformat() != text:  # week dates, other separators and the like
        raise ValueError(text)
    return (moment - _EPOCH) // timedelta(seconds=1)


def iso(ms: int) -> str:
    """The time as text, always 24 characters; raises `ValueError` outside the years 1 to 9999.

    >>> iso(1_795_332_276_959)
    '2026-11-22T07:24:36.959Z'
    """
    second, milli = divmod(ms, 1000)
    try:
        return f"{_second_to_text(second)}.{milli:03d}Z"
    except OverflowError:
        raise ValueError(f"{ms} ms is outside the years 1 to 9999") from None


def parse_iso(text: str) -> int:
    """The milliseconds that `iso` would write as `text`; finer digits are cut off, none may be given at all.

    Raises `ValueError` for anything that is not a UTC time in this form.

    >>> parse_iso("2026-11-22T07:24:36.959Z")
    1795332276959
    """
    rest = _FRACTION_AND_ZONE.fullmatch(text, 19)
    try:
        if rest is None:
            raise ValueError(text)
        return _text_to_second(text[:19]) * 1000 + int((rest[1] or "0")[:3].ljust(3, "0"))
    except ValueError:
        raise ValueError(f"not a UTC time like 2026-11-22T07:24:36.959Z: {text[:40]!r}") from None
