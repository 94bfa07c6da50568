"""Ctrl-C, SIGTERM and a closed terminal: the first asks for an end in order, the second ends the process at once.
SIGUSR1 pauses, SIGUSR2 continues.

Ending at once is safe, since everything that counts is in the journal; it merely leaves more to find out next time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from upload_adapters.cli.exit_codes import INTERRUPTED
from upload_core.client import UploadClient

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REASON: Final = "interrupted by the user"
_SHOW_CURSOR: Final = "\x1b[?25h"


class Interrupts:
    """Handles these signals while it is entered; without a `client` there is nothing to end, so `KeyboardInterrupt`.

    `last_words` are what standard output shall end with if the process ends at once.
    """

    def __init__(self) -> None:
        self.client: UploadClient | None = None
        self.last_words: Callable[[], bytes] = bytes
        self.at_person: Callable[[], bool] = bool
        """Whether somebody is being asked something: then the first signal is the answer, and nothing is waited for."""
        self.announce: Callable[[str], bool] = lambda _: False
        """Shows a line among what is drawn on a terminal; False where nothing is. Called in the middle of anything."""
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            # What a parent told us to ignore (nohup, a shell's background job) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            self._before[number] = signal.signal(number, self._handle_pause)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.client is None or self.at_person():
            raise KeyboardInterrupt
        if self._asked:
            self._end_at_once()
        self._asked = True
        ending = "ending in order (running transfers get two seconds); once more ends at once"
        # Not through the console: the signal may have come in the middle of its writing.
        if not self.announce(ending):
            _write(2, f"\n{ending}\n")
        self.client.stop(REASON)

    def _handle_pause(self, number: int, frame: FrameType | None) -> None:
        if self.client is None:
            return  # nothing is begun yet
        if number == signal.SIGUSR1:
            self.client.pause("SIGUSR1", by="user")
        else:
            self.client.unpause(by="user")

    def _end_at_once(self) -> None:
        _write(2, ("\n" + _SHOW_CURSOR if sys.stderr.isatty() else "") + "ended at once; resume goes on from here\n")
        try:
            os.write(1, self.last_words())
        finally:
            os._exit(INTERRUPTED)


def _write(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode())
    except OSError:
        return  # nobody listens
