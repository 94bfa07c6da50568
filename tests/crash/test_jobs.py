"""Jobs that a service carries out: asked for once, gone on with after any death, and every file of them answered."""

import pytest

from tests.crash.job_world import JobWorld
from tests.crash.world import FILES
from upload_adapters.memory import InlineDispatcher
from upload_adapters.testing import Killed
from upload_core import ConfigurationError
from upload_core import events as ev
from upload_core.errors import ArchiveUnavailableError
from upload_core.jobs import members
from upload_core.lifecycle import TRANSFERRING

FAILING = ("d/002.dat", "d/005.dat")


def undisturbed(**options):
    world = JobWorld(**options)
    summary, deaths = world.deliver()
    assert summary is not None
    assert (summary.exit_code, deaths) == (1, 0)
    return world


def test_a_whole_delivery_is_one_job_and_no_file_is_sent_by_the_client():
    world = undisturbed()
    world.judge()
    world.judge_jobs()
    assert len(world.service.jobs) == 1
    assert world.puts == []


def test_files_whose_task_failed_go_alone_and_spend_no_retry():
    world = undisturbed(failing=FAILING)
    world.judge()
    world.judge_jobs()
    assert len(world.service.jobs) == 1
    assert sorted(path for path, _ in world.puts) == sorted(FAILING)
    assert world.real["journal"].replayed().facts.retries_total == 0


def test_a_job_is_asked_for_only_once_its_request_is_journaled():
    world = undisturbed()
    for (port, method, args), seq in zip(world.calls.made, world.calls.seqs, strict=True):
        if (port, method) in (("service", "write_manifest"), ("service", "create")):
            asked = [e["token"] for e in world.events if e["seq"] <= seq and e["kind"] == "CopyJobRequested"]
            assert args[0].token in asked


CALLS = len(undisturbed(failing=FAILING).calls.made)


@pytest.mark.promise("R6")
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
@pytest.mark.parametrize("forgets", [False, True], ids=["the token is known", "the job is found"])
def test_killed_at_any_call_no_job_is_made_twice_and_no_file_copied_twice(number, after, forgets, figure):
    world = JobWorld(failing=FAILING)
    world.service.forgets = forgets
    world.calls.kill_at(number, after=after)
    _, deaths = world.deliver()
    assert deaths == 1
    world.judge()
    world.judge_jobs()
    figure(1, "kills at calls while a service copies")


@pytest.mark.parametrize("seed", range(60))
def test_killed_again_and_again_it_still_ends_right(seed):
    import random

    chance = random.Random(seed)
    world = JobWorld(failing=FAILING)
    for _ in range(4):
        world.calls.kill_at(chance.randint(1, CALLS), after=chance.random() < 0.5)
        try:
            world.client().run()
        except Killed:
            world.die(validator_too=chance.random() < 0.5)
        except Exception:  # noqa: BLE001 - it is at its end already
            break
    world.calls.disarm()
    world.deliver()
    world.judge()
    world.judge_jobs()


def stopped_in_its_job(world, looks=1):
    """A session that was stopped while its job was at work; the client."""
    client = world.client()
    seen = []

    def stop(record):
        seen.append(record)
        if len(seen) == looks:
            client.stop("enough")

    client.subscribe(stop, kinds=[ev.CopyJobProgressed])
    assert client.run().outcome == "interrupted"
    return client


def test_a_session_that_is_stopped_leaves_its_job_at_work_and_the_next_one_takes_it_over():
    world = JobWorld()
    client = stopped_in_its_job(world)
    [job] = world.service.jobs.values()
    assert not job.over
    assert client.delivery.counts[TRANSFERRING] > 0
    assert sum(members(client.delivery)) == len(FILES)
    for _ in range(3):
        world.service.work(job, 3)
    world.deliver()
    world.judge()
    world.judge_jobs()
    assert len(world.service.jobs) == 1


def test_whoever_lost_the_lock_ends_its_job_and_the_files_of_it_are_found_or_sent_later():
    world = JobWorld()
    client = world.client()
    client.subscribe(lambda _: world.take_over_lock(), kinds=[ev.CopyJobProgressed])
    client.subscribe(lambda _: world.ports.clock.advance(3600), kinds=[ev.CopyJobProgressed])
    summary = client.run()
    assert (summary.outcome, summary.reason) == ("interrupted", "lock")
    [job] = world.service.jobs.values()
    assert job.cancelled
    world.calm()
    world.deliver()
    world.judge()
    world.judge_jobs()


def test_a_session_with_another_dispatcher_says_how_to_go_on():
    world = JobWorld()
    stopped_in_its_job(world)
    mine, world.ports.dispatcher = world.ports.dispatcher, InlineDispatcher(world.ports.clock)
    with pytest.raises(ConfigurationError, match="1 copy job"):
        world.client().run()
    world.ports.dispatcher = mine
    world.deliver()
    world.judge()
    world.judge_jobs()


def test_an_outage_of_the_control_bucket_ends_while_a_job_has_all_files():
    world = JobWorld()
    setattr(world.service, "work", lambda *_: None)  # noqa: B010 - the job takes its time
    down, turn = [20], world.real["control"].before_read

    def look(key):
        turn(key)
        if down[0] and world.service.jobs:
            down[0] -= 1
            raise ArchiveUnavailableError("no route to host")

    client = world.client()
    world.real["control"].before_read = look
    started = []

    def notice(record):
        started.append(type(record.event).__name__)
        if isinstance(record.event, ev.OutageEnded):
            del world.service.work

    client.subscribe(notice, kinds=[ev.OutageBegan, ev.OutageEnded])
    client.run()
    assert started == ["OutageBegan", "OutageEnded"]
    world.judge()
