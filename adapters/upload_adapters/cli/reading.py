"""Reading a journal for a person: what is there, who works on it, and what moment somebody means."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Final

from upload_adapters.journal_reader import JournalReader
from upload_core.errors import ConfigurationError
from upload_core.text import printable
from upload_core.timestamps import iso, parse_iso

DAY_MS: Final = 24 * 3600 * 1000
_TIME: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)?")
_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?")


def open_reader(journal: str, *, snapshots: bool = True) -> JournalReader:
    """A reader of the journal; raises `ConfigurationError` if there is none."""
    reader = JournalReader(Path(journal), snapshots=snapshots)
    if not reader.exists():
        raise ConfigurationError(f"there is no journal at {printable(journal, 300)}; name the one that deliver used")
    return reader


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
        f"{printable(text, 60)!r} is no moment: write a record's number, 12:34:56, or 2026-11-22T12:34:56.789Z (UTC)"
    )


def _with_seconds(clock: str) -> str:
    return clock if clock.count(":") == 2 else f"{clock}:00"


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
