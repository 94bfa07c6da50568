"""Deliveries by workers of a Dask cluster: workers, client and scheduler are killed, and it ends as an undisturbed one.

The judge of `local_place` shares no code with the client, and knows nothing of where transfers ran.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from typing import Any

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from tests.crash.local_place import BAD, COMMAND, Place, judge, make_place
from tests.promises import SIZE
from tests.reliability.dask_cluster import OwnProcesses, Reaper, local_cluster

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def cluster():
    with local_cluster() as cluster:
        yield cluster


def dispatch_to(cluster: Any) -> str:
    return str(cluster.scheduler_address).replace("tcp://", "dask://")


def deliver(place: Place, dispatch: str, *more: str) -> list[str]:
    return [*place.deliver(), "--dispatch", dispatch, *more]


def ended(command: list[str], place: Place) -> dict[str, Any]:
    """Run it to its end, which must be that of a delivery with one bad file."""
    done = subprocess.run(command, cwd=place.root, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert [failed["relpath"] for failed in summary["failed"]] == [BAD]
    return summary


@pytest.mark.skipif(SIZE == "pr", reason="workers that die faster than they start take minutes: make soak")
@pytest.mark.timeout(900)
@pytest.mark.promise("R6")
def test_workers_that_are_killed_at_random_cost_time_and_no_files_retry(cluster, tmp_path, size, figure):
    count = size(pr=300, nightly=10_000)
    place = make_place(tmp_path, random.Random(1), count=count, largest=size(pr=60_000, nightly=6_000))
    kills = size(pr=6, nightly=25)
    with Reaper(cluster, random.Random(2), at_most=kills) as reaper:
        summary = ended(deliver(place, dispatch_to(cluster), "--max-bandwidth", "3MB/s"), place)
    judge(place)
    assert summary["counts"]["valid"] == count - 1
    assert summary["retries"] == 0
    assert reaper.kills >= 2
    figure(reaper.kills, "workers of a cluster killed")


@pytest.mark.promise("R6")
def test_a_client_that_is_killed_and_resumed_sends_nothing_of_what_is_valid_again(cluster, tmp_path, size, figure):
    rng = random.Random(3)
    place = make_place(tmp_path, rng, count=200)
    kills = 0
    for _ in range(size(pr=2, nightly=10)):
        goal = place.journal_bytes() + rng.randrange(20_000, 40_000)
        process = subprocess.Popen(
            deliver(place, dispatch_to(cluster), "--max-bandwidth", "2MB/s"),
            cwd=place.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while process.poll() is None and place.journal_bytes() < goal:
                time.sleep(0.002)
            kills += process.poll() is None
        finally:
            process.kill()
            process.wait()
    resume = [*COMMAND, "resume", str(place.journal), "--json", "-q"]
    ended(resume, place)  # on the cluster that the journal names
    judge(place)
    assert kills >= 1
    figure(kills, "clients of a cluster killed")


def test_a_scheduler_that_restarts_costs_an_outage_and_no_files_retry(tmp_path):
    place = make_place(tmp_path, random.Random(4), count=150)
    own = OwnProcesses(str(tmp_path / "cluster.log"))
    try:
        own.start_scheduler()
        own.start_worker()
        process = subprocess.Popen(
            deliver(place, f"dask://{own.address}", "--max-bandwidth", "1MB/s"),
            cwd=place.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until = time.monotonic() + 30
            while (len(list(place.archive.rglob("*.bin"))) < 10) and time.monotonic() < until:
                time.sleep(0.02)
            own.kill_scheduler()
            own.start_scheduler()
            own.start_worker()
            stdout, stderr = process.communicate(timeout=90)
        finally:
            process.kill()
            process.wait()
    finally:
        own.close()
    assert process.returncode == 1, stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["retries"] == 0
    assert {"OutageBegan", "OutageEnded"} <= {record["kind"] for record in place.records()}
    judge(place)


def test_whoever_is_refused_the_lock_leaves_the_holders_workers_alone(cluster, tmp_path):
    place = make_place(tmp_path, random.Random(6), count=150)
    command = deliver(place, dispatch_to(cluster), "--max-bandwidth", "300kB/s")
    holder = subprocess.Popen(
        command, cwd=place.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until = time.monotonic() + 30
        while len(list(place.archive.rglob("*.bin"))) < 5 and time.monotonic() < until:
            time.sleep(0.02)
        other = [str(tmp_path / "another") if part == str(place.journal) else part for part in command]
        refused = subprocess.run(other, cwd=place.root, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 4, refused.stderr
        _, stderr = holder.communicate(timeout=90)
    finally:
        holder.kill()
        holder.wait()
    assert holder.returncode == 1, stderr
    assert not {"OutageBegan", "TransferInterrupted"} & {record["kind"] for record in place.records()}
    judge(place)


def test_a_worker_that_does_not_see_the_source_is_named_before_anything_is_sent(cluster, tmp_path):
    """One path is two places: what a process sees as its own working directory."""
    place = make_place(tmp_path, random.Random(5), count=5)
    command = [argument.replace(str(place.source), "/proc/self/cwd/source") for argument in place.deliver()]
    done = subprocess.run(
        [*command, "--dispatch", dispatch_to(cluster)],
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "2 of 2 Dask workers do not see the source" in done.stderr
    assert all(f"{worker}:" in done.stderr for worker in cluster.scheduler.workers)
    assert not place.archive.exists() or not list(place.archive.iterdir())
