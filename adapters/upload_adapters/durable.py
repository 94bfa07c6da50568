"""Files that are there whole and on disk, or not at all: temporary file, fsync, rename, fsync of the directory."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte, however often the kernel takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_directory(path: Path) -> None:
    """Make names created or replaced in this directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unfinished(path: Path) -> list[Path]:
    """The temporary files that writers of `path` are at, or left when they were killed."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))


def write_durably(path: Path, chunks: Iterable[bytes | memoryview], *, mode: int = 0o600) -> None:
    """Give `path` this content, or leave it as it was; raises `OSError`, in which case the temporary file is gone."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_directory(path.parent)
