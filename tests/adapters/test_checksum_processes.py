"""Workers that are processes give what threads give, end with whoever started them, and may die without harm.

Each case is a function that runs in an interpreter of its own: a process forks workers only while it has one thread.
"""

import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from tests.command_line import ROOT, environment
from upload_adapters import checksums
from upload_adapters.checksums import index, measuring, plain_files, worker
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveUnavailableError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are threads elsewhere")

NAMES = [f"{number:03}" for number in range(40)]
SIZES = [0, 1, 4096, 256 * 1024 + 1, 3 * 1024 * 1024]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(bytes([number]) * SIZES[number % len(SIZES)])
    return tmp_path


def alone(case: str, *arguments: object) -> None:
    code = f"import sys; from tests.adapters import test_checksum_processes as cases; cases.{case}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def expected(root: str) -> list[str]:
    return [crc32_base64(zlib.crc32((Path(root) / name).read_bytes())) for name in NAMES]


def apart() -> set[int]:
    """From now on processes are worth it; returns the set that will hold those that were started."""
    worker.FILES_WORTH_IT = 0  # type: ignore[misc]
    started = set[int]()
    fork = os.fork

    def fork_and_tell() -> int:
        pid = fork()
        started.add(pid)
        return pid

    os.fork = fork_and_tell
    return started


# ── the cases ────────────────────────────────────────────────────────────────────────────────────


def same_as_threads(root: str, jobs: str, piece: str) -> None:
    started = apart()
    checksums.PIECE_BYTES = measuring.PIECE_BYTES = int(piece)  # type: ignore[attr-defined, misc]
    with DirectorySource(root) as source:
        found = index(source, [*NAMES, "gone"], jobs=int(jobs))
    assert found.columns.checksums == expected(root)
    assert [file.relpath for file in found.unreadable] == ["gone"]
    assert len(started) == int(jobs)


def nothing_left(root: str) -> None:
    started = apart()
    with DirectorySource(root) as source:
        before = len(os.listdir("/proc/self/fd"))
        index(source, NAMES, jobs=3)
        assert len(os.listdir("/proc/self/fd")) == before
    for pid in started:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
        raise AssertionError(f"{pid} was never waited for")


def dying(root: str, how: str) -> None:
    started, here, real = apart(), os.getpid(), plain_files.crc_of
    mark = Path(root) / "died"

    def crc_of(fd: int, start: int, end: int, block: memoryview) -> int:
        if end == 4096 and os.getpid() != here:
            mark.touch()
            os._exit(1) if how == "exit" else os.kill(os.getpid(), 9)
        return real(fd, start, end, block)

    plain_files.crc_of = crc_of
    with DirectorySource(root) as source:
        assert index(source, NAMES, jobs=2).columns.checksums == expected(root)
    assert mark.exists()
    assert len(started) == 2


def failing(root: str) -> None:
    apart()

    def fail(self: DirectorySource, relpath: str) -> None:
        raise ArchiveUnavailableError("the disk's server is away")

    DirectorySource.open_folder = fail  # type: ignore[assignment, method-assign]
    with DirectorySource(root) as source, pytest.raises(ArchiveUnavailableError, match="the disk's server is away"):
        index(source, NAMES, jobs=2)


def no_more_processes(root: str) -> None:
    apart()
    fork, left = os.fork, [1]

    def full() -> int:
        if not left[0]:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        left[0] -= 1
        return fork()

    os.fork = full
    with DirectorySource(root) as source:
        assert index(source, NAMES, jobs=3).columns.checksums == expected(root)


def with_another_thread(root: str) -> None:
    started = apart()
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        with DirectorySource(root) as source:
            assert index(source, NAMES, jobs=3).columns.checksums == expected(root)
    finally:
        end.set()
        other.join()
    assert not started


# ── the tests ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("jobs", "piece"), [(2, 64 << 20), (2, 100_000), (7, 1 << 20)])
def test_processes_find_what_threads_find(root, jobs, piece):
    alone("same_as_threads", root, jobs, piece)


def test_nothing_is_left_of_them(root):
    alone("nothing_left", root)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_one_that_dies_costs_nothing_but_time(root, how):
    alone("dying", root, how)


def test_an_error_that_is_no_fault_of_a_file_ends_the_work(root):
    alone("failing", root)


def test_where_no_process_can_be_started_threads_do_the_work(root):
    alone("no_more_processes", root)


def test_a_process_with_another_thread_forks_none(root):
    alone("with_another_thread", root)
