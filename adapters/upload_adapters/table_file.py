"""A journal's file tables, and a copy of their columns as they lie in memory, which loads without decoding a row.

The tables are the truth. The columns are derived from them and sealed by a CRC-32; columns that are damaged, foreign,
stale or of another byte order are ignored, and written anew with the next snapshot. `docs/journal-format.md` specifies
both.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from upload_adapters.durable import write_durably
from upload_core.files import FileTable, RawColumns
from upload_core.journal import FORMAT_VERSION

COLUMNS: Final = "files.columns"
ROWS_MIN: Final = 10_000
"""Fewer rows are decoded within 5 ms: no reason for one more file in every journal."""

_SEAL_BYTES: Final = 8
_HEAD_BYTES_MAX: Final = 64 * 1024

_Count = Annotated[int, msgspec.Meta(ge=0)]


def table_name(revision: int) -> str:
    """File name of a file table; 0 is the index as first delivered, each revision holds only its own rows."""
    return f"files-{revision:04d}.ndjson"


def table_bytes(directory: Path) -> int:
    """How many bytes all file tables have together."""
    return sum(path.stat().st_size for path in directory.glob("files-*.ndjson"))


class Kept(NamedTuple):
    """A table from columns, and which one it is; whether the journal stands at that revision is for the caller to see."""

    table: FileTable
    revision: int
    digest: str


class _Head(msgspec.Struct):
    version: int
    byte_order: str
    revision: _Count
    digest: str
    files: _Count
    path_bytes: _Count
    start_bytes: int
    total_bytes: _Count
    tables: list[int]
    """Bytes of each file table that went into it: one that is gone or cut short must not go unnoticed."""


def write_columns(directory: Path, table: FileTable, revision: int) -> bool:
    """Write the columns of `table`, as it is at that revision; True if they are there now.

    A small table is left to be decoded. Columns that cannot be written are no failure: the tables hold everything.
    """
    if len(table) < ROWS_MIN:
        return False
    raw = table.raw_columns()
    with contextlib.suppress(OSError):
        head = _Head(
            FORMAT_VERSION,
            sys.byteorder,
            revision,
            table.digest,
            len(table),
            len(raw.blob),
            raw.starts.itemsize,
            table.total_bytes,
            _table_sizes(directory, revision),
        )
        parts = [memoryview(msgspec.json.encode(head) + b"\n"), *raw.as_bytes()]
        write_durably(directory / COLUMNS, [*parts, memoryview(_seal(parts))])
        return True
    return False


def load_columns(directory: Path) -> Kept | None:
    """The table whose columns were kept, or None if there are none that can be trusted."""
    try:
        with (directory / COLUMNS).open("rb") as file:
            line = file.readline(_HEAD_BYTES_MAX)
            head = msgspec.json.decode(line, type=_Head)
            if (head.version, head.byte_order) != (FORMAT_VERSION, sys.byteorder) or head.start_bytes not in (4, 8):
                return None
            size = os.fstat(file.fileno()).st_size
            # the size first: a damaged head may name any amount to make room for
            if size != len(line) + RawColumns.size_of(head.files, head.path_bytes, head.start_bytes) + _SEAL_BYTES:
                return None
            if head.tables != _table_sizes(directory, head.revision):
                return None
            raw = RawColumns.blank(file.read(head.path_bytes), file.read(head.files), head.start_bytes)
            for column in raw.as_bytes()[2:]:
                if file.readinto(column) != len(column):
                    return None
            if file.read() != _seal([memoryview(line), *raw.as_bytes()]):
                return None
        return Kept(FileTable.from_raw_columns(raw, head.total_bytes, head.digest), head.revision, head.digest)
    except (OSError, ValueError, OverflowError, msgspec.MsgspecError):
        return None


def _table_sizes(directory: Path, revision: int) -> list[int]:
    return [os.stat(directory / table_name(number)).st_size for number in range(revision + 1)]


def _seal(parts: Iterable[memoryview]) -> bytes:
    """The last bytes of the columns: the CRC-32 of all before them."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return b"%08x" % crc
