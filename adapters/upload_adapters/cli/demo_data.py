"""The demo's data set: small, but of real formats and with names that have broken other tools."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

BLOCK: Final = 2880
"""A FITS file consists of blocks of this many bytes."""
BAD_FILE: Final = "images/m31 cut short.fits"
ODD_NAMES: Final = ("NA", "00123", "1e5", "two words.txt", "Größe – naïve.txt", "-rf", "=1+1.csv", "a/b/c/d/deep.txt")
CHECK: Final = "upload_adapters.cli.demo_data:check"
CHECK_S: Final = 0.02
"""How long the demo's check takes for each file: long enough to kill the delivery in the middle of it."""


def build(root: Path, count: int) -> bool:
    """Write `count` files below `root`, one of them cut short; False if the Parquet file among them had to be left out."""
    files = {"README.txt": b"A data set to rehearse with.\n", "empty.dat": b""}
    files |= {name: f"The name of this file is {name!r}.\n".encode() for name in ODD_NAMES}
    files[BAD_FILE] = fits("M31", 999)[:-1000]
    number = 0
    while len(files) < count - 1:
        number += 1
        if number % 2:
            files[f"images/frame_{number:04d}.fits"] = fits(f"FRAME {number}", number)
        else:
            files[f"lightcurves/star_{number:04d}.csv"] = "".join(_light_curve(number)).encode()
    for name, data in files.items():
        _write(root / name, data)
    return _write_parquet(root / "catalogue.parquet")


def mend(root: Path) -> None:
    """Write the bad file as it should have been."""
    _write(root / BAD_FILE, fits("M31", 999))


def fits(title: str, seed: int) -> bytes:
    """A FITS file: a 32 x 32 image of 16-bit integers under a header of its own."""
    width = 32
    cards = [
        f"{'SIMPLE':8}= {'T':>20}",
        f"{'BITPIX':8}= {16:>20}",
        f"{'NAXIS':8}= {2:>20}",
        f"{'NAXIS1':8}= {width:>20}",
        f"{'NAXIS2':8}= {width:>20}",
        f"{'OBJECT':8}= '{title:8}'",
        "END",
    ]
    header = "".join(card.ljust(80) for card in cards).encode("ascii")
    pixels = (
        round(1000 * math.exp(-((x - 16) ** 2 + (y - seed % width) ** 2) / 40)).to_bytes(2, "big", signed=True)
        for y in range(width)
        for x in range(width)
    )
    data = b"".join(pixels)
    return header.ljust(BLOCK, b" ") + data.ljust(-len(data) % BLOCK + len(data), b"\0")


def check(path: str, relpath: str) -> Iterator[str]:
    """Whether a stored FITS file is whole: what an archive's own check might do. Everything else is fine."""
    time.sleep(CHECK_S)
    if not relpath.endswith(".fits"):
        return
    size = Path(path).stat().st_size
    if size % BLOCK:
        yield f"not a whole FITS file: {size} bytes are no multiple of {BLOCK}"
    with open(path, "rb") as file:
        if file.read(30) != f"{'SIMPLE':8}= {'T':>20}".encode():
            yield "not a FITS file: it does not begin with SIMPLE = T"


def _light_curve(seed: int) -> Iterator[str]:
    yield "time,flux\n"
    for step in range(50):
        yield f"{step / 10},{1 + math.sin(seed + step / 5) / 10:.6f}\n"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_parquet(path: Path) -> bool:
    if find_spec("pyarrow") is None:
        return False
    import pyarrow
    import pyarrow.parquet

    stars = pyarrow.table({"star": list(range(100)), "magnitude": [10 + star / 7 for star in range(100)]})
    pyarrow.parquet.write_table(stars, path)
    return True
