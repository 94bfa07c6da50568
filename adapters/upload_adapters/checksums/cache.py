"""CRC32s that were computed before, in a file beside the index: what is unchanged since is not read again.

A line is a CRC32 of what follows, in hex, and a JSON array of files, each an array of path, size, mtime, ctime (both in
ns), inode and CRC32; a piece of a large file has where it begins and its length behind them. The first line says which
format this is. Lines are appended as files are done, and the later one counts; in the end the file is written anew.

It is derived data: a line that is torn, damaged or not understood is as if it were not there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from upload_adapters.checksums.columns import SETTLED, Columns, State
from upload_adapters.crc32 import crc32
from upload_adapters.durable import write_all, write_durably

FORMAT: Final = "upload-core checksums 1"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILES: Final = 100
"""In a line, at the most: what a damaged line costs."""

Pieces = dict[int, dict[tuple[State, int, int], int]]
"""By row: state of the file, begin and length of the piece -> its CRC32."""


class _Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    relpath: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    crc: int
    start: int = 0
    length: int = -1


_entries_of: Final = msgspec.json.Decoder(list[_Entry]).decode
_encode: Final = msgspec.json.Encoder().encode

Entry = tuple[str, State, int]
"""Path, state and CRC32 of a file."""


def line_of(entries: Sequence[Entry], piece: tuple[int, ...] = ()) -> bytes:
    """The line that remembers the CRC32s of these files, or of a piece of them (begin and length); none, no line."""
    return _sealed(_encode([(path, *state, crc, *piece) for path, state, crc in entries])) if entries else b""


def _sealed(body: bytes) -> bytes:
    return b"%08x %s\n" % (crc32(body), body)


def _opened(line: bytes) -> bytes | None:
    """What a line holds, if it is whole."""
    body = line[9:-1]
    return body if line == _sealed(body) else None


class ChecksumCache:
    """One such file. Whatever is wrong with it is no error: it then remembers nothing, and `problem` says why."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path)
        self.problem = ""
        self._fd = -1
        self._files = 0
        self._appended = False

    def open(self, relpaths: Sequence[str], *, fresh: bool = False) -> tuple[Columns, Pieces]:
        """What is remembered of these files, unless `fresh`; from now on `append` remembers more."""
        found, pieces = Columns(len(relpaths)), Pieces()
        try:
            self.path.parent.mkdir(exist_ok=True)
            self._fd = os.open(self.path, _FLAGS, 0o600)
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise PermissionError("it is not a plain file of this user")
            if not self._begin(fresh=fresh):
                rows = {relpath: row for row, relpath in enumerate(relpaths)}
                for entry in self._entries():
                    self._files += 1
                    if (row := rows.get(entry.relpath)) is not None:
                        _take(entry, row, found, pieces)
        except OSError as error:
            self._give_up(error)
        return found, pieces

    def append(self, lines: bytes) -> None:
        """Remember what these lines say, whatever becomes of this process."""
        if self._fd >= 0 and lines:
            self._appended = True
            try:
                write_all(self._fd, lines)
            except OSError as error:
                self._give_up(error)

    def replace(self, relpaths: Sequence[str], columns: Columns) -> None:
        """Remember these files and no others."""
        if self._fd < 0 or (not self._appended and self._files == columns.kinds.count(SETTLED)):
            return
        try:
            write_durably(self.path, _whole(relpaths, columns))
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Give the file back; twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _begin(self, *, fresh: bool) -> bool:
        """Make sure that the file begins as it must and ends with a whole line; whether that left nothing to read."""
        size = os.fstat(self._fd).st_size
        header = _sealed(_encode(FORMAT))
        if fresh or os.pread(self._fd, len(header), 0) != header:
            os.ftruncate(self._fd, 0)
            write_all(self._fd, header)
            return True
        if os.pread(self._fd, 1, size - 1) != b"\n":
            write_all(self._fd, b"\n")
        return False

    def _entries(self) -> Iterator[_Entry]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        with open(self._fd, "rb", closefd=False) as file:
            file.readline()
            for line in file:
                if (body := _opened(line)) is not None:
                    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        yield from _entries_of(body)

    def _give_up(self, error: OSError) -> None:
        self.problem = error.strerror or str(error)
        self.close()


def _take(entry: _Entry, row: int, found: Columns, pieces: Pieces) -> None:
    state = State(entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
    if entry.length >= 0:
        pieces.setdefault(row, {})[state, entry.start, entry.length] = entry.crc
        return
    with contextlib.suppress(OverflowError, ValueError):  # no such numbers are ever written
        found.put(row, SETTLED, state, entry.crc)


def _whole(relpaths: Sequence[str], columns: Columns) -> Iterator[bytes]:
    yield _sealed(_encode(FORMAT))
    rows = columns.rows_of(SETTLED)
    while entries := [(relpaths[row], columns.state(row), columns.crcs[row]) for row in islice(rows, _FILES)]:
        yield line_of(entries)
