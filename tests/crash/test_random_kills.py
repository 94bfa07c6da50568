"""Deliveries in processes of their own, killed by SIGKILL at random moments, resumed until they end.

The judge is independent of the client: it compares the stored bytes with the sources, and reads the logs and the
journal's lines itself.
"""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest

DELIVERIES = 20
KILLS_EACH = 5
FILES = 120
BAD = "odd/name with space & ünïcode.txt"
"""The validator's check rejects this one, killed or not."""

COMMAND = (str(Path(sys.executable).with_name("upload-core")),)
CHECK = f"""
def check(path, relpath):
    return ["bad on purpose"] if relpath == {BAD!r} else []
"""


@attrs.frozen
class Place:
    """One delivery's directories."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def archive(self) -> Path:
        return self.root / "archive" / "kills-1-staging"

    @property
    def control(self) -> Path:
        return self.root / "archive" / "kills-1-control"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.source)): p.read_bytes() for p in self.source.rglob("*") if p.is_file()}

    def deliver(self) -> list[str]:
        return [
            *(*COMMAND, "deliver", str(self.source), str(self.root / "index.csv")),
            *("--dataset", "kills", "--delivery-id", "1", "--to", f"file://{self.root / 'archive'}"),
            *("--journal", str(self.journal), "--check", "kills_check:check", "--jobs", "3", "--json", "-q"),
        ]

    def journal_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.journal.glob("events-*.ndjson"))

    def records(self) -> list[dict[str, object]]:
        lines = [line for p in sorted(self.journal.glob("events-*.ndjson")) for line in p.read_bytes().splitlines()]
        return [record for line in lines if "kind" in (record := json.loads(line))]


def make_place(root: Path, rng: random.Random) -> Place:
    place = Place(root)
    names = [f"d{n % 7}/f{n:03}.bin" for n in range(FILES - 3)] + [BAD, "empty.dat", "NA"]
    for name in names:
        path = place.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty.dat" else rng.randbytes(rng.randrange(1, 60_000)))
    with (root / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([name] for name in sorted(names))])
    (root / "kills_check.py").write_text(CHECK)
    return place


def run_until_killed(place: Place, rng: random.Random) -> bool:
    """Start the delivery and kill it once its journal has grown by a random number of bytes; False if it ended first."""
    goal = place.journal_bytes() + rng.randrange(1, FILES * 250)
    process = subprocess.Popen(
        place.deliver(), cwd=place.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and place.journal_bytes() < goal and time.monotonic() < deadline:
            time.sleep(0.001)
        if process.poll() is not None:
            return False
        time.sleep(rng.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        return True
    finally:
        process.kill()
        process.wait()


def judge(place: Place) -> None:
    """Everything that must be so at the end of a delivery, however often it was killed."""
    sources = place.files()
    stored = {str(p.relative_to(place.archive)): p.read_bytes() for p in place.archive.rglob("*") if p.is_file()}
    assert stored == sources, "the archive holds exactly the source files"
    assert not (place.control / "lock" / "client").exists()

    verdicts: Counter[tuple[str, str]] = Counter()
    told: Counter[str] = Counter()
    with (place.control / "log" / "validator_staging").open(newline="") as log:
        for row in csv.reader(log, delimiter="\t", escapechar="\\"):
            assert not (row[1] == "shutdown" and row[3] == "error"), f"we broke the validator's rules: {row}"
            if row[1] == "validation":
                verdicts[row[2], row[3]] += 1
    with (place.control / "log" / "client_staging").open(newline="") as log:
        for row in csv.reader(log, delimiter="\t"):
            told[row[2]] += row[1] == "transfer" and row[3] == "ok"
    good = set(sources) - {BAD}
    assert {path: n for (path, status), n in verdicts.items() if status == "ok"} == dict.fromkeys(good, 1)
    assert {path for path, status in verdicts if status != "ok"} == {BAD}

    valid: set[object] = set()
    for record in place.records():
        if record["kind"] in ("FileValidated", "FileFoundValid"):
            assert record["file"] not in valid, "a file is judged valid once"
            valid.add(record["file"])
        assert not (record["kind"] == "TransferStarted" and record["file"] in valid), "a valid file is never sent again"
    assert len(valid) == len(good)


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(DELIVERIES))
def test_a_delivery_killed_at_random_moments_ends_as_an_undisturbed_one(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    place = make_place(tmp_path, rng)
    kills = sum(run_until_killed(place, rng) for _ in range(KILLS_EACH))
    ended = subprocess.run(place.deliver(), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert ended.returncode == 1, ended.stderr
    assert summary["counts"]["valid"] == FILES - 1
    assert [failed["relpath"] for failed in summary["failed"]] == [BAD]
    judge(place)
    replays = [
        subprocess.run(
            [*COMMAND, "replay", str(place.journal), "--json"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for _ in range(2)
    ]
    assert replays[0] == replays[1]
    assert json.loads(replays[0])["counts"] == summary["counts"]
    assert kills >= 1
