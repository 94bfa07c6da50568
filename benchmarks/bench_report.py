"""P1: what a report of a whole journal costs, page and receipt included."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import deliveries
from figures import ROOT, Figure, Goal, Scale, child, per

from upload_adapters.journal_file import DirectoryJournal
from upload_core import events as ev

TITLE: Final = "Reports"
MIB: Final = 1 << 20


def _no_sync(descriptor: int) -> None:
    """What a report costs does not depend on how its journal came to the disk."""


def write_journal(path: Path, files: int) -> None:
    """A finished delivery of that many files, in batches of 64."""
    table = deliveries.table(files)
    journal = DirectoryJournal(path, sync=_no_sync)
    journal.create(deliveries.created(table), table, time_ms=deliveries.TIME_MS)
    opened = [ev.SessionOpened(1, "agent-1", 64, 2), ev.LockAcquired("e"), ev.PipelineRequested("k", 0)]
    journal.append([*opened, ev.ValidatorStarted("started")], time_ms=deliveries.TIME_MS)
    last_ms = deliveries.TIME_MS
    for batch in deliveries.batches(deliveries.lives(files), 64):
        last_ms += 50
        journal.append(batch, time_ms=last_ms)
    journal.append([ev.SessionClosed("complete")], time_ms=last_ms)
    journal.close()


def measure_report(journal: str, page: str) -> None:
    """Print the seconds and the memory of one report, as JSON; runs in a process of its own."""
    import contextlib
    import io

    from upload_adapters.cli import main

    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["report", journal, "-o", page]) == 0
    seconds = time.perf_counter() - began
    # not `ru_maxrss`, which after a vfork also remembers how large the process was that started this one (getrusage(2))
    high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(json.dumps([seconds, int(high.split()[1]) * 1024]))


def p1(scale: Scale) -> Iterator[Figure]:
    """Seconds on the wall, the page's size and the memory of a report."""
    files = scale(1_000_000, 20_000)
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        write_journal(root / "journal", files)
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import bench_report as b; b.measure_report(*sys.argv[1:])"
        page = root / "report.html"
        runs = [child(code, str(root / "journal"), str(page)) for _ in range(min(3, scale.rounds))]
        seconds = sorted(run[0] for run in runs)[len(runs) // 2]
        memory = max(run[1] for run in runs)
        beside = {"a file": per(seconds, files, "file"), "receipt": f"{_receipt(page).stat().st_size / MIB:.0f} MiB"}
        what = f"a report of {files:,} files"
        yield Figure("P1", f"{what}: seconds on the wall", Goal("<=", 60, "s"), seconds, "s", beside)
        yield Figure("P1", f"{what}: the page", Goal("<=", 5, "MiB"), page.stat().st_size / MIB, "MiB")
        yield Figure("P1", f"{what}: memory of the process", Goal("<=", 500, "MiB"), memory / MIB, "MiB")
    finally:
        shutil.rmtree(root)


def _receipt(page: Path) -> Path:
    return page.with_name(page.stem + ".receipt.ndjson")


FIGURES: Final = {"P1": p1}

if __name__ == "__main__":
    sys.exit("run benchmarks/run.py report")
