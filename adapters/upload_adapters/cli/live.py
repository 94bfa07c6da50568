"""A reading as lines on a screen, whatever its width, and as the one line that a log gets.

Each line is a list of ways to say it, the fullest first: the first that fits is shown. Names of files are text from
outside and pass `printable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from upload_adapters.cli.gauge import Reading
from upload_adapters.cli.output import paused_in_words, size, span
from upload_core.text import printable

BAR: Final = {True: ("━", "╸", " "), False: ("#", ">", " ")}
"""Whether the screen shows more than ASCII -> what a bar is made of: done, its end, still to do."""
BAR_MIN, BAR_MAX = 8, 40
QUIET_S: Final = 30.0
"""Silence of the validator that is worth a word: it writes every ten seconds."""
LOW_S: Final = 300.0
"""Lives of lock and credentials that are worth a colour."""

Cell = tuple[str, str]
"""Text and its style."""
Line = list[Cell]

CLIENT_STATES: Final = {
    "unconnected": "beginning",
    "connecting": "signing in, taking the lock",
    "connected": "settling what is known",
    "starting": "waiting for the validator to start",
    "stopping": "the validator finishes",
    "stopped": "the validator has stopped",
    "lock_lost": "the lock is lost",
    "crashed": "crashed",
    "quit": "ended",
}
"""State of a client that sends nothing -> what it does, for people."""


def lines(reading: Reading, width: int, *, unicode: bool = True) -> list[Line]:
    """The reading as lines of at most `width` columns: the whole, then a line for each stage, then what is under way."""
    found = [_headline(reading), *_stages(reading, width, unicode=unicode), _failed(reading), _now(reading)]
    return [_fitting(ways, width) for ways in [*found, _jobs(reading)] if ways]


def text(reading: Reading, width: int, *, unicode: bool = True) -> Any:
    """The same as a rich `Text`."""
    from rich.text import Text

    shown = Text(no_wrap=True, overflow="ellipsis", end="")
    for number, line in enumerate(lines(reading, width, unicode=unicode)):
        shown.append("\n" if number else "")
        for part, style in line:
            shown.append(part, style)
    return shown


def plain(reading: Reading) -> str:
    """The reading in one line, for a log."""
    amount = size(reading.bytes) if reading.all_sent else _bytes(reading) + _rate(reading)
    parts = [f"{reading.sent:,} of {reading.files:,} files sent ({amount})"]
    parts.append(f"{reading.judged:,} judged")
    parts += _wrong(reading)
    if reading.retries:
        parts.append(_retries(reading))
    return ", ".join(parts) + f"; {_doing(reading)}"


# --- words ---------------------------------------------------------------------------------------


def _doing(reading: Reading) -> str:
    """What it waits for, or when it will end."""
    if reading.stopping:
        return "ending in order"
    if reading.outage_s is not None:
        left_s = reading.outage_left_s or 0.0
        left = f", given up after {span(left_s)} more" if left_s > 0 else ""
        return f"the archive has been out of reach for {span(reading.outage_s)}{left}"
    if reading.paused:
        return paused_in_words(reading.paused)
    if reading.state != "running":
        return CLIENT_STATES.get(reading.state, reading.state)
    if reading.silent_s is not None and reading.silent_s > QUIET_S:
        return f"nothing was heard of the validator for {span(reading.silent_s)}"
    return _forecast(reading)


def _forecast(reading: Reading) -> str:
    if reading.all_sent:
        waiting = f"{reading.behind:,} to be judged"
        return waiting if reading.judging_s is None else f"{waiting}, about {span(reading.judging_s)} left"
    if reading.sending_s is None and reading.jobs:
        return "S3 copies; what is copied is checked once a job is over"
    if reading.sending_s is None:
        return "too early to tell when it ends" if reading.bytes_per_s is None else "nothing was sent lately"
    if reading.judging_s is None:
        return f"sent in about {span(reading.sending_s)}; too early to tell when all is judged"
    about = f"about {span(reading.judging_s)} left"
    if reading.judging_s > reading.sending_s * 1.2 + 10:
        return f"{about}: the validator is {reading.behind:,} files behind"
    return about


def _bytes(reading: Reading) -> str:
    return f"{size(reading.sent_bytes)} of {size(reading.bytes)}"


def _rate(reading: Reading) -> str:
    return "" if reading.bytes_per_s is None else f", {size(round(reading.bytes_per_s))}/s"


def _wrong(reading: Reading) -> list[str]:
    words = {"invalid": reading.invalid, "failed": reading.given_up, "to be tried again": reading.to_retry}
    return [f"{count:,} {word}" for word, count in words.items() if count]


def _retries(reading: Reading) -> str:
    return "1 retry" if reading.retries == 1 else f"{reading.retries:,} retries"


# --- lines ---------------------------------------------------------------------------------------


def _headline(reading: Reading) -> list[Line]:
    bad = reading.outage_s is not None or reading.state in ("stopped", "lock_lost", "crashed")
    waits = bad or reading.stopping or reading.paused or reading.state != "running" or (reading.silent_s or 0) > QUIET_S
    style = "bold yellow" if bad else "yellow" if waits else "bold"
    name, doing = (printable(reading.name, 100), "bold cyan"), (_doing(reading), style)
    since = (f", {span(reading.elapsed_s)} so far", "dim")
    brief = (doing[0].partition(":")[0].partition(",")[0], style)
    return [[name, since, (": ", ""), doing], [name, (": ", ""), doing], [doing], [brief]]


def _stages(reading: Reading, width: int, *, unicode: bool) -> Iterator[list[Line]]:
    total = f"{reading.files:,}"
    sent, judged = f"{reading.sent:>{len(total)},} of {total}", f"{reading.judged:>{len(total)},} of {total}"
    pace = "-" if reading.bytes_per_s is None else f"{size(round(reading.bytes_per_s))}/s"
    judging = "-" if reading.judged_per_s is None else f"{reading.judged_per_s:,.{_digits(reading.judged_per_s)}f}/s"
    if reading.all_sent:
        pace = "all sent"
    elif reading.outage_s is not None or reading.paused:
        pace = "waiting"
    amount = _bytes(reading)
    wide = max(len(pace), len(judging))
    share = reading.sent_bytes / reading.bytes if reading.bytes else reading.sent / max(1, reading.files)
    yield _stage("sent", share, sent, pace.rjust(wide), amount, width, "green", unicode=unicode)
    lag = f"{reading.behind:,} waiting" if reading.behind else ""
    judged_share = reading.judged / max(1, reading.files)
    yield _stage(
        "judged", judged_share, judged, judging.rjust(wide), lag.ljust(len(amount)), width, "blue", unicode=unicode
    )


def _digits(per_s: float) -> int:
    return 0 if per_s >= 10 or per_s == 0 else 1


def _stage(
    name: str, share: float, count: str, pace: str, more: str, width: int, style: str, *, unicode: bool
) -> list[Line]:
    head: Cell = (f"{name:<6} ", "bold")
    room = width - len(head[0]) - len(count) - len(pace) - len(more) - 7
    rest = (f"{count}  {pace}  {more}", "")
    ways: list[Line] = []
    if room >= BAR_MIN:
        ways.append([head, *_bar(share, min(room, BAR_MAX), style, unicode=unicode), ("  ", ""), rest])
    return [
        *ways,
        [head, rest],
        [head, (f"{count}  {pace}", "")],
        [head, (f"{count}  {pace.strip()}", "")],
        [head, (count, "")],
    ]


def _bar(share: float, width: int, style: str, *, unicode: bool) -> Line:
    full, end, empty = BAR[unicode]
    done = min(width, max(0, int(share * width)))  # full only when nothing is left
    tip = end if 0 < share < 1 and done < width else ""
    rest = width - done - len(tip)
    return [(full * done + tip, style), ((full if unicode else empty) * rest, "grey30" if unicode else "")]


def _failed(reading: Reading) -> list[Line]:
    wrong, head = _wrong(reading), ("failed ", "bold")
    if not wrong and not reading.retries:
        return [[head, ("0", "")]]
    shown = ", ".join(wrong) or "0"
    style = "bold red" if reading.invalid or reading.given_up else "yellow" if wrong else ""
    ways: list[Line] = []
    if reading.retries:
        ways.append([head, (shown, style), (f", {_retries(reading)} so far", "dim")])
    ways.append([head, (shown, style)])
    if reading.to_retry and len(wrong) > 1:
        ways.append([head, (", ".join(wrong[:-1]), style)])
    return [*ways, [head, (f"{reading.invalid + reading.given_up:,}", style)]]


def _now(reading: Reading) -> list[Line]:
    """What is under way, and what will end."""
    lives: Line = []
    for what, left_s in {"lock": reading.lock_s, "credentials": reading.credentials_s}.items():
        if left_s is not None:
            style = "dim" if left_s > LOW_S else "yellow"
            lives.append((f", {what} {span(left_s) if left_s > 0 else 'expired'}", style))
    head: Cell = ("now    ", "bold")
    if reading.all_sent and not reading.in_flight:
        if not lives:
            return []
        lives[0] = (lives[0][0].removeprefix(", "), lives[0][1])
        return [[head, *lives], [head, lives[0]]]
    flight: Cell = (f"{reading.in_flight:,} of {reading.level:,} in flight", "")
    ways: list[Line] = []
    if reading.large is not None and reading.large.size:
        share = int(100 * reading.large.stored / reading.large.size)
        name = printable(reading.large.relpath, 200)
        whole = size(reading.large.size)
        for what in dict.fromkeys((f"{name} {share} % of {whole}", f"{name.rpartition('/')[2]} {share} % of {whole}")):
            ways += [[head, flight, (f", {what}", ""), *lives]]
        ways += [[head, flight, (f", the largest {share} %", ""), *lives]]
    ways += [[head, flight, *lives], [head, (f"{reading.in_flight:,} in flight", ""), *lives[:1]]]
    return [*ways, [head, (f"{reading.in_flight:,} in flight", "")]]


def _jobs(reading: Reading) -> list[Line]:
    """What services copy by themselves."""
    if not reading.jobs:
        return []
    head: Cell = ("jobs   ", "bold")
    under_way = f"{reading.jobs} under way"
    done = f", {reading.jobs_done:,} of {reading.jobs_files:,} copies done" if reading.jobs_files else ""
    return [[head, (under_way + done, "")], [head, (under_way, "")], [head, (f"{reading.jobs}", "")]]


def _fitting(ways: Sequence[Line], width: int) -> Line:
    """The first way that fits; if none does, the last as far as it goes."""
    from rich.cells import cell_len

    for way in ways:
        way = [cell for cell in way if cell[0]]
        way[-1] = (way[-1][0].rstrip(), way[-1][1])
        if sum(cell_len(part) for part, _ in way) <= width:
            return way
    return _cut(ways[-1], width)


def _cut(line: Line, width: int) -> Line:
    from rich.cells import cell_len, set_cell_size

    shown: Line = []
    for part, style in line:
        room = width - sum(cell_len(before) for before, _ in shown)
        if cell_len(part) > room:
            return [*shown, (set_cell_size(part, max(0, room - 1)) + "…"[:room], style)]
        shown.append((part, style))
    return shown
