"""Large files in parts, by the real S3 adapter on a store in memory: a client killed at any call sends nothing twice.

What S3 has of a file is never sent again, what the journal knows of is not read again, nothing is mixed, and at the end
no upload of ours is open.
"""

import random
from collections import Counter

import pytest

from tests.crash.large_world import PARTS, LargeWorld
from tests.crash.s3_in_memory import BUCKET, StoreCalls
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.memory import MemorySource
from upload_adapters.testing import Killed


def undisturbed() -> LargeWorld:
    world = LargeWorld()
    summary, deaths = world.deliver()
    assert summary is not None
    assert (summary.exit_code, deaths) == (0, 0)
    return world


CALLS = len(undisturbed().calls.made)


def test_an_undisturbed_delivery_sends_and_reads_everything_once():
    world = undisturbed()
    world.judge()
    world.judge_parts(kills=0)
    asked = Counter(name for port, name, _ in world.calls.made if port == "s3")
    assert asked["upload_part"] == sum(PARTS.values())
    assert asked["create_multipart_upload"] == asked["complete_multipart_upload"] == len(PARTS)
    assert asked["list_multipart_uploads"] == 2, "once before the first large file, once at the end"
    assert asked["list_parts"] == 0


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_killed_at_any_call_no_part_is_sent_twice(number, after):
    world = LargeWorld()
    world.calls.kill_at(number, after=after)
    _, deaths = world.deliver()
    assert deaths == 1
    world.judge()
    world.judge_parts(kills=1)


@pytest.mark.parametrize("seed", range(100))
def test_killed_again_and_again_no_part_is_sent_twice(seed):
    chance = random.Random(seed)
    world = LargeWorld()
    kills = chance.randint(2, 6)
    for _ in range(kills):
        world.calls.kill_at(chance.randint(1, CALLS), after=chance.random() < 0.5)
        try:
            world.client().run()
        except Killed:
            world.die(validator_too=chance.random() < 0.5)
    world.calls.disarm()
    world.deliver()
    world.judge()
    world.judge_parts(kills=kills)


def kill_in_the_middle(world: LargeWorld, part: int) -> None:
    """Kill the client once so many parts of the first file were sent."""
    for number in range(1, CALLS):
        if len(world.stored.parts_sent) >= part:
            break
        world.calls.kill_at(number)
        with pytest.raises(Killed):
            world.client().run()
        world.die(validator_too=False)
    assert world.stored.open_uploads() == ["big"]


@pytest.mark.parametrize("part", range(1, PARTS["big"] + 1))
def test_a_source_that_changes_between_two_sessions_is_stored_as_it_is_then_or_not_at_all(part):
    for checksums in (False, True):
        world = LargeWorld(checksums=checksums)
        index = world.table()
        world.table = lambda index=index: index  # type: ignore[misc]
        kill_in_the_middle(world, part)
        before = world.files["big"]
        world.files["big"] = bytes([before[0] ^ 1]) + before[1:]
        world.deliver(max_retries=1)
        if checksums:
            assert world.last is not None
            [failed] = world.last.summary().failed
            assert failed.relpath == "big"
            assert "checksum" in str(failed.message)
            assert "big" not in world.stored.contents()
        else:
            assert world.stored.contents()["big"] == world.files["big"]
        assert world.stored.open_uploads() == []


def test_a_file_whose_indexed_size_became_small_leaves_no_parts():
    world = LargeWorld()
    kill_in_the_middle(world, 4)
    world.files["big"] = b"small now"
    world.deliver()
    world.judge()
    assert world.stored.open_uploads() == []


def test_parts_that_came_together_are_one_batch_of_the_journal():
    from upload_adapters.memory import InlineDispatcher

    world = LargeWorld()
    world.ports.dispatcher = InlineDispatcher(world.ports.clock)
    world.deliver()
    world.judge()
    sizes = [event["batch"] for event in world.events if "batch" in event]
    parts = [event for event in world.events if event["kind"] == "PartStored"]
    assert len(parts) == sum(PARTS.values())
    assert max(sizes) >= len(parts)


def test_what_a_killed_client_left_of_a_file_that_is_stored_by_then_is_ended():
    world = LargeWorld()
    kill_in_the_middle(world, 4)
    calls = StoreCalls(world.stored)
    bucket = Bucket(BUCKET, calls, calls)
    with MemorySource(world.files).open("big") as body:
        S3Archive(lambda: bucket).put("big", body, checksum=None)
    sent = len(world.stored.parts_sent)
    world.deliver()
    world.judge()
    assert [relpath for relpath, _, _ in world.stored.parts_sent[sent:]] == ["big/too"] * 3
    assert world.stored.open_uploads() == []
    assert world.real["journal"].replayed().uploads == {}
