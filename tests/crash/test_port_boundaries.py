"""A client killed before or after any of its port calls: the next one reaches the end of an undisturbed run.

Three times over: the validator lives in another process and survives, or survives and is slow to look and to be seen,
or dies with its client.
"""

import random

import pytest

from tests.crash.world import World
from upload_adapters.testing import Killed


def undisturbed(*, looks: int = 1) -> World:
    world = World()
    if looks > 1:
        world.let_validator_dawdle(looks)
    summary, deaths = world.deliver()
    assert summary is not None
    assert (summary.exit_code, deaths) == (1, 0)
    return world


CALLS = len(undisturbed().calls.made)


def test_an_undisturbed_run_is_as_the_judge_wants_it():
    world = undisturbed()
    world.judge()
    assert len(world.started) == 1
    assert sorted(path for path, _ in world.puts) == sorted(world.files), "each file was sent once"


@pytest.mark.promise("R6", "R14")
@pytest.mark.parametrize("validator_too", [False, True], ids=["validator survives", "validator dies too"])
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_killed_at_any_port_call_the_next_client_ends_as_if_nothing_had_happened(number, after, validator_too, figure):
    world = World()
    world.calls.kill_at(number, after=after)
    _, deaths = world.deliver(validator_too=validator_too)
    assert deaths == 1
    world.judge()
    figure(1, "kills at port calls")


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("number", range(1, len(undisturbed(looks=4).calls.made) + 1))
def test_a_validator_that_is_slow_to_look_and_to_be_seen_is_told_nothing_twice(number, after):
    world = World()
    world.let_validator_dawdle(4)
    world.calls.kill_at(number, after=after)
    _, deaths = world.deliver()
    assert deaths == 1
    world.judge()


@pytest.mark.parametrize("seed", range(150))
def test_killed_again_and_again_it_still_ends_as_if_nothing_had_happened(seed):
    chance = random.Random(seed)
    world = World()
    if seed % 3 == 0:
        world.let_validator_dawdle(chance.randint(2, 6))
    for _ in range(chance.randint(2, 4)):
        world.calls.kill_at(chance.randint(1, CALLS), after=chance.random() < 0.5)
        try:
            world.client().run()
        except Killed:
            world.die(validator_too=chance.random() < 0.5)
    world.calls.disarm()
    world.deliver()
    world.judge()
