"""Sizes and CRC32s of many files of a directory, read on all cores: the columns of a new index.

What a cache remembers of files that are unchanged since is not read again. A large file is read in pieces by all workers.
"""

from __future__ import annotations

import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Condition
from typing import Final, NamedTuple

from upload_adapters.checksums.cache import ChecksumCache, Pieces, line_of
from upload_adapters.checksums.columns import LARGE, NOTHING, SETTLED, UNREADABLE, UNSETTLED, Columns, State
from upload_adapters.checksums.measuring import PIECE_BYTES, Batch, Piece, is_settled
from upload_adapters.checksums.worker import Worker, start_workers
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import combine
from upload_core.columns import to_texts
from upload_core.errors import SourceError
from upload_core.index_check import IndexColumns

_BATCH_MAX: Final = 128
"""Files given to a worker in one step: enough that handing them over costs nothing beside reading them."""
_PROGRESS_INTERVAL_S: Final = 0.1

Progress = Callable[[int, int], None]
"""Told the files done and the bytes read so far, about ten times a second, always from the thread that called `index`."""


class Unreadable(NamedTuple):
    """A file that got no row in the index, and why."""

    relpath: str
    reason: str


class Indexed(NamedTuple):
    """The index of those files that could be read, in the order given, and all others."""

    columns: IndexColumns
    unreadable: list[Unreadable]
    believed: int
    """How many files were not read, because the cache knew their CRC32."""


def index(
    source: DirectorySource,
    relpaths: Sequence[str],
    *,
    jobs: int | None = None,
    with_checksums: bool = True,
    progress: Progress | None = None,
    cache: ChecksumCache | None = None,
    fresh: bool = False,
) -> Indexed:
    """The index columns of these files; a file that cannot be read, or changes meanwhile, is named with its reason.

    `jobs` is how many files are read at a time, by default one for each processor. What `cache` remembers of a file
    that is unchanged since is believed, unless `fresh`; what is found is remembered at once.
    """
    remembered = cache.open(relpaths, fresh=fresh) if cache is not None and with_checksums else None
    workers: list[Worker] = []
    try:
        workers = start_workers(source, relpaths, max(1, jobs or processors()), with_checksums=with_checksums)
        work = _Work(source, relpaths, len(workers), remembered, cache if with_checksums else None)
        with ThreadPoolExecutor(len(workers), thread_name_prefix="crc32") as pool:
            try:
                running = {pool.submit(work.run, worker) for worker in workers}
                while running:
                    done, running = wait(running, timeout=_PROGRESS_INTERVAL_S, return_when=FIRST_EXCEPTION)
                    for one in done:
                        one.result()
                    if progress is not None:
                        progress(work.files, work.bytes)
            finally:
                work.stop()
        return work.end(with_checksums=with_checksums)
    finally:
        for worker in workers:
            worker.close()
        if cache is not None:
            cache.close()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _InPieces:
    """A large file: which of its pieces are still to be read."""

    def __init__(self, relpath: str, state: State, known: dict[tuple[State, int, int], int]) -> None:
        self.state = state
        # All of it is read from now on, and every reader sees the same state: so now is when it must be settled.
        self.settled = is_settled(state, time.time_ns())
        starts = range(0, state.size, PIECE_BYTES)
        self.pieces = [Piece(relpath, state, start, min(PIECE_BYTES, state.size - start)) for start in starts]
        self.crcs = {
            number: known[state, piece.start, piece.length]
            for number, piece in enumerate(self.pieces)
            if (state, piece.start, piece.length) in known
        }

    @property
    def missing(self) -> list[int]:
        """The numbers of those pieces whose CRC32 is not known yet."""
        return [number for number in range(len(self.pieces)) if number not in self.crcs]

    def crc(self) -> int:
        """The CRC32 of the whole, once every piece has one."""
        whole = 0
        for number, piece in enumerate(self.pieces):
            whole = combine(whole, self.crcs[number], piece.length)
        return whole


class _Work:
    """What the workers share: what is to be done next, and what was found."""

    def __init__(
        self,
        source: DirectorySource,
        relpaths: Sequence[str],
        workers: int,
        remembered: tuple[Columns, Pieces] | None,
        cache: ChecksumCache | None,
    ) -> None:
        self.files = 0
        self.bytes = 0
        self._source = source
        self._relpaths = relpaths
        self._remembered: Columns | None = None
        self._known_pieces: Pieces = {}
        if remembered is not None:
            self._remembered, self._known_pieces = remembered
        self._cache = cache
        self._columns = Columns(len(relpaths))
        self._reasons: dict[int, str] = {}
        self._large: dict[int, _InPieces] = {}
        self._believed = 0
        batch = max(1, min(_BATCH_MAX, len(relpaths) // (4 * workers)))
        self._queue: deque[range | tuple[int, int]] = deque(
            range(first, min(first + batch, len(relpaths))) for first in range(0, len(relpaths), batch)
        )
        self._stopped = False
        self._busy = 0
        self._changed = Condition()

    def stop(self) -> None:
        """Let every worker end with the task that it is at."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self, worker: Worker) -> None:
        """Have this worker do one task after the other until none is left."""
        while (task := self._next()) is not None:
            try:
                if isinstance(task, range):
                    self._measure(worker, task)
                else:
                    self._read_piece(worker, *task)
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _next(self) -> range | tuple[int, int] | None:
        """Files to look at, or row and number of a piece; None once nothing more can come."""
        with self._changed:
            # Whoever is at work may still find a large file, or give the rest of a batch back.
            while not self._queue and self._busy and not self._stopped:
                self._changed.wait()
            if self._stopped or not self._queue:
                return None
            self._busy += 1
            return self._queue.popleft()

    def _measure(self, worker: Worker, rows: range) -> None:
        known = None if self._remembered is None else self._remembered.cut(rows)
        found = worker.measure(Batch(list(self._relpaths[rows.start : rows.stop]), known))
        with self._changed:
            if self._cache is not None:
                self._cache.append(found.lines)
            done = len(found.columns)
            if rows[done:]:
                self._queue.appendleft(rows[done:])
            self._columns.paste(rows.start, found.columns)
            self._reasons.update((rows.start + place, reason) for place, reason in found.reasons.items())
            large = [rows.start + place for place in found.columns.rows_of(LARGE)]
            self.files += done - len(large)
            self.bytes += found.bytes_read
            self._believed += found.believed
            for row in reversed(large):
                self._begin_large(row)

    def _begin_large(self, row: int) -> None:
        """Put what is to be read of it before everything else, so that all workers are at the same file."""
        file = _InPieces(self._relpaths[row], self._columns.state(row), self._known_pieces.pop(row, {}))
        self._large[row] = file
        self._queue.extendleft((row, number) for number in reversed(file.missing))
        self._end_large(row, file)

    def _read_piece(self, worker: Worker, row: int, number: int) -> None:
        file = self._large.get(row)
        if file is None:
            return  # another piece could not be read
        piece = file.pieces[number]
        try:
            crc = worker.piece(piece)
        except SourceError as error:
            reason = self._source.problem_with(piece.relpath) or str(error)
            with self._changed:
                if self._large.pop(row, None) is not None:
                    self._columns.kinds[row] = UNREADABLE
                    self._reasons[row] = reason
                    self.files += 1
            return
        with self._changed:
            file.crcs[number] = crc
            self.bytes += piece.length
            if self._cache is not None and file.settled:
                self._cache.append(line_of([(piece.relpath, piece.state, crc)], (piece.start, piece.length)))
            self._end_large(row, file)

    def _end_large(self, row: int, file: _InPieces) -> None:
        if len(file.crcs) < len(file.pieces) or self._large.pop(row, None) is None:
            return
        crc = file.crc()
        self._columns.put(row, SETTLED if file.settled else UNSETTLED, file.state, crc)
        if self._cache is not None and file.settled:
            self._cache.append(line_of([(self._relpaths[row], file.state, crc)]))
        self.files += 1

    def end(self, *, with_checksums: bool) -> Indexed:
        """What was found, once all workers have ended; the cache then remembers that and nothing else."""
        columns, relpaths = self._columns, self._relpaths
        assert NOTHING not in columns.kinds
        if self._cache is not None:
            self._cache.replace(relpaths, columns)
        rows = [row for row, kind in enumerate(columns.kinds) if kind != UNREADABLE]
        crcs = array("I", (columns.crcs[row] for row in rows))
        return Indexed(
            IndexColumns(
                paths=[relpaths[row] for row in rows],
                checksums=to_texts(crcs, b"\1" * len(rows)) if with_checksums else None,
                sizes=[columns.sizes[row] for row in rows],
            ),
            [Unreadable(relpaths[row], reason) for row, reason in sorted(self._reasons.items())],
            self._believed,
        )
