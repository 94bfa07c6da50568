"""What the header of an index may say: the three columns that count, and names that were meant to be one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

COLUMNS: Final = ("path", "checksum", "size")
"""What an index may tell of a file; whatever else it has is ignored."""


def near_miss(names: Iterable[object]) -> str | None:
    """A name that is one of the three columns but for blanks and capitals, where that column itself is missing, if any.

    As any other column it would be ignored, and what it says never checked.

    >>> near_miss(["path", " Size"]), near_miss(["path", "size", "SIZE", "note"])
    (' Size', None)
    """
    known = list(names)
    for name in known:
        meant = name.strip().lower() if isinstance(name, str) else ""
        if meant in COLUMNS and meant not in known:
            return str(name)
    return None
