"""A local directory as the source of a delivery: no byte from outside its root is ever read.

To open a file every folder on the way is opened relative to the one before, without following links. A path with
links in it is resolved first; what it leads to must lie inside the root and is then opened in the same strict way, so
a link that is swapped in between makes the opening fail. Nothing but plain files is opened: a FIFO cannot block us.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from upload_adapters.held_folders import HeldFolder, HeldFolders
from upload_adapters.opened_file import OpenedFile, quoted
from upload_core.errors import ConfigurationError, SourceError, SourceMissingError
from upload_core.index_check import path_problems
from upload_core.text import printable

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH (Linux) passes through folders that may be entered but not listed.
_PASSING_FLAGS: Final = _FOLDER_FLAGS | getattr(os, "O_PATH", 0)
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""What nothing but a plain file is opened with, should it become something else in the last moment."""

_KNOWN_FOLDERS_MAX: Final = 50_000
_KIND_AND_READABLE: Final = 0o170444
_PLAIN_AND_READABLE: Final = stat.S_IFREG | 0o444


class Skipped(NamedTuple):
    """Something in the directory that cannot be delivered, and why."""

    relpath: str
    reason: str


class Scan(NamedTuple):
    """All deliverable files of a directory, sorted, and everything that is not."""

    relpaths: list[str]
    skipped: list[Skipped]

    def without(self, folders: Sequence[str]) -> Scan:
        """The same without what lies in these folders."""
        inside = tuple(f"{folder}/" for folder in folders)
        return Scan(
            [relpath for relpath in self.relpaths if not relpath.startswith(inside)],
            [skipped for skipped in self.skipped if not skipped.relpath.startswith(inside)],
        )


class _LinkOnTheWayError(Exception):
    """A part of the path is a symbolic link; it never leaves this module."""


class DirectorySource:
    """The `Source` of a delivery that lies in a local directory. Safe to use from several threads."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Raises `ConfigurationError` if `root` is not a directory that can be read."""
        self._name = os.path.abspath(root)
        try:
            self._root = os.path.realpath(self._name, strict=True)
            self._root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            shown = printable(self._name)
            raise ConfigurationError(f"the source {shown} is not a readable directory: {error.strerror}") from error
        self._root_status = os.fstat(self._root_fd)
        self._held = HeldFolders()
        self._folder_problems: dict[str, str | None] = {}

    def __reduce__(self) -> tuple[type[DirectorySource], tuple[str]]:
        return DirectorySource, (self._name,)

    def close(self) -> None:
        """Give the directory back; files that are open stay so."""
        if self._root_fd >= 0:
            self._held.close()
            os.close(self._root_fd)
            self._root_fd = -1

    def __enter__(self) -> DirectorySource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_root_fd", -1) >= 0:
            self.close()

    @property
    def name(self) -> str:
        """The directory's absolute path."""
        return self._name

    # --- looking -----------------------------------------------------------------------------

    def problem_with(self, relpath: str) -> str | None:
        """Why this file cannot be delivered, or None; it is not opened."""
        try:
            self._size(relpath)
        except SourceError as error:
            return str(error)
        return None

    def size(self, relpath: str) -> int:
        """The file's size in bytes; raises `SourceMissingError` or `SourceError` whenever it cannot be delivered."""
        try:
            return self._size(relpath)
        except SourceError as error:
            raise type(error)(f"{quoted(relpath)} {error}") from error.__cause__

    def _size(self, relpath: str) -> int:
        _refuse_bad_path(relpath)
        folder = relpath.rpartition("/")[0]
        problem = self._folder_problems.get(folder, "")
        if problem == "":
            if len(self._folder_problems) >= _KNOWN_FOLDERS_MAX:
                self._folder_problems.clear()
            problem = self._folder_problems[folder] = self._problem_with_folder(folder)
        if problem is not None:
            raise SourceError(problem)
        try:
            status = os.stat(relpath, dir_fd=self._root_fd, follow_symlinks=False)
            if status.st_mode & _KIND_AND_READABLE == _PLAIN_AND_READABLE:  # as nearly all are
                return status.st_size
            if stat.S_ISLNK(status.st_mode):
                status = os.stat("/".join(self._resolved(relpath)), dir_fd=self._root_fd, follow_symlinks=False)
            _refuse_special(status)
            if not os.access(relpath, os.R_OK, dir_fd=self._root_fd):
                raise SourceError("may not be read by this user; change its permissions")
        except OSError as error:
            raise _translated(error) from error
        return status.st_size

    def ls(self, prefix: str = "") -> tuple[str, ...]:
        """Names directly under the folder `prefix`, sorted; raises `SourceMissingError` if there is no such folder."""
        folder = prefix.rstrip("/") if prefix != "/" else prefix
        with _naming(prefix):
            try:
                if folder:
                    _refuse_bad_path(folder)
                folder_fd = self._open(folder, _FOLDER_FLAGS) if folder else os.dup(self._root_fd)
                try:
                    return tuple(sorted(os.listdir(folder_fd)))
                finally:
                    os.close(folder_fd)
            except OSError as error:
                raise _translated(error) from error

    def scan(self, exclude: frozenset[str] = frozenset()) -> Scan:
        """Every file below the root that can be delivered, sorted by code point; all else is listed with its reason.

        `exclude` names files and folders (relative) that are no part of the data set.
        """
        found: list[str] = []
        skipped: list[Skipped] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self._root, folder)) as entries:
                    for entry in entries:
                        relpath = f"{folder}/{entry.name}" if folder else entry.name
                        if relpath in exclude:
                            skipped.append(Skipped(relpath, "is excluded"))
                        elif entry.is_dir(follow_symlinks=False):
                            folders.append(relpath)
                        elif (problem := self._problem_with_entry(entry, relpath)) is not None:
                            skipped.append(Skipped(relpath, problem))
                        else:
                            found.append(relpath)
            except OSError as error:
                skipped.append(Skipped(folder or ".", f"cannot be listed: {error.strerror}"))
        return Scan(sorted(found), sorted(skipped))

    # --- opening -----------------------------------------------------------------------------

    def open(self, relpath: str) -> OpenedFile:
        """The file, opened without following any link out of the root; use it in a `with` statement.

        Raises `SourceMissingError`, or `SourceError` if it is not a plain file inside the root.
        """
        try:
            _refuse_bad_path(relpath)
            return OpenedFile(*self._open_file(relpath), relpath, self.status)
        except (OSError, SourceError) as error:
            with _naming(relpath):
                if isinstance(error, OSError):
                    raise _translated(error) from error
                raise

    def open_folder(self, folder: str) -> int | None:
        """A descriptor of that folder ("" is the root) to look into, for you to close; None if a link is on the way.

        The path must be one that an index may hold; None as well for one that leads nowhere.
        """
        try:
            return self._open_strictly(folder.split("/") if folder else ["."], _PASSING_FLAGS)
        except (OSError, _LinkOnTheWayError):
            return None

    def status(self, relpath: str) -> os.stat_result:
        """What the name leads to now, links followed; raises `OSError`."""
        return os.stat(relpath, dir_fd=self._root_fd)

    def _open_file(self, relpath: str) -> tuple[int, os.stat_result]:
        """Descriptor and state of that plain file; a link on the way is followed if it stays inside the root."""
        try:
            return self._open_file_strictly(relpath)
        except _LinkOnTheWayError:
            try:
                return self._open_file_strictly("/".join(self._resolved(relpath)))
            except _LinkOnTheWayError:
                raise _swapped() from None

    def _open_file_strictly(self, relpath: str) -> tuple[int, os.stat_result]:
        """The same; raises `_LinkOnTheWayError` if a part of the path is a link."""
        folder, _, name = relpath.rpartition("/")
        if not folder:
            return _open_plain(name, self._root_fd)
        held = self._held.take(folder)
        if held is not None:
            try:
                opened = _open_plain(name, held.fd)
            except (OSError, SourceError, _LinkOnTheWayError):
                os.close(held.fd)  # perhaps it is not the folder of that name any more
            else:
                self._held.give(held)
                return opened
        walked_s = time.monotonic()
        held = HeldFolder(folder, self._open_strictly(folder.split("/"), _PASSING_FLAGS), walked_s)
        try:
            return _open_plain(name, held.fd)
        finally:
            self._held.give(held)

    def _open(self, folder: str, flags: int) -> int:
        """A descriptor of that folder; a link on the way is followed if it stays inside the root."""
        try:
            return self._open_strictly(folder.split("/"), flags)
        except _LinkOnTheWayError:
            try:
                return self._open_strictly(self._resolved(folder), flags)
            except _LinkOnTheWayError:
                raise _swapped() from None

    def _open_strictly(self, parts: list[str], flags: int) -> int:
        """A descriptor of the folder made of these names; raises `_LinkOnTheWayError` if one of them is a link."""
        here = self._root_fd
        try:
            for part in parts[:-1]:
                below = _open_one(part, _PASSING_FLAGS, here)
                if here != self._root_fd:
                    os.close(here)
                here = below
            return _open_one(parts[-1], flags, here)
        finally:
            if here != self._root_fd:
                os.close(here)

    def _resolved(self, relpath: str) -> list[str]:
        """The names from the root to where `relpath` really leads; raises `SourceError` if that is outside."""
        try:
            place = os.path.realpath(os.path.join(self._root, relpath), strict=True)
        except FileNotFoundError:
            raise SourceMissingError(
                "is, or is reached by, a symbolic link that leads nowhere; mend the link"
            ) from None
        parts: list[str] = []
        # Climbing by identity, not by name: the same folder can be spelled in several ways on a Mac.
        while not os.path.samestat(os.stat(place), self._root_status):
            above, name = os.path.split(place)
            if above == place:
                raise SourceError("leads out of the source by a symbolic link; replace the link by the file")
            parts.insert(0, name)
            place = above
        return parts or ["."]

    # --- judging -----------------------------------------------------------------------------

    def _problem_with_folder(self, folder: str) -> str | None:
        """Why nothing under this folder can be delivered, or None; a missing folder is left to be noticed with its file."""
        if not folder or path_problems(folder):
            return None
        try:
            os.close(self._open(folder, _PASSING_FLAGS))
        except (SourceError, OSError) as error:
            return str(error) if isinstance(error, SourceError) else None
        return None

    def _problem_with_entry(self, entry: os.DirEntry[str], relpath: str) -> str | None:
        broken = path_problems(relpath)
        if broken:
            return broken[0].message
        if entry.is_symlink() and entry.is_dir():
            return "is a symbolic link to a folder; if that lies in the source, its files are found there"
        # Plain files, by far the most, are known from the listing itself.
        return None if entry.is_file(follow_symlinks=False) else self.problem_with(relpath)


def _open_plain(name: str, folder_fd: int) -> tuple[int, os.stat_result]:
    """Descriptor and state of a plain file in that folder; raises `SourceError` for anything else."""
    # Looked at before it is opened, because opening a device or a FIFO can have effects.
    status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        raise _LinkOnTheWayError
    _refuse_special(status)
    fd = _open_one(name, FILE_FLAGS, folder_fd)
    try:
        status = os.fstat(fd)
        _refuse_special(status)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def _open_one(name: str, flags: int, folder_fd: int) -> int:
    try:
        return os.open(name, flags, dir_fd=folder_fd)
    except OSError:
        # Which errno stands for "a link" differs between systems and flags, so the name itself is asked.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            raise _LinkOnTheWayError from None
        raise


def _refuse_bad_path(relpath: str) -> None:
    broken = path_problems(relpath)
    if broken:
        raise SourceError(broken[0].message)


def _refuse_special(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"))
        kind = next((name for is_kind, name in kinds if is_kind(status.st_mode)), "device")
        raise SourceError(f"is a {kind}, not a plain file; take it out of the index")


def _translated(error: OSError) -> SourceError:
    """What the operating system said, as our error, to be read after the file's name."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceMissingError("does not exist in the source; correct the index or restore the file")
    return SourceError(f"cannot be read: {error.strerror}")


def _swapped() -> SourceError:
    return SourceError("changed on its way here: a folder or file was replaced by a link")


@contextmanager
def _naming(relpath: str) -> Iterator[None]:
    """Puts the file's name before the message of a `SourceError`."""
    try:
        yield
    except SourceError as error:
        raise type(error)(f"{quoted(relpath)} {error}") from error.__cause__


if TYPE_CHECKING:
    from upload_core import ports

    _source: ports.Source = DirectorySource("")
