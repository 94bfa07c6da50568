"""T8: the CRC32s of an index beside the bare loop of open, read, CRC32 and close over the same files, all in memory.

Seconds on the wall, since the point is that all cores are at work. The bare loop checks nothing, knows no link from a
file, and has nothing to show for it; in threads it is what the goal names, in processes it is all that the machine gives.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from figures import ROOT, Figure, Goal, Scale, interleave, number, per, wall

from upload_adapters.checksums import ChecksumCache, index, processors
from upload_adapters.crc32 import IMPLEMENTATIONS, crc32, fastest
from upload_adapters.source_directory import DirectorySource

GOAL: Final = Goal(">=", 0.9)
BLOCK: Final = 512 << 10
Crc = Callable[[Any, int], int]


@contextmanager
def tree(count: int, size: int) -> Iterator[Path]:
    """A directory of so many files of that size, a thousand to a folder; what was just written is in memory."""
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        block = os.urandom(min(size, 1 << 20))
        for file in range(count):
            folder = root / "data" / f"{file // 1000:04}"
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / f"{file:07}", "wb", buffering=0) as out:
                for _ in range(max(1, size >> 20)):
                    out.write(block)
        time.sleep(2.1)  # so that an index may remember all of them
        yield root
    finally:
        shutil.rmtree(root)


def bare_loop(paths: Iterator[str], lock: threading.Lock, crc: Crc) -> None:
    """Open, read, CRC32, close, until there are no more paths."""
    block = mmap.mmap(-1, BLOCK)  # whole pages: reading into them is fastest
    view = memoryview(block)
    while True:
        with lock:
            path = next(paths, None)
        if path is None:
            return
        fd, value = os.open(path, os.O_RDONLY), 0
        while count := os.readv(fd, [block]):
            value = crc(view[:count], value)
        os.close(fd)


def in_threads(paths: Sequence[str], workers: int, crc: Crc) -> None:
    """The bare loop in so many threads, each file in one of them."""
    shared, lock = iter(paths), threading.Lock()
    threads = [threading.Thread(target=bare_loop, args=(shared, lock, crc)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_processes(paths: Sequence[str], workers: int, crc: Crc) -> None:
    """The bare loop in so many processes, each with its share of the files."""
    children = []
    for worker in range(workers):
        pid = os.fork()
        if not pid:
            bare_loop(iter(paths[worker::workers]), threading.Lock(), crc)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def libraries(scale: Scale) -> Iterator[Figure]:
    """Every CRC32 that could be used, one block after the other."""
    for size, name in ((4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (64 << 20, "64 MiB")):
        block, turns = mmap.mmap(-1, size), max(1, scale(1 << 30, 1 << 26) // size)

        def sums(crc: Any, block: mmap.mmap = block, turns: int = turns) -> float:
            began = time.thread_time()
            for _ in range(turns):
                crc(block)
            return time.thread_time() - began

        seconds = interleave(
            {module: lambda module=module: sums(fastest([module])) for module in IMPLEMENTATIONS},  # type: ignore[misc]
            scale.rounds,
        )
        rates = {module: f"{number(turns * size / spent / 1e9)} GB/s" for module, spent in seconds.items()}
        ratio = seconds["zlib"] / seconds[IMPLEMENTATIONS[0]]
        yield Figure("T8", f"CRC32 of {name} on one core: {IMPLEMENTATIONS[0]} beside zlib", None, ratio, beside=rates)


def files(what: str, count: int, size: int, scale: Scale) -> Iterator[Figure]:
    """The index of so many files, beside the bare loops; and once more, with nothing changed."""
    workers = processors()
    with tree(count, size) as root, DirectorySource(root / "data") as source:
        names = source.scan().relpaths
        paths = [f"{source.name}/{name}" for name in names]
        total = count * max(size, min(size, 1 << 20))

        def ours(cache: ChecksumCache | None = None) -> None:
            found = index(source, names, jobs=workers, cache=cache)
            assert len(found.columns.paths) == count, found.unreadable

        def shown(spent: float) -> str:
            return f"{number(total / spent / 1e9)} GB/s" if size >= 1 << 20 else per(spent, count, "file")

        ours(ChecksumCache(root / "beside" / "checksums"))
        seconds = interleave(
            {
                "index": lambda: wall(ours),
                "threads": lambda: wall(lambda: in_threads(paths, workers, crc32)),
                "processes": lambda: wall(lambda: in_processes(paths, workers, crc32)),
                "threads, zlib": lambda: wall(lambda: in_threads(paths, workers, zlib.crc32)),
                "index, unchanged": lambda: wall(lambda: ours(ChecksumCache(root / "beside" / "checksums"))),
            },
            scale.rounds,
        )
        beside = {name: shown(spent) for name, spent in seconds.items() if name != "index, unchanged"}
        ratio = seconds["threads"] / seconds["index"]
        yield Figure("T8", f"index of {what} beside the bare loop in {workers} threads", GOAL, ratio, beside=beside)
        yield Figure(
            "T8",
            f"index of {what} beside the bare loop in {workers} processes",
            None,
            seconds["processes"] / seconds["index"],
        )
        yield Figure(
            "T8",
            f"index of {what}, unchanged since the last one",
            None,
            seconds["index, unchanged"] / count * 1e6,
            "us/file",
        )


def t8(scale: Scale) -> Iterator[Figure]:
    """The libraries, then large, medium and small files."""
    yield from libraries(scale)
    large = scale(1 << 30, 128 << 20)
    yield from files(f"2 files of {number(large / (1 << 30))} GiB", 2, large, scale)
    medium = scale(3_000, 200)
    yield from files(f"{medium:,} files of 1 MiB", medium, 1 << 20, scale)
    small = scale(200_000, 10_000)
    yield from files(f"{small:,} files of 4 KiB", small, 4 << 10, scale)


FIGURES: Final = {"T8": t8}
TITLE: Final = "Checksums"
