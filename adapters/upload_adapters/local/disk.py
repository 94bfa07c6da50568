"""What archive and control bucket share of the file system: safe walks, durable names, locks, errors in plain words.

Rule: no path below a root is followed through a symbolic link, and a name counts as there only once it would survive
a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from upload_core.errors import ArchiveError, ArchiveUnavailableError, ConfigurationError
from upload_core.text import printable

LOCK_WAIT_S: Final = 10.0
"""Who holds a lock does so for milliseconds; whoever holds it longer was stopped or hangs, and is not waited for."""

_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)

_PASSING: Final = {
    errno.ENOSPC: "the disk is full; make room there, then resume",
    errno.EDQUOT: "the disk quota is used up; make room there, then resume",
    errno.EIO: "the disk reports an error; check it, then resume",
    errno.EROFS: "it is mounted read-only; mount it for writing, then resume",
    errno.ESTALE: "the network file system lost it; mount it again, then resume",
    errno.ENOENT: "it disappeared; bring it back, then resume",
    errno.ENOLCK: "its file system gives no locks; see to its lock service, then resume",
}
_FINAL: Final = {
    errno.EACCES: "permission denied; give this user access, then resume",
    errno.EPERM: "the operation is not permitted; give this user access, then resume",
    errno.ENAMETOOLONG: "a name in it is longer than the file system allows; rename the file and index it again",
    errno.ENOTDIR: "a part of its path is a file; move that away or rename the file",
    errno.EISDIR: "a directory has that name; move it away or rename the file",
    errno.ENOTEMPTY: "a directory has that name; move it away or rename the file",
    errno.EEXIST: "something of another kind has that name; move it away or rename the file",
    errno.ELOOP: "a part of its path is a symbolic link; replace it by what it points to",
    errno.EFBIG: "it is larger than the file system allows; use another place",
    errno.EINVAL: "the file system does not allow that name; rename the file and index it again",
    errno.EILSEQ: "the file system does not allow that name; rename the file and index it again",
    errno.EXDEV: "it is a mount point of its own; mount the directory above it instead",
}
_NO_PLACE: Final = {
    errno.EACCES: "this user may not use it; give this user access, or use another directory",
    errno.EPERM: "this user may not use it; give this user access, or use another directory",
    errno.ENOTDIR: "a part of its path is a file; move that away, or use another directory",
    errno.ENOSYS: "its file system has no locks (flock); use a directory of another one",
    errno.EOPNOTSUPP: "its file system has no locks (flock); use a directory of another one",
}
"""What no waiting mends, and no other name below it: a place that the delivery as a whole needs cannot be used."""


def archive_error(what: str, error: OSError) -> ArchiveError:
    """The error to raise for what went wrong at `what`; what may pass by itself is an `ArchiveUnavailableError`."""
    number = error.errno or 0
    if number in _FINAL:
        return ArchiveError(f"{what}: {_FINAL[number]}")
    cause = _PASSING.get(number) or f"{error.strerror or error}; see to it, then resume"
    return ArchiveUnavailableError(f"{what}: {cause}")


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Every `OSError` inside is raised as the `ArchiveError` that explains it."""
    try:
        yield
    except OSError as error:
        raise archive_error(what, error) from error


@contextlib.contextmanager
def explained_place(what: str) -> Iterator[None]:
    """As `explained`, for what the delivery as a whole needs: where that can never be is a `ConfigurationError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_PLACE:
            raise ConfigurationError(f"{what}: {_NO_PLACE[error.errno]}") from error
        raise archive_error(what, error) from error


def demand_usable(path: str) -> None:
    """Raises `ConfigurationError` if nothing can be made at `path` by this user; makes nothing to find out.

    What may pass, such as a disk that is mounted read-only for now, is no matter of configuration.
    """
    above = path
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above)
    where = f"no archive can be at {printable(path, 300)!r}"
    another = "name another directory with --to file:///DIR (to=... in a program)"
    if not os.path.isdir(above):
        raise ConfigurationError(f"{where}: {printable(above, 300)!r} is no directory; {another}")
    try:
        read_only = os.statvfs(above).f_flag & os.ST_RDONLY
    except OSError:
        return  # whoever uses it will hear why
    if not read_only and not os.access(above, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{where}: this user may not write to {printable(above, 300)!r}; give this user access, or {another}"
        )


def sync(fd: int) -> None:
    """Return when the file or directory is on the medium, not only in the drive's cache where we can tell."""
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(fd, _FULL_SYNC)
        except OSError:  # a file system that does not know it
            os.fsync(fd)
    else:
        os.fsync(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however often the kernel takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def parts_of(name: str) -> list[str]:
    """The components of a relative path; raises `ArchiveError` for one that could leave its root."""
    parts = name.split("/")
    if not name or "\0" in name or not _is_utf8(name) or any(part in ("", ".", "..") for part in parts):
        raise ArchiveError(f"{name!r} is no relative path of plain names; take it off the index or rename the file")
    return parts


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Tree:
    """A directory below which every path is walked name by name, without following a symbolic link."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._durable: set[str] = set()

    @contextlib.contextmanager
    def parent(self, parts: list[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of the directory that holds the last part; raises `OSError`.

        With `create`, missing directories are made, and each one on the way survives a power cut.
        """
        fd = self._open_root(create=create)
        path = ""
        try:
            for part in parts[:-1]:
                path = f"{path}/{part}"
                fd, outer = self._enter(fd, part, path, create=create), fd
                os.close(outer)
            yield fd
        finally:
            os.close(fd)

    def _open_root(self, *, create: bool) -> int:
        if create and "" not in self._durable:
            make_durable_directory(self.root)
            self._durable.add("")
        try:
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Removed under our feet: it has to be made anew, and made durable, before anything counts as stored.
            self._durable.clear()
            raise

    def _enter(self, outer: int, name: str, path: str, *, create: bool) -> int:
        try:
            fd = _open_directory(name, outer)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):  # another thread was quicker
                os.mkdir(name, dir_fd=outer)
            self._durable.discard(path)
            fd = _open_directory(name, outer)
        if create and path not in self._durable:
            try:
                sync(outer)
            except BaseException:
                os.close(fd)
                raise
            self._durable.add(path)
        return fd


def _open_directory(name: str, outer: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outer)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=outer, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise


def open_plain_file(name: str, parent: int) -> int:
    """A descriptor of the plain file; raises `OSError`, also for symbolic links and anything else that is none."""
    # Without O_NONBLOCK a FIFO would wait for its other end.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EEXIST
        raise OSError(number, os.strerror(number), name)
    return fd


def make_durable_directory(path: str) -> None:
    """Make the directory and those above it; each one survives a power cut. Raises `OSError`."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(directory)):  # as in /proc
                raise PermissionError(errno.EPERM, "no directory can be made here", directory) from None
            raise
        sync_directory(os.path.dirname(directory))
    if not missing:
        # Somebody made it; whether they made it durable is not known.
        with contextlib.suppress(PermissionError):
            sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the names in the directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


# Not `filelock`: its waiting polls at intervals of an append's whole cost, and we need to lock a directory and to
# read and write the locked file itself.
def lock(fd: int, *, wait_s: float = LOCK_WAIT_S) -> None:
    """Take the exclusive lock of an open file; raises `TimeoutError` if somebody else keeps it that long."""
    deadline, pause_s = time.monotonic() + wait_s, 0.0001
    while not try_lock(fd):
        if time.monotonic() >= deadline:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock and does not move")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.01)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file if that is possible now; it is given back when the file is closed, by death too."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class ProcessLock:
    """A lock that ends with the process that holds it; `path` is its file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, *, wait_s: float = 0.0) -> bool:
        """Take the lock, waiting up to `wait_s`; False if somebody else keeps it. Raises `OSError`."""
        assert self._fd is None, "it is taken once"
        make_durable_directory(os.path.dirname(self._path))
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            lock(fd, wait_s=wait_s)
        except TimeoutError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_held(self) -> bool:
        """Whether a living process, this one included, holds the lock; nothing is created to find out."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(fd, shared=True)
        finally:
            os.close(fd)
