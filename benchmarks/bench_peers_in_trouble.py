"""F1 to F4: the same trouble for everybody. A kill in the middle of a large file, an archive that is away for 20 s, a
file that is rewritten while it is sent, and two clients at the same delivery.

A program that was killed is started again with the same command, as a person would. What arrived is read from the server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import programs
import work_sets
from bench_resume import PATIENCE_S
from figures import ROOT, Figure, Goal, Scale, number
from programs import BUCKET, Ours
from sink_server import Sink
from work_sets import WorkSet

OUTAGE_S: Final = 20.0
LOOK_S: Final = 0.01
SETTLED_S: Final = 0.3

Command = Callable[[WorkSet, str], Sequence[str]]

PEERS: Final[dict[str, Command]] = {
    "s5cmd": programs.s5cmd,
    "rclone": programs.rclone,
    "upload_file": lambda work, url: programs.boto3(work, url, "upload_file", 2),
    "aws cli": programs.aws_cli,
}


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    sent_again: int
    left_open: int
    missing: int
    code: int


def _start(command: Sequence[str], **more: str) -> subprocess.Popen[bytes]:
    silent, environment = subprocess.DEVNULL, programs.environment(**more)
    return subprocess.Popen(command, env=environment, stdout=silent, stderr=silent, start_new_session=True)


def _until(sink: Sink, bytes_stored: int, process: subprocess.Popen[bytes]) -> None:
    while int(sink.stats()["bytes"]) < bytes_stored:
        if process.poll() is not None:
            raise RuntimeError(f"it ended before {bytes_stored} bytes were there")
        time.sleep(LOOK_S)


def _killed(command: Command, work: WorkSet) -> Outcome:
    """SIGKILL at half of the bytes, then the same command again."""
    with Sink(buckets=[BUCKET]) as sink:
        first = _start(command(work, sink.url))
        _until(sink, work.bytes // 2, first)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        second = _start(command(work, sink.url))
        code = second.wait(PATIENCE_S)
        stats = sink.stats()
    return Outcome(stats["bytes"] - work.bytes, stats["uploads_open"], work.files - stats["objects"], code)


def _cut_off(command: Command, work: WorkSet) -> Outcome:
    """The server goes away in the middle and is there again after a while; what it had is counted as having arrived."""
    with Sink(buckets=[BUCKET]) as sink:
        process = _start(command(work, sink.url))
        _until(sink, work.bytes // 4, process)
        os.killpg(process.pid, signal.SIGSTOP)  # so that nothing arrives uncounted
        time.sleep(SETTLED_S)
        port, before = sink.port, sink.stats()
        sink.close()
        os.killpg(process.pid, signal.SIGCONT)
        time.sleep(OUTAGE_S)
        with Sink(buckets=[BUCKET], port=port) as again:
            code = process.wait(PATIENCE_S)
            after = again.stats()
    missing = max(0, work.files - before["objects"] - after["objects"])
    return Outcome(max(0, before["bytes"] + after["bytes"] - work.bytes), after["uploads_open"], missing, code)


def _everybody(trouble: Callable[[Command, WorkSet], Outcome], work: WorkSet, kind: str) -> dict[str, Outcome]:
    found = {name: trouble(command, work) for name, command in PEERS.items()}
    with Ours(kind) as delivery:
        found["ours"] = trouble(delivery.command, work)
    return found


def f1(scale: Scale) -> Iterator[Figure]:
    """A large file that is killed halfway."""
    work = work_sets.large(1, scale(1 << 30, 100 << 20))
    found = _everybody(_killed, work, "large")
    yield Figure(
        "F1",
        f"1 x {number(work.size)} B, killed at 50 % and started again: bytes sent again, in percent of the file",
        Goal("<=", 100 * 64 / 1024, "%"),
        100 * found["ours"].sent_again / work.bytes,
        "%",
        beside={
            name: f"{100 * one.sent_again / work.bytes:.0f} %, {one.left_open} uploads left open"
            for name, one in found.items()
        },
    )


def f2(scale: Scale) -> Iterator[Figure]:
    """Many files, and an archive that nobody reaches for 20 s."""
    work = work_sets.medium(scale(1_000, 100))
    found = _everybody(_cut_off, work, "medium")
    yield Figure(
        "F2",
        f"{work.files:,} x {number(work.size)} B, the archive away for {OUTAGE_S:.0f} s: files that never arrived",
        Goal("<=", 0, ""),
        found["ours"].missing,
        "",
        beside={name: f"{one.missing} missing, exit code {one.code}" for name, one in found.items()},
    )


# --- a file that is rewritten while it is sent -----------------------------------------------------


class Gate:
    """Passes connections on to a port; once so many bytes went through it, `act` is called before any other does."""

    def __init__(self, port: int, after: int, act: Callable[[], None]) -> None:
        self._to, self._after, self._act = port, after, act
        self.passed = 0
        """Bytes that came from clients: bodies, heads and all, whether what they belong to arrived whole or not."""
        self._turn = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._pass, args=(here, there, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(there, here, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):  # one side went away
            while data := source.recv(1 << 16):
                if counted:
                    with self._turn:
                        self.passed, before = self.passed + len(data), self.passed
                        if before < self._after <= self.passed:
                            self._act()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()


@contextmanager
def _emulator() -> Iterator[tuple[str, int]]:
    """The server of the tests, which keeps what it is sent: its URL and port."""
    command = [sys.executable, "-m", "tests.emulator", "--bucket", BUCKET]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url: str = json.loads(process.stdout.readline())["url"]
            yield url, int(url.rsplit(":", 1)[1])
        finally:
            process.terminate()


@dataclass(frozen=True)
class Changing(WorkSet):
    """A work set whose source is a copy, to be written to."""

    place: Path = Path()

    @property
    def source(self) -> Path:
        return self.place


# The emulator lists by the second version of that request only, which rclone has to be told.
_LISTING: Final = {"RCLONE_S3_LIST_VERSION": "2"}


def _stored(url: str, key: str) -> bytes | None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    keys = {"aws_access_key_id": programs.KEYS["AWS_ACCESS_KEY_ID"]}
    keys["aws_secret_access_key"] = programs.KEYS["AWS_SECRET_ACCESS_KEY"]
    config = Config(s3={"addressing_style": "path"})
    store = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **keys)
    try:
        data: bytes = store.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except ClientError:
        return None
    return data


def _rewritten(command: Command, work: WorkSet) -> str:
    """What is visible after the source was rewritten in place with a quarter of it sent, and how the program ended."""
    with tempfile.TemporaryDirectory(dir=work_sets.PLACE) as place, _emulator() as (url, port):
        shutil.copytree(work.source, place, dirs_exist_ok=True)
        changing = Changing(work.name, work.files, work.size, work.directories, place=Path(place))
        (path,) = [found for found in Path(place).rglob("*") if found.is_file()]
        old = path.read_bytes()
        new = bytes(len(old))

        def rewrite() -> None:
            with path.open("r+b") as file:
                file.write(new)

        gate = Gate(port, work.bytes // 4, rewrite)
        code = _start(command(changing, gate.url), **_LISTING).wait(PATIENCE_S)
        gate.close()
        if path.read_bytes() != new:
            raise RuntimeError("the program ended before the source was rewritten")
        data = _stored(url, str(path.relative_to(place)))
        seen = {None: "nothing", old: "the old file", new: "the new file"}.get(data, "a mixture")
        return f"{seen} is visible, exit code {code}"


def f3(scale: Scale) -> Iterator[Figure]:
    """A file that is rewritten while it is sent."""
    work = work_sets.large(1, scale(256 << 20, 64 << 20))
    found = {name: _rewritten(command, work) for name, command in PEERS.items()}
    with Ours("large") as delivery:
        found["ours"] = _rewritten(delivery.command, work)
    lies = found["ours"].startswith("a mixture") or found["ours"].endswith("exit code 0")
    yield Figure(
        "F3",
        f"1 x {number(work.size)} B, rewritten in place once a quarter is sent: mixtures visible or called a success",
        Goal("<=", 0, ""),
        int(lies),
        "",
        beside=found,
    )


# --- two clients at the same delivery -------------------------------------------------------------


def _both(commands: tuple[Command, Command], work: WorkSet) -> tuple[int, str]:
    """How many bytes arrived twice, and how both ended."""
    with Sink(buckets=[BUCKET]) as sink:
        started = [_start(command(work, sink.url)) for command in commands]
        codes = sorted(process.wait(PATIENCE_S) for process in started)
        again = int(sink.stats()["bytes"]) - work.bytes
    return again, f"{100 * again / work.bytes:.0f} %, exit codes {codes[0]} and {codes[1]}"


def f4(scale: Scale) -> Iterator[Figure]:
    """Two machines that deliver the same at the same time."""
    work = work_sets.medium(scale(1_000, 100))
    found = {name: _both((command, command), work) for name, command in PEERS.items()}
    with Ours("medium") as delivery:

        def elsewhere(what: WorkSet, url: str) -> Sequence[str]:
            return delivery.command(what, url, journal="another-journal")

        found["ours"] = _both((delivery.command, elsewhere), work)
    yield Figure(
        "F4",
        f"{work.files:,} x {number(work.size)} B by two clients at once: bytes sent twice, in percent",
        Goal("<=", 0, "%"),
        100 * found["ours"][0] / work.bytes,
        "%",
        beside={name: words for name, (_, words) in found.items()},
    )


FIGURES: Final = {"F1": f1, "F2": f2, "F3": f3, "F4": f4}
TITLE: Final = "The same trouble for everybody"
