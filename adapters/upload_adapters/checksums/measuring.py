"""What one worker does: look at a run of files, and read those that are not known as they are now.

Rule: a CRC32 is given only for what was one state of one file from before its first byte was read to after its last.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import Final, NamedTuple

from upload_adapters.checksums.cache import Entry, line_of
from upload_adapters.checksums.columns import LARGE, SETTLED, SIZED, UNREADABLE, UNSETTLED, Columns, State
from upload_adapters.checksums.plain_files import PlainFiles, changed, crc_of, new_block
from upload_adapters.opened_file import OpenedFile
from upload_adapters.source_directory import DirectorySource
from upload_core.errors import SourceError

PIECE_BYTES: Final = 64 << 20
"""A larger file is read in pieces of this size, by as many workers as there are: fractions of a second each."""
ENOUGH_BYTES: Final = 32 << 20
ENOUGH_NS: Final = 100_000_000
"""A worker that has read so much, or for so long, says what it found and gives the rest of its batch back."""
RACY_NS: Final = 2_000_000_000
"""A file that changed so shortly before it was looked at may change again without showing it.

The coarsest clock of a file system in use (FAT) ticks every two seconds; most tick every few milliseconds.
"""


class Batch(NamedTuple):
    """Files to look at, and what is remembered of them, if anything is; whoever measures them writes into that."""

    relpaths: list[str]
    remembered: Columns | None


class Measured(NamedTuple):
    """What was found of the first files of a batch; the others nobody has looked at."""

    columns: Columns
    reasons: dict[int, str]
    """Place in the batch -> why the file cannot be read."""
    lines: bytes
    """What the cache shall remember."""
    bytes_read: int
    believed: int
    """How many of them are as they are remembered."""


class Piece(NamedTuple):
    """A part of a large file that is in this state."""

    relpath: str
    state: State
    start: int
    length: int


class Measurer:
    """A worker's own buffer and its way to the files; for one thread."""

    def __init__(self, source: DirectorySource, *, with_checksums: bool = True) -> None:
        self._source = source
        self._with_checksums = with_checksums
        self._block = new_block()
        self._plain = PlainFiles(source, self._block)
        self._memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def close(self) -> None:
        """Nothing is held between two tasks."""

    def measure(self, batch: Batch) -> Measured:
        """Look at files of the batch, in order, until it is done or enough was read."""
        remembered = batch.remembered
        columns = Columns(len(batch.relpaths)) if remembered is None else remembered
        reasons, entries = dict[int, str](), list[Entry]()
        done = believed = total = 0
        end_ns = time.monotonic_ns() + ENOUGH_NS
        with closing(self._plain):
            for place, relpath in enumerate(batch.relpaths):
                done += 1
                try:
                    if not self._with_checksums:
                        columns.sizes[place] = self._source.size(relpath)
                        columns.kinds[place] = SIZED
                    elif remembered is not None and self._is_as_remembered(remembered, place, relpath):
                        believed += 1
                    else:
                        total += self._read(relpath, place, columns, entries)
                except SourceError as error:
                    columns.kinds[place] = UNREADABLE
                    reasons[place] = self._reason(relpath, error)
                if total >= ENOUGH_BYTES or time.monotonic_ns() > end_ns:
                    break
        return Measured(columns.cut(range(done)), reasons, line_of(entries), total, believed)

    def piece(self, piece: Piece) -> int:
        """The CRC32 of that part of the file; raises `SourceError` if it is not in that state before and after."""
        with self._source.open(piece.relpath) as file:
            if State.of(file.identity) != piece.state:
                raise changed()
            crc = self._crc_of(file, piece.start, piece.start + piece.length)
            file.verify_unchanged()
            if file.size > self._memory_bytes // 2 and hasattr(os, "posix_fadvise"):
                # Nothing that was read of such a file will be there when it is wanted again, but what it pushes out would.
                os.posix_fadvise(file.fileno(), piece.start, piece.length, os.POSIX_FADV_DONTNEED)
        return crc

    def _is_as_remembered(self, remembered: Columns, place: int, relpath: str) -> bool:
        if remembered.kinds[place] != SETTLED:
            return False
        try:
            return State.shown_by(self._source.status(relpath)) == remembered.state(place)
        except OSError:
            return False  # whoever opens it says what is wrong

    def _read(self, relpath: str, place: int, columns: Columns, entries: list[Entry]) -> int:
        """Fill the row of a file; returns how many bytes were read for that."""
        now_ns = time.time_ns()
        if (found := self._plain.crc32(relpath, now_ns, PIECE_BYTES)) is not None:
            crc, state = found
        else:
            with self._source.open(relpath) as file:
                state = State.of(file.identity)
                if file.size > PIECE_BYTES:
                    columns.put(place, LARGE, state)
                    return 0
                crc = self._crc_of(file, 0, file.size)
                file.verify_unchanged()
        if is_settled(state, now_ns):
            columns.put(place, SETTLED, state, crc)
            entries.append((relpath, state, crc))
        else:
            columns.put(place, UNSETTLED, state, crc)
        return state.size

    def _crc_of(self, file: OpenedFile, start: int, end: int) -> int:
        try:
            return crc_of(file.fileno(), start, end, self._block)
        except OSError as error:
            raise SourceError(f"could not be read to its end: {error.strerror}") from error

    def _reason(self, relpath: str, error: SourceError) -> str:
        """Without the file's name, which whoever reads it sees already."""
        return self._source.problem_with(relpath) or str(error)


def is_settled(state: State, now_ns: int) -> bool:
    """Whether a file that was in this state at that time shows every later change.

    A time that is still to come was written by nobody's clock that we know of, so nothing can be said of it.
    """
    return max(state.mtime_ns, state.ctime_ns) <= now_ns - RACY_NS
