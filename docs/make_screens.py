"""Takes the pictures of `screens.md`: real deliveries in a real terminal (tmux), to the archive of the tests' emulator.

`scripts/screens` runs it. What is shown is what the commands drew; only the paces are set so that there is something to see.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]

from tests.adapters.aws import emulated_archive  # noqa: E402 - the checkout goes onto the path first
from tests.emulator import Emulator, Fault  # noqa: E402 - as above
from upload_adapters.memory.pipeline import MemoryValidator  # noqa: E402 - as above

SCREENS = ROOT / "docs" / "screens"
COLUMNS, ROWS = 96, 24
SOCKET = "upload-core-screens"
MIB = 1 << 20
THEME = TerminalTheme(
    (24, 26, 31),
    (214, 218, 224),
    [
        (60, 64, 72),
        (229, 92, 92),
        (126, 196, 110),
        (222, 178, 74),
        (97, 160, 234),
        (190, 130, 220),
        (84, 190, 200),
        (214, 218, 224),
    ],
    [
        (110, 116, 126),
        (255, 120, 120),
        (150, 220, 130),
        (245, 205, 110),
        (130, 185, 255),
        (215, 160, 240),
        (120, 215, 225),
        (255, 255, 255),
    ],
)


class Judge(MemoryValidator):
    """The archive's validator, at the pace of one that reads every file."""

    seconds = 0.004
    strict = False

    def _new_rows(self) -> list[list[str]]:
        # it writes each verdict as it comes, not all of them when the last one is there
        self._waiting: list[list[str]] = [*getattr(self, "_waiting", []), *super()._new_rows()]
        taken, self._waiting = self._waiting[:5], self._waiting[5:]
        return taken

    def _judge(self, relpath: str) -> Any:
        time.sleep(self.seconds)
        return super()._judge(relpath)

    def _problems(self, relpath: str) -> Iterator[str]:
        if self.strict and relpath.endswith(("0077.fits", "0177.fits", "0277.fits")):
            yield "OBJECT is missing from the primary header"
        elif self.strict and relpath.endswith("0133.fits"):
            yield "HDU 2: 4,096 bytes of data expected, 4,000 found"
        else:
            yield from super()._problems(relpath)


emulated_archive.MemoryValidator = Judge  # type: ignore[misc]
emulated_archive.DATASET, emulated_archive.DELIVERY = "m31", "0001"


class Terminal:
    """A tmux of its own, in a directory; what is typed there is seen on its pictures."""

    def __init__(self, root: Path, variables: dict[str, str], columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.columns = columns
        self._tmux("kill-server", check=False)
        env = {**os.environ, **variables, "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
        for name in ("NO_COLOR", "FORCE_COLOR", "TMUX", "BASH_ENV", "ENV"):
            env.pop(name, None)
        shell = "exec bash --norc --noprofile" if shutil.which("bash") else "exec sh"
        size = ["-x", str(columns), "-y", str(rows)]
        self._tmux("-f", os.devnull, "new-session", "-d", *size, "-c", str(root), "sleep 3600", env=env)
        self._tmux("set", "-g", "default-terminal", "tmux-256color")
        self._tmux("set", "-g", "status", "off")
        self._tmux("respawn-pane", "-k", "-c", str(root), shell, env=env)
        time.sleep(0.5)
        self.type("PS1='$ '; clear")
        self.wait_for(r"\A\$ ?\n*\Z")

    def _tmux(self, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(["tmux", "-L", SOCKET, *arguments], capture_output=True, text=True, env=env)
        if check and done.returncode:
            raise RuntimeError(f"tmux {arguments[0]}: {done.stderr}")
        return done.stdout

    def type(self, line: str) -> None:
        """A line and Return."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """One key, by tmux's name for it."""
        self._tmux("send-keys", key)

    def text(self) -> str:
        """What is on the screen, without colours."""
        return self._tmux("capture-pane", "-p")

    def wait_for(self, pattern: str, seconds: float = 120) -> None:
        """Until the screen shows it."""
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text(), re.MULTILINE):
            if time.monotonic() > until:
                raise RuntimeError(f"{pattern!r} did not come:\n{self.text()}")
            time.sleep(0.1)

    def wait_for_prompt(self, seconds: float = 240) -> None:
        """Until the command has ended."""
        time.sleep(1)  # it takes that long to start
        self.wait_for(r"^\$ ?\n*\Z", seconds)

    def picture(self, name: str, title: str) -> None:
        """Keep the screen as an SVG."""
        lines = self._tmux("capture-pane", "-e", "-p").rstrip("\n").split("\n")
        while lines and re.sub(r"\x1b\[[\d;]*m", "", lines[-1]).strip() in ("", "$"):
            lines.pop()
        console = Console(
            record=True, width=self.columns, file=StringIO(), force_terminal=True, color_system="truecolor"
        )
        console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        svg = console.export_svg(title=title, theme=THEME, unique_id=f"screen-{name}")
        # whoever looks at it need not fetch a font from somewhere
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        svg = svg.replace("Fira Code, monospace", "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace")
        SCREENS.mkdir(exist_ok=True)
        (SCREENS / f"{name}.svg").write_text(svg, "utf-8")
        print(f"{name}.svg")

    def close(self) -> None:
        """End it, and whatever still runs in it."""
        self._tmux("kill-server", check=False)


@contextmanager
def place(small: int, large: int = 0, columns: int = COLUMNS, rows: int = ROWS) -> Iterator[tuple[Any, Terminal]]:
    """An archive, a data set of that many files, and a terminal where both are at hand."""
    with tempfile.TemporaryDirectory(prefix="upload-core-screens-") as directory, Emulator() as aws:
        root = Path(directory)
        archive = emulated_archive.EmulatedArchive(aws, root, count=0)
        chance = random.Random(31)
        for number in range(small):
            path = archive.source / f"night{number % 4:02d}" / f"m31_{number:04d}.fits"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(chance.randbytes(chance.randint(8_000, 60_000)))
        for number in range(large):
            (archive.source / f"stack_{number}.fits").write_bytes(chance.randbytes(MIB) * 96)
        (root / "bin").mkdir()
        script = root / "bin" / "upload-core"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m upload_adapters.cli "$@"\n')
        script.chmod(0o755)
        variables = aws.environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'adapters'}", "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [script, "index", "data", "-o", "images.csv", "-q"], cwd=root, check=True, env={**os.environ, **variables}
        )
        terminal = Terminal(root, variables, columns, rows)
        try:
            yield archive, terminal
        finally:
            terminal.close()
            archive.close()


DELIVER = "upload-core deliver data images.csv --to mast.toml --dataset m31 --delivery-id 0001"
JOURNAL = ".upload-core/m31-0001-staging"


def healthy() -> None:
    """A run that goes well: the small files are there, the large ones on their way, the validator is behind."""
    Judge.seconds = 0.06
    with place(700, 2) as (_, terminal):
        terminal.type(f"{DELIVER} --max-bandwidth 6MB/s")
        terminal.wait_for(r"files behind")
        time.sleep(6)
        terminal.picture("healthy", "upload-core deliver")
        Judge.seconds = 0.0
        terminal.wait_for_prompt()
        terminal.picture("complete", "the end of a run")


def narrow() -> None:
    """The same on forty columns."""
    Judge.seconds = 0.06
    with place(700, 2, columns=40, rows=16) as (_, terminal):
        terminal.type(f"{DELIVER} --max-bandwidth 6MB/s")
        terminal.wait_for(r"^sent +[3-6]\d\d of")
        terminal.picture("narrow", "40 columns")


def outage() -> None:
    """The archive goes away in the middle and comes back."""
    Judge.seconds = 0.01
    with place(900, 1) as (archive, terminal):
        terminal.type(f"{DELIVER} --max-bandwidth 6MB/s")
        terminal.wait_for(r"^judged .*\d\d of")
        archive.aws.order(Fault("refused", code="ServiceUnavailable", times=0))
        terminal.wait_for(r"out of reach for \d\d s", 90)
        time.sleep(8)
        terminal.picture("outage", "an outage")
        archive.aws.faults.clear()
        terminal.wait_for(r"answers again", 90)
        time.sleep(6)
        terminal.picture("outage-over", "the outage is over")


def failing() -> None:
    """Some files are found invalid; what can be asked afterwards."""
    Judge.seconds, Judge.strict = 0.0, True
    with place(300) as (_, terminal):
        terminal.type(DELIVER)
        terminal.wait_for_prompt()
        terminal.picture("failing", "a run with bad files")
        terminal.type(f"clear; upload-core history {JOURNAL} night01/m31_0077.fits")
        terminal.wait_for("in all 1 attempt")
        terminal.picture("history", "upload-core history")
        terminal.type(f"clear; upload-core replay {JOURNAL} --until 400; upload-core diff {JOURNAL} 400 end")
        terminal.wait_for("-> invalid")
        time.sleep(1)
        terminal.picture("replay-diff", "upload-core replay, upload-core diff")


def resume() -> None:
    """Killed with Ctrl-C twice, looked at, resumed."""
    Judge.seconds = 0.005
    with place(500, 1) as (_, terminal):
        terminal.type(f"{DELIVER} --max-bandwidth 8MB/s")
        terminal.wait_for(r"^judged .*\d\d of")
        time.sleep(3)
        terminal.press("C-c")
        terminal.wait_for("once more ends at once")
        terminal.press("C-c")
        terminal.wait_for_prompt()
        terminal.type(f"upload-core status {JOURNAL}")
        terminal.wait_for("next: ")
        terminal.wait_for_prompt()
        terminal.type(f"upload-core resume {JOURNAL}")
        terminal.wait_for("complete: ")
        terminal.picture("resume", "killed, and resumed")


def mended() -> None:
    """Killed, a bad file mended and indexed again while the validator of before is still at work."""
    Judge.seconds, Judge.strict = 0.02, True
    with place(500) as (archive, terminal):
        terminal.type(f"{DELIVER} --max-bandwidth 500K & sleep 26; kill -9 $!; wait $! 2>/dev/null; clear")
        terminal.wait_for_prompt()
        bad = archive.source / "night01" / "m31_0077.fits"
        bad.write_bytes(bad.read_bytes() + bytes(2880))
        Judge.strict = False
        terminal.type("clear; upload-core index data -o images.csv")
        terminal.wait_for_prompt()
        terminal.type(DELIVER)
        terminal.wait_for("has to (end|listen)")
        terminal.wait_for_prompt()
        terminal.picture("mended", "a file was mended while the validator was at work")


def cron() -> None:
    """Nobody watches: what a nightly job leaves in its log."""
    Judge.seconds = 0.12
    with place(700) as (archive, terminal):
        terminal.type(f"{DELIVER} --json > cron.log 2>&1; echo exit code $?; cat cron.log")
        time.sleep(20)
        archive.aws.order(Fault("refused", code="ServiceUnavailable", times=0))
        time.sleep(25)
        archive.aws.faults.clear()
        terminal.wait_for("exit code", 300)
        terminal.wait_for_prompt()
        terminal.picture("cron", "a log from cron")


def doctor() -> None:
    """Whether a delivery would work from here."""
    with place(10) as (_, terminal):
        terminal.type("upload-core doctor --to mast.toml")
        terminal.wait_for(r"\d+ checks")
        terminal.picture("doctor", "upload-core doctor")


TAKES: dict[str, Callable[[], None]] = {
    take.__name__: take for take in (healthy, narrow, outage, failing, resume, mended, cron, doctor)
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or TAKES:
        Judge.strict = False
        TAKES[wanted]()
