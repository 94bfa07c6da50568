"""What a person sees: text is data, colours are ours, and nothing is drawn where nobody watches."""

import io
import os
import pty
import re
import select
from pathlib import Path

import pytest

from tests.command_line import COMMAND, Desk, environment
from upload_adapters.console import STYLES, TerminalConsole

HOSTILE = "[bold]x[/bold] \x1b[31mred\x1b[0m\u202e :smile: \x9b2J"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("file", [io.StringIO, Terminal])
def test_text_is_never_markup_nor_terminal_control(file):
    out = file()
    console = TerminalConsole(file=out)
    console.message(HOSTILE, "info")
    console.print(HOSTILE)
    shown = out.getvalue()
    assert "\x1b[31m" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert shown.count("[bold]x[/bold] \\x1b[31mred") == 2
    assert shown.count(":smile:") == 2


def test_force_color_colours_what_is_no_terminal_and_no_color_wins(monkeypatch):
    def shown() -> str:
        out = io.StringIO()
        TerminalConsole(file=out).message(HOSTILE, "error")
        return out.getvalue()

    monkeypatch.setenv("TERM", "dumb")  # as where a build server keeps the log
    assert "\x1b[" not in shown()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown().startswith("\x1b[1;31m[bold]x[/bold]")
    assert "\\x1b[31mred" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown()
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[" in shown()


class Unbuffered(io.TextIOBase):
    """A text file that keeps nothing back, so that an error comes where it is made."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, text: str) -> int:
        return os.write(self.fd, text.encode())

    def isatty(self) -> bool:
        return os.isatty(self.fd)


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "NO_COLOR"])
def test_whoever_stops_reading_stops_nothing(monkeypatch, variable):
    """A pipe without a reader, and a terminal that is gone: writing to it is EIO, which is neither of the usual errors."""
    monkeypatch.setenv(variable, "1")
    reading, writing = os.pipe()
    os.close(reading)
    ours, theirs = pty.openpty()
    os.close(ours)
    for fd in (writing, theirs):
        with pytest.raises(OSError, match=r"Broken pipe|Input/output error"):
            os.write(fd, b"x")
        console = TerminalConsole(file=Unbuffered(fd))  # type: ignore[arg-type]  # what is used of a file is there
        for _ in range(3):
            console.message("text", "error")
            console.print("text")
        os.close(fd)


@pytest.mark.parametrize("mtype", STYLES)
def test_a_terminal_gets_colours_and_everything_else_gets_none(mtype, monkeypatch):
    def shown(file: io.StringIO) -> str:
        TerminalConsole(file=file).message("text", mtype)
        return file.getvalue()

    assert shown(io.StringIO()) == "text\n"
    assert ("\x1b[" in shown(Terminal())) == bool(STYLES[mtype])
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert shown(Terminal()) == "text\n"


def test_quiet_shows_errors_only():
    out = io.StringIO()
    console = TerminalConsole(quiet=True, file=out)
    for mtype in STYLES:
        console.message(mtype, mtype)
    console.print("x")
    assert out.getvalue() == "error\n"


def test_anything_that_rich_can_render_is_rendered():
    from rich.table import Table

    table = Table("file")
    table.add_row("a.fits")
    out = io.StringIO()
    TerminalConsole(file=out).print(table)
    assert "a.fits" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_narrow_encoding_shows_escapes_and_does_not_fail():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    TerminalConsole(file=out).message("Größe", "info")
    assert raw.getvalue() == b"Gr\\xf6\\xdfe\n"


def test_a_closed_file_is_no_error():
    out = io.StringIO()
    out.close()
    TerminalConsole(file=out).message("x", "error")


def test_a_runaway_text_is_cut():
    out = io.StringIO()
    TerminalConsole(file=out).message("line\n" * 10_000, "info")
    assert out.getvalue().count("\n") < 100


def in_a_terminal(arguments: list[str], cwd: Path, **changes: str) -> tuple[int, str]:
    """Run the command line with standard error on a pseudo-terminal; its exit code and everything that was shown."""
    import subprocess

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=environment(**changes), stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        pieces = []
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
        code = process.wait(60)
    os.close(ours)
    return code, b"".join(pieces).decode("utf-8", "replace")


def test_a_terminal_shows_a_live_line_and_gets_its_cursor_back(tmp_path):
    desk = Desk(tmp_path, count=10)
    (desk.data / "bad [red]name").write_text("bad")
    desk.index()
    code, shown = in_a_terminal(desk.deliver_slowly, tmp_path)
    assert code == 1
    assert "of 11" in shown
    assert "bad [red]name was found invalid" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") >= 0
    assert "\x1b[31m\r" not in shown
    assert "[bold]bad\\x1b[31m" in shown


def test_a_warning_stands_on_a_line_of_its_own_above_the_live_line(tmp_path):
    desk = Desk(tmp_path, count=30)
    (desk.data / "zz bad name").write_text("bad")
    desk.index()
    _, shown = in_a_terminal(desk.deliver_slowly, tmp_path)
    before = shown[: shown.index("zz bad name was found invalid")]
    line = re.split(r"\n|\x1b\[2K", before)[-1]  # what a line feed or an erased line left of it
    assert "judged" not in line


def test_a_terminal_without_colours_gets_none(tmp_path):
    desk = Desk(tmp_path, count=3)
    desk.index()
    code, shown = in_a_terminal(desk.deliver, tmp_path, NO_COLOR="1")
    assert code == 0
    assert "\x1b[3" not in shown
    assert "complete: 3 files valid" in shown


def test_no_color_on_the_command_line_is_no_color_and_holds_for_it_alone(tmp_path, monkeypatch):
    desk = Desk(tmp_path, count=3)
    desk.index()
    code, shown = in_a_terminal([*desk.deliver, "--no-color"], tmp_path)
    assert code == 0
    assert not re.search(r"\x1b\[[\d;]*m", shown)
    assert "complete: 3 files valid" in shown
    from upload_adapters.cli import main

    main(["index", "nowhere", "--no-color"])
    assert "NO_COLOR" not in os.environ


def test_a_delivery_goes_on_when_its_terminal_is_gone(tmp_path):
    """As after `nohup` or `disown`, when a connection breaks: no SIGHUP ends it, and every write is EIO."""
    import subprocess

    desk = Desk(tmp_path, count=40)
    desk.index()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *desk.deliver_slowly, "--json", "-v"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.read(ours, 100)
        os.close(ours)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b'"outcome": "complete"' in out
    assert desk.equal()


def test_a_line_that_is_written_over_is_never_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    TerminalConsole(file=out).overwrite("1,000 of 2,000 files \x1b[31m read")
    assert out.getvalue() == "\r1,000 of 2,000 file\x1b[K"
