"""An index that is killed goes on: real processes, killed outright, and nothing finished is read twice."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

from tests.command_line import environment
from upload_core.checksum import crc32_base64

FILES = 600
PROGRAM = """
import os, sys, time
from upload_adapters.checksums import plain_files

real, log = plain_files.crc_of, os.open("reads.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def crc_of(fd, start, end, block):
    crc = real(fd, start, end, block)
    time.sleep(0.005)
    os.write(log, f"{os.getpid()} {os.readlink(f'/proc/self/fd/{fd}').rpartition('/')[2]}\\n".encode())
    return crc

plain_files.crc_of = crc_of
from upload_adapters.cli import main
sys.exit(main(["index", "data", "-o", "data/index.csv", "--jobs", "2", *sys.argv[1:]]))
"""
"""The real command, only that each file takes 5 ms and everybody who reads one writes it down."""

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs names of open files, and forks"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number in range(FILES):
        (tmp_path / "data" / f"{number // 100}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / f"{number // 100}" / f"{number:03}").write_text(f"content {number}")
    time.sleep(2.1)  # younger files are not remembered
    return tmp_path


def start(place: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines_of_log(place: Path) -> list[list[str]]:
    log = place / "reads.log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def wait_for_reads(place: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(lines_of_log(place)) < count:
        assert time.monotonic() < deadline, "nothing is read"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_right(place: Path) -> None:
    with open(place / "data" / "index.csv", newline="") as file:
        rows = {row["path"]: row["checksum"] for row in csv.DictReader(file)}
    assert rows == {
        f"{number // 100}/{number:03}": crc32_base64(zlib.crc32(f"content {number}".encode()))
        for number in range(FILES)
    }


@pytest.mark.parametrize("seed", range(2))
def test_an_index_that_is_killed_again_and_again_reads_no_finished_file_twice(place, seed):
    chance = random.Random(seed)
    kills = 4
    for _ in range(kills):
        process = start(place)
        wait_for_reads(place, len(lines_of_log(place)) + chance.randrange(1, FILES // (kills + 1)))
        workers = {int(pid) for pid, _ in lines_of_log(place)}
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 10
        while any(map(is_alive, workers - {os.getpid()})):
            assert time.monotonic() < deadline, "a worker outlived the command"
            time.sleep(0.01)
        assert not (place / "data" / "index.csv").exists()
    process = start(place)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "not read again" in told
    assert_right(place)
    reads = Counter(name for _, name in lines_of_log(place))
    assert set(reads) == {f"{number:03}" for number in range(FILES)}
    # A tenth of a second's work of each of two workers may be lost with a kill: that is 21 files at 5 ms.
    assert sum(reads.values()) - FILES <= kills * 2 * 21
    assert len({pid for pid, _ in lines_of_log(place)}) > 1, "everything was read by one process"
    before = len(lines_of_log(place))
    process = start(place)
    _, told = process.communicate(timeout=60)
    assert f"{FILES} unchanged, not read again" in told
    assert len(lines_of_log(place)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_index_that_is_told_to_end_ends_and_goes_on_later(place, number):
    process = start(place)
    wait_for_reads(place, 100)
    os.killpg(process.pid, number)  # as a terminal does
    _, told = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on from here" in told
    else:
        assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in told
    process = start(place)
    process.communicate(timeout=60)
    assert_right(place)
    assert len(lines_of_log(place)) <= FILES + 2 * 21


def test_a_worker_that_is_killed_is_replaced(place):
    process = start(place)
    wait_for_reads(place, 50)
    for pid in {int(pid) for pid, _ in lines_of_log(place)} - {process.pid}:
        os.kill(pid, signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert_right(place)


def test_a_fresh_index_reads_everything(place):
    for _ in range(2):
        process = start(place, "--fresh")
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(lines_of_log(place)) == 2 * FILES
