"""S1 to S3: what a file costs when there are very many of them, very many hands, or a service that copies them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from figures import ROOT, Figure, Goal, Scale, child, number

TITLE: Final = "Very large deliveries, in virtual time"
MANY: Final = 1_000
SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
HANDS: Final = (10, 100, 1_000)
IN_ITS_OWN_PROCESS: Final = """
import json, sys
sys.path.insert(0, ".")
from pathlib import Path
from benchmarks.scale_world import deliver
files, workers = int(sys.argv[1]), int(sys.argv[2])
made = deliver(files, workers)
high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(json.dumps([made.per_file_us, made.virtual_s, made.turns / files, made.journal_bytes / files, sum(made.asked.values()), int(high.split()[1]) * 1024]))
"""


def measured(files: int, workers: int) -> dict[str, Any]:
    """One delivery in a process of its own: its figures by name."""
    names = ("us", "virtual_s", "turns", "journal", "requests", "memory")
    return dict(zip(names, child(IN_ITS_OWN_PROCESS, str(files), str(workers)), strict=True))


def s1(scale: Scale) -> Iterator[Figure]:
    """The same number of workers, more and more files."""
    sizes = SIZES[:2] if scale.quick else SIZES
    found = {size: measured(size, MANY) for size in sizes}
    # start-up is some hundredths of a second: of ten thousand files it would be seen
    first, last = found[sizes[1 if len(sizes) > 2 else 0]], found[sizes[-1]]
    yield Figure(
        "S1",
        f"CPU of the core per file, {MANY:,} workers: {sizes[-1]:,} files beside {sizes[1 if len(sizes) > 2 else 0]:,}",
        Goal("<=", 1.2),
        last["us"] / first["us"],
        beside={f"{size:,} files": f"{number(row['us'])} us" for size, row in found.items()},
        note=f"{number(last['virtual_s'] / 3600)} h of virtual time; the validator's requests are not counted",
    )
    yield Figure(
        "S1",
        f"bytes of journal per file at {sizes[-1]:,} files",
        None,
        last["journal"],
        "B",
        beside={f"{size:,} files": f"{number(row['journal'])} B" for size, row in found.items()},
    )
    yield Figure(
        "S1",
        f"requests to the control bucket in all, {sizes[-1]:,} files",
        None,
        last["requests"],
        "",
        beside={f"{size:,} files": f"{row['requests']:,}" for size, row in found.items()},
        note="they follow the time, not the files",
    )
    yield Figure(
        "S1",
        f"memory per file at {sizes[-1]:,} files, with what stands in for the world",
        None,
        (last["memory"] - found[sizes[0]]["memory"]) / (sizes[-1] - sizes[0]),
        "B",
        beside={f"{size:,} files": f"{number(row['memory'] / 1e6)} MB" for size, row in found.items()},
    )


def s2(scale: Scale) -> Iterator[Figure]:
    """The same files, more and more workers: a turn of the engine is shared by all files that end in it."""
    files = scale(1_000_000, 10_000)
    found = {workers: measured(files, workers) for workers in HANDS}
    yield Figure(
        "S2",
        f"CPU of the core per file, {files:,} files: {HANDS[-1]:,} workers beside {HANDS[0]}",
        Goal("<=", 1.0),
        found[HANDS[-1]]["us"] / found[HANDS[0]]["us"],
        beside={
            f"{workers:,} workers": f"{number(row['us'])} us, {number(row['turns'])} turns a file"
            for workers, row in found.items()
        },
        note="transfers of 0.3 s on average",
    )


CHECKED: Final = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import boto3
from upload_adapters.aws.batch_check import checked_copy
from upload_adapters.aws.batch_watch import CHECKERS
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.deployment import s3_config
from upload_adapters.aws.s3_archive import S3Archive
from upload_core.checksum import crc32_base64, crc_of
from upload_core.effects import FileStored, TransferFile
url, count = sys.argv[1], int(sys.argv[2])
session = boto3.Session("AKIATEST", "secret", region_name="us-east-1")
calls = session.client("s3", endpoint_url=url, config=s3_config(attempts=1))
body = bytes(64)
checksum = crc32_base64(crc_of([body]))
calls.put_object(Bucket="target", Key="a", Body=body, ChecksumCRC32=checksum)
archive = S3Archive(lambda: Bucket("target", calls, calls))
order = TransferFile(0, "a", len(body), checksum)
def check(_):
    return checked_copy(order, None, archive, 0, lambda: None)
with ThreadPoolExecutor(CHECKERS) as pool:
    list(pool.map(check, range(64)))
    began, cpu = time.perf_counter(), time.process_time()
    assert all(isinstance(done, FileStored) for done in pool.map(check, range(count)))
    print(json.dumps([(time.process_time() - cpu) / count * 1e6, count / (time.perf_counter() - began)]))
"""


def s3(scale: Scale) -> Iterator[Figure]:
    """What it costs us to check a copy that a job of S3 Batch Operations has made: one HEAD, by boto3."""
    count = scale(3_000, 300)
    command = [sys.executable, "-m", "tests.emulator", "--bucket", "target"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            url = json.loads(emulator.stdout.readline())["url"]
            rounds = [child(CHECKED, url, str(count)) for _ in range(scale.rounds)]
        finally:
            emulator.kill()
    yield Figure(
        "S3",
        "CPU of checking a copy made by S3 Batch Operations, 16 threads",
        None,
        statistics.median(us for us, _ in rounds),
        "us",
        beside={"with an emulator of S3 on the same two cores": f"{number(statistics.median(n for _, n in rounds))}/s"},
    )


FIGURES: Final = {"S1": s1, "S2": s2, "S3": s3}
