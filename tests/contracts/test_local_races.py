"""Processes, not only threads, that race for what a local directory holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from upload_adapters.local import DirectoryControlBucket

ROOT = Path(__file__).resolve().parents[2]
RIVALS = 8

PRELUDE = """
import sys, time
from upload_adapters.local import DirectoryControlBucket
from upload_core.errors import LockHeldError, LockLostError, OffsetConflictError
from upload_core.logs import AppendLog
from upload_core.owner_lock import OwnerLock

root, name = sys.argv[1:]
control = DirectoryControlBucket(root)
print("ready", flush=True)
sys.stdin.readline()
"""

LOCK = """
rounds = []
for number in range(20):
    try:
        OwnerLock(control, f"lock/{number}", name, 3600).acquire()
        rounds.append("won")
    except LockHeldError:
        rounds.append("lost")
print(*rounds)
"""

COUNT = """
done = 0
while done < 20:
    found = control.head("log/counter")
    try:
        control.append("log/counter", f"{name}\\n".encode(), offset=found.size if found else 0)
        done += 1
    except OffsetConflictError:
        pass
print("done")
"""


def race(tmp_path, script):
    """What each of the processes said, by its name; all are let go at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, str(tmp_path / "control"), f"agent-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'adapters'}"},
        )
        for number in range(RIVALS)
    ]
    pipes = [(process.stdin, process.stdout) for process in processes]
    try:
        for _, said in pipes:
            assert said is not None
            assert said.readline() == "ready\n"
        for told, _ in pipes:
            assert told is not None
            told.write("go\n")
            told.flush()
        answers = [process.communicate(timeout=60)[0].split() for process in processes]
        return {f"agent-{number}": answer for number, answer in enumerate(answers)}
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.promise("R12")
def test_of_all_processes_that_race_for_a_lock_exactly_one_wins_every_time(tmp_path, figure):
    said = race(tmp_path, LOCK)
    control = DirectoryControlBucket(tmp_path / "control")
    for number in range(20):
        winners = [agent for agent, rounds in said.items() if rounds[number] == "won"]
        assert len(winners) == 1, number
        found = control.read(f"lock/{number}")
        assert found is not None
        assert found[0].decode() == winners[0]
    figure(20, "races of 8 processes")


@pytest.mark.promise("R14")
def test_of_all_processes_that_append_at_one_offset_exactly_one_does_every_time(tmp_path, figure):
    said = race(tmp_path, COUNT)
    assert all(answer == ["done"] for answer in said.values())
    found = DirectoryControlBucket(tmp_path / "control").read("log/counter")
    assert found is not None
    rows = found[0].decode().splitlines()
    assert sorted(rows) == sorted(list(said) * 20)
    figure(len(rows), "rows appended by racing processes")
