"""The tables of docs/scale.md: what very many files cost, by formulas over measured figures and published prices.

Rule: an input is a figure of benchmarks/measured.json, a price with its page and day, or an assumption that is called one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tables import markdown

MEASURED: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "measured.json"
SIZES: Final = tuple(10**power for power in range(4, 10))


def measured(module: str, key: str, what: str, beside: str = "") -> float:
    """A figure that was measured: the one whose words begin so, or what stands beside it under that name."""
    kept: Any = json.loads(MEASURED.read_text("utf-8"))
    for figure in kept[module][key]["figures"]:
        if figure["what"].startswith(what):
            if not beside:
                return float(figure["measured"])
            found = re.match(r"[\d.,]+", figure["beside"][beside])
            assert found is not None, figure
            return float(found[0].replace(",", ""))
    raise KeyError(f"{module} {key}: {what}")


class Input(NamedTuple):
    """One number that the tables rest on."""

    name: str
    value: float
    unit: str
    source: str


def inputs() -> dict[str, Input]:
    """Every input by its short name."""
    return {
        "rate": Input(
            "small files sent by one host, 30 ms away",
            measured("transfers", "T3", "10,000 x 4096 B, 30 ms latency: our files", "ours"),
            "files/s",
            "T3",
        ),
        "start_b": Input(
            "memory at the start", 1e6 * measured("transfers", "T1", "10,000 x 4096 B: our memory"), "B", "T1"
        ),
        "memory_b": Input(
            "memory per file of a client",
            measured("transfers", "T6", "1,000,000 x 64 B: memory"),
            "B",
            "T6",
        ),
        "journal_b": Input("journal per file", measured("scale", "S1", "bytes of journal"), "B", "S1"),
        "core_us": Input(
            "CPU of the core per file, 1,000 workers",
            measured("scale", "S1", "CPU of the core", "10,000,000 files"),
            "us",
            "S1",
        ),
        "replay_us": Input(
            "replay of a file's events, in full",
            measured("journal", "J8", "resume of 1,000,000 files"),
            "us",
            "J8: seconds for a million files",
        ),
        "snapshot_us": Input(
            "the same from a snapshot",
            measured("journal", "J8", "the same from a snapshot", "snapshot"),
            "us",
            "J8",
        ),
        "check_us": Input("CPU of checking one copy", measured("scale", "S3", "CPU of checking"), "us", "S3"),
        "line": Input("line of one host", 125e6, "B/s", "assumption: 1 Gbit/s"),
        "large_b": Input("size of the files that are not small", 16 * 2**20, "B", "assumption: 16 MiB"),
        "workers": Input("workers of the cluster", 16, "", "assumption: each as fast as one host"),
        "tasks": Input("tasks a second of S3 Batch Operations", 1_000, "/s", "assumption: AWS publishes none"),
        "job": Input("objects in one job", 250_000, "", "`batch.objects`"),
        "put": Input("PUT, COPY, POST, LIST", 0.005 / 1000, "USD", PRICES),
        "get": Input("GET, HEAD", 0.0004 / 1000, "USD", PRICES),
        "express_put": Input("PUT in a directory bucket", 0.00113 / 1000, "USD", PRICES),
        "express_get": Input("GET in a directory bucket", 0.00003 / 1000, "USD", PRICES),
        "job_usd": Input("a job of S3 Batch Operations", 0.25, "USD", PRICES),
        "task_usd": Input("an object in it", 1e-6, "USD", PRICES),
    }


PRICES: Final = "[S3 pricing](https://aws.amazon.com/s3/pricing/), us-east-1, 2026-11-26"


class Way(NamedTuple):
    """One way to deliver: seconds for so many small files, requests to S3 in all, and what those cost."""

    name: str
    seconds: Callable[[float, dict[str, float]], float]
    requests: Callable[[float, dict[str, float]], float]
    dollars: Callable[[float, dict[str, float]], float]
    formula: str


def _talk(seconds: float, v: dict[str, float]) -> float:
    """What the conversation with the validator costs: at most an append and a look a second."""
    return seconds * (v["express_put"] + v["express_get"])


def _jobs(files: float, v: dict[str, float]) -> float:
    return -(-files // v["job"])


def _host(files: float, v: dict[str, float]) -> float:
    return files / v["rate"]


def _cluster(files: float, v: dict[str, float]) -> float:
    return files / min(v["workers"] * v["rate"], 1e6 / v["core_us"])


def _batch(files: float, v: dict[str, float]) -> float:
    return files * max(1 / v["tasks"], v["check_us"] / 1e6)


WAYS: Final = (
    Way(
        "one host",
        _host,
        lambda n, v: n + 2 * _host(n, v),
        lambda n, v: n * v["put"] + _talk(_host(n, v), v),
        "time = files / rate; requests = 1 PUT per file, and at most 1 append and 1 look a second",
    ),
    Way(
        "cluster",
        _cluster,
        lambda n, v: n + 2 * _cluster(n, v),
        lambda n, v: n * v["put"] + _talk(_cluster(n, v), v),
        "time = files / min(workers x rate, 1 / CPU of the core): the one client that journals is the last limit",
    ),
    Way(
        "S3 Batch",
        _batch,
        lambda n, v: 2 * n + 2 * _batch(n, v),
        lambda n, v: n * (v["put"] + v["get"] + v["task_usd"]) + _jobs(n, v) * v["job_usd"] + _talk(_batch(n, v), v),
        "time = files x max(1 / tasks, CPU of a check); requests = 1 COPY and 1 HEAD per object; and the jobs",
    ),
)


def input_table() -> str:
    """Every input, where it comes from."""
    rows = [[row.name, _shown(row.value, row.unit), row.source] for row in inputs().values()]
    return markdown(["input", "value", "from"], rows)


def ways_table() -> str:
    """Time, requests and dollars of small files, by way and number."""
    v = {name: row.value for name, row in inputs().items()}
    rows = [
        [
            f"{files:,}",
            *(
                f"{_time(way.seconds(files, v))}, {_count(way.requests(files, v))}, {_usd(way.dollars(files, v))}"
                for way in WAYS
            ),
        ]
        for files in SIZES
    ]
    return markdown(["files", *(way.name for way in WAYS)], rows)


def formula_table() -> str:
    """How each column comes about."""
    return markdown(["", "formula"], [[way.name, way.formula] for way in WAYS])


def client_table() -> str:
    """What the one client needs, whichever way: memory, journal, and the time to take it up again."""
    v = {name: row.value for name, row in inputs().items()}
    rows = [
        [
            f"{files:,}",
            _bytes(v["start_b"] + files * v["memory_b"]),
            _bytes(files * v["journal_b"]),
            _time(files * v["snapshot_us"] / 1e6),
            _time(files * v["replay_us"] / 1e6),
            _time(files * v["large_b"] / v["line"]),
        ]
        for files in SIZES
    ]
    return markdown(
        ["files", "memory", "journal", "resume from a snapshot", "resume in full", "16 MiB each over 1 Gbit/s"], rows
    )


# --- words ------------------------------------------------------------------------------------------------


def _shown(value: float, unit: str) -> str:
    if unit == "USD":
        return f"{value * 1000:.5f}".rstrip("0") + " USD per 1,000" if value < 0.01 else f"{value:.2f} USD"
    if unit == "B":
        return _bytes(value)
    return f"{_three(value)} {unit}".rstrip()


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _scaled(value: float, steps: Iterator[tuple[float, str]]) -> str:
    return next(f"{_three(value / size)} {unit}" for size, unit in steps if value >= size or size == 1)


def _bytes(value: float) -> str:
    return _scaled(value, iter(((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))))


def _time(seconds: float) -> str:
    return _scaled(seconds, iter(((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))))


def _count(value: float) -> str:
    return _scaled(value, iter(((1e9, "G requests"), (1e6, "M requests"), (1e3, "k requests"), (1, "requests"))))


def _usd(value: float) -> str:
    return f"{value:,.0f} USD" if value >= 10 else f"{value:.2f} USD"
