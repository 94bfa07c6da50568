"""How `pandas.read_csv`, left to its defaults as by the archive's validator, reads a column of paths.

It keeps no text for what looks like a missing value, a number or a truth value. What is said here is compared with
pandas itself in `tests/interop/test_readings.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

# fmt: off
READ_AS_MISSING: Final = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
))
# fmt: on

_NUMBER: Final = re.compile(
    r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)\s*", re.IGNORECASE | re.ASCII
)
_TRUTH: Final = re.compile("true|false", re.IGNORECASE | re.ASCII)

READER_ROWS: Final = 2**18
"""Rows that pandas' reader takes at a time, deciding anew whether a column holds numbers: the largest power of two
below 2**20 through the number of columns, which is two or three (`TextReader.buffer_lines`); their length is no matter."""


def parts_without_text(paths: Sequence[str | None]) -> Iterator[tuple[int, int]]:
    """First row and end of each part that is read by itself and whose paths are all numbers, or all truth values.

    >>> list(parts_without_text(["7", "1e5"])), list(parts_without_text(["7", "true"]))
    ([(0, 2)], [])
    """
    for first in range(0, len(paths), READER_ROWS):
        end = min(first + READER_ROWS, len(paths))
        if _are_all(_NUMBER, paths, first, end) or _are_all(_TRUTH, paths, first, end):
            yield first, end


def _are_all(pattern: re.Pattern[str], paths: Sequence[str | None], first: int, end: int) -> bool:
    """True if each of these rows matches; nearly always the first does not, so no more than it is looked at."""
    return all(path is not None and pattern.fullmatch(path) for path in (paths[row] for row in range(first, end)))
