"""Directories to transfer, made once below build/transfers/, each with its index (path, size, checksum)."""

from __future__ import annotations

import base64
import os
import random
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from figures import ROOT

PLACE: Final = ROOT / "build" / "transfers"
MIB: Final = 1 << 20
PER_DIRECTORY: Final = 1_000
"""Of the many tiny files, which are hard links to one file per directory: a million files of their own would take 4 GB
and minutes, and what is measured is the cost of a file, not of its disk."""


@dataclass(frozen=True)
class WorkSet:
    """A directory of equal files."""

    name: str
    files: int
    size: int
    directories: int
    linked: bool = False

    @property
    def source(self) -> Path:
        """The directory."""
        return self._place / "source"

    @property
    def index(self) -> Path:
        """The index, as CSV."""
        return self._place / "index.csv"

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return self.files * self.size

    @property
    def gib(self) -> float:
        """The same in GiB."""
        return self.bytes / (1 << 30)

    @property
    def _place(self) -> Path:
        return PLACE / f"{self.name}-{self.files}x{self.size}"

    def made(self) -> WorkSet:
        """Itself, once it lies there in full."""
        if not self.index.exists():
            shutil.rmtree(self._place, ignore_errors=True)
            self.source.mkdir(parents=True)
            rows = self._make_linked() if self.linked else self._make()
            fresh = self.index.with_suffix(".new")
            fresh.write_text("path,size,checksum\n" + "".join(rows))
            fresh.replace(self.index)  # last: whoever finds the index finds all
        return self

    def names(self) -> list[str]:
        """Names as data sets have them."""
        per_directory = -(-self.files // self.directories)
        return [f"field_{number // per_directory:04}/image_{number:08}.fits" for number in range(self.files)]

    def _make(self) -> list[str]:
        rows = []
        block = random.Random(self.name).randbytes(min(self.size, MIB))
        for number, name in enumerate(self.names()):
            path = self.source / name
            path.parent.mkdir(exist_ok=True)
            crc, left, turn = 0, self.size, 0
            with open(path, "wb") as file:
                while left:
                    piece = (number.to_bytes(8) + turn.to_bytes(8) + block[16:])[:left]
                    crc = zlib.crc32(piece, crc)
                    file.write(piece)
                    left -= len(piece)
                    turn += 1
            rows.append(_row(name, self.size, crc))
        return rows

    def _make_linked(self) -> list[str]:
        rows = []
        first, crc = "", 0
        for name in self.names():
            path = self.source / name
            if not path.parent.exists():
                path.parent.mkdir()
                data = random.Random(name).randbytes(self.size)
                first, crc = str(path), zlib.crc32(data)
                path.write_bytes(data)
            else:
                os.link(first, path)
            rows.append(_row(name, self.size, crc))
        return rows


def _row(name: str, size: int, crc: int) -> str:
    return f"{name},{size},{base64.b64encode(crc.to_bytes(4)).decode()}\n"


def small(files: int) -> WorkSet:
    """4 KiB each, a hundredth of them to a directory."""
    return WorkSet("small", files, 4096, min(files, 100)).made()


def medium(files: int) -> WorkSet:
    """1 MiB each."""
    return WorkSet("medium", files, MIB, min(files, 10)).made()


def large(files: int, size: int = 1 << 30) -> WorkSet:
    """1 GiB each, unless said otherwise."""
    return WorkSet("large", files, size, 1).made()


def tiny(files: int) -> WorkSet:
    """64 bytes each, hard links."""
    return WorkSet("tiny", files, 64, -(-files // PER_DIRECTORY), linked=True).made()
