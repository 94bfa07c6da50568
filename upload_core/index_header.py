"""What the header of an index may say: the three columns that count, and no name that was meant to be one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from upload_core.errors import ConfigurationError
from upload_core.text import printable

COLUMNS: Final = ("path", "checksum", "size")
"""What an index may tell of a file; whatever else it has is ignored."""


def refuse_near_miss(names: Iterable[object], index: str) -> None:
    """Raises `ConfigurationError` for a name that is one of the three but for blanks and capitals, where that is missing.

    As any other column it would be ignored, and what it says never checked. `index` names the index, for the message.

    >>> refuse_near_miss(["path", "size", "SIZE", "note"], "the index")
    """
    known = list(names)
    for name in known:
        meant = name.strip().lower() if isinstance(name, str) else ""
        if meant in COLUMNS and meant not in known:
            shown = printable(repr(name), 60)
            raise ConfigurationError(f"{index} has a column {shown}; write it as '{meant}', or give it another name")
