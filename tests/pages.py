"""Pages as tests read them: their code blocks, and a shell that types what a reader would type.

A block says by its language what becomes of it: a `console` block is typed command by command, and each must print what
stands below it; a `python` block is run, and must print the `text` block that follows,
if one does. An HTML comment on
the line before changes that: `<!-- file: NAME -->` writes the block to a file instead, `<!-- not run: WHY -->` leaves it
alone, and after `<!-- figures vary -->` numbers are not compared. In what is printed, `...` stands for anything.
"""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from tests.command_line import ROOT, environment
from upload_adapters.cli.demo_data import fits

DOCS = ROOT / "docs"
COMMAND_S = 120

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\s`]*)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=fence)[ \t]*$",
    re.M | re.S,
)
_NOTE = re.compile(r"<!-- *(file|not run|figures vary)(?:: *(.+?))? *-->\n?\Z")


def all_pages() -> list[Path]:
    """The README and every page, without what was built."""
    return [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]


@attrs.frozen
class Block:
    """A fenced block: where it begins, its language, and what the comment before it says."""

    line: int
    language: str
    text: str
    note: str = ""
    about: str = ""


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    for found in _BLOCK.finditer(text):
        note = _NOTE.search(text[: found.start()])
        body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.M)
        kind, about = (note[1], note[2] or "") if note else ("", "")
        yield Block(text.count("\n", 0, found.start()) + 1, found["language"], body, kind, about)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with what it prints; a command goes on where a line begins with `> `.

    >>> list(commands("$ echo a \\\\\\n>   b\\na b\\n$ true\\n"))
    [('echo a \\\\\\n  b', 'a b\\n'), ('true', '')]
    """
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        lines = part.splitlines(keepends=True)
        count = 1
        while count < len(lines) and lines[count].startswith("> "):
            count += 1
        yield (
            lines[0].rstrip("\n") + "".join("\n" + line[2:].rstrip("\n") for line in lines[1:count]),
            "".join(lines[count:]),
        )


_OF_THE_DAY = (
    (r"\d{4}-\d\d-\d\d[ T][\d:.]+Z?", "TIME"),
    (r"\bprocess \d+ on \S+?(?=[\s:,;]|$)", "process N on HOST"),
    (r"\b\d+(?:\.\d+)? ?m?s\b", "N s"),
    (r"\brecord \d+ of\b", "record N of"),
    (r"\b\d+(?= records are whole)", "N"),
)


def without_figures_of_the_day(text: str, *, vary: bool = False) -> str:
    """What is printed, without times, process numbers and counts of records; with `vary`, without any number.

    >>> without_figures_of_the_day("4 files valid; 22.5 KiB sent in 0.6 s")
    '4 files valid; 22.5 KiB sent in N s'
    """
    for pattern, instead in _OF_THE_DAY:
        text = re.sub(pattern, instead, text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\d+(?:[.,]\d+)*", "N", text) if vary else text


def matches(shown: str, printed: str, *, vary: bool = False) -> bool:
    """Whether a command printed what the page shows, figures of the day and `...` left open."""
    said = without_figures_of_the_day(shown.strip("\n"), vary=vary)
    pattern = re.escape(said).replace(re.escape("..."), ".*?")
    return re.fullmatch(pattern, without_figures_of_the_day(printed.strip("\n"), vary=vary), re.S) is not None


class Shell:
    """One bash that types commands in a directory; what one command sets, such as a directory, holds for the next."""

    _MARK = "--- a command of the page has ended: "

    def __init__(self, directory: Path, env: dict[str, str], answer: Callable[[str], str] | None = None) -> None:
        """`answer` is somebody at the keyboard: what they type after seeing that line, or ""."""
        self._code = 0
        self._answer = answer
        self._stdin = os.devnull if answer is None else str(directory / ".keyboard")
        if answer is not None:
            os.mkfifo(self._stdin)
        self._keyboard = os.open(self._stdin, os.O_RDWR | os.O_NONBLOCK)
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str, *, timeout_s: float = COMMAND_S) -> tuple[str, int]:
        """What the command printed, on either stream, and its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        guard = threading.Timer(timeout_s, self.kill)
        guard.start()
        # `$?` is what the command before ended with, as it would be at a prompt.
        asked = f"{{ (exit {self._code})\n{command}\n}} <{self._stdin}; printf '\\n{self._MARK}%s\\n' $?\n"
        self._process.stdin.write(asked.encode())
        self._process.stdin.flush()
        printed = typed = ""
        while self._MARK not in printed:
            line = self._process.stdout.readline().decode()
            assert line, f"{command!r} ended the shell, or took more than {timeout_s} s; it had printed {printed!r}"
            if typed and ": " in line:  # a prompt; a terminal shows there what is typed, and ends the line
                line, typed = line.replace(": ", f": {typed}\n", 1), ""
            printed += line
            if self._answer is not None and (answer := self._answer(line)):
                os.write(self._keyboard, answer.encode() + b"\n")
                typed = answer
        guard.cancel()
        printed, _, code = printed.rpartition("\n" + self._MARK)
        self._code = int(code)
        return printed, self._code

    def kill(self) -> None:
        """End the shell and whatever it left in the background."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """The same, and give everything back."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        os.close(self._keyboard)
        self._process.wait()


class Desk:
    """The directory that a reader works in: `upload-core` and `python` on the path unless `bare`, four images if wanted."""

    def __init__(
        self,
        root: Path,
        *,
        images: bool = False,
        bare: bool = False,
        answer: Callable[[str], str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        if images:
            (root / "images").mkdir()
            for number in range(1, 5):
                (root / "images" / f"m31_{number:04d}.fits").write_bytes(fits("M31", number))
        bin_ = root / ".bin"
        bin_.mkdir()
        self._script(bin_ / "python3", f'exec "{sys.executable}" "$@"')
        self.env = environment(**(env or {}))
        if bare:
            own = str(Path(sys.executable).parent)
            self.env["PATH"] = os.pathsep.join(part for part in self.env["PATH"].split(os.pathsep) if part != own)
        else:
            self._script(bin_ / "upload-core", f'exec "{sys.executable}" -m upload_adapters.cli "$@"')
            self._script(bin_ / "python", f'exec "{sys.executable}" "$@"')
        self.env["PATH"] = f"{bin_}:{self.env['PATH']}"
        self.shell = Shell(root, self.env, answer)

    def _script(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def follow(self, text: str) -> list[str]:
        """Do all that a page says, in order, and return what did not come out as it says."""
        wrong: list[str] = []
        found = [block for block in blocks(text) if block.note != "not run"]
        for block, after in itertools.zip_longest(found, found[1:]):
            if block.note == "file":
                (self.root / block.about).parent.mkdir(parents=True, exist_ok=True)
                (self.root / block.about).write_text(block.text, "utf-8")
            elif block.language == "console":
                wrong += self._type(block)
            elif block.language == "python":
                wrong += self._program(block, after)
        return wrong

    def _type(self, block: Block) -> Iterator[str]:
        for command, shown in commands(block.text):
            printed, code = self.shell.run(command)
            if not matches(shown, printed, vary=block.note == "figures vary"):
                yield f"line {block.line}: {command}\nprinted:\n{printed}\nand the page shows:\n{shown}"
            elif code and not shown.strip():
                yield f"line {block.line}: {command}\nended with {code}, and the page does not say so"

    def _program(self, block: Block, after: Block | None) -> Iterator[str]:
        shown = after.text if after is not None and after.language == "text" else "..."
        (self.root / ".program.py").write_text(block.text, "utf-8")
        printed, code = self.shell.run('python -W error -c "$(cat .program.py)"')
        if code or not matches(shown, printed):
            yield f"line {block.line}: the program ended with {code} and printed:\n{printed}\nthe page shows:\n{shown}"

    def close(self) -> None:
        self.shell.close()


def checkout(target: Path) -> None:
    """What a fresh clone would hold: every file that git knows or would take, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
