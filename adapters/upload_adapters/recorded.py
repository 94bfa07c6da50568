"""What a journal recorded, for whoever begins with nothing but its place: what it delivers, and the state it led to."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import ConfigurationError, JournalError
from upload_core.text import printable
from upload_core.timestamps import parse_iso


def recorded(journal: Path) -> tuple[ev.DeliveryCreated, str]:
    """What a journal was begun for, and the source of its latest session; nothing is replayed or locked.

    Raises `ConfigurationError` if there is no journal, `JournalDamagedError`.
    """
    reader = JournalReader(journal)
    if not reader.exists():
        raise ConfigurationError(
            f"there is no journal at {printable(str(journal), 300)}; name the one that deliver used"
        )
    first = next(reader.records(), None)
    if first is None or not isinstance(first.event, ev.DeliveryCreated):
        reader.advance()  # says what is wrong with it
        raise ConfigurationError(f"the journal {printable(str(journal), 300)} does not say what it delivers")
    latest = reader.latest_session()  # data may have moved since the journal was begun
    if latest is not None and isinstance(latest.event, ev.SessionOpened) and latest.event.source:
        return first.event, latest.event.source
    return first.event, first.event.source


def replay(journal: str | os.PathLike[str], until: int | str | datetime | None) -> tuple[Delivery, int, str]:
    """The state that a journal led to, and number and time of the last record of it.

    Raises `JournalError` if there is none, `JournalDamagedError`, `ConfigurationError` for a moment that is none.
    """
    reader = JournalReader(journal)
    if not reader.exists():
        raise JournalError(f"there is no journal at {printable(str(journal), 300)}; name the one that deliver used")
    reader.advance()
    if until is None:
        return reader.delivery, reader.position.seq, reader.position.time
    if isinstance(until, int):
        last = reader.replay_until(lambda record: record.seq > until)
    else:
        last_ms = moment_ms(until)
        last = reader.replay_until(lambda record: record.time_ms > last_ms)
    if last is None:
        raise ConfigurationError("that is before the first record: there was no delivery yet")
    return reader.delivery, last.seq, last.time


def moment_ms(moment: str | datetime) -> int:
    """Milliseconds since the epoch; raises `ConfigurationError` for what is no moment in UTC."""
    try:
        if isinstance(moment, str):
            return parse_iso(moment)
        if moment.tzinfo is None:
            raise ValueError("a datetime needs a time zone, for example datetime.now(UTC)")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
