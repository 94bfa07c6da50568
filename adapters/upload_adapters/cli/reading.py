"""Reading a journal for a person: what is there, who works on it, and what moment somebody means."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.journal import Record
from upload_core.text import printable, quoted
from upload_core.timestamps import iso, parse_iso

CHECKSUMS: Final = ".checksums"
"""How the name of what `index` remembers ends; it lies beside the journals."""
DAY_MS: Final = 24 * 3600 * 1000
_TIME: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)?")
_SESSION: Final = re.compile(r"session:(\d{1,9})")
_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?")


def open_reader(journal: str, *, snapshots: bool = True) -> JournalReader:
    """A reader of the journal; raises `ConfigurationError` if there is none."""
    reader = JournalReader(Path(journal), snapshots=snapshots)
    if not reader.exists():
        raise ConfigurationError(f"there is no journal at {printable(journal, 300)}; name the one that deliver used")
    return reader


def journals_among(places: Sequence[str]) -> tuple[list[str], list[str]]:
    """Journals that these places are or, as directories of them, hold; and the places that have none.

    `.upload-core/*` names the remembered checksums of an index as well. Raises `ConfigurationError` if no place has a
    journal, or if one does not exist: it was mistyped.
    """
    found: dict[str, None] = {}
    others: list[str] = []
    for place in places:
        inside = _journals_at(place)
        found.update(dict.fromkeys(inside))
        if not inside:
            others.append(place)
    mistyped = [place for place in others if not found or not os.path.lexists(place)]
    if mistyped:
        open_reader(mistyped[0])  # says that there is none
    return list(found), [place for place in others if not place.endswith(CHECKSUMS)]


def _journals_at(place: str) -> list[str]:
    if JournalReader(Path(place)).exists():
        return [place]
    return sorted(str(path) for path in Path(place).glob("*") if path.is_dir() and JournalReader(path).exists())


def moment(text: str, last_ms: int) -> int:
    """The time (ms, UTC) that `text` names; a time of day is the latest such moment up to `last_ms`.

    Raises `ConfigurationError` for anything else.

    >>> iso(moment("12:00", parse_iso("2026-11-22T11:59:59.000Z")))
    '2026-11-21T12:00:00.000Z'
    >>> iso(moment("2026-11-22 12:34:56", 0))
    '2026-11-22T12:34:56.000Z'
    """
    bare = text.strip().removesuffix("Z").removesuffix("z")
    try:
        if _TIME.fullmatch(bare):
            clock = bare.rjust(len(bare) + (bare.index(":") == 1), "0")
            found = parse_iso(f"{iso(last_ms)[:10]}T{_with_seconds(clock)}Z")
            return found if found <= last_ms else found - DAY_MS
        if _DATE_TIME.fullmatch(bare):
            return parse_iso(f"{bare[:10]}T{_with_seconds(bare[11:])}Z")
    except ValueError:
        pass
    raise ConfigurationError(
        f"{quoted(text, 60)} is no moment: write a record's number, 12:34:56, 2026-11-22T12:34:56.789Z (UTC), or session:2"
    )


def _with_seconds(clock: str) -> str:
    return clock if clock.count(":") == 2 else f"{clock}:00"


def reader_at(journal: str, when: str | None) -> tuple[JournalReader, int, str]:
    """The journal replayed up to a moment, with number and time of its last record then; None is now.

    A moment is a time, a record's number, `session:N` (the end of that session), `start` or `end`. Raises
    `ConfigurationError` for anything else, and for a moment before the first record.
    """
    reader = open_reader(journal, snapshots=when is None)
    if when in (None, "end"):
        reader.advance()
        return reader, reader.position.seq, reader.position.time
    last = reader.replay_until(_past(reader, when or ""))
    if last is None:
        first = next(reader.records())
        raise ConfigurationError(f"the journal begins later: its first record is number 1 of {first.time}")
    return reader, last.seq, last.time


def _past(reader: JournalReader, when: str) -> Callable[[Record], bool]:
    """Whether a record comes after that moment."""
    if when == "start":
        return lambda record: record.seq > 1
    if when.isascii() and when.isdigit():
        seq = int(when)
        return lambda record: record.seq > seq
    if (session := _SESSION.fullmatch(when)) is not None:
        number = int(session[1])
        reader.advance()
        if not 1 <= number <= reader.delivery.facts.session:
            raise ConfigurationError(
                f"the journal has {reader.delivery.facts.session} sessions; there is no session {number}"
            )
        return _after_session(number)
    time_ms = moment(when, _last_ms(reader))
    return lambda record: record.time_ms > time_ms


def _after_session(number: int) -> Callable[[Record], bool]:
    """Whether a record comes after that session: after its end, or, if it was cut off, in what begins the next one."""
    session, over = 0, False

    def past(record: Record) -> bool:
        nonlocal session, over
        event = record.event
        if isinstance(event, ev.SessionOpened):
            session = event.session
        if over or session > number or (session == number and isinstance(event, ev.IndexRevised)):
            return True
        over = session == number and isinstance(event, ev.SessionClosed)
        return False

    return past


def _last_ms(reader: JournalReader) -> int:
    """The time of the last record, by the quick way."""
    ahead = JournalReader(reader.path)
    ahead.advance()
    return parse_iso(ahead.position.time)


def is_alive(host: str, pid: int) -> bool | None:
    """Whether that process runs; None if that cannot be told from here."""
    if not pid or host != socket.gethostname():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
