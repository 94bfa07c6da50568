"""A directory as control bucket: conditional writes and appends that hold between processes, killed ones included.

Every write takes the key's own lock, a private file, around compare and rename. An append first notes there what it is
about to do, so that whoever comes after a killed one knows which bytes were never acknowledged; readers need no lock.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import attrs

from upload_core.errors import ArchiveError, OffsetConflictError, PreconditionFailedError
from upload_core.ports import ControlBucket, ObjectInfo

from .disk import Tree, explained_place, lock, make_durable_directory, open_plain_file, parts_of, sync, write_all
from .temporary import TemporaryFiles

PRIVATE: Final = ".upload-core"
"""The directory of lock files inside the bucket's; no key may begin with it."""

_TAIL_SIZE: Final = 1 << 16


@attrs.frozen
class _Write:
    """The last write begun on an object: it ends, or would have ended, at byte `end` of the file `inode`.

    A `put` has `replaced` another file of `replaced_end` bytes, which stays the object until the rename.
    """

    inode: int
    offset: int
    end: int
    replaced: int = 0
    replaced_end: int = 0

    def encode(self) -> bytes:
        """Always as many bytes, so that each note replaces the one before; its CRC32 shows one torn by a power cut."""
        text = b"%020d %020d %020d %020d %020d " % attrs.astuple(self)
        return text + b"%08x\n" % zlib.crc32(text)

    @classmethod
    def decode(cls, data: bytes) -> _Write | None:
        text, crc = data[:-9], data[-9:]
        if not text or crc != b"%08x\n" % zlib.crc32(text):
            return None
        return cls(*map(int, text.split()))


_NOTE_SIZE: Final = len(_Write(0, 0, 0).encode())


class DirectoryControlBucket:
    """Objects are the files below `root`, which is made with the first write. Safe to use by many threads.

    An object's etag is its file's identity, time and size: times are strictly later with each `put`, so the same bytes
    written again have another one. A hash of the content would make each look at a growing log read all of it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._tree = Tree(self.root)
        self._temporary = TemporaryFiles(self.root)

    def __reduce__(self) -> tuple[type[DirectoryControlBucket], tuple[str]]:
        return DirectoryControlBucket, (self.root,)

    def private_file(self, name: str) -> str:
        """Where a lock file lies that is no object."""
        return os.path.join(self.root, PRIVATE, name)

    def head(self, key: str) -> ObjectInfo | None:
        with self._open(key) as fd:
            return None if fd is None else self._info(key, fd)

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        with self._open(key) as fd:
            if fd is None:
                return None
            info = self._info(key, fd)
            chunks = []
            with explained_place(self._named(key)):
                while start < info.size:
                    chunk = os.pread(fd, min(info.size - start, 1 << 24), start)
                    if not chunk:
                        break
                    chunks.append(chunk)
                    start += len(chunk)
            return b"".join(chunks), info

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        parts = self._parts(key)
        with explained_place(self._named(key)), self._temporary.file() as (fd, path):
            write_all(fd, data)
            sync(fd)
            with self._locked(key) as note, self._tree.parent(parts, create=True) as parent:
                found = self._look(parts[-1], parent)
                before = (0, 0) if found is None else (found.st_ino, self._size_of(key))
                if if_absent and found is not None:
                    raise PreconditionFailedError(f"{key} exists already; look again before writing")
                self._demand(key, found, if_match)
                # Later than its predecessor by at least the smallest step, also while the clock is set back.
                moment_ns = max(time.time_ns(), 0 if found is None else found.st_mtime_ns + 1)
                os.utime(fd, ns=(moment_ns, moment_ns))
                info = os.fstat(fd)
                _write_note(note, _Write(info.st_ino, 0, info.st_size, *before))
                os.rename(path, parts[-1], dst_dir_fd=parent)
                sync(parent)
        return _object_info(info, info.st_size)

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        parts = self._parts(key)
        with (
            explained_place(self._named(key)),
            self._locked(key) as note,
            self._tree.parent(parts, create=True) as parent,
        ):
            found = self._look(parts[-1], parent)
            if found is None and offset:
                raise OffsetConflictError(
                    f"{key} does not exist, the append expected {offset} bytes; look again before appending"
                )
            flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if found is None else 0)
            fd = os.open(parts[-1], flags, 0o666, dir_fd=parent)
            try:
                size = self._visible_size(key, fd)
                if size != offset:
                    raise OffsetConflictError(
                        f"{key} has {size} bytes, the append expected {offset}; look again before appending"
                    )
                info = os.fstat(fd)
                if info.st_size > size:  # what a killed process left of its append
                    os.ftruncate(fd, size)
                _write_note(note, _Write(info.st_ino, size, size + len(data)))
                try:
                    write_all(fd, data)
                    sync(fd)
                    if found is None:
                        sync(parent)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.ftruncate(fd, size)
                    raise
                info = os.fstat(fd)
            finally:
                os.close(fd)
        return _object_info(info, info.st_size)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        parts = self._parts(key)
        if not os.path.isdir(self.root):
            return
        with explained_place(self._named(key)), self._locked(key):
            try:
                with self._tree.parent(parts) as parent:
                    found = self._look(parts[-1], parent)
                    if found is None:
                        return
                    self._demand(key, found, if_match)
                    os.unlink(parts[-1], dir_fd=parent)
                    sync(parent)
            except FileNotFoundError:
                return

    # --- what is there ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[int | None]:
        parts = self._parts(key)
        with explained_place(self._named(key)):
            try:
                with self._tree.parent(parts) as parent:
                    fd = open_plain_file(parts[-1], parent)
            except FileNotFoundError:
                yield None
                return
            try:
                yield fd
            finally:
                os.close(fd)

    def _info(self, key: str, fd: int) -> ObjectInfo:
        with explained_place(self._named(key)):
            size = self._visible_size(key, fd)
            return _object_info(os.fstat(fd), size)

    def _visible_size(self, key: str, fd: int) -> int:
        """How many bytes of the file are the object: those of an append that is not complete are none of it."""
        last = None
        inode = os.fstat(fd).st_ino
        while True:
            # In this order: every append notes what it does before it does it, so the note read now is of the append
            # that wrote the last of these bytes, or of a later one.
            size = os.fstat(fd).st_size
            note = self._read_note(key)
            if note is not None and note.replaced == inode:
                return min(size, note.replaced_end)
            if note is None or note.inode != inode:
                return self._whole_lines(key, fd, size) if self._is_current(key, inode) else size
            if size == note.end:
                return size
            if size > note.end:  # a power cut kept the bytes and lost the note
                return max(note.end, self._whole_lines(key, fd, size))
            if size >= note.offset:
                return note.offset
            if note == last:  # somebody cut the file
                return self._whole_lines(key, fd, size)
            last = note

    def _is_current(self, key: str, inode: int) -> bool:
        """Whether the key's file is this one; one that was replaced since it was opened was whole."""
        try:
            return os.stat(os.path.join(self.root, key), follow_symlinks=False).st_ino == inode
        except FileNotFoundError:
            return False

    def _size_of(self, key: str) -> int:
        info = self.head(key)
        return 0 if info is None else info.size

    def _whole_lines(self, key: str, fd: int, size: int) -> int:
        """Without a note, a log ends with its last whole row: a power cut may have kept a part of an append."""
        if not key.startswith("log/"):
            return size
        while size:
            start = max(0, size - _TAIL_SIZE)
            found = os.pread(fd, size - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            size = start
        return 0

    def _look(self, name: str, parent: int) -> os.stat_result | None:
        try:
            fd = open_plain_file(name, parent)
        except FileNotFoundError:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _demand(self, key: str, found: os.stat_result | None, etag: str | None) -> None:
        if etag is not None and (found is None or _etag(found) != etag):
            raise PreconditionFailedError(f"{key} is not the object {etag} any more; look again before writing")

    # --- locks and notes --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[int]:
        """The key's lock file, open and locked; it also holds the note of the last write."""
        try:
            fd = os.open(self._lock_file(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            make_durable_directory(os.path.join(self.root, PRIVATE))
            fd = os.open(self._lock_file(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            lock(fd)
            yield fd
        finally:
            os.close(fd)

    def _read_note(self, key: str) -> _Write | None:
        try:
            fd = os.open(self._lock_file(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _Write.decode(os.pread(fd, _NOTE_SIZE, 0))
        finally:
            os.close(fd)

    def _lock_file(self, key: str) -> str:
        return self.private_file(key.replace("%", "%25").replace("/", "%2F") + ".key")

    def _parts(self, key: str) -> list[str]:
        parts = parts_of(key)
        if parts[0] == PRIVATE:
            raise ArchiveError(f"{key!r} is no key of a control bucket: {PRIVATE} is its own")
        return parts

    def _named(self, key: str) -> str:
        return f"{key!r} in the control bucket {self.root!r}"


def _write_note(fd: int, note: _Write) -> None:
    os.pwrite(fd, note.encode(), 0)


def _etag(info: os.stat_result) -> str:
    return f"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}"


def _object_info(info: os.stat_result, size: int) -> ObjectInfo:
    return ObjectInfo(size, _etag(info), info.st_mtime, time.time())


if TYPE_CHECKING:
    _bucket: type[ControlBucket] = DirectoryControlBucket
