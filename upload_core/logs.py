"""Logs in the control bucket: ours, to which every row is appended once, and the validator's, which is followed.

An append names the size that it expects, so a repeated one cannot take effect twice; on any doubt the log's own tail
says what happened. Neither class splits rows: quoted fields may hold newlines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from upload_core.checksum import crc32_base64, crc_of
from upload_core.errors import (
    ArchiveUnavailableError,
    LockLostError,
    NotReadyError,
    OffsetConflictError,
)
from upload_core.ports import ControlBucket

ATTEMPTS_MAX: Final = 3
"""Requests per append before the outage is the caller's business; each one is checked against the log's tail."""

OVERLAP_BYTES: Final = 64
"""Bytes that are read again with each look: a log replaced by a longer one cannot have the same at the same place."""


class AppendLog:
    """Our end of a log that nobody else writes."""

    def __init__(
        self, control: ControlBucket, key: str, size: int | None = None, again: Callable[[], None] = lambda: None
    ) -> None:
        """`size` is what the log is known to hold; without it the log itself is asked at first use.

        `again` is called before a request is repeated, and raises if it may not be.
        """
        self._control = control
        self._key = key
        self._size = size
        self._again = again
        self._in_doubt = b""  # rows that may have taken effect, or still may

    def size(self) -> int:
        """The bytes that the log holds for certain."""
        if self._size is None:
            info = self._control.head(self._key)
            self._size = 0 if info is None else info.size
        return self._size

    def append(self, rows: bytes) -> int:
        """Append whole rows once, however often an answer is lost; returns the log's new size.

        After `ArchiveUnavailableError` the request may still take effect: the next call must begin with the same rows
        (more may follow them), else it raises `NotReadyError`. Raises `LockLostError` if somebody else wrote the log.
        """
        assert not rows or rows.endswith(b"\n"), "the validator dies of a split row"
        if not rows.startswith(self._in_doubt):
            raise NotReadyError(f"append the rows of {self._key} whose fate is unknown once more before any others")
        size, again = self.size(), bool(self._in_doubt)
        landed = self._landed(size, rows) if again else 0
        # Set before the request: whatever ends it without an answer leaves the doubt behind.
        self._in_doubt = rows
        trouble = ""
        for _ in range(ATTEMPTS_MAX):
            if landed == len(rows):
                break
            if again:
                self._again()  # the look at the tail may have taken any time
            again = True
            try:
                self._control.append(self._key, rows[landed:], offset=size + landed)
                landed = len(rows)
            except (ArchiveUnavailableError, OffsetConflictError) as error:
                trouble = str(error)
                landed = self._landed(size, rows)
        if landed < len(rows):
            raise ArchiveUnavailableError(
                f"{self._key} could not be appended to in {ATTEMPTS_MAX} attempts ({trouble}); try the same rows again"
            )
        self._size, self._in_doubt = size + len(rows), b""
        return self._size

    def _landed(self, size: int, rows: bytes) -> int:
        """How many bytes of `rows` the log holds beyond `size`; raises `LockLostError` if it holds anything else."""
        found = self._control.read(self._key, size)
        tail, actual = (b"", 0) if found is None else (found[0], found[1].size)
        # Appends are whole or nothing, so a tail that agrees ends where one of our requests ended.
        if actual == size + len(tail) and rows.startswith(tail):
            return len(tail)
        raise LockLostError(
            f"{self._key} should hold {size} bytes and at most our latest rows, it holds {actual} bytes: another client "
            "works on this delivery. Nothing more is written. Make sure that it is the only one, then resume."
        )


def mark_of(tail: bytes) -> str:
    """What a place in a log is known by: the CRC32 of the bytes before it, as many as `OVERLAP_BYTES`."""
    return crc32_base64(crc_of([tail[-OVERLAP_BYTES:]]))


@attrs.frozen
class LogRead:
    """What a log holds from byte `offset` on; `restarted` says why that is 0 instead of what was asked for."""

    data: bytes
    offset: int
    restarted: str = ""
    before: bytes = b""
    """What stands before `offset`, as far as a mark needs it."""

    @property
    def end(self) -> int:
        """The first byte not read yet."""
        return self.offset + len(self.data)

    def mark_at(self, offset: int) -> str:
        """The mark of a place in what was read."""
        return mark_of(self.before + self.data[: offset - self.offset])


class LogReader:
    """Our end of a log that somebody else writes; one request per look."""

    def __init__(self, control: ControlBucket, key: str) -> None:
        self._control = control
        self._key = key
        self._end = 0
        self._overlap = b""  # what the last look found just before `_end`

    def read_from(self, offset: int, mark: str = "") -> LogRead:
        """Everything from `offset` on; from 0 if the log is not the one read before.

        It is another log if it is gone or shorter than what was read, or if the bytes that the last look ended with are
        not there any more. The first look goes by `mark`, what `mark_at(offset)` gave an earlier reader; without one,
        a row must end just before `offset`.
        """
        start = max(0, offset - OVERLAP_BYTES)
        found = self._control.read(self._key, start)
        data = b"" if found is None else found[0]
        replaced = self._replaced(offset, mark, start, None if found is None else data)
        if replaced and start:
            whole = self._control.read(self._key)
            start, data = 0, b"" if whole is None else whole[0]
        self._end, self._overlap = start + len(data), data[-OVERLAP_BYTES:]
        if replaced:
            return LogRead(data, 0, replaced)
        return LogRead(data[offset - start :], offset, before=data[: offset - start])

    def _replaced(self, offset: int, mark: str, start: int, data: bytes | None) -> str:
        """Why the log cannot be the one that was read before, or ""."""
        known = max(offset, self._end)
        if not known:
            return ""
        if data is None:
            return f"{self._key} is gone; {known} bytes of it had been read"
        if start + len(data) < known:
            return f"{self._key} holds {start + len(data)} bytes; {known} had been read"
        if self._overlap:
            same = data[self._end - len(self._overlap) - start : self._end - start] == self._overlap
        elif mark:
            same = mark_of(data[: offset - start]) == mark
        else:
            same = not offset or data[offset - start - 1 : offset - start] == b"\n"
        return "" if same else f"{self._key} was replaced; what it holds before byte {known} is not what had been read"
