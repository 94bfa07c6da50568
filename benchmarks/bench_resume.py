"""T7: a delivery that is killed with SIGKILL and resumed; what it sends twice, and how soon it sends anything new.

The validator lives on in its own process, as an archive's does. What was sent is read from the server.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import work_sets
from deliver_to_sink import TRANSPORTS
from figures import Figure, Goal, Scale, number
from programs import BUCKET, THREADS, Ours, environment
from sink_server import Sink
from work_sets import MIB, WorkSet

SHARES: Final = (10, 50, 90)
"""Percent of the bytes after which it is killed."""
LOOK_S: Final = 0.01
PATIENCE_S: Final = 120.0
PARTS_AT_ONCE: Final = 8
PART: Final = 8 * MIB


@dataclass(frozen=True)
class Resumed:
    """What one kill cost."""

    sent_again: int
    first_byte_s: float
    """From the start of the second process to the first new byte that the server acknowledged."""


def t7(scale: Scale) -> Iterator[Figure]:
    """Many small files and one large one, killed early, halfway and late."""
    small, large = work_sets.small(scale(10_000, 1_000)), work_sets.large(1, scale(1 << 30, 100 << 20))
    for kind, work, in_flight in (
        ("small", small, THREADS[TRANSPORTS[-1]]["small"] * small.size),
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
    with Sink(buckets=[BUCKET]) as sink, Ours(kind) as delivery:
        command = delivery.command(work, sink.url)
        first = _start(command)
        _until(sink, work.bytes * share // 100, first)
        first.kill()
        first.communicate()
        before = int(sink.stats()["bytes"])
        began = time.monotonic()
        second = _start(command)
        if before < work.bytes:
            _until(sink, before + 1, second)
        first_byte_s = time.monotonic() - began
        said, complaint = second.communicate(timeout=PATIENCE_S)
        if second.returncode or json.loads(said)["files"] != work.files or delivery.validator.wait(timeout=PATIENCE_S):
            raise RuntimeError(f"the second process did not deliver all of {work}: {complaint[-2000:]}")
        stats = sink.stats()
    if (stats["objects"], stats["uploads_open"]) != (work.files, 0):
        raise RuntimeError(f"{stats['objects']} of {work.files} objects, {stats['uploads_open']} uploads left open")
    return Resumed(stats["bytes"] - work.bytes, first_byte_s)


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True)


def _until(sink: Sink, bytes_stored: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while int(sink.stats()["bytes"]) < bytes_stored:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it ended, or hung, before {bytes_stored} bytes were there: {process.communicate()[1]}")
        time.sleep(LOOK_S)


FIGURES: Final = {"T7": t7}
TITLE: Final = "Transfers that are killed and resumed"
