"""The files of a delivery: `ClientFile` is what callers see of one, `FileTable` holds the indexed facts of all.

A file's row in the table is its id in the journal, and stays so for ever: a revision changes rows or appends rows,
it never moves, renames or removes one. The table lives in columns (path bytes plus about 26 B per file); no object
exists per file. Its canonical encoding is newline-delimited JSON, and its digest is the SHA-256 of exactly those bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, Literal, NamedTuple

from upload_core.checksum import crc32_base64
from upload_core.columns import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    ENCODER,
    ROW_BYTES_BESIDES_PATH,
    Columns,
    TableRow,
    TextColumn,
    damaged,
    decoded,
    to_texts,
)
from upload_core.errors import JournalDamagedError


@dataclass
class ClientFile:
    """One file of a delivery as callers see it: a copy, changing it changes nothing else."""

    abspath: str
    """Where it is read from."""
    relpath: str
    """Its name in index and archive."""
    state: Literal["ready", "pending", "failed", "transferring", "done", "valid", "invalid"]
    """How far it has come; the page on lifecycles says what each word means."""
    retries: int
    """How many further attempts were made after the first, since the file last got a new chance."""
    max_retries: int
    """How many are allowed: the session's setting; once the file was given up no more than were made, since none is left."""
    message: str | None = None
    """Why it failed or is invalid, in the words of whoever found out."""
    checksum: str | None = None
    """The indexed CRC32 in base64, such as 'yH2GHg==', if there is one."""

    @property
    def can_transfer(self) -> bool:
        """True if the file is still to be sent: it is ready, or failed with retries left."""
        return self.state == "ready" or (self.state == "failed" and self.retries < self.max_retries)

    @property
    def no_retry(self) -> bool:
        """True if the file failed and has no retries left."""
        return self.state == "failed" and self.retries >= self.max_retries

    @property
    def is_complete(self) -> bool:
        """True if nothing more will happen to the file: it was judged, or it failed without retries left."""
        return self.state in ("valid", "invalid") or self.no_retry


class TableDiff(NamedTuple):
    """How a newer index differs: `changed` and `removed` are rows of the older table, `added` rows of the newer one."""

    changed: list[int]
    added: list[int]
    removed: list[int]


class RawColumns(NamedTuple):
    """A table's columns as they lie in memory: numbers are in this machine's byte order. Nobody may change them."""

    blob: bytes
    """Every path in UTF-8, each followed by NUL."""
    known: bytes
    """1 where there is a checksum, else 0."""
    starts: array[int]
    """Where each path begins in the blob, and at last the blob's length; 4 or 8 bytes each."""
    sizes: array[int]
    crcs: array[int]

    @classmethod
    def blank(cls, blob: bytes, known: bytes, start_bytes: int) -> RawColumns:
        """Columns whose numbers are zeros, to read the real ones into."""
        rows = len(known)
        starts = array("I" if start_bytes == 4 else "Q", [0]) * (rows + 1)
        return cls(blob, known, starts, array("q", [0]) * rows, array("I", [0]) * rows)

    @staticmethod
    def size_of(rows: int, path_bytes: int, start_bytes: int) -> int:
        """How many bytes such columns take together."""
        return path_bytes + start_bytes * (rows + 1) + (8 + 4 + 1) * rows

    def as_bytes(self) -> list[memoryview]:
        """The memory of each column."""
        columns: tuple[bytes | array[int], ...] = self
        return [memoryview(column).cast("B") for column in columns]


class FileTable:
    """An immutable table of paths, sizes and CRC32s; row numbers are file ids.

    It trusts its input to have passed the index check, and refuses only what its columns cannot hold.
    """

    __slots__ = ("_blob", "_crcs", "_digest", "_has_checksums", "_known", "_sizes", "_slots", "_starts", "_total_bytes")

    def __init__(self, columns: Columns) -> None:
        """Takes the columns over; nobody may extend them any more."""
        self._blob = bytes(columns.blob)
        self._starts = columns.narrow_starts()
        self._sizes = columns.sizes[:]  # copies have no room to grow left over
        self._crcs = columns.crcs[:]
        self._known = bytes(columns.known)
        self._has_checksums = self._known.count(1) == len(self._known)
        self._total_bytes = sum(self._sizes)
        self._digest: str | None = None
        self._slots: array[int] | None = None

    @classmethod
    def from_columns(
        cls, paths: Iterable[str], sizes: Iterable[int], checksums: Iterable[str | None] | None = None
    ) -> FileTable:
        """The table of these columns, in their order; raises `ValueError` for columns of unequal length or wrong cells."""
        columns = Columns()
        if isinstance(paths, TextColumn) and isinstance(sizes, Sequence) and isinstance(checksums, TextColumn | None):
            if len(sizes) != len(paths) or (checksums is not None and len(checksums) != len(paths)):
                raise ValueError("the columns differ in length")
            for number, lines in enumerate(paths.chunks):
                first = number * CHUNK_ROWS
                some_checksums = None if checksums is None else checksums.chunks[number]
                columns.extend_lines(lines, sizes[first : first + CHUNK_ROWS], some_checksums)
            return cls(columns)
        path_cells, size_cells = iter(paths), iter(sizes)
        checksum_cells = None if checksums is None else iter(checksums)
        while True:
            some_paths = list(islice(path_cells, CHUNK_ROWS))
            some_sizes = list(islice(size_cells, CHUNK_ROWS))
            texts = [None] * len(some_paths) if checksum_cells is None else list(islice(checksum_cells, CHUNK_ROWS))
            if not len(some_paths) == len(some_sizes) == len(texts):
                raise ValueError("the columns differ in length")
            if not some_paths:
                return cls(columns)
            columns.extend(some_paths, some_sizes, texts)

    @classmethod
    def from_raw_columns(cls, raw: RawColumns, total_bytes: int, digest: str) -> FileTable:
        """The table whose `raw_columns`, `total_bytes` and `digest` these are; it takes them over, and believes them.

        Raises `ValueError` if the columns do not fit each other.
        """
        rows = len(raw.sizes)
        if not len(raw.starts) - 1 == rows == len(raw.crcs) == len(raw.known) or raw.starts[rows] != len(raw.blob):
            raise ValueError("the columns do not fit each other")
        table = cls.__new__(cls)
        table._blob, table._known, table._starts, table._sizes, table._crcs = raw
        table._has_checksums = table._known.count(1) == rows
        table._total_bytes = total_bytes
        table._digest = digest
        table._slots = None
        return table

    # --- one row -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._sizes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileTable):
            return NotImplemented
        return (
            self._blob == other._blob
            and self._sizes == other._sizes
            and self._crcs == other._crcs
            and self._known == other._known
        )

    def __hash__(self) -> int:
        return hash((len(self), self._total_bytes, self._blob[:4096]))

    def __repr__(self) -> str:
        return f"<FileTable of {len(self)} files, {self._total_bytes} bytes>"

    def path(self, row: int) -> str:
        """The path exactly as indexed; raises `IndexError` for a row that does not exist."""
        starts = self._starts
        if not 0 <= row < len(starts) - 1:
            self._checked(row)
        return self._blob[starts[row] : starts[row + 1] - 1].decode()

    def size(self, row: int) -> int:
        """The indexed size in bytes; raises `IndexError` for a row that does not exist."""
        return self._sizes[self._checked(row)]

    def checksum(self, row: int) -> str | None:
        """The indexed CRC32 in base64, or None if the index has none; raises `IndexError` for an unknown row."""
        row = self._checked(row)
        return crc32_base64(self._crcs[row]) if self._known[row] else None

    def find(self, path: str) -> int | None:
        """The row of that path, or None; takes the same time for any number of files."""
        try:
            key = path.encode()
        except UnicodeEncodeError:
            return None
        if not self._sizes:
            return None
        if self._slots is None:
            self._slots = self._hashed()
        slots, starts, blob = self._slots, self._starts, self._blob
        slot, size = hash(key) % len(slots), len(key)
        while found := slots[slot]:
            start = starts[found - 1]
            if starts[found] - start - 1 == size and blob.startswith(key, start):
                return found - 1
            slot = (slot + 1) % len(slots)
        return None

    # --- the whole table ---------------------------------------------------------------------

    @property
    def has_checksums(self) -> bool:
        """True if every row has a checksum."""
        return self._has_checksums

    @property
    def total_bytes(self) -> int:
        """The sum of all sizes."""
        return self._total_bytes

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the canonical encoding: the same for equal tables on every machine."""
        if self._digest is None:
            digest = sha256()
            for chunk in self.encode():
                digest.update(chunk)
            self._digest = digest.hexdigest()
        return self._digest

    def raw_columns(self) -> RawColumns:
        """The columns themselves, not copies, to be kept as they lie in memory."""
        return RawColumns(self._blob, self._known, self._starts, self._sizes, self._crcs)

    def paths(self) -> Iterator[str]:
        """All paths in row order."""
        for first in range(0, len(self), CHUNK_ROWS):
            yield from self._some_paths(first, min(first + CHUNK_ROWS, len(self)))

    def checksums(self) -> Iterator[str | None]:
        """All checksums in row order, as `checksum` gives each."""
        for first in range(0, len(self), CHUNK_ROWS):
            end = min(first + CHUNK_ROWS, len(self))
            yield from to_texts(self._crcs[first:end], self._known[first:end])

    def encode(self) -> Iterator[bytes]:
        """The canonical encoding in chunks of about 256 KiB, each of whole lines."""
        rows = max(1, CHUNK_BYTES * len(self) // (len(self._blob) + ROW_BYTES_BESIDES_PATH * len(self) + 1))
        for first in range(0, len(self), rows):
            end = min(first + rows, len(self))
            cells = map(
                TableRow,
                range(first, end),
                self._some_paths(first, end),
                self._sizes[first:end],
                to_texts(self._crcs[first:end], self._known[first:end]),
            )
            yield ENCODER.encode_lines(list(cells))

    def encode_rows(self, rows: Iterable[int]) -> bytes:
        """Those rows alone, encoded as in the whole table; raises `IndexError` for a row that does not exist."""
        return ENCODER.encode_lines([TableRow(row, self.path(row), self.size(row), self.checksum(row)) for row in rows])

    @classmethod
    def decode(cls, chunks: Iterable[bytes], digest: str | None = None) -> FileTable:
        """The table that `encode` wrote, whatever pieces it comes in; its SHA-256 must be `digest` if that is given.

        Raises `JournalDamagedError`, naming the row, for anything that is not a whole table.
        """
        columns, hashed = Columns(), sha256()
        for rows in decoded(chunks if digest is None else _hashing(chunks, hashed)):
            first = len(columns.sizes)
            if [row.file for row in rows] != list(range(first, first + len(rows))):
                wrong = next(number for number, row in enumerate(rows, first) if row.file != number)
                raise damaged(wrong, f"it calls itself file {rows[wrong - first].file}")
            columns.extend_decoded(rows)
        if digest is not None and hashed.hexdigest() != digest:
            raise JournalDamagedError("it is not the file table this journal was begun with; restore it from a copy")
        table = cls(columns)
        table._digest = digest
        return table

    def revised(self, chunks: Iterable[bytes]) -> FileTable:
        """This table with the rows of a revision: rows of known ids take new sizes and checksums, next ids are appended.

        Raises `JournalDamagedError` for a row that leaves a gap or gives a known id another path.
        """
        columns = self._copy()
        known = len(self)
        number = 0
        for rows in decoded(chunks):
            for row in rows:
                if row.file == len(columns.sizes):
                    columns.extend_decoded([row], number)
                elif 0 <= row.file < known and row.path == self.path(row.file):
                    columns.replace(row, number)
                else:
                    raise damaged(number, f"file {row.file} is not the next one and has another path in the index")
                number += 1
        return FileTable(columns)

    def diff(self, newer: FileTable) -> TableDiff:
        """What changed in `newer`, by path: other size or checksum, new paths, paths that are gone.

        A checksum that only one of the two has is a difference.
        """
        if newer._blob.startswith(self._blob):  # the same paths in the same order, perhaps more at the end
            count = len(self)
            if len(newer) == count and self == newer:
                return TableDiff([], [], [])
            changed = [row for row in range(count) if self._facts(row) != newer._facts(row)]
            return TableDiff(changed, list(range(count, len(newer))), [])
        changed, added, seen = [], [], bytearray(len(self))
        for theirs, path in enumerate(newer.paths()):
            ours = self.find(path)
            if ours is None:
                added.append(theirs)
                continue
            seen[ours] = 1
            if self._facts(ours) != newer._facts(theirs):
                changed.append(ours)
        changed.sort()
        return TableDiff(changed, added, [row for row, there in enumerate(seen) if not there])

    def merged(self, newer: FileTable) -> tuple[FileTable, list[int]]:
        """This table with the changed and added rows of `newer`, and the ids of those rows in it, ascending.

        Rows that `newer` lacks stay: whether a file may go is for the caller to say.
        """
        diff = self.diff(newer)
        columns = self._copy()
        for row in diff.changed:
            theirs = newer.find(self.path(row))
            assert theirs is not None, "diff calls a row changed only if newer has its path"
            columns.sizes[row], columns.crcs[row], columns.known[row] = newer._facts(theirs)
        first = len(self)
        for theirs in diff.added:
            columns.extend([newer.path(theirs)], [newer.size(theirs)], [newer.checksum(theirs)])
        return FileTable(columns), [*diff.changed, *range(first, first + len(diff.added))]

    # --- inside ------------------------------------------------------------------------------

    def _checked(self, row: int) -> int:
        if not 0 <= row < len(self._sizes):
            raise IndexError(f"the table has rows 0 to {len(self._sizes) - 1}, not {row}")
        return row

    def _copy(self) -> Columns:
        return Columns(self._blob, self._starts, self._sizes, self._crcs, self._known)

    def _facts(self, row: int) -> tuple[int, int, int]:
        return self._sizes[row], self._crcs[row], self._known[row]

    def _some_paths(self, first: int, end: int) -> list[str]:
        return self._blob[self._starts[first] : self._starts[end] - 1].decode().split("\0")

    def _hashed(self) -> array[int]:
        """An open-addressing index: slot -> row + 1, 0 where free; half full, so a search ends after two or three slots."""
        count = 2 * len(self) + 1
        slots = array("I", bytes(4 * count))
        starts, blob = self._starts, self._blob
        start = 0
        for row in range(1, len(self) + 1):
            end = starts[row]
            slot = hash(blob[start : end - 1]) % count
            while slots[slot]:
                slot = (slot + 1) % count
            slots[slot] = row
            start = end
        return slots


def _hashing(chunks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
