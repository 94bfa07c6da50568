"""A terminal, or a file where there is none, as the `Console` port: everything goes to standard error.

Rule: text is data. It passes `upload_core.text.printable`, so it is neither markup nor terminal control; colours are
ours alone, and only on a terminal, never with NO_COLOR.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final

from upload_core.ports import Console, MessageType
from upload_core.text import printable

if TYPE_CHECKING:
    import rich.console
    import rich.live

STYLES: Final[dict[MessageType, str]] = {
    "warning": "yellow",
    "error": "bold red",
    "info": "",
    "complete": "bold green",
    "success": "green",
}
LINES_MAX: Final = 60
"""Lines shown of one message: a traceback fits, a runaway text does not."""


class TerminalConsole:
    """Shows messages on standard error: coloured on a terminal, plain elsewhere; `quiet` shows errors only.

    May be used from several threads.
    """

    def __init__(self, *, quiet: bool = False, file: IO[str] | None = None) -> None:
        self.quiet = quiet
        self._file = file
        self._mutex = threading.RLock()
        self._rich: rich.console.Console | None = None
        self.live: rich.live.Live | None = None
        """What is drawn at the bottom, if anything; it makes room while a person is asked."""
        self.asking = False
        """Whether somebody is being waited for."""

    @property
    def file(self) -> IO[str]:
        """Where it writes; looked up late, so that a host that redirects standard error is respected."""
        return self._file or sys.stderr

    @property
    def is_terminal(self) -> bool:
        """Whether a person is likely to watch."""
        try:
            return self.file.isatty() and os.environ.get("TERM") != "dumb"
        except ValueError:  # it was closed
            return False

    def message(self, text: str, mtype: MessageType) -> None:
        if not self.quiet or mtype == "error":
            self._show(text, STYLES[mtype])

    def print(self, renderable: object, *, padded: bool = True) -> None:
        if self.quiet:
            return
        if isinstance(renderable, str):
            self._show(renderable, "")
        else:
            self._render(renderable)

    # --- asking -----------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Show what a person has to do; also on a quiet console."""
        self._show(text, "")

    def ask(self, question: str) -> str:
        """The line that a person types, without its end; raises `EOFError` if there is nobody to type one."""
        with self._at_person():
            with contextlib.suppress(BrokenPipeError, ValueError):
                self.file.write(printable(question))
                self.file.flush()
            line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    def agrees(self, question: str) -> bool:
        """Whether a person at a terminal says yes, or just presses return; False if there is none."""
        if sys.stdin is None or not sys.stdin.isatty():
            return False
        try:
            return self.ask(question).strip().lower() in ("", "y", "yes")
        except EOFError:
            return False

    def waiting(self, way: Callable[[], str]) -> str:
        """What `way` returns, which waits for a person."""
        with self._at_person():
            return way()

    @contextlib.contextmanager
    def _at_person(self) -> Iterator[None]:
        # Nobody can read or type beneath a line that is drawn four times a second.
        live, self.live, before = self.live, None, self.asking
        self.asking = True
        if live is not None:
            live.stop()
        try:
            yield
        finally:
            self.asking = before
            if live is not None:
                live.start()
                self.live = live

    # --- drawing ----------------------------------------------------------------------------------

    def rich(self) -> rich.console.Console:
        """The rich console behind it, for what is drawn and not said (progress)."""
        with self._mutex:
            if self._rich is None or self._rich.file is not self.file:
                from rich.console import Console as RichConsole

                # soft_wrap, highlight and emoji off: a line is shown as it is, whatever it looks like
                self._rich = RichConsole(file=self.file, markup=False, highlight=False, emoji=False, soft_wrap=True)
            return self._rich

    def _show(self, text: str, style: str) -> None:
        lines = text.split("\n")
        if len(lines) > LINES_MAX:
            lines = [*lines[:LINES_MAX], f"... and {len(lines) - LINES_MAX} more lines"]
        shown = "\n".join(printable(line) for line in lines)
        with self._mutex:
            if self.is_terminal:
                from rich.text import Text

                self._render(Text(shown, style))
            else:
                self._plain(shown)

    def _plain(self, text: str) -> None:
        encoding = getattr(self.file, "encoding", None) or "utf-8"
        # when nobody listens any more, that is no reason to stop a delivery
        with contextlib.suppress(BrokenPipeError, ValueError):
            # a narrow encoding (LANG=C) shows escapes instead of failing
            self.file.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self.file.flush()

    def _render(self, renderable: Any) -> None:
        with self._mutex, contextlib.suppress(BrokenPipeError, ValueError):
            self.rich().print(renderable)


if TYPE_CHECKING:
    _console: Console = TerminalConsole()
