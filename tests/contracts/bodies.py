"""Source files for archives' contract tests: a well-behaved one, and some that go wrong in a chosen way."""

import zlib
from collections.abc import Callable

from upload_core.errors import SourceChangedError, SourceError


class Body:
    """A source file that holds `data`, announces `size`, and calls `at_read` before each read."""

    def __init__(self, data: bytes, *, size: int | None = None, at_read: Callable[[], None] | None = None) -> None:
        self.size = len(data) if size is None else size
        self.verified = 0
        self._data = data
        self._position = 0
        self._at_read = at_read

    def read(self, size: int = -1, /) -> bytes:
        if self._at_read is not None:
            self._at_read()
        end = len(self._data) if size < 0 else self._position + size
        chunk = self._data[self._position : end]
        self._position += len(chunk)
        return chunk

    def read_at(self, offset: int, size: int, /) -> bytes:
        if self._at_read is not None:
            self._at_read()
        return self._data[offset : offset + size]

    def rewind(self) -> None:
        self._position = 0

    @property
    def fingerprint(self) -> str:
        return f"{self.size}-{zlib.crc32(self._data)}"

    def verify_unchanged(self) -> None:
        self.verified += 1


class ChangedBody(Body):
    """A file that was changed while it was read."""

    def verify_unchanged(self) -> None:
        raise SourceChangedError("changed while it was read")


class UnreadableBody(Body):
    """A file whose second half cannot be read."""

    def read(self, size: int = -1, /) -> bytes:
        if self._position >= len(self._data) // 2:
            raise SourceError("input/output error")
        return super().read(len(self._data) // 2)

    def read_at(self, offset: int, size: int, /) -> bytes:
        if offset + size > len(self._data) // 2:
            raise SourceError("input/output error")
        return super().read_at(offset, size)
