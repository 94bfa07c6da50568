"""How a session ends: what it gives back, and what it leaves alone."""

import pytest

from tests.crash.world import World
from upload_core.errors import ArchiveUnavailableError


@pytest.fixture
def world():
    return World(bad=[])


def categories(world):
    return [row[1] for row in world.rows()]


def test_the_pipeline_is_given_back_however_a_session_ends(world):
    client = world.client()
    client.connect()
    client.quit()
    assert [call[:2] for call in world.calls.made].count(("pipeline", "close")) == 1


def test_uploads_are_left_to_the_next_session_until_every_file_is_settled(world):
    client = world.client()
    client.initiate_transfer()
    client.quit()
    assert ("archive", "end_uploads") not in [call[:2] for call in world.calls.made]
    world.client().run()
    assert ("archive", "end_uploads") in [call[:2] for call in world.calls.made]


def test_a_crash_before_a_run_is_told_and_nobody_is_told_to_stop(world):
    client = world.client()
    client.connect()
    client.crash(RuntimeError("x"))
    assert categories(world) == ["client"]


def test_a_crash_after_the_lock_went_to_a_rival_is_told_to_nobody(world):
    client = world.client()
    client.connect()
    world.ports.clock.advance(world.ports.limits.lock_staleness_s * 0.6)
    world.real["control"].put("lock/client", b"rival@elsewhere")
    client.crash(RuntimeError("x"))
    assert world.real["control"].size("log/client_staging") == 0
    assert world.real["control"].read("lock/client")[0] == b"rival@elsewhere"


def test_whoever_is_stopped_in_an_outage_asks_the_archive_for_no_more_than_the_lock(world):
    client = world.client()
    client.initiate_transfer()
    client.update()
    world.ports.clock.advance(world.ports.limits.validator_blind_s)
    asked = []

    def away(port, method, args):
        if port in ("control", "archive"):
            asked.append((port, method))
            raise ArchiveUnavailableError("no route")

    world.calls.before = away
    client.update()
    assert world.kinds("OutageBegan")
    asked.clear()
    client.quit()
    assert ("control", "append") not in asked
    assert world.kinds()[-1] == "SessionClosed"


def test_the_validators_last_words_are_waited_for(world):
    world.let_validator_dawdle(4)
    assert world.client().run().outcome == "complete"
    ends = [kind for kind in world.kinds() if kind in ("StopReported", "ValidatorStopped", "SessionClosed")]
    assert ends == ["StopReported", "ValidatorStopped", "SessionClosed"]


def _away_once_told_to_stop(world, *, for_s, ports):
    """From our stop row on, so many seconds long, these ports answer nothing."""
    began: list[int] = []

    def away(port, method, args):
        if port == "control" and method == "append" and not began and b"\tstop\t" in args[1]:
            began.append(world.ports.clock.now_ms())
        elif port in ports and began and world.ports.clock.now_ms() < began[0] + for_s * 1000:
            raise ArchiveUnavailableError("no route")

    world.calls.before = away
    return began


def test_an_outage_does_not_count_as_the_validators_time_for_its_last_words(world):
    world.let_validator_dawdle(4)
    began = _away_once_told_to_stop(world, for_s=30, ports=("control",))
    assert world.client().run().outcome == "complete"
    assert began
    assert world.kinds().index("OutageEnded") < world.kinds().index("ValidatorStopped")


def test_an_outage_that_outlasts_patience_is_waited_for_once(world):
    began = _away_once_told_to_stop(world, for_s=1e6, ports=("control", "archive"))
    world.client().run()
    assert world.kinds()[-1] == "SessionClosed"
    assert world.ports.clock.now_ms() < began[0] + 1.5 * world.ports.limits.outage_s * 1000


def test_an_outage_that_delays_our_stop_row_gives_a_silent_validator_no_more_time(world):
    clock = world.ports.clock
    tried: list[int] = []

    def away(port, method, args):
        if port == "control" and method == "append" and b"\tstop\t" in args[1]:
            world.let_validator_dawdle(10**9)
            tried.append(clock.now_ms())
            if tried[-1] < tried[0] + 100_000:
                raise ArchiveUnavailableError("no route")

    world.calls.before = away
    assert world.client().run().outcome == "complete"
    assert world.kinds("OutageEnded")
    assert not world.kinds("ValidatorStopped")
    assert clock.now_ms() - tried[-1] < (world.ports.limits.validator_stop_s + 5) * 1000


def test_whoever_is_interrupted_with_the_last_verdict_on_its_way_is_complete():
    world = World({"only": b"one"}, bad=[])
    client = world.client()
    client.initiate_transfer()
    while not world.kinds("ValidatorKeptAlive"):
        client.update()
        world.ports.clock.advance(1)
    world.let_validator_dawdle(1_000)
    client.transfer_next_file()
    while not world.kinds("FileReported"):
        client.update()
        world.ports.clock.advance(0.1)
    assert not client.validation_complete
    world.let_validator_dawdle(1)
    client.quit()
    closed = world.events[-1]
    assert [closed.get(name, "") for name in ("kind", "outcome", "reason", "message")] == [
        "SessionClosed",
        "complete",
        "",
        "",
    ]
