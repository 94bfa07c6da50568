"""A directory as archive: what is visible under a name is a whole file that survives a power cut, or nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from upload_adapters.crc32 import crc32
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveUnavailableError, ChecksumMismatchError, SourceChangedError
from upload_core.ports import Archive, Attempt, SourceFile, StoredObject

from .disk import Tree, archive_error, explained, open_plain_file, parts_of, sync, write_all
from .temporary import TemporaryFiles

COPY_SIZE: Final = 1 << 20
"""Bytes per read and write: large enough that the copy, not Python, takes the time; a worker holds one of them."""


class DirectoryArchive:
    """Objects are the files below `root`, which is made with the first of them. Safe to use by many threads."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._tree = Tree(self.root)
        self._temporary = TemporaryFiles(self.root)

    def __reduce__(self) -> tuple[type[DirectoryArchive], tuple[str]]:
        return DirectoryArchive, (self.root,)

    def stat(self, relpath: str) -> StoredObject | None:
        """The stored object with the CRC32 of its bytes as they are now, or None."""
        parts = parts_of(relpath)
        with explained(self._named(relpath)):
            try:
                with self._tree.parent(parts) as parent:
                    fd = open_plain_file(parts[-1], parent)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            try:
                crc = 0
                while chunk := os.read(fd, COPY_SIZE):
                    crc = crc32(chunk, crc)
                return self._stored(relpath, os.fstat(fd), crc32_base64(crc))
            finally:
                os.close(fd)

    def put(
        self, relpath: str, body: SourceFile, *, checksum: str | None, attempt: Attempt | None = None
    ) -> StoredObject:
        parts = parts_of(relpath)
        named = self._named(relpath)
        # What the body and the attempt raise is passed on as it is: only our own steps are explained.
        with contextlib.ExitStack() as stack:
            with self._temporary_explained():
                fd, path = stack.enter_context(self._temporary.file())
            actual = self._copy(relpath, body, fd, attempt)
            if checksum is not None and actual != checksum:
                # A file that changed is the better explanation of bytes that do not fit.
                body.verify_unchanged()
                raise ChecksumMismatchError(relpath, expected=checksum, actual=actual)
            with explained(named):
                sync(fd)
                found = os.fstat(fd)
                parent = stack.enter_context(self._tree.parent(parts, create=True))
            body.verify_unchanged()
            if attempt is not None:
                attempt.commit()
            with explained(named):
                os.rename(path, parts[-1], dst_dir_fd=parent)
                sync(parent)
        return self._stored(relpath, found, actual)

    def list(self) -> Iterator[StoredObject]:
        """Every plain file below the root; symbolic links are neither followed nor listed."""
        pending = [""]
        while pending:
            prefix = pending.pop()
            with explained(self._named(prefix or ".")):
                try:
                    with os.scandir(os.path.join(self.root, prefix)) as entries:
                        found = list(entries)
                except FileNotFoundError:
                    continue
                for entry in found:
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(info.st_mode):
                        pending.append(f"{prefix}{entry.name}/")
                    elif stat.S_ISREG(info.st_mode):
                        yield self._stored(f"{prefix}{entry.name}", info, "")

    def end_uploads(
        self, known: Mapping[str, str], ours: Callable[[str], bool], commit: Callable[[], None] = lambda: None
    ) -> None:
        """Nothing: no file is taken in parts."""

    def sweep(self) -> None:
        """Remove temporary files of processes that are no more; the first `put` does that, too."""
        self._temporary.sweep()

    @contextlib.contextmanager
    def _temporary_explained(self) -> Iterator[None]:
        """No file is to blame for this: whatever it is, the file may be stored once it is mended."""
        try:
            yield
        except OSError as error:
            what = archive_error(f"temporary files in {self._temporary.place!r}", error)
            raise ArchiveUnavailableError(str(what)) from error

    def _copy(self, relpath: str, body: SourceFile, fd: int, attempt: Attempt | None) -> str:
        crc = size = 0
        while chunk := body.read(COPY_SIZE):
            crc = crc32(chunk, crc)
            size += len(chunk)
            with contextlib.nullcontext() if attempt is None else attempt.slot():
                if attempt is not None:
                    attempt.spend(len(chunk))
                with explained(self._named(relpath)):
                    write_all(fd, chunk)
        if size != body.size:
            body.verify_unchanged()
            raise SourceChangedError(
                f"{relpath!r} gave {size} bytes, {body.size} were expected; make sure nobody writes it, then resume"
            )
        return crc32_base64(crc)

    def _named(self, relpath: str) -> str:
        return f"{relpath!r} in the archive {self.root!r}"

    def _stored(self, relpath: str, info: os.stat_result, checksum: str) -> StoredObject:
        return StoredObject(relpath, info.st_size, checksum, f"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}")


if TYPE_CHECKING:
    _archive: type[Archive] = DirectoryArchive
