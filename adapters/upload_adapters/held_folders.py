"""Descriptors of the folders that were opened last, so that the next file of the same folder is one step away.

Why that is safe: a descriptor names the folder itself, not its path, and it was reached from the root without following
a link. Whoever swaps a link in on the way cannot redirect it; whoever moves the folder away can only show us what lay
in it or what he puts there himself, as he could before. What moving makes wrong is the name, not the folder; so
descriptors are held for moments, an error met through one says nothing until the path was walked anew, and
`OpenedFile.verify_unchanged` asks in the end where the whole path leads.
"""

from __future__ import annotations

import os
import time
from threading import Lock
from typing import Final, NamedTuple

HELD_MAX: Final = 16
"""As many as threads work at a time, more or less; each is one of the process's descriptors."""
HELD_S: Final = 1.0
"""After so long the path is walked anew: a folder that was replaced is noticed without every file of it failing once."""


class HeldFolder(NamedTuple):
    """A folder, its descriptor, and when the path was last walked."""

    folder: str
    fd: int
    walked_s: float


class HeldFolders:
    """Folders between two uses. One that was taken belongs to whoever took it, until it is given back or closed.

    So no thread can close or reuse a descriptor under another one.
    """

    def __init__(self) -> None:
        self._held: dict[str, HeldFolder] | None = {}
        self._lock = Lock()

    def take(self, folder: str) -> HeldFolder | None:
        """The folder if it is held and was walked to a moment ago."""
        with self._lock:
            held = self._held.pop(folder, None) if self._held else None
        if held is not None and time.monotonic() - held.walked_s > HELD_S:
            os.close(held.fd)
            return None
        return held

    def give(self, held: HeldFolder) -> None:
        """Hold it for the next one; the one held longest goes."""
        with self._lock:
            gone = held
            if self._held is not None and held.folder not in self._held:
                self._held[held.folder] = held
                if len(self._held) <= HELD_MAX:
                    return
                gone = self._held.pop(next(iter(self._held)))
        os.close(gone.fd)

    def close(self) -> None:
        """Give all descriptors back, also those that are still to be given; twice is no error."""
        with self._lock:
            held, self._held = self._held or {}, None
        for one in held.values():
            os.close(one.fd)
