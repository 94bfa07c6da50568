"""What is known of many files, in columns: a row costs 41 bytes, and a run of rows moves between processes as five blocks."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from upload_adapters.opened_file import Identity

NOTHING: Final = 0
"""Nothing is known of this file yet."""
SETTLED: Final = 1
"""Its CRC32 is known, and whoever finds it in the same state may believe so."""
UNSETTLED: Final = 2
"""Its CRC32 is known; but a later change might not show in its state, so that nobody may believe so next time."""
LARGE: Final = 3
"""Its state is known; it is to be read in pieces."""
UNREADABLE: Final = 4
"""It cannot be read, and gets no row in the index."""
SIZED: Final = 5
"""Its size is known, and nothing else was asked for."""


class State(NamedTuple):
    """By what a file is seen to be unchanged since. Without the device: its number changes when a disk is mounted anew."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: Identity) -> State:
        """The state that this identity shows."""
        return cls(found.size, found.mtime_ns, found.ctime_ns, found.inode)

    @classmethod
    def shown_by(cls, status: os.stat_result) -> State:
        """The state that this stat shows."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Columns:
    """State, CRC32 and kind of each of a run of files."""

    __slots__ = ("crcs", "ctimes", "inodes", "kinds", "mtimes", "sizes")

    def __init__(self, count: int) -> None:
        self.kinds = bytearray(count)
        self.sizes = array("q", bytes(8 * count))
        self.mtimes = array("q", bytes(8 * count))
        self.ctimes = array("q", bytes(8 * count))
        self.inodes = array("Q", bytes(8 * count))
        self.crcs = array("I", bytes(array("I").itemsize * count))

    def __len__(self) -> int:
        return len(self.kinds)

    def put(self, row: int, kind: int, state: State, crc: int = 0) -> None:
        """Fill a row."""
        self.sizes[row], self.inodes[row], self.crcs[row] = state.size, state.inode, crc
        try:
            self.mtimes[row], self.ctimes[row] = state.mtime_ns, state.ctime_ns
        except OverflowError:  # a time after the year 2262
            kind = UNSETTLED if kind == SETTLED else kind
        self.kinds[row] = kind  # last: a row that does not fit stays what it was

    def state(self, row: int) -> State:
        """The state in this row."""
        return State(self.sizes[row], self.mtimes[row], self.ctimes[row], self.inodes[row])

    def cut(self, rows: range) -> Columns:
        """A copy of these rows, which must lie side by side."""
        part = Columns(0)
        for name in self.__slots__:
            setattr(part, name, getattr(self, name)[rows.start : rows.stop])
        return part

    def paste(self, first: int, part: Columns) -> None:
        """Put these rows in the place of as many, from `first` on."""
        for name in self.__slots__:
            getattr(self, name)[first : first + len(part)] = getattr(part, name)

    def rows_of(self, kind: int) -> Iterator[int]:
        """The rows of that kind, in order."""
        row = self.kinds.find(kind)
        while row >= 0:
            yield row
            row = self.kinds.find(kind, row + 1)
