"""Files of a mapping as a delivery's source; the mapping may change while they are read, and that is noticed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from upload_core.errors import SourceChangedError, SourceMissingError
from upload_core.ports import Source, SourceFile


class MemoryFile:
    """One open file: it reads the bytes that its name stood for when it was opened."""

    def __init__(self, files: Mapping[str, bytes], relpath: str) -> None:
        self._files = files
        self._relpath = relpath
        self._data = files[relpath]
        self._position = 0

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._data) if size < 0 else self._position + size
        chunk = self._data[self._position : end]
        self._position += len(chunk)
        return chunk

    def read_at(self, offset: int, size: int, /) -> bytes:
        return self._data[offset : offset + size]

    def rewind(self) -> None:
        self._position = 0

    @property
    def fingerprint(self) -> str:
        # Whoever writes the name anew makes other bytes, or the same ones: then going on with them is right, too.
        return f"{len(self._data):x}-{zlib.crc32(self._data):08x}"

    def verify_unchanged(self) -> None:
        # Identity, not equality: a file that was written again with the same bytes has changed, as on a disk.
        if self._files.get(self._relpath) is not self._data:
            raise SourceChangedError(f"{self._relpath!r} changed while it was read; nothing of it was stored")


class MemorySource:
    """The files of a mapping from relative path to bytes; the caller may change it at any time."""

    def __init__(self, files: Mapping[str, bytes], name: str = "memory:") -> None:
        self._files = files
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def problem_with(self, relpath: str) -> str | None:
        return None if relpath in self._files else "does not exist"

    def size(self, relpath: str) -> int:
        self._demand(relpath)
        return len(self._files[relpath])

    @contextmanager
    def open(self, relpath: str) -> Iterator[SourceFile]:
        self._demand(relpath)
        yield MemoryFile(self._files, relpath)

    def ls(self, prefix: str = "") -> tuple[str, ...]:
        start = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        names = {relpath[len(start) :].split("/", 1)[0] for relpath in self._files if relpath.startswith(start)}
        if not names and start:
            raise SourceMissingError(f"there is nothing under {prefix!r} in {self._name}")
        return tuple(sorted(names))

    def _demand(self, relpath: str) -> None:
        if relpath not in self._files:
            raise SourceMissingError(f"{relpath!r} does not exist in {self._name}; restore it or take it off the index")


if TYPE_CHECKING:
    _file: type[SourceFile] = MemoryFile
    _source: type[Source] = MemorySource
