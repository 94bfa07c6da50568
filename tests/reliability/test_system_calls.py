"""Every call to the kernel by which a small delivery changes a disk is met once: the process is killed, or the call fails.

`failing_calls` meets them; the judge of `local_place` says whether the next session mended what was left.
"""

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.crash.local_place import Place, judge, make_place
from tests.reliability.failing_calls import OTHER, SYNCS, TAKES_ROOM, Ended, Forks
from upload_adapters.cli.exit_codes import BUG, MEANINGS

FILES = 20
ENDS = 1
"""The exit code of such a delivery: one of its files is invalid."""
CHANGES_SOMETHING = {
    "create",
    "write",
    "pwrite",
    "fsync",
    "fdatasync",
    "rename",
    "mkdir",
    "unlink",
    "futimens",
    "rmdir",
}


def new_place(root: Path, seed: int) -> Place:
    root.mkdir()
    return make_place(root, random.Random(seed), count=FILES, largest=3_000)


def demand_kept(place: Place, ended: Ended) -> None:
    """What was told is in the journal, and a file that was told to be stored is."""
    journal = b"".join(path.read_bytes() for path in place.journal.glob("events-*.ndjson") if path.is_file())
    kept = set(journal.decode(errors="replace").splitlines())
    stored = [record["file"] for line in ended.told if (record := json.loads(line))["kind"] == "TransferCompleted"]
    assert [line for line in ended.told if line not in kept] == [], "it was told before it was kept"
    paths = sorted(place.files())
    for file in stored:
        name = paths[file]
        assert (place.archive / name).read_bytes() == (place.source / name).read_bytes(), (
            f"{name} was told to be stored"
        )


def resume(forks: Forks, place: Place) -> None:
    ended = forks.run(place.arguments, place.root)
    assert ended.code in (ENDS, 0), ended.stderr
    judge(place)


@pytest.fixture(scope="module")
def calls(forks, tmp_path_factory) -> list[str]:
    """The calls of an undisturbed delivery, in order; another one has a few more or less."""
    place = new_place(tmp_path_factory.mktemp("undisturbed") / "place", 0)
    [ended] = forks.each(lambda one, _: one.run(place.arguments, place.root, log=True), [0])
    assert ended.code == ENDS, ended.stderr
    judge(place)
    return list(ended.calls)


def test_the_calls_that_are_met_are_those_that_change_a_disk(calls):
    assert len(calls) > 250
    assert {call.split()[0] for call in calls} <= CHANGES_SOMETHING
    assert {call.split()[0] for call in calls} >= CHANGES_SOMETHING - {"rmdir"}


@pytest.mark.crash
@pytest.mark.promise("R6")
@pytest.mark.parametrize(("first", "how"), [(1, "kill before"), (2, "kill halfway"), (3, "kill after")])
def test_killed_at_any_call_that_writes_the_same_command_ends_as_if_nothing_had_happened(
    forks, calls, tmp_path, size, figure, first, how
):
    step = size(pr=3, nightly=1)  # at the small size each call is met in one of the three ways
    points = range(first if step > 1 else 1, len(calls) + 1, step)

    def killed(one, at):
        place = new_place(tmp_path / str(at), at)
        ended = one.run([*place.arguments, "--events"], place.root, at=at, how=how)
        assert ended.killed or at > len(calls) - 20, f"{at}: {ended.code} {ended.stderr}"
        demand_kept(place, ended)
        resume(one, place)
        shutil.rmtree(place.root)
        return ended.killed

    figure(sum(forks.each(killed, points)), "kills at calls")


@pytest.mark.crash
@pytest.mark.promise("R7")
@pytest.mark.parametrize(("first", "how"), [(1, "EIO"), (7, "ENOSPC")])
def test_whatever_call_fails_the_command_ends_as_documented_and_the_same_one_goes_on(
    forks, calls, tmp_path, size, figure, first, how
):
    step = size(pr=16, nightly=1)
    points = range(first if step > 1 else 1, len(calls) + 1, step)

    def failed(one, at):
        place = new_place(tmp_path / str(at), at)
        ended = one.run([*place.arguments, "--events"], place.root, at=at, how=how)
        demand_documented(place, ended, f"call {at}, {calls[min(at, len(calls)) - 1]}: {how}")
        demand_kept(place, ended)
        resume(one, place)
        shutil.rmtree(place.root)

    forks.each(failed, points)
    figure(len(points), "calls that fail once")


def demand_documented(place: Place, ended: Ended, what: str) -> None:
    """The exit code is one of the table, says no bug, and the delivery's lock is given back unless the disk kept it."""
    assert ended.code in MEANINGS, f"{what}: {ended.code}"
    assert ended.code != BUG, f"{what}: {ended.stderr}"
    assert ended.summary["exit_code"] == ended.code


@pytest.mark.crash
@pytest.mark.promise("R7")
def test_a_disk_that_stays_full_or_broken_ends_the_command_as_documented(forks, calls, tmp_path, size, figure):
    step = size(pr=60, nightly=4)
    points = [
        (at, how, kinds)
        for first, how, kinds in ((5, "ENOSPC", TAKES_ROOM), (35, "EIO", TAKES_ROOM | SYNCS | OTHER))
        for at in range(first, len(calls) + 1, step)
    ]

    def failed(one, point):
        at, how, kinds = point
        place = new_place(tmp_path / f"{at}-{how}", at)
        ended = one.run(
            [*place.arguments, "--events"], place.root, at=at, how=how, for_ever=kinds, limits={"outage_s": 1.0}
        )
        demand_documented(place, ended, f"from call {at}, {calls[min(at, len(calls)) - 1]}: {how}")
        demand_kept(place, ended)
        resume(one, place)
        shutil.rmtree(place.root)

    forks.each(failed, points)
    figure(len(points), "disks that stay full or broken")


@pytest.mark.crash
@pytest.mark.promise("R7")
def test_a_disk_that_fails_while_a_torn_journal_is_mended_harms_nothing_either(forks, calls, tmp_path, size, figure):
    """The first session was killed in the middle of a write to the journal; the second one's calls fail or kill it."""
    torn_at = next(at for at, call in enumerate(calls, 1) if at > 90 and call.startswith("write /journal/events"))
    step = size(pr=30, nightly=3)
    points = [
        (at, how)
        for first, how in ((2, "EIO"), (12, "ENOSPC"), (22, "kill halfway"))
        for at in range(first if step > 3 else 1, 130, step)
    ]

    def failed(one, point):
        at, how = point
        place = new_place(tmp_path / f"{at}-{how}".replace(" ", "-"), at)
        assert one.run(place.arguments, place.root, at=torn_at, how="kill halfway").killed
        ended = one.run([*place.arguments, "--events"], place.root, at=at, how=how)
        if not ended.killed:
            demand_documented(place, ended, f"call {at} of the second session: {how}")
        demand_kept(place, ended)
        resume(one, place)
        shutil.rmtree(place.root)

    forks.each(failed, points)
    figure(len(points), "faults while a torn journal is mended")
