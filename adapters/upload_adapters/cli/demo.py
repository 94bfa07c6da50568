"""`upload-core demo`: a real delivery that is killed midway and resumed, told as it happens.

Everything shown is the real command line, run in processes of its own; nothing is staged but the one bad file.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from upload_adapters.cli import demo_data
from upload_adapters.cli.output import files
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.lifecycle import VALID

JOURNAL: Final = ".upload-core/demo-0001-staging"
DELIVER: Final = ("deliver", "data", "index.csv", "--dataset", "demo", "--delivery-id", "0001")
BEGIN: Final = "upload-core "


class NotAsToldError(Exception):
    """Something happened otherwise than the demo says."""


@click.command()
@click.option(
    "--files", "count", type=click.IntRange(20, 100_000), default=60, show_default=True, help="Files to deliver."
)
@click.option("--into", type=click.Path(file_okay=False), help="Keep everything in this new directory.")
def command(count: int, into: str | None) -> int:
    """Deliver a small data set, kill it midway, resume.

    Ends with exit code 0 if everything happened as it says.
    """
    try:
        if into is not None:
            Path(into).mkdir(parents=True)
            _Demo(Path(into)).play(count)
        else:
            with tempfile.TemporaryDirectory(prefix="upload-core-demo-") as directory:
                _Demo(Path(directory)).play(count)
    except FileExistsError as error:
        raise click.UsageError(f"{into} exists already; name a new directory") from error
    except NotAsToldError as error:
        click.echo(f"\nThis is not as it should be: {error}", err=True)
        return 1
    return 0


class _Demo:
    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._to = ("--to", f"file://{self._root}/archive", "--check", demo_data.CHECK)
        self._journal = self._root / JOURNAL

    def play(self, count: int) -> None:
        """The whole story; raises `NotAsToldError` where it goes another way."""
        _tell(f"1. A data set of {count} files in {self._root}/data, one of them cut short on purpose.")
        if not demo_data.build(self._root / "data", count):
            click.echo("(pyarrow is not installed, so there is no Parquet file in it)")
        self._run(["index", "data", "-o", "index.csv"], 0)
        _tell("2. It is delivered, and after a third of the verdicts the process is killed with SIGKILL.")
        self._kill_midway(count // 3)
        valid = self._valid()
        self._run(["status", JOURNAL], 0)
        _tell("3. Resumed: what is valid is not sent again.")
        self._run(["resume", JOURNAL], 1)
        again = self._sent_twice() & valid
        click.echo(f"Valid before the kill: {files(len(valid))}. Sent again of these: {len(again)}.")
        _expect(not again, f"{sorted(again)} were valid and sent again")
        _tell("4. What happened to the bad file?")
        self._run(["history", JOURNAL, demo_data.BAD_FILE], 0)
        _tell("5. Mended and indexed again; the same command sends nothing else.")
        demo_data.mend(self._root / "data")
        self._run(["index", "data", "-o", "index.csv", "-q"], 0)
        summary = self._run([*DELIVER, *self._to, "--json"], 0, silent_stdout=True)
        size = (self._root / "data" / demo_data.BAD_FILE).stat().st_size
        _expect(json.loads(summary)["bytes"] == size, "more was sent than the mended file")
        self._run(["verify", JOURNAL, "--archive"], 0)
        click.echo("\nAll as told: killed in the middle, and nothing was lost, doubled or mixed up.")

    def _run(self, arguments: Sequence[str], code: int, *, silent_stdout: bool = False) -> str:
        _show_command(arguments, self._root)
        done = subprocess.run(
            [sys.executable, "-m", "upload_adapters.cli", *arguments], cwd=self._root, capture_output=True, text=True
        )
        for text in (done.stderr, "" if silent_stdout else done.stdout):
            _show_output(text)
        _expect(done.returncode == code, f"{arguments[0]} ended with exit code {done.returncode}, not {code}")
        return done.stdout

    def _kill_midway(self, verdicts: int) -> None:
        arguments = [*DELIVER, *self._to, "-q", "--events"]
        _show_command(arguments, self._root)
        seen = 0
        with subprocess.Popen(
            [sys.executable, "-m", "upload_adapters.cli", *arguments], cwd=self._root, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                seen += json.loads(line)["kind"] == ev.FileValidated.__name__
                if seen == verdicts:
                    break
            process.kill()
        click.echo(f"(its records are read from --events; process {process.pid} was killed after {seen} verdicts)")
        _expect(process.returncode < 0, "the delivery was over before it could be killed")

    def _valid(self) -> set[str]:
        reader = JournalReader(self._journal)
        reader.advance()
        return {reader.delivery.table.path(file) for file in reader.delivery.files_in(VALID)}

    def _sent_twice(self) -> set[str]:
        reader = JournalReader(self._journal)
        reader.advance()
        started = Counter(r.event.file for r in reader.records() if isinstance(r.event, ev.TransferStarted))
        return {reader.delivery.table.path(file) for file, times in started.items() if times > 1}


def _tell(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")


def _show_command(arguments: Sequence[str], root: Path) -> None:
    shown = shlex.join(arguments).replace(str(root), "$PWD")
    click.echo(click.style(f"$ {BEGIN}{shown}", fg="cyan"))


def _show_output(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"  {line}")


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise NotAsToldError(otherwise)
