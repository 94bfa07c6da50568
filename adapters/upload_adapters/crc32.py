"""The fastest CRC32 that is installed, under one name: `crc32(data, value=0)`, which gives what `zlib.crc32` gives.

`IMPLEMENTATIONS` is in order of speed. `benchmarks/bench_checksums.py` measures them beside each other; all let go of
the interpreter lock for more than a few KiB, and a test shows that they agree. awscrt has no row: it is slower than zlib.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Final, Protocol, cast


class Crc32(Protocol):
    """A function with the signature of `zlib.crc32`."""

    def __call__(self, data: bytes | bytearray | memoryview, value: int = 0, /) -> int:
        """The CRC32 of `data`, or of whatever had the CRC32 `value` with `data` behind it."""
        ...


IMPLEMENTATIONS: Final = (
    "zlib_ng.zlib_ng",  # 11-15 GB/s a core where zlib has 3.5; a dependency of ours wherever it has wheels
    "isal.isal_zlib",  # 9-13 GB/s, and for less than 4 KiB the fastest of all
    "zlib",  # always there
)
"""Modules with a `crc32`, the fastest first."""


def fastest(modules: Sequence[str] = IMPLEMENTATIONS) -> Crc32:
    """The `crc32` of the first of these modules that can be imported; raises `ImportError` if none can."""
    for name in modules:
        try:
            return cast("Crc32", importlib.import_module(name).crc32)
        except ImportError:
            continue
    raise ImportError(f"none of {', '.join(modules)} can be imported")


crc32: Final[Crc32] = fastest()
