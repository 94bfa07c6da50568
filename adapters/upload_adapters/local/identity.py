"""Who we are to a local archive: the user of the operating system, who needs no sign-in."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

from upload_core.ports import Identity


def user_at_host() -> tuple[str, str]:
    """Names of the user and the machine, each of printable characters without blanks."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = f"uid{os.getuid()}"
    return _word(user), _word(socket.gethostname())


def _word(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in text[:100]) or "unknown"


class OperatingSystemIdentity:
    """Whoever runs this process."""

    def sign_in(self) -> str:
        """The user's name and the machine's."""
        return "@".join(user_at_host())


if TYPE_CHECKING:
    _identity: type[Identity] = OperatingSystemIdentity
