"""T1 to T6: whole processes that send a directory to one server on this machine, which stores nothing and is never the bottleneck.

CPU seconds are those of a contender's process and its children, start-up, checksums and (ours alone) journal, syncs and
verdicts included; the server's and the validator's are nobody's. That every file arrived is read from the server.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import programs
import work_sets
from deliver_to_sink import TRANSPORTS
from figures import Figure, Goal, Scale, interleave, number, per
from programs import BUCKET, Ours
from sink_server import Sink, program
from work_sets import WorkSet

UPLOAD_FILE: Final = "upload_file as mast-transfer-tools calls it, with its own threshold and parts"
FEW: Final = 2
"""Rounds of what takes half a minute each and is far from the rest."""


@dataclass(frozen=True)
class Cost:
    """What one run of a contender took."""

    wall_s: float
    cpu_s: float
    rss_kib: int
    said: str = ""
    connections: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Contender:
    """A program that sends a work set; calling it runs it once, checks that all arrived and returns its CPU seconds."""

    name: str
    run: Callable[[WorkSet, Sink], Cost]
    work: WorkSet
    sink: Sink
    asserts: bool = False
    """Whether it must have asserted a CRC32 for every object."""
    costs: list[Cost] = field(default_factory=list)

    def __call__(self) -> float:
        self.sink.reset()
        cost = self.run(self.work, self.sink)
        stats = self.sink.stats()
        if (stats["objects"], stats["uploads_open"]) != (self.work.files, 0) or stats["bytes"] < self.work.bytes:
            raise RuntimeError(f"{self.name} did not store all of {self.work}: {stats}")
        if self.asserts and stats["asserted"] < self.work.files:
            raise RuntimeError(f"{self.name} did not assert every checksum: {stats}")
        seen = stats["connections_max"], stats["requests"]
        self.costs.append(Cost(cost.wall_s, cost.cpu_s, cost.rss_kib, cost.said, *seen))
        return cost.cpu_s

    def median(self, what: str) -> float:
        """The median over all its runs."""
        return float(statistics.median(getattr(cost, what) for cost in self.costs))


def measured(command: Sequence[str], **more: str) -> Cost:
    """Run a program to its end; raises `RuntimeError` with what it said if it fails."""
    with tempfile.NamedTemporaryFile("r") as out:
        done = subprocess.run(
            [str(program("measure")), out.name, *command],
            env=programs.environment(**more),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} ... failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
        found = json.load(out)
    return Cost(found["wall_s"], found["cpu_s"], found["rss_kib"], done.stdout)


# --- the peers -----------------------------------------------------------------------------------


def s5cmd(workers: int | None) -> Callable[[WorkSet, Sink], Cost]:
    """With so many workers, or its own 256."""

    def run(work: WorkSet, sink: Sink) -> Cost:
        trust = {} if sink.ca is None else {"AWS_CA_BUNDLE": str(sink.ca)}
        return measured(programs.s5cmd(work, sink.url, workers), **trust)

    return run


def rclone(work: WorkSet, sink: Sink) -> Cost:
    """With as many transfers as suit two cores."""
    trust = [] if sink.ca is None else ["--ca-cert", str(sink.ca)]
    return measured([*programs.rclone(work, sink.url), *trust])


def aws_cli(work: WorkSet, sink: Sink) -> Cost:
    """As it comes."""
    trust = [] if sink.ca is None else ["--ca-bundle", str(sink.ca)]
    return measured([*programs.aws_cli(work, sink.url), *trust])


def boto3(how: str, threads: int) -> Callable[[WorkSet, Sink], Cost]:
    """`put_object` or `upload_file` on so many threads."""

    def run(work: WorkSet, sink: Sink) -> Cost:
        trust = [] if sink.ca is None else ["--ca", str(sink.ca)]
        return measured([*programs.boto3(work, sink.url, how, threads), *trust])

    return run


def floor(connections: int) -> Callable[[WorkSet, Sink], Cost]:
    """No client, but what sink and kernel take: requests without a signature, a checksum or a file."""

    def run(work: WorkSet, sink: Sink) -> Cost:
        trust = [] if sink.ca is None else [str(sink.ca)]
        amount = [str(connections), str(work.files), str(work.size)]
        return measured([str(program("floor")), "127.0.0.1", str(sink.port), *amount, *trust])

    return run


# --- ours ----------------------------------------------------------------------------------------


def ours(transport: str, kind: str) -> Callable[[WorkSet, Sink], Cost]:
    """A delivery from index to the last verdict; the validator is not in its process tree."""

    def run(work: WorkSet, sink: Sink) -> Cost:
        with Ours(kind, transport) as delivery:
            trust = [] if sink.ca is None else ["--ca", str(sink.ca)]
            cost = measured([*delivery.command(work, sink.url), *trust])
            if delivery.validator.wait(timeout=60):
                raise RuntimeError("the validator was not told of every file")
            return cost

    return run


# --- comparisons ---------------------------------------------------------------------------------

Line = tuple[str, Callable[[WorkSet, Sink], Cost]]
OURS: Final = "ours"
S5CMD: Final = "s5cmd"


class Comparison:
    """Contenders on one work set and one sink, run in turns; then questions about their medians."""

    def __init__(self, key: str, work: WorkSet, unit: str, scale: Scale, **sink: Any) -> None:
        self.key, self.work, self.scale = key, work, scale
        self._unit = unit
        self._options = sink
        self.contenders: dict[str, Contender] = {}

    def measure(self, *lines: Line, rounds: int | None = None) -> Comparison:
        """Run each of them that often."""
        with Sink(buckets=[BUCKET], **self._options) as sink:
            new = {name: Contender(name, run, self.work, sink, name.startswith(OURS)) for name, run in lines}
            interleave(new, rounds or self.scale.rounds)
        self.contenders.update(new)
        return self

    def best(self, name: str, what: str) -> float:
        """The median of a contender, the best of its settings if it took part with several (`name, setting`)."""
        fitting = [found for key, found in self.contenders.items() if key == name or key.startswith(f"{name},")]
        return min(contender.median(what) for contender in fitting)

    def cpu(self, peer: str, goal: float | None, *, everybody: bool = False) -> Figure:
        """Our CPU seconds, times the peer's; on request with everybody's beside."""
        shown = {
            name: self._spent(found)
            for name, found in self.contenders.items()
            if everybody or name in (OURS, peer) or name.startswith(f"{peer},")
        }
        return Figure(
            self.key,
            f"{self._what}: our CPU beside {peer}",
            None if goal is None else Goal("<=", goal),
            self.best(OURS, "cpu_s") / self.best(peer, "cpu_s"),
            beside=shown,
            note=UPLOAD_FILE if "upload_file" in shown else "",
        )

    def speed(self, peer: str, goal: float | None) -> Figure:
        """Our files per second, times the peer's."""
        return Figure(
            self.key,
            f"{self._what}: our files per second beside {peer}",
            None if goal is None else Goal(">=", goal),
            self.best(peer, "wall_s") / self.best(OURS, "wall_s"),
            beside={
                name: f"{number(self.work.files / found.median('wall_s'))}/s" for name, found in self.contenders.items()
            },
        )

    def memory(self, goal: float | None) -> Figure:
        """Our largest resident set."""
        return Figure(
            self.key,
            f"{self._what}: our memory",
            None if goal is None else Goal("<=", goal, "MB"),
            self.contenders[OURS].median("rss_kib") * 1024 / 1e6,
            "MB",
            beside={
                name: f"{number(found.median('rss_kib') * 1024 / 1e6)} MB" for name, found in self.contenders.items()
            },
        )

    @property
    def _what(self) -> str:
        ways = (" over TLS" if self._options.get("tls") else "") + (
            f", {self._options['latency_ms']} ms latency" if "latency_ms" in self._options else ""
        )
        size = f"{self.work.size >> 20} MiB" if self.work.size >= 1 << 20 else f"{self.work.size} B"
        return f"{self.work.files:,} x {size}{ways}"

    def _spent(self, found: Contender) -> str:
        seconds = found.median("cpu_s")
        if self._unit == "file":
            return per(seconds, self.work.files, "file")
        return f"{number(seconds / self.work.gib)} s/GiB"


def _ours(kind: str) -> list[Line]:
    """Every transport; the one that is judged is called `ours`, others `ours, NAME`, in `measure` only."""
    others, judged = TRANSPORTS[:-1], TRANSPORTS[-1]
    return [(OURS, ours(judged, kind)), *((f"over {name}", ours(name, kind)) for name in others)]


def _s5cmd(workers: int) -> list[Line]:
    return [(S5CMD, s5cmd(None)), (f"{S5CMD}, {workers} workers", s5cmd(workers))]


def _small(key: str, scale: Scale, *, tls: bool, of_s5cmd: float, of_boto3: float | None) -> Iterator[Figure]:
    work = work_sets.small(scale(10_000, 500))
    comparison = Comparison(key, work, "file", scale, tls=tls)
    comparison.measure(*_ours("small"), *_s5cmd(16), ("rclone", rclone), ("floor in C", floor(16)))
    slow: list[Line] = [
        ("put_object", boto3("put_object", 1)),
        ("put_object, 16 threads", boto3("put_object", 16)),
        ("upload_file", boto3("upload_file", 4)),
    ]
    if not tls:
        slow.append(("aws cli", aws_cli))
    comparison.measure(*slow, rounds=min(FEW, scale.rounds))
    yield comparison.cpu(S5CMD, of_s5cmd, everybody=True)
    yield comparison.cpu("put_object", of_boto3)
    yield comparison.speed(S5CMD, None if tls else 3.5)
    yield comparison.memory(None)


def t1(scale: Scale) -> Iterator[Figure]:
    """Small files: the cost of a file."""
    yield from _small("T1", scale, tls=False, of_s5cmd=0.3, of_boto3=0.1)


def t2(scale: Scale) -> Iterator[Figure]:
    """The same over TLS."""
    yield from _small("T2", scale, tls=True, of_s5cmd=0.15, of_boto3=None)


def t3(scale: Scale) -> Iterator[Figure]:
    """The same from far away: what counts is how many requests are under way at a time."""
    comparison = Comparison("T3", work_sets.small(scale(10_000, 500)), "file", scale, latency_ms=30)
    comparison.measure(*_ours("latency"), (S5CMD, s5cmd(256)), ("floor in C", floor(256)))
    yield comparison.speed(S5CMD, 1.2)
    yield comparison.cpu(S5CMD, 0.35)


def t4(scale: Scale) -> Iterator[Figure]:
    """Medium files: bytes begin to count."""
    for tls, goal in ((False, 0.35), (True, 0.4)):
        comparison = Comparison("T4", work_sets.medium(scale(1_000, 20)), "byte", scale, tls=tls)
        comparison.measure(*_ours("medium"), *_s5cmd(8), ("rclone", rclone), ("floor in C", floor(4)))
        slow: list[Line] = [("put_object", boto3("put_object", 1)), ("upload_file", boto3("upload_file", 4))]
        if not tls:
            slow.append(("aws cli", aws_cli))
        comparison.measure(*slow, rounds=min(FEW, scale.rounds))
        yield comparison.cpu(S5CMD, goal, everybody=True)
        yield comparison.memory(None)


def t5(scale: Scale) -> Iterator[Figure]:
    """Large files: only bytes count, and memory must not grow with them."""
    for tls, goal in ((False, 0.2), (True, 0.35)):
        work = work_sets.large(2, scale(1 << 30, 100 << 20))
        comparison = Comparison("T5", work, "byte", scale, tls=tls)
        slow = ("upload_file", boto3("upload_file", 2))
        comparison.measure(*_ours("large"), *_s5cmd(4), ("rclone", rclone), ("floor in C", floor(2)), slow)
        yield comparison.cpu(S5CMD, goal, everybody=True)
        yield comparison.memory(64)


def t6(scale: Scale) -> Iterator[Figure]:
    """A million files: what a file costs must not depend on how many there are."""
    cost: dict[str, float] = {}
    grown = 0.0
    files = 0
    for files, rounds in ((scale(10_000, 500), min(FEW, scale.rounds)), (scale(1_000_000, 2_000), 1)):
        comparison = Comparison("T6", work_sets.tiny(files), "file", scale)
        found = comparison.measure(*_ours("tiny")[:1], rounds=rounds).contenders[OURS]
        cost[f"{files:,} files:"] = found.median("cpu_s") / files
        said = json.loads(found.costs[-1].said)
        grown = (said["rss_kib"] - said["rss_start_kib"]) * 1024 / files
    fewest, most = cost.values()
    yield Figure(
        "T6",
        f"{files:,} x 64 B: CPU per file, beside the fewest files",
        Goal("<=", 1.2),
        most / fewest,
        beside={name: per(value, 1, "file") for name, value in cost.items()},
        note="hard links, a thousand to a file; start-up included",
    )
    yield Figure("T6", f"{files:,} x 64 B: memory per file above the start", Goal("<=", 150, "B"), grown, "B")


def t9(scale: Scale) -> Iterator[Figure]:
    """Requests at the archive, beside those that a file takes at least: one, or its parts and two more."""
    part = 8 << 20
    small, large = work_sets.small(scale(10_000, 500)), work_sets.large(2, scale(1 << 30, 100 << 20))
    for kind, work, least in (
        ("small", small, small.files),
        ("large", large, large.files * (-(-large.size // part) + 2)),
    ):
        comparison = Comparison("T9", work, "file", scale).measure(*_ours(kind)[:1], rounds=1)
        asked = {name: count for name, count in comparison.contenders[OURS].costs[-1].requests.items() if count}
        yield Figure(
            "T9",
            f"{work.files:,} x {work.size:,} B: requests, beyond the least and {EXTRA} for the whole delivery",
            Goal("<=", 0, ""),
            max(0, sum(asked.values()) - least - EXTRA),
            "",
            beside={name: str(count) for name, count in asked.items()},
        )


EXTRA: Final = 4
"""A listing of objects and one of open uploads before the first file, and the latter once more at the end; one to spare."""

FIGURES: Final = {"T1": t1, "T2": t2, "T3": t3, "T4": t4, "T5": t5, "T6": t6, "T9": t9}
TITLE: Final = "Transfers, beside other programs"
