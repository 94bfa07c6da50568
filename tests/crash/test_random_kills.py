"""Deliveries in processes of their own, killed by SIGKILL at random moments, resumed until they end.

The judge of `local_place` is independent of the client.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.crash.local_place import BAD, COMMAND, Place, judge, make_place

KILLS_EACH = 5
FILES = 120


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


@pytest.mark.crash
@pytest.mark.promise("R6")
@pytest.mark.parametrize("part", range(10))
def test_a_delivery_killed_at_random_moments_ends_as_an_undisturbed_one(
    part: int, tmp_path: Path, size, figure
) -> None:
    deliveries = size(pr=1, nightly=10, release=45)
    kills = 0
    for seed in range(part * deliveries, (part + 1) * deliveries):
        (tmp_path / str(seed)).mkdir()
        kills += killed_and_resumed(seed, tmp_path / str(seed))
    figure(kills, "kills at random moments")


def killed_and_resumed(seed: int, root: Path) -> int:
    """One delivery, killed and killed again, then left to end; how often it was killed."""
    rng = random.Random(seed)
    place = make_place(root, rng)
    kills = sum(run_until_killed(place, rng) for _ in range(KILLS_EACH))
    ended = subprocess.run(place.deliver(), cwd=root, capture_output=True, text=True, timeout=120, check=False)
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
    return kills
