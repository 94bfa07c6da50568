"""A file that is open for reading, and what tells one state of it from another.

Rule: whoever read it asks `verify_unchanged` before he believes what he read.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from upload_core.errors import SourceChangedError, SourceError
from upload_core.text import printable

TICK_NS: Final = 20_000_000
"""Two changes within one tick of the kernel's clock (at most 10 ms) carry the same time; twice that is safe."""


class Identity(NamedTuple):
    """What tells one content of a file from another without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """The identity that this stat shows."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class OpenedFile:
    """A source file open for reading; `verify_unchanged` tells whether what was read is one state of it."""

    def __init__(self, fd: int, status: os.stat_result, relpath: str, look: Callable[[str], os.stat_result]) -> None:
        """Takes over `fd`, whose state is `status`; `look` says what the name leads to now, or raises `OSError`."""
        self._fd = fd
        self._relpath = relpath
        self._look = look
        # A change in the same tick as the last one would not show in the times: let that tick pass before reading.
        age_ns = time.time_ns() - status.st_ctime_ns
        if 0 <= age_ns < TICK_NS:
            time.sleep((TICK_NS - age_ns) / 1e9)
            status = os.fstat(fd)
        self.identity: Final = Identity.of(status)
        self._unread = self.identity.size

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self.identity.size

    def fileno(self) -> int:
        """The descriptor, for those who send or map the file without reading it here; -1 once it is closed."""
        return self._fd

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, b"" at the end; raises `SourceError` if the disk cannot read them.

        The end is where it was when the file was opened: one that grows as fast as it is read would have none.
        """
        wanted = self._unread if size < 0 else min(size, self._unread)
        if not wanted:
            return b""
        try:
            data = os.read(self._fd, wanted)
        except OSError as error:
            raise self._unreadable(error) from error
        self._unread -= len(data)
        return data

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Those bytes, fewer only where the file ends; raises `SourceError` if the disk cannot read them."""
        end = min(offset + size, self.identity.size)
        pieces: list[bytes] = []
        try:
            while offset < end and (piece := os.pread(self._fd, end - offset, offset)):
                pieces.append(piece)
                offset += len(piece)
        except OSError as error:
            raise self._unreadable(error) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def rewind(self) -> None:
        """Go back to the first byte."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._unread = self.identity.size

    @property
    def fingerprint(self) -> str:
        """Inode, size and times when it was opened; the device's number, which a restart may change, is left out."""
        known = self.identity
        return f"{known.inode:x}-{known.size:x}-{known.mtime_ns:x}-{known.ctime_ns:x}"

    def verify_unchanged(self) -> None:
        """Raises `SourceChangedError` unless size, times and identity are as when opened, and the name still leads here.

        Blind spot, as of every tool that relies on stat: a process that had the file mapped and dirty before.
        """
        try:
            there = self._look(self._relpath)
        except OSError as error:
            raise self._changed(f"was taken away while it was read: {error.strerror}") from error
        # While it is open here no other file can have its inode: so this is its state as much as its place.
        if Identity.of(there) != self.identity:
            self._explain_change(there)

    def _explain_change(self, there: os.stat_result) -> None:
        status = os.fstat(self._fd)
        for field, then, now in zip(Identity._fields, self.identity, Identity.of(status), strict=True):
            if then != now:
                raise self._changed(f"changed while it was read: its {field} was {then} and is {now}")
        if not os.path.samestat(there, status):
            raise self._changed("was replaced by another file while it was read")

    def _unreadable(self, error: OSError) -> SourceError:
        return SourceError(f"{quoted(self._relpath)} cannot be read: {error.strerror}")

    def _changed(self, how: str) -> SourceChangedError:
        return SourceChangedError(f"{quoted(self._relpath)} {how}; let it come to rest, then run again")

    def close(self) -> None:
        """Close it; twice is no error."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> OpenedFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            warnings.warn(f"{quoted(self._relpath)} was left open", ResourceWarning, stacklevel=2)
            self.close()


def quoted(relpath: str) -> str:
    """The name as it stands in messages."""
    return f'"{printable(relpath, 300)}"'


if TYPE_CHECKING:
    from upload_core import ports

    _file: ports.SourceFile = OpenedFile(0, os.fstat(0), "", os.stat)
