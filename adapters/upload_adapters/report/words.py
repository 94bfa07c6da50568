"""Numbers, sizes and times as people read them; every time is UTC."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """Bytes for people.

    >>> size(0), size(1023), size(4096), size(12_345_678), size(5 * 1024**4)
    ('0 B', '1,023 B', '4 KiB', '11.8 MiB', '5 TiB')
    """
    if count < 1024:
        return f"{count:,.0f} B"
    power = 1
    while count >= 1024 ** (power + 1) and power < len(_UNITS):
        power += 1
    return f"{count / 1024**power:,.1f}".removesuffix(".0") + f" {_UNITS[power - 1]}"


def files(count: int) -> str:
    """A number of files.

    >>> files(1), files(1200)
    ('1 file', '1,200 files')
    """
    return many(count, "file")


def many(count: int, noun: str) -> str:
    """A number of something.

    >>> many(1, "retry"), many(2, "retry"), many(0, "part")
    ('1 retry', '2 retries', '0 parts')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{count:,} {noun}s"


def duration(ms: float) -> str:
    """A time span.

    >>> duration(0), duration(37), duration(1_500), duration(75_000), duration(7_320_000), duration(200_000_000)
    ('0 s', '37 ms', '1.5 s', '1 min 15 s', '2 h 2 min', '2 d 8 h')
    """
    if 0 < ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for large, small, unit in ((86_400, 3_600, ("d", "h")), (3_600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if seconds >= large:
            first, rest = divmod(round(seconds / small), large // small)
            return f"{first:,} {unit[0]}" + (f" {rest} {unit[1]}" if rest else "")
    return f"{seconds:.0f} s"


def share(part: int, whole: int) -> str:
    """A share in per cent, which is 0 or 100 only if it is exactly that.

    >>> share(0, 10), share(10, 10), share(9_999, 10_000), share(1, 10_000), share(1, 3)
    ('0 %', '100 %', '99.9 %', '0.1 %', '33 %')
    """
    if not whole or part in (0, whole):
        return "100 %" if whole and part == whole else "0 %"
    percent = 100 * part / whole
    if percent < 1 or percent > 99:
        return f"{min(99.9, max(0.1, percent)):.1f} %"
    return f"{percent:.0f} %"


def day(ms: int) -> str:
    """A day.

    >>> day(1_795_332_276_959)
    '22 Nov 2026'
    """
    moment = _utc(ms)
    return f"{moment.day} {moment:%b %Y}"


def clock(ms: int, *, seconds: bool = False) -> str:
    """A time of day.

    >>> clock(1_795_332_276_959), clock(1_795_332_276_959, seconds=True)
    ('07:24', '07:24:36')
    """
    return f"{_utc(ms):{'%H:%M:%S' if seconds else '%H:%M'}}"


def moment(ms: int) -> str:
    """A day and a time.

    >>> moment(1_795_332_276_959)
    '22 Nov 2026, 07:24:36'
    """
    return f"{day(ms)}, {clock(ms, seconds=True)}"


def _utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
