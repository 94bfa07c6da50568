"""Pauses from outside: a request file in the journal's directory, and the times of day in which files may be begun.

`pause` and `continue` leave the request and wait until the journal shows what came of it; the process at work looks for
it twice a second.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import click

from upload_adapters.cli.reading import is_alive, open_reader
from upload_adapters.cli.windows import Windows
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.client import UploadClient
from upload_core.errors import ConfigurationError
from upload_core.journal import Record
from upload_core.text import printable

Word = Literal["pause", "continue"]
REQUEST: Final = "pause-request"
"""Name of the request file; it holds one word."""
REQUEST_MAX: Final = 100
LOOK_S: Final = 0.5
ANSWER_S: Final = 15.0
"""How long a process at work may take to answer; one that still signs in or settles doubts does not look."""
NO_ANSWER: Final = 8
"""Exit code when it did not."""


class PauseWatch:
    """Has the client heed requests and windows while it is entered."""

    def __init__(
        self,
        client: UploadClient,
        journal: Path,
        windows: Windows | None = None,
        *,
        local_time: Callable[[], time.struct_time] = time.localtime,
    ) -> None:
        self._client = client
        self._request = journal / REQUEST
        self._windows = windows
        self._local_time = local_time
        self._working = False
        self._outside = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pause-watch", daemon=True)

    def __enter__(self) -> Self:
        self._client.subscribe(self._notice)
        self.look()  # a session that begins outside its window begins no file
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _notice(self, record: Record) -> None:
        if isinstance(record.event, ev.SessionOpened):
            with contextlib.suppress(OSError):  # where nothing can be removed, no request is heeded either
                self._request.unlink(missing_ok=True)  # it was meant for another session
            self._working = True

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Heed a request, and the time of day."""
        if self._working:  # before that, the journal and its requests may be another process's
            match _taken(self._request):
                case "pause":
                    self._client.pause("upload-core pause", by="user")
                case "continue":
                    self._client.unpause(by="user")
        if self._windows is None:
            return
        now = self._local_time()
        minute = now.tm_hour * 60 + now.tm_min
        outside = not self._windows.hold(minute)
        if outside and not self._outside:
            self._client.pause(f"outside its window, until {self._windows.next_start(minute)}", by="window")
        elif self._outside and not outside:
            self._client.unpause(by="window")
        self._outside = outside


def _taken(request: Path) -> str:
    """The word of the request, which is gone then; "" if there is none."""
    try:
        word = request.read_bytes()[:REQUEST_MAX]
        request.unlink()
    except OSError:
        return ""
    return word.decode("ascii", "replace").strip()


def _leave(request: Path, word: Word) -> None:
    """Leave the request whole, under its name, or not at all; raises `ConfigurationError`."""
    new = request.with_name(f"{request.name}.{os.getpid()}")
    try:
        new.write_text(word, "ascii")
        new.replace(request)
    except OSError as error:
        raise ConfigurationError(f"the request cannot be written beside the journal: {error}") from error


def ask(journal: str, word: Word) -> int:
    """Have the process at work pause or continue, say what came of it, and return the exit code.

    Raises `ConfigurationError` if no process works on the delivery.
    """
    reader = open_reader(journal)
    reader.advance()
    _demand_work(reader, word)
    request = Path(journal) / REQUEST
    if not _heeded(reader, word):
        _leave(request, word)
        deadline = time.monotonic() + ANSWER_S
        while not _heeded(reader, word):
            if time.monotonic() > deadline:
                request.unlink(missing_ok=True)
                click.echo(f"no answer within {ANSWER_S:.0f} s: the process at work takes no requests now", err=True)
                return NO_ANSWER
            time.sleep(0.1)
            reader.advance()
            _demand_work(reader, word, request)
    click.echo(_in_words(reader, word), err=True)
    return 0


def _heeded(reader: JournalReader, word: Word) -> bool:
    return ("user" in reader.delivery.facts.paused) == (word == "pause")


def _demand_work(reader: JournalReader, word: Word, request: Path | None = None) -> None:
    latest = reader.latest_session()
    event = latest.event if latest is not None else None
    if (
        not reader.delivery.facts.outcome
        and isinstance(event, ev.SessionOpened)
        and is_alive(event.host, event.pid) is not False
    ):
        return
    if request is not None:
        request.unlink(missing_ok=True)
    raise ConfigurationError(
        f"no process works on this delivery, so there is nothing to {word}; `upload-core resume` goes on with it"
    )


def _in_words(reader: JournalReader, word: Word) -> str:
    others = [
        printable(f"{by}: {message}" if message else by, 200)
        for by, message in reader.delivery.facts.paused.items()
        if by != "user"
    ]
    if word == "pause":
        return "paused: no further file is begun; what is under way finishes"
    return f"continued, but files still wait ({'; '.join(others)})" if others else "continued: files are begun again"
