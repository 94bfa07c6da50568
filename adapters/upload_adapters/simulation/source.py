"""The files of a simulated delivery, which may be unreadable for a moment or be rewritten while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from upload_adapters.memory import MemorySource
from upload_core.errors import SourceChangedError, SourceError
from upload_core.ports import Source, SourceFile


@attrs.define
class Content:
    """What lies under a name now; every write makes another version, also one of the same bytes."""

    data: bytes
    version: int = 1

    def rewrite(self, data: bytes) -> None:
        self.data = data
        self.version += 1


class SimulatedFile:
    """An open file: it reads what is there at the moment, and sees afterwards whether it was rewritten."""

    def __init__(self, relpath: str, content: Content, on_read: Callable[[str], None]) -> None:
        """`on_read` is told before each read; it may raise, or rewrite the file."""
        self._relpath = relpath
        self._content = content
        self._on_read = on_read
        self._version, self._size = content.version, len(content.data)
        self._position = 0

    @property
    def size(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        data = self.read_at(self._position, self._size if size < 0 else size)
        self._position += len(data)
        return data

    def read_at(self, offset: int, size: int, /) -> bytes:
        half = size // 2
        first = self._content.data[offset : offset + half]
        self._on_read(self._relpath)  # what is rewritten now mixes with what was read before
        return first + self._content.data[offset + half : offset + size]

    def rewind(self) -> None:
        self._position = 0

    @property
    def fingerprint(self) -> str:
        return f"{self._relpath}#{self._version}"

    def verify_unchanged(self) -> None:
        if self._content.version != self._version:
            raise SourceChangedError(f"{self._relpath!r} changed while it was read; nothing of it was stored")


class SimulatedSource(MemorySource):
    """The delivery's files."""

    def __init__(
        self, files: dict[str, Content], on_open: Callable[[str], None], on_read: Callable[[str], None]
    ) -> None:
        super().__init__(dict.fromkeys(files, b""), "memory:source")
        self._contents = files
        self._on_open = on_open
        self._on_read = on_read

    def size(self, relpath: str) -> int:
        self._demand(relpath)
        return len(self._contents[relpath].data)

    @contextmanager
    def open(self, relpath: str) -> Iterator[SourceFile]:
        self._demand(relpath)
        self._on_open(relpath)
        yield SimulatedFile(relpath, self._contents[relpath], self._on_read)


def unreadable(relpath: str) -> SourceError:
    """What a disk that blinks raises."""
    return SourceError(f"{relpath!r} cannot be read: input/output error")


if TYPE_CHECKING:
    _file: type[SourceFile] = SimulatedFile
    _source: type[Source] = SimulatedSource
