"""Deliveries to real file systems that are full, turn read-only, or lose their power; each goes on once that is mended."""

import itertools
import random
import shutil

import pytest

from tests.crash.local_place import CHECK, judge, make_place
from tests.reliability.disks import mounted  # noqa: F401 - a fixture, found by its name
from tests.reliability.test_system_calls import ENDS, FILES, demand_documented, demand_kept, resume

PAGE = 4096
IMPATIENT = {"outage_s": 0.6, "keepalive_interval_s": 0.3}
CUT_READ_ONLY = (
    CHECK
    + """
import os, subprocess

def turn(path, relpath):
    if relpath == "d3/f003.bin" and os.environ.get("TURNS_READ_ONLY"):
        subprocess.run(["mount", "-o", "remount,abort", os.environ["TURNS_READ_ONLY"]], check=True)
    return check(path, relpath)
"""
)


@pytest.mark.crash
@pytest.mark.promise("R7")
def test_a_disk_that_is_too_small_is_told_and_once_there_is_room_the_same_command_goes_on(
    forks,
    mounted,  # noqa: F811 - the fixture
    size,
    figure,
):
    disk = mounted("tmpfs", "size=4m")
    told: list[int] = []

    def one(fork, _):
        place = make_place(_fresh(disk.root / "place"), random.Random(0), count=FILES, largest=3_000)
        before = shutil.disk_usage(disk.root).used
        assert fork.run(place.arguments, place.root).code == ENDS
        needed = (shutil.disk_usage(disk.root).used - before) // PAGE
        shutil.rmtree(place.root)
        for pages in range(2, needed, size(pr=20, nightly=2)):
            place = make_place(_fresh(disk.root / "place"), random.Random(0), count=FILES, largest=3_000)
            disk.remount(f"size={before + pages * PAGE}")
            ended = fork.run([*place.arguments, "--events"], place.root, limits=IMPATIENT)
            demand_documented(place, ended, f"{pages} pages of {needed}")
            assert ended.code != ENDS, "it had no room for the last file"
            demand_kept(place, ended)
            disk.remount("size=4m")
            resume(fork, place)
            shutil.rmtree(place.root)
            told.append(pages)

    forks.each(one, [0])
    figure(len(told), "disks that became full")


def _fresh(path):
    path.mkdir()
    return path


@pytest.mark.crash
@pytest.mark.promise("R7")
@pytest.mark.parametrize("what", ["archive and journal", "journal alone", "archive alone"])
def test_a_disk_that_turns_read_only_midway_is_told_and_mounted_again_the_delivery_goes_on(
    forks,
    mounted,  # noqa: F811 - the fixture
    what,
    tmp_path,
    monkeypatch,
    figure,
):
    disk = mounted("ext4", "errors=remount-ro")
    place = make_place(_fresh(tmp_path / "place"), random.Random(1), count=FILES, largest=3_000)
    (place.root / "kills_check.py").write_text(CUT_READ_ONLY)
    for name in ("archive", "journal"):
        if name in what:
            (disk.root / name).mkdir()
            (place.root / name).symlink_to(disk.root / name)
    arguments = [argument.replace("kills_check:check", "kills_check:turn") for argument in place.arguments]

    def one(fork, _):
        environ = {"TURNS_READ_ONLY": str(disk.root)}
        ended = fork.run([*arguments, "--events"], place.root, limits=IMPATIENT, environ=environ)
        demand_documented(place, ended, what)
        assert ended.code in (6, 8), ended.stderr
        again = fork.run(arguments, place.root, limits=IMPATIENT)
        demand_documented(place, again, f"{what}, read-only from the start")
        assert again.code in (6, 8), again.stderr
        disk.mount_again()
        demand_kept(place, ended)
        resume(fork, place)

    forks.each(one, [0])
    figure(2, "disks that were read-only")


@pytest.mark.crash
@pytest.mark.promise("R8")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_after_a_power_cut_what_was_told_is_there_and_the_same_command_goes_on(
    forks,
    mounted,  # noqa: F811 - the fixture
    kind,
    size,
    figure,
):
    """The file system stops in the middle of a call, as `FS_IOC_SHUTDOWN` does it: nothing is flushed, not even its log."""
    disk = mounted(kind)
    cuts = size(pr=3, nightly=40, release=200)
    chance = random.Random(cuts)
    made = [0]

    def one(fork, _):
        for number in itertools.count():
            if made[0] == cuts:
                break
            place = make_place(_fresh(disk.root / f"place-{number}"), random.Random(number), count=FILES, largest=3_000)
            disk.mount_again()
            at = chance.randrange(1, 300)  # the last of them may lie behind the end
            ended = fork.run([*place.arguments, "--events"], place.root, at=at, how="power cut")
            assert ended.killed or at > 260, f"{ended.code}: {ended.stderr}"
            made[0] += ended.killed
            disk.mount_again()
            try:
                demand_kept(place, ended)
            except AssertionError as error:
                error.add_note(f"the power was cut at call {at} of seed {number}")
                raise
            resume(fork, place)
            judge(place)
            shutil.rmtree(place.root)

    forks.each(one, [0])
    figure(made[0], f"power cuts on {kind}")
