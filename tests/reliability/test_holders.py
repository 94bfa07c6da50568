"""Clients race for a delivery's lock, free or stale, on a store with real conditional writes: one of them gets it."""

import os
import random

import attrs
import pytest

from tests.adapters.aws import places as aws_places
from tests.contracts.racing import race, winners
from upload_adapters.aws.s3_control import S3ControlBucket
from upload_adapters.local import DirectoryControlBucket
from upload_core.errors import LockHeldError
from upload_core.owner_lock import OwnerLock

KEY = "lock/client"
STALENESS_S = 3600.0


def race_once(control, chance: random.Random, make_stale) -> None:
    """Two to eight clients at once; half of the times a dead one's lock lies there."""
    if stale := chance.random() < 0.5:
        OwnerLock(control, KEY, "a dead one", STALENESS_S).acquire()
        make_stale()
    agents = [f"agent-{number}" for number in range(chance.randint(2, 8))]
    results = race([OwnerLock(control, KEY, agent, STALENESS_S).acquire for agent in agents])
    [won] = winners(results)
    winner = agents[results.index(won)]
    assert control.read(KEY)[0].decode() == winner
    assert all(isinstance(lost, LockHeldError) and lost.holder == winner for lost in results if lost is not won)
    assert won.taken_over == ("a dead one" if stale else "")
    control.delete(KEY)


@pytest.mark.promise("R12")
def test_of_clients_that_race_on_s3_one_holds_the_delivery(size, figure):
    races = size(pr=100, nightly=10_000)
    chance = random.Random(12)
    with aws_places.places() as made:
        bucket = made.bucket(directory=True)
        objects = made.aws.store.bucket(bucket.name).objects

        def make_stale() -> None:
            objects[KEY] = attrs.evolve(objects[KEY], modified=objects[KEY].modified - STALENESS_S - 5)

        for number in range(races):
            race_once(S3ControlBucket(lambda: bucket), chance, make_stale)
            if number % 100 == 0:
                made.aws._log.clear()  # ten thousand races would fill it
    figure(races, "races of 2 to 8 clients")


@pytest.mark.promise("R12")
def test_of_clients_that_race_on_a_directory_one_holds_the_delivery(tmp_path, size, figure):
    races = size(pr=100, nightly=10_000)
    chance = random.Random(12)
    control = DirectoryControlBucket(tmp_path)

    def make_stale() -> None:
        path = tmp_path / KEY
        then = path.stat().st_mtime - STALENESS_S - 5
        os.utime(path, (then, then))

    for _ in range(races):
        race_once(control, chance, make_stale)
    figure(races, "races of 2 to 8 clients")
