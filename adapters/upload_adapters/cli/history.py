"""`upload-core history`: what happened to one file, in plain words."""

from __future__ import annotations

from itertools import islice

import click

from upload_adapters.cli.options import journal_argument
from upload_adapters.cli.output import duration, size, write_hanging, write_line
from upload_adapters.cli.reading import open_reader
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.files import FileTable
from upload_core.journal import Record
from upload_core.messages import describe
from upload_core.text import quoted

BETWEEN = (
    *(ev.SessionOpened, ev.SessionClosed, ev.OutageBegan, ev.OutageEnded, ev.SuspensionNoticed),
    *(ev.TransfersPaused, ev.TransfersContinued, ev.JournalRepaired, ev.ValidatorLost),
    *(ev.CopyJobRequested, ev.CopyJobCreated, ev.CopyJobEnded),
)
"""What is no event of the file, but explains those that are."""


@click.command()
@journal_argument
@click.argument("relpath")
def command(journal: str, relpath: str) -> int:
    """Tell one file's story in plain words.

    Reads the journal and nothing else, also while the delivery runs. Times are UTC; indented lines are not about the
    file itself, but may explain what happened to it.
    """
    reader = open_reader(journal)
    reader.advance()
    delivery = reader.delivery
    file = delivery.find(relpath)
    if file is None:
        raise ConfigurationError(
            f"{quoted(relpath, 300)} is not in the index of this delivery{_similar(delivery.table, relpath)}"
        )
    checksum = delivery.table.checksum(file)
    known = f"{size(delivery.table.size(file))}, CRC32 {checksum}" if checksum else size(delivery.table.size(file))
    write_line(f"{relpath} ({known}) is {delivery.state_of(file)}")
    story = _Story(delivery.table.size(file))
    for record in reader.records():
        event = record.event
        if isinstance(event, BETWEEN):
            story.between(record)
        elif isinstance(event, ev.FileEvent) and event.file == file:
            story.add(record, event)
    story.end()
    return 0


class _Story:
    """The file's events as they happened: attempts counted, and how long each and the validator took."""

    def __init__(self, size_bytes: int) -> None:
        self._parts = _Parts(size_bytes)
        self._attempts = 0
        self._first_ms = self._last_ms = self._started_ms = self._told_ms = 0

    def between(self, record: Record) -> None:
        """Something that is not about the file."""
        self._parts.tell()
        write_hanging(f"{_when(record.time)}      ", describe(record.event))

    def add(self, record: Record, event: ev.FileEvent) -> None:
        """The next event of the file."""
        now_ms = record.time_ms
        self._first_ms, self._last_ms = self._first_ms or now_ms, now_ms
        if self._parts.take(record.time, event):
            return
        self._parts.tell()
        more = ""
        match event:
            case ev.TransferStarted():
                self._attempts, self._started_ms = self._attempts + 1, now_ms
                more = f" (attempt {self._attempts})"
            case ev.TransferCompleted() | ev.TransferFailed() | ev.TransferAbandoned() if self._started_ms:
                more = f" (after {duration((now_ms - self._started_ms) / 1000)})"
            case ev.FileReported():
                self._told_ms = now_ms
            case ev.FileValidated() | ev.FileInvalidated() if self._told_ms:
                more = f" ({duration((now_ms - self._told_ms) / 1000)} after it was announced)"
                self._told_ms = 0
        write_hanging(f"{_when(record.time)}  ", f"it {describe(event)}{more}")

    def end(self) -> None:
        """What it comes to."""
        self._parts.tell()
        if self._first_ms:
            attempts = "1 attempt" if self._attempts == 1 else f"{self._attempts:,} attempts"
            took = duration((self._last_ms - self._first_ms) / 1000)
            write_line(f"in all {attempts} to send it, {took} from the first event to the last")


class _Parts:
    """Thousands of parts of a large file, told in one line between two other things that happened."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._part_size = size_bytes
        self._stored: set[int] = set()
        self._untold = ""
        """When the last one was stored, if that was not told yet."""

    def take(self, time: str, event: ev.FileEvent) -> bool:
        """Whether the event is one of a part, and so not to be told by itself."""
        if isinstance(event, ev.UploadBegun):
            self._part_size = event.part_size
            self._stored.clear()
        if not isinstance(event, ev.PartStored):
            return False
        self._stored.add(event.number)
        self._untold = time
        return True

    def tell(self) -> None:
        """Say how many are stored, if there are more than were told of."""
        if self._untold:
            count = -(-self._size // max(1, self._part_size))
            write_line(f"{_when(self._untold)}  it has {len(self._stored):,} of {count:,} parts in the archive")
            self._untold = ""


def _when(time: str) -> str:
    return f"{time[:10]} {time[11:-1]}"


def _similar(table: FileTable, relpath: str) -> str:
    """A hint at files of the same base name: a path is often given relative to another directory."""
    name = relpath.rpartition("/")[2]
    found = list(islice((path for path in table.paths() if path.rpartition("/")[2] == name), 3))
    return f"; do you mean {' or '.join(quoted(path, 300) for path in found)}?" if found else ""
