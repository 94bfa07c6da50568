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
