"""F1 and F2: the same trouble for everybody. A kill in the middle of a large file, and an archive that is away for 20 s.

Each program is started again with the same command, as a person would. What was sent is read from the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import programs
import work_sets
from bench_resume import PATIENCE_S
from figures import Figure, Goal, Scale, number
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


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, env=programs.environment(), stdout=silent, stderr=silent, start_new_session=True)


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


FIGURES: Final = {"F1": f1, "F2": f2}
TITLE: Final = "The same trouble for everybody"
