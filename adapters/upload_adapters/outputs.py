"""Files that a command writes: what it wrote before is replaced, and nothing else ever is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from upload_core.errors import ConfigurationError
from upload_core.text import printable

HEAD_BYTES: Final = 64 * 1024
"""So much of a file tells what it is."""


def place_of(output: str | os.PathLike[str], what: str, is_one: Callable[[str], bool], *, otherwise: str = "") -> str:
    """The file itself that a link may lead to, where a new one of `what` ("the index") may be written.

    `is_one` tells whether the file there is one that may be replaced; an empty one may be. `otherwise` is what else one
    may do. Raises `ConfigurationError` before anything is written.
    """
    place = os.path.realpath(output)
    wrong = _wrong_with(place, what, is_one)
    if wrong:
        raise ConfigurationError(f"{what} {printable(os.fspath(output), 300)} cannot be written: {wrong}{otherwise}")
    return place


def _wrong_with(place: str, what: str, is_one: Callable[[str], bool]) -> str:
    directory = os.path.dirname(place)
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{error.strerror or error}; name another file"
    else:
        if not stat.S_ISREG(mode):
            return "that is no plain file; name one"
        if not _may_replace(place, is_one):
            return f"what is there is {what.replace('the ', 'no ', 1)} of ours; move it away, or name another file"
    if not os.path.isdir(directory):
        return f"{printable(directory, 300)} is no directory; make it first, or name another place"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"this user may not write to {printable(directory, 300)}; name another place"
    return ""


def _may_replace(place: str, is_one: Callable[[str], bool]) -> bool:
    try:
        return not os.path.getsize(place) or is_one(place)
    except OSError:
        return False


def begins_with(*signs: bytes) -> Callable[[str], bool]:
    """Tells of a file whether it begins with the first of these bytes and has the others soon after."""

    def look(place: str) -> bool:
        with open(place, "rb") as file:
            head = file.read(HEAD_BYTES)
        return head.startswith(signs[0]) and all(sign in head for sign in signs)

    return look
