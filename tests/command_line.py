"""The command line as a process of its own, in a directory that a test made, and a small data set to run it on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "upload_adapters.cli"]
ROOT = Path(__file__).resolve().parent.parent

SLOW_CHECK = """
import time
from pathlib import Path

HOLD = Path(__file__).with_name("hold")
judged = 0

def check(path, relpath):
    global judged
    time.sleep(0.05)
    judged += 1
    while judged > 5 and HOLD.exists():
        time.sleep(0.02)
    if "bad" in relpath:
        return [f"{relpath} is [bold]bad\\x1b[31m"]
"""


def environment(**changes: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in ("UPLOAD_CORE_TO", "NO_COLOR")}
    return env | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'adapters'}", "TERM": "xterm"} | changes


started: "list[subprocess.Popen[str]]" = []
"""Processes of the test that runs; what a failed one leaves behind ends with it."""


def end_started() -> None:
    """Kill what still runs, and close its pipes."""
    while started:
        with started.pop() as process:
            process.kill()


class Desk:
    """A directory with `data/`, `index.csv` and `slow.py`; commands run in it and deliver to `archive/`."""

    def __init__(self, root: Path, count: int = 12) -> None:
        self.root = root
        self.data = root / "data"
        self.archive = root / "archive" / "d-1-staging"
        self.control = root / "archive" / "d-1-control"
        self.journal = root / ".upload-core" / "d-1-staging"
        self.data.mkdir()
        for number in range(count):
            (self.data / f"file {number:02d}.txt").write_text(f"content {number}\n")
        (root / "slow.py").write_text(SLOW_CHECK)

    def index(self) -> None:
        assert self.run("index", "data", "-o", "index.csv").returncode == 0

    def run(self, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.root,
            env=environment(**changes),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str, **changes: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.root,
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        started.append(process)
        return process

    @property
    def deliver(self) -> list[str]:
        to = f"file://{self.root}/archive"
        return ["deliver", "data", "index.csv", "--dataset", "d", "--delivery-id", "1", "--to", to]

    @property
    def deliver_slowly(self) -> list[str]:
        return [*self.deliver, "--check", "slow:check"]

    def hold(self) -> None:
        """A slow delivery judges five files and then no more until `go_on`, however long a test takes."""
        (self.root / "hold").touch()

    def go_on(self) -> None:
        (self.root / "hold").unlink()

    def equal(self) -> bool:
        """Whether the archive holds exactly the data, byte for byte."""
        return contents(self.data) == contents(self.archive)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def last_json(stdout: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return found


def wait_for_events(process: "subprocess.Popen[str]", kind: str, count: int = 1) -> None:
    """Read the `--events` of a process until it has told that many of a kind."""
    assert process.stdout is not None
    deadline = time.monotonic() + 30
    for line in process.stdout:
        count -= json.loads(line).get("kind") == kind
        if not count:
            return
        assert time.monotonic() < deadline
    raise AssertionError(f"the process ended before it told {kind}")
