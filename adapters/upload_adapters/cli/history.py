"""`upload-core history`: what happened to one file, in plain words."""

from __future__ import annotations

from itertools import islice

import click

from upload_adapters.cli.output import size, write_line
from upload_adapters.cli.reading import open_reader
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.files import FileTable
from upload_core.messages import describe
from upload_core.text import printable

BETWEEN = (ev.SessionOpened, ev.SessionClosed, ev.OutageBegan, ev.OutageEnded, ev.JournalRepaired)
"""What is no event of the file, but explains those that are."""


@click.command()
@click.argument("journal", type=click.Path())
@click.argument("relpath")
def command(journal: str, relpath: str) -> int:
    """Tell one file's story in plain words.

    Reads the journal and nothing else, also while the delivery runs. Indented lines are not about the file itself.
    """
    reader = open_reader(journal)
    reader.advance()
    delivery = reader.delivery
    file = delivery.find(relpath)
    if file is None:
        raise ConfigurationError(
            f"{printable(relpath, 300)!r} is not in the index of this delivery{_similar(delivery.table, relpath)}"
        )
    checksum = delivery.table.checksum(file)
    known = f"{size(delivery.table.size(file))}, CRC32 {checksum}" if checksum else size(delivery.table.size(file))
    write_line(f"{relpath} ({known}) is {delivery.state_of(file)}")
    parts = _Parts(delivery.table.size(file))
    for record in reader.records():
        event = record.event
        if isinstance(event, BETWEEN):
            parts.tell()
            write_line(f"{_when(record.time)}      {describe(event)}")
        elif isinstance(event, ev.FileEvent) and event.file == file and not parts.take(record.time, event):
            parts.tell()
            write_line(f"{_when(record.time)}  it {describe(event)}")
    parts.tell()
    return 0


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
    return f"; do you mean {' or '.join(repr(printable(path, 300)) for path in found)}?" if found else ""
