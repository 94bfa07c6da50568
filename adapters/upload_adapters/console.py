"""A terminal, or a file where there is none, as the `Console` port: everything goes to standard error.

Rule: text is data. It passes `upload_core.text.printable`, so it is neither markup nor terminal control; colours are
ours alone, and only on a terminal or with FORCE_COLOR, never with NO_COLOR. Whoever stops reading stops no delivery.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, cast

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
_DEAF: Final = (OSError, ValueError)
"""What writing raises where nobody reads any more: a closed pipe or file, a terminal that is gone (EIO), a full disk."""


class TerminalConsole:
    """Shows messages on standard error: coloured on a terminal, plain elsewhere; `quiet` shows errors only.

    May be used from several threads.
    """

    def __init__(self, *, quiet: bool = False, file: IO[str] | None = None) -> None:
        self.quiet = quiet
        self._file = file
        self._mutex = threading.RLock()
        self._rich: rich.console.Console | None = None
        self._rich_file: IO[str] | None = None
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
        return self._out.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def is_colored(self) -> bool:
        """Whether colours are wanted: on a terminal or with FORCE_COLOR, but never with NO_COLOR."""
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or self.is_terminal

    @property
    def encoding(self) -> str:
        """How characters become bytes there."""
        return self._out.encoding

    @property
    def _out(self) -> _Patient:
        return _Patient(self.file)

    def message(self, text: str, mtype: MessageType) -> None:
        if not self.quiet or mtype == "error":
            self._show(text, STYLES[mtype])

    def messages(self, lines: Iterable[tuple[str, MessageType]]) -> None:
        """Many messages in one go, which costs a terminal that also shows something live no more than one."""
        wanted = [(text, STYLES[mtype]) for text, mtype in lines if not self.quiet or mtype == "error"]
        if wanted:
            self._show_all(wanted)

    def print(self, renderable: object, *, padded: bool = True) -> None:
        if self.quiet:
            return
        if isinstance(renderable, str):
            self._show(renderable, "")
        elif padded and self.is_terminal:
            from rich.padding import Padding

            self._render(Padding(renderable))  # type: ignore[arg-type]  # it is whatever the caller knows rich can render
        else:
            self._render(renderable)

    def overwrite(self, text: str) -> None:
        """Put the text in place of what stands on the terminal's last line, as far as that is wide."""
        width = max(
            1, shutil.get_terminal_size().columns - 1
        )  # in the last column some terminals go on to the next line
        self._out.write(f"\r{printable(text)[:width]}\x1b[K")
        self._out.flush()

    # --- asking -----------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Show what a person has to do; also on a quiet console."""
        self._show(text, "")

    def ask(self, question: str) -> str:
        """The line that a person types, without its end; raises `EOFError` if there is nobody to type one."""
        with self._at_person():
            self._out.write(printable(question))
            self._out.flush()
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
            if self._rich is None or self._rich_file is not self.file:
                from rich.console import Console as RichConsole

                self._rich_file = self.file

                colored = self.is_colored
                # soft_wrap, highlight and emoji off: a line is shown as it is, whatever it looks like
                self._rich = RichConsole(
                    file=cast(IO[str], self._out),
                    markup=False,
                    highlight=False,
                    emoji=False,
                    soft_wrap=True,
                    force_terminal=self.is_terminal or colored,
                    # with FORCE_COLOR alone nothing says what the reader of that file can show
                    color_system=None if not colored else "auto" if self.is_terminal else "standard",
                )
            return self._rich

    def _show(self, text: str, style: str) -> None:
        self._show_all([(text, style)])

    def _show_all(self, messages: Sequence[tuple[str, str]]) -> None:
        shown = [(_lines_of(text), style) for text, style in messages]
        with self._mutex:
            if self.live is None and not self.is_colored:
                self._plain("\n".join(text for text, _ in shown))
                return
            from rich.text import Text

            colored = self.is_colored
            self._render(Text("\n").join(Text(text, style if colored else "") for text, style in shown))

    def _plain(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def _render(self, renderable: Any) -> None:
        with self._mutex:
            self.rich().print(renderable)


class _Patient:
    """A file to write to, whatever becomes of whoever reads it: that is no reason to stop a delivery."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @property
    def encoding(self) -> str:
        """Never None."""
        return getattr(self._file, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """A narrow encoding (LANG=C) shows escapes instead of failing."""
        with contextlib.suppress(*_DEAF):
            self._file.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        """As far as that is possible."""
        with contextlib.suppress(*_DEAF):
            self._file.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal; one that is closed is none."""
        try:
            return self._file.isatty()
        except ValueError:
            return False


def _lines_of(text: str) -> str:
    """The text as it may be shown: no line of it obeys to anybody, and there are not too many."""
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        lines = [*lines[:LINES_MAX], f"... and {len(lines) - LINES_MAX} more lines"]
    return "\n".join(printable(line) for line in lines)


if TYPE_CHECKING:
    _console: Console = TerminalConsole()
