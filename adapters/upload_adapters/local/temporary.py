"""Files that are not there yet: each process writes its own in a directory beside the root, on the same file system.

Rule: what a dead process left behind is removed by the next one; what a living one writes is never touched.
A lock on the directory itself, which ends with its process, tells them apart.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import threading
import weakref
from collections.abc import Iterator

from .disk import make_durable_directory, try_lock


class TemporaryFiles:
    """Temporary files that can be renamed into `root`; they lie beside it, so no name inside can meet them."""

    def __init__(self, root: str) -> None:
        # The real path: the place beside a link to a directory may be on another file system.
        real = os.path.realpath(root)
        self.place = os.path.join(os.path.dirname(real), f".{os.path.basename(real)}.tmp")
        self._mutex = threading.Lock()
        self._numbers = itertools.count(1)
        self._own = ""
        self._pid = 0

    @contextlib.contextmanager
    def file(self) -> Iterator[tuple[int, str]]:
        """An open, empty file and its path; it is gone afterwards unless it was renamed. Raises `OSError`."""
        try:
            fd, path = self._create()
        except FileNotFoundError:  # somebody tidied up our directory
            self._pid = 0
            fd, path = self._create()
        renamed = False
        try:
            yield fd, path
            renamed = True
        finally:
            os.close(fd)
            if not renamed:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def sweep(self) -> None:
        """Remove what processes that are no more left behind."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.place):
                path = os.path.join(self.place, name)
                with contextlib.suppress(OSError):
                    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                    try:
                        if try_lock(fd):
                            shutil.rmtree(path, ignore_errors=True)
                    finally:
                        os.close(fd)
            os.rmdir(self.place)  # succeeds only if nobody uses it

    def _create(self) -> tuple[int, str]:
        path = f"{self._directory()}/{next(self._numbers)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o666), path

    def _directory(self) -> str:
        with self._mutex:
            if self._pid != os.getpid():  # the first file of this process, or of a fork of it
                self.sweep()
                self._own, fd = self._make()
                self._pid = os.getpid()
                weakref.finalize(self, _remove, self._own, fd, self._pid)
            return self._own

    def _make(self) -> tuple[str, int]:
        while True:
            make_durable_directory(self.place)
            path = os.path.join(self.place, secrets.token_hex(8))
            with contextlib.suppress(FileNotFoundError):  # another process swept in between
                os.mkdir(path)
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                # Locked too late, it may have been taken for a dead process's.
                if try_lock(fd) and os.path.isdir(path) and os.path.samestat(os.stat(path), os.fstat(fd)):
                    return path, fd
                os.close(fd)


def _remove(own: str, fd: int, pid: int) -> None:
    if pid == os.getpid():
        shutil.rmtree(own, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(fd)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(own))
