"""Sizes and CRC32s of many files of a source, read in parallel: the columns of a new index.

Threads, by measurement: `zlib.crc32` and `read` let go of the interpreter lock, so files of 64 KiB and up take all
cores; files of a few KiB cost 10-20 us each whatever runs them, and processes would gain less than they cost to start.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import Final, NamedTuple

from upload_core.checksum import crc32_base64
from upload_core.errors import SourceError
from upload_core.index_check import IndexColumns
from upload_core.ports import Source, SourceFile

_BLOCK_BYTES: Final = 512 * 1024  # any block of 64 KiB to 4 MiB is equally fast
_BATCH_MAX: Final = 16
"""Files given to a worker in one step: with single files the workers of many small ones mostly wait for each other."""
_LARGE_BYTES: Final = 1024 * 1024
"""A worker that meets a file of this size gives the rest of its batch back to the others."""
_PROGRESS_INTERVAL_S: Final = 0.1

Progress = Callable[[int, int], None]
"""Told the files and bytes done so far, about ten times a second, always from the thread that called `index`."""


class Unreadable(NamedTuple):
    """A file that got no row in the index, and why."""

    relpath: str
    reason: str


class Indexed(NamedTuple):
    """The index of those files that could be read, in the order given, and all others."""

    columns: IndexColumns
    unreadable: list[Unreadable]


def index(
    source: Source,
    relpaths: Sequence[str],
    *,
    jobs: int | None = None,
    with_checksums: bool = True,
    progress: Progress | None = None,
) -> Indexed:
    """The index columns of these files; a file that cannot be read, or changes meanwhile, is named with its reason.

    `jobs` is how many files are read at a time, by default one for each processor.
    """
    workers = max(1, min(jobs or os.cpu_count() or 1, len(relpaths)))
    work = _Work(source, relpaths, workers, with_checksums=with_checksums)
    with ThreadPoolExecutor(workers, thread_name_prefix="crc32") as pool:
        try:
            running = {pool.submit(work.run) for _ in range(workers)}
            while running:
                done, running = wait(running, timeout=_PROGRESS_INTERVAL_S, return_when=FIRST_EXCEPTION)
                for worker in done:
                    worker.result()
                if progress is not None:
                    progress(work.files, work.bytes)
        finally:
            work.stopped.set()
    return work.indexed()


class _Work:
    """What the workers share: which file is next, and what was found."""

    def __init__(self, source: Source, relpaths: Sequence[str], workers: int, *, with_checksums: bool) -> None:
        self.files = 0
        self.bytes = 0
        self.stopped = Event()
        self._source = source
        self._relpaths = relpaths
        self._with_checksums = with_checksums
        self._sizes = [0] * len(relpaths)
        self._checksums = [""] * len(relpaths)
        self._unreadable: dict[int, str] = {}
        batch = max(1, min(_BATCH_MAX, len(relpaths) // (4 * workers)))
        self._batches = [range(first, min(first + batch, len(relpaths))) for first in range(0, len(relpaths), batch)]
        self._batches.reverse()  # the next one is at the end
        self._lock = Lock()

    def run(self) -> None:
        """Take one batch of files after the other until none is left."""
        while True:
            with self._lock:
                batch = self._batches.pop() if self._batches else range(0)
            if not batch:
                return
            while batch and not self.stopped.is_set():
                batch = self._measure(batch[0], batch[1:])
                with self._lock:
                    self.files += 1

    def _measure(self, row: int, rest: range) -> range:
        """Fill the row; returns what is still ours of the rest of the batch."""
        relpath = self._relpaths[row]
        try:
            if not self._with_checksums:
                self._sizes[row] = self._source.size(relpath)
                return rest
            with self._source.open(relpath) as file:
                if file.size >= _LARGE_BYTES and rest:
                    with self._lock:
                        self._batches.append(rest)
                    rest = range(0)
                self._checksums[row] = crc32_base64(self._crc_of(file))
                file.verify_unchanged()
                self._sizes[row] = file.size
        except SourceError as error:
            self._unreadable[row] = self._source.problem_with(relpath) or str(error)
        return rest

    def _crc_of(self, file: SourceFile) -> int:
        crc = 0
        while not self.stopped.is_set() and (block := file.read(_BLOCK_BYTES)):
            crc = zlib.crc32(block, crc)
            with self._lock:
                self.bytes += len(block)
        return crc

    def indexed(self) -> Indexed:
        """What was found, once all workers have ended."""
        rows = [row for row in range(len(self._relpaths)) if row not in self._unreadable]
        columns = IndexColumns(
            paths=[self._relpaths[row] for row in rows],
            checksums=[self._checksums[row] for row in rows] if self._with_checksums else None,
            sizes=[self._sizes[row] for row in rows],
        )
        unreadable = [Unreadable(self._relpaths[row], reason) for row, reason in sorted(self._unreadable.items())]
        return Indexed(columns, unreadable)
