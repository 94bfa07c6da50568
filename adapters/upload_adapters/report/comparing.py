"""Whether an archive still holds what a receipt says.

A listing answers for size and, where the store's etag follows from the content, for the bytes as well; what is left is
asked for one by one, many at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, Literal

import msgspec

from upload_adapters.report.receipt import Line
from upload_core.columns import Columns
from upload_core.errors import ArchiveError, ArchiveUnavailableError
from upload_core.files import FileTable
from upload_core.ports import Archive, StoredObject

AT_A_TIME: Final = 8
BATCH: Final = 1_000
STORED: Final = frozenset({"valid", "done"})
"""Verdicts of files that must be in the archive; one that was rejected may be removed, one that failed never came."""

Kind = Literal["missing", "size", "bytes", "extra"]

_ETAG_OF_CONTENT: Final = re.compile(r'"[0-9a-f]{32}(-\d+)?"')
"""An etag as S3 makes it: it changes whenever the object is written. A local archive's says nothing of the bytes."""


class Difference(msgspec.Struct, frozen=True):
    """One way in which the archive is not as the receipt says."""

    kind: Kind
    relpath: str
    message: str


class Comparison:
    """A delivery of a receipt beside its archive."""

    def __init__(self, lines: Iterable[Line]) -> None:
        """`lines` are those of one delivery."""
        columns, remaining = Columns(), iter(lines)
        self._etags: list[str] = []
        self._due = bytearray()
        while some := list(islice(remaining, BATCH)):
            columns.extend(
                [line.path for line in some], [line.size for line in some], [line.crc32 or None for line in some]
            )
            self._etags += [line.etag for line in some]
            self._due += bytes(line.verdict in STORED for line in some)
        self._table = FileTable(columns)
        self.compared = sum(self._due)
        self.notes: list[str] = []

    def differences(self, archive: Archive) -> Iterator[Difference]:
        """Everything that is not as the receipt says, in no order; raises `ArchiveError` if the archive cannot say."""
        table, due = self._table, bytearray(self._due)
        doubtful: list[int] = []
        try:
            for found in archive.list():
                row = table.find(found.relpath)
                if row is None:
                    yield Difference(
                        "extra", found.relpath, f"is in the archive ({found.size:,} bytes), not in the receipt"
                    )
                elif due[row]:
                    due[row] = 0
                    if found.size != table.size(row):
                        yield self._size(row, found)
                    elif found.etag != self._etags[row] or not _ETAG_OF_CONTENT.fullmatch(found.etag):
                        doubtful.append(row)
        except ArchiveUnavailableError:
            raise
        except ArchiveError as error:
            self.notes.append(f"the archive cannot be listed ({error}): nothing can be said of what else it holds")
        unseen = (row for row, wanted in enumerate(due) if wanted)
        with ThreadPoolExecutor(AT_A_TIME, "verify") as threads:
            for rows in (iter(doubtful), unseen):
                while some := list(islice(rows, BATCH)):
                    for row, stored in zip(some, threads.map(archive.stat, map(table.path, some)), strict=True):
                        difference = self._judge(row, stored)
                        if difference is not None:
                            yield difference

    def _judge(self, row: int, found: StoredObject | None) -> Difference | None:
        if found is None:
            return Difference("missing", self._table.path(row), "is not in the archive")
        if found.size != self._table.size(row):
            return self._size(row, found)
        expected = self._table.checksum(row)
        if expected and found.checksum != expected:
            message = f"has the CRC32 {found.checksum or 'unknown'} in the archive, {expected} in the receipt"
            return Difference("bytes", self._table.path(row), message)
        return None

    def _size(self, row: int, found: StoredObject) -> Difference:
        message = f"has {found.size:,} bytes in the archive, {self._table.size(row):,} in the receipt"
        return Difference("size", self._table.path(row), message)
