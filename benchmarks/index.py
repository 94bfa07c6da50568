"""J7: memory of a million files' table, and CPU from an index to a table, beside `iterrows` and a dataclass per file.

The peer is what a client without columns does: walk the data frame row by row and make an object of each.
Run: `python benchmarks/index.py [ROWS]`; prints medians of CPU seconds.
"""

from __future__ import annotations

import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import pandas as pd

from upload_adapters.frames import columns_of
from upload_core.files import ClientFile, FileTable
from upload_core.index_check import check_columns

ROUNDS = 3
CHECKSUM = "yH2GHg=="


def cpu_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median CPU seconds of `work`."""
    taken = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return statistics.median(taken)


def table_of(frame: pd.DataFrame) -> FileTable:
    """From a frame to a table, every rule checked."""
    columns = columns_of(frame)
    assert not check_columns(columns)
    assert columns.sizes is not None
    return FileTable.from_columns(columns.paths, columns.sizes, columns.checksums)  # type: ignore[arg-type]  # just checked


def unchecked_table_of(frame: pd.DataFrame) -> FileTable:
    """From a frame to a table, with as few checks as the peer makes."""
    columns = columns_of(frame)
    assert columns.sizes is not None
    return FileTable.from_columns(columns.paths, columns.sizes, columns.checksums)  # type: ignore[arg-type]  # our own


def objects_of(frame: pd.DataFrame) -> list[ClientFile]:
    """The peer: no rule checked."""
    return [
        ClientFile("/data/" + row["path"], row["path"], "ready", 0, 2, None, row["checksum"])
        for _, row in frame.iterrows()
    ]


def main(rows: int = 1_000_000) -> dict[str, float]:
    """Print and return the figures."""
    paths = [f"data/run{row % 1000:03}/visit-{row:07}/image_{row:07}.fits" for row in range(rows)]
    frame = pd.DataFrame({"path": paths, "checksum": [CHECKSUM] * rows, "size": [4096] * rows})
    path_bytes = sum(map(len, paths))

    table_of(frame[:1])  # imports are no part of the table
    tracemalloc.start()
    table = table_of(frame)
    table.find("nothing")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    written = list(table.encode())
    ours = cpu_s(lambda: unchecked_table_of(frame))
    few = min(rows, 20_000)  # iterrows is linear; a fiftieth of it is patience enough
    peer = cpu_s(lambda: objects_of(frame[:few]), rounds=1) * rows / few
    figures = {
        "table, bytes per file besides its path": (held - path_bytes) / rows,
        "index to table, CPU s": ours,
        "iterrows + dataclass, CPU s": peer,
        "ratio": peer / ours,
        "index to table with every rule checked, CPU s": cpu_s(lambda: table_of(frame)),
        "encode, CPU s": cpu_s(lambda: list(table.encode())),
        "decode, CPU s": cpu_s(lambda: FileTable.decode(written)),
        "diff of equal tables, CPU s": cpu_s(lambda: table.diff(FileTable.decode(written)), rounds=1),
        "lookup, CPU us": cpu_s(lambda: [table.find(path) for path in paths[::10]]) / len(paths[::10]) * 1e6,
    }
    print(f"index and file table, {rows:,} rows")
    for name, value in figures.items():
        print(f"  {name:48} {value:10.3f}")
    return figures


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
