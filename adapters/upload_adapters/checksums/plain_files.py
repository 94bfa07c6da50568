"""Plain files read at the price of the seven system calls that it takes to be sure of one.

Every promise of `DirectorySource.open` and `OpenedFile.verify_unchanged` is kept, with fewer words: whatever is not a
plain file at rest that can be opened is left to them.
"""

from __future__ import annotations

import mmap
import os
import stat
from typing import Final

from upload_adapters.checksums.columns import State
from upload_adapters.crc32 import crc32
from upload_adapters.opened_file import TICK_NS
from upload_adapters.source_directory import FILE_FLAGS, DirectorySource
from upload_core.errors import SourceChangedError, SourceError
from upload_core.index_check import path_problems

BLOCK_BYTES: Final = 256 << 10
"""Read and summed up in one step: what was read is still in the core's own cache when it is summed up."""
HINT_FROM_BYTES: Final = 1 << 20
"""From here on it pays to tell the kernel that all of a file will be read in order."""


def new_block() -> memoryview:
    """A buffer for `crc_of`, of whole pages.

    Into one that begins a few bytes behind a page, as malloc's do, some processors copy five times as slowly.
    """
    # Private: a process that is forked must not share it.
    return memoryview(mmap.mmap(-1, BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def crc_of(fd: int, start: int, end: int, block: memoryview) -> int:
    """The CRC32 of exactly these bytes of a file; raises `OSError`, and `SourceChangedError` if it ends before."""
    if end - start >= HINT_FROM_BYTES and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_SEQUENTIAL)
    crc = 0
    while start < end:
        count = os.preadv(fd, [block], start)
        if not count:
            raise SourceChangedError("ended before the size that it has; let it come to rest, then run again")
        crc = crc32(block[: min(count, end - start)], crc)
        start += count
    return crc


def changed() -> SourceChangedError:
    """The error of a file that was not in one state from its first byte to its last."""
    return SourceChangedError("changed while it was read; let it come to rest, then run again")


class PlainFiles:
    """The files of a directory, one after the other; the folder of the last one is held until `close`. For one thread."""

    def __init__(self, source: DirectorySource, block: memoryview) -> None:
        self._source = source
        self._block = block
        self._folder: str | None = None
        self._folder_fd = -1

    def crc32(self, relpath: str, now_ns: int, size_max: int) -> tuple[int, State] | None:
        """The CRC32 of a file and its state from before its first byte was read to after its last.

        None, with nothing read, if that takes `DirectorySource.open` to say, or if the file is larger. `now_ns` is the
        time, taken before. Raises `SourceError` if it changes while it is read, or cannot be read to its end.
        """
        if path_problems(relpath):
            return None
        folder, _, name = relpath.rpartition("/")
        if folder != self._folder and not self._enter(folder):
            return None
        try:
            # Looked at before it is opened, because opening a device or a FIFO can have effects.
            status = os.stat(name, dir_fd=self._folder_fd, follow_symlinks=False)
            if status.st_size > size_max or not stat.S_ISREG(status.st_mode):
                return None
            fd = os.open(name, FILE_FLAGS, dir_fd=self._folder_fd)
        except OSError:
            return None
        try:
            before = os.fstat(fd)
            # A change in the same tick as the last one would not show in the times.
            if now_ns - before.st_ctime_ns < TICK_NS or not stat.S_ISREG(before.st_mode):
                return None
            crc = crc_of(fd, 0, before.st_size, self._block)
            # While it is open no other file can have its inode: so this is its state as much as its place.
            after = self._source.status(relpath)
        except OSError as error:
            raise SourceError(f"could not be read to its end: {error.strerror}") from error
        finally:
            os.close(fd)
        state = State.shown_by(after)
        if state != State.shown_by(before) or after.st_dev != before.st_dev:
            raise changed()
        return crc, state

    def _enter(self, folder: str) -> bool:
        self.close()
        fd = self._source.open_folder(folder)
        if fd is None:
            return False
        self._folder, self._folder_fd = folder, fd
        return True

    def close(self) -> None:
        """Let go of the folder; the next file's is walked to anew."""
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder, self._folder_fd = None, -1
