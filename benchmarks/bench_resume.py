"""T7: a delivery that is killed with SIGKILL and resumed; what it sends twice, and how soon it sends anything new.

The validator lives on in its own process, as an archive's does. What was sent is read from the server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import work_sets
from bench_transfers import BUCKET, KEYS, THREADS, inherited
from deliver_to_sink import TRANSPORTS, start_validator
from figures import ROOT, Figure, Goal, Scale, number
from sink_server import Sink
from work_sets import MIB, WorkSet

SHARES: Final = (10, 50, 90)
"""Percent of the bytes after which it is killed."""
LOOK_S: Final = 0.01
PATIENCE_S: Final = 120.0
PARTS_AT_ONCE: Final = 8
PART: Final = 8 * MIB
TRANSPORT: Final = TRANSPORTS[-1]


@dataclass(frozen=True)
class Resumed:
    """What one kill cost."""

    killed_at: int
    """Bytes the server had acknowledged by then."""
    sent_again: int
    first_byte_s: float
    """From the start of the second process to the first new byte that the server acknowledged."""
    requests: int


def t7(scale: Scale) -> Iterator[Figure]:
    """Many small files and one large one, killed early, halfway and late."""
    small, large = work_sets.small(scale(10_000, 1_000)), work_sets.large(1, scale(1 << 30, 100 << 20))
    for kind, work, in_flight in (
        ("small", small, THREADS[TRANSPORT]["small"] * small.size),
        ("large", large, PARTS_AT_ONCE * PART),
    ):
        lives = {share: _killed_and_resumed(work, kind, share) for share in SHARES}
        what = f"{work.files:,} x {number(work.size)} B, killed at {', '.join(map(str, SHARES))} % of the bytes"
        yield Figure(
            "T7",
            f"{what}: most bytes sent again, beside those in flight",
            Goal("<=", 1.0),
            max(life.sent_again for life in lives.values()) / in_flight,
            beside={f"{share} %": f"{number(life.sent_again)} B again" for share, life in lives.items()},
            note=f"in flight are {number(in_flight)} B",
        )
        yield Figure(
            "T7",
            f"{what}: latest first new byte after the second start",
            Goal("<=", 5.0, "s"),
            max(life.first_byte_s for life in lives.values()),
            "s",
            beside={f"{share} %": f"{number(life.first_byte_s)} s" for share, life in lives.items()},
        )


def _killed_and_resumed(work: WorkSet, kind: str, share: int) -> Resumed:
    """Deliver, kill at that share of the bytes, deliver again; raises `RuntimeError` if it ends in any other way."""
    directory = tempfile.mkdtemp(prefix="run-", dir=work_sets.PLACE)
    with Sink(buckets=[BUCKET]) as sink, tempfile.TemporaryDirectory() as place:
        socket = os.path.join(place, "socket")
        validator = start_validator(directory, socket)
        try:
            first = _start(work, kind, sink, directory, socket)
            _until(sink, work.bytes * share // 100, first)
            first.kill()
            first.communicate()
            before = int(sink.stats()["bytes"])
            began = time.monotonic()
            second = _start(work, kind, sink, directory, socket)
            if before < work.bytes:
                _until(sink, before + 1, second)
            first_byte_s = time.monotonic() - began
            said, complaint = second.communicate(timeout=PATIENCE_S)
            if second.returncode or json.loads(said)["files"] != work.files or validator.wait(timeout=PATIENCE_S):
                raise RuntimeError(f"the second process did not deliver all of {work}: {complaint[-2000:]}")
            stats = sink.stats()
        finally:
            validator.kill()
            validator.wait()
            if validator.stdout is not None:
                validator.stdout.close()
            shutil.rmtree(directory)
    if (stats["objects"], stats["uploads_open"]) != (work.files, 0):
        raise RuntimeError(f"{stats['objects']} of {work.files} objects, {stats['uploads_open']} uploads left open")
    return Resumed(before, stats["bytes"] - work.bytes, first_byte_s, sum(stats["requests"].values()))


def _start(work: WorkSet, kind: str, sink: Sink, directory: str, socket: str) -> subprocess.Popen[str]:
    program = str(Path(ROOT) / "benchmarks" / "deliver_to_sink.py")
    what = ["--source", str(work.source), "--index", str(work.index), "--directory", directory]
    where = ["--url", sink.url, "--bucket", BUCKET, "--validator", socket]
    how = ["--transport", TRANSPORT, "--threads", str(THREADS[TRANSPORT][kind])]
    return subprocess.Popen(
        [sys.executable, program, *what, *where, *how],
        env={**inherited(), **KEYS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(sink: Sink, bytes_stored: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while int(sink.stats()["bytes"]) < bytes_stored:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it ended, or hung, before {bytes_stored} bytes were there: {process.communicate()[1]}")
        time.sleep(LOOK_S)


FIGURES: Final = {"T7": t7}
TITLE: Final = "Transfers that are killed and resumed"
