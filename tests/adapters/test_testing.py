"""The kit for hosts' tests: right code passes under everything, and code that is wrong in a way that hosts are is found."""

from typing import Any

import pytest

from upload_adapters.memory import MemoryPorts
from upload_adapters.testing import PORTS, Rehearsal, every_crash
from upload_core import Summary, UploadClient
from upload_core.errors import ArchiveUnavailableError, IdentityError, JournalWriteError
from upload_core.events import TransferStarted

FILES = {f"{number}.fits": b"some bytes" * number for number in range(5)}


def client(ports: MemoryPorts) -> UploadClient:
    return UploadClient(
        dataset="demo",
        delivery_id="1",
        transfer_type="staging",
        source="memory:",
        file_index={"path": list(FILES)},
        ports=ports,
    )


def deliver(ports: MemoryPorts) -> Summary:
    """A host that leaves the next session to whoever runs it next."""
    return client(ports).run()


def persistent(ports: MemoryPorts) -> Summary:
    """A host that goes on itself."""
    sessions = (deliver(ports) for _ in range(20))
    return next(summary for summary in sessions if summary.outcome in ("complete", "incomplete"))


def hurried(ports: MemoryPorts) -> str:
    """A host that takes any end of a session for the end of the delivery."""
    delivering = client(ports)
    delivering.subscribe(lambda _: delivering.stop("that is enough"), kinds=[TransferStarted])
    return delivering.run().outcome


def forgetful(ports: MemoryPorts) -> Summary:
    """A host that keeps its journal on a disk that does not outlive the process."""
    journal: Any = ports.journal
    journal.port.__init__()
    return deliver(ports)


@pytest.fixture
def world() -> Rehearsal:
    return Rehearsal(FILES)


def test_killed_at_any_call_right_code_loses_and_doubles_nothing():
    places = list(every_crash(lambda: Rehearsal(FILES), deliver))
    assert len(places) > 100
    assert {place.split(", ")[1].split(".")[0] for place in places} == PORTS.keys()


def test_a_host_that_stops_too_early_is_told_which_files_are_open(world):
    world.run(hurried)
    with pytest.raises(AssertionError, match=r"\d of 5 files have no verdict, and nobody goes on: .*fits"):
        world.check()


def test_a_host_that_loses_its_journal_is_found_where_it_shows():
    with pytest.raises(AssertionError, match=r"killed (before|after) call \d+, \w+\.\w+: "):
        list(every_crash(lambda: Rehearsal(FILES), forgetful))


def test_an_outage_of_fifteen_minutes_passes_at_once_and_costs_nothing(world):
    before_ms = world.ports.clock.now_ms()
    world.outage(850, nth=2)
    assert world.run(deliver).outcome == "complete"
    world.check()
    assert world.ports.clock.now_ms() - before_ms > 850_000
    assert world.kinds("OutageBegan", "OutageEnded", "TransferRetried") == ["OutageBegan", "OutageEnded"]


def test_a_lost_answer_is_not_a_lost_file(world):
    world.refuse("archive.put", ArchiveUnavailableError("reset by peer"), nth=2, times=3, done=True)
    world.run(deliver)
    world.check()


def test_credentials_that_expire_end_the_session_and_new_ones_go_on(world):
    world.refuse("archive.put", IdentityError("sign in again"), nth=3, times=0)
    assert (world.run(deliver).outcome, world.run(deliver).outcome) == ("interrupted", "interrupted")
    world.calm()
    assert world.run(deliver).outcome == "complete"
    world.check()


def test_a_lock_that_somebody_takes_ends_the_session_before_its_next_side_effect(world):
    world.meanwhile(world.take_over_lock, nth=3)
    world.meanwhile(lambda: world.ports.clock.advance(3 * 3600), nth=3)
    ended = world.run(deliver)
    assert (ended.exit_code, world.kinds("LockLost")) == (4, ["LockLost"])
    rows = world.rows()
    world.calm()
    world.run(deliver)
    world.check()
    assert world.rows()[: len(rows)] == rows


def test_a_full_disk_is_an_error_and_room_is_all_it_takes(world):
    world.meanwhile(world.fill_disk, nth=3)
    with pytest.raises(JournalWriteError):
        world.run(deliver)
    world.calm()
    world.run(deliver)
    world.check()


@pytest.mark.parametrize("seed", range(30))
def test_right_code_comes_through_any_storm(world, seed):
    storm = world.storm(seed)
    world.run(persistent, again_after=(ArchiveUnavailableError,))
    world.check()
    assert storm.happened


def test_the_same_seed_is_the_same_storm():
    stories = []
    for _ in range(2):
        world = Rehearsal(FILES)
        storm = world.storm(7)
        world.run(persistent, again_after=(ArchiveUnavailableError,))
        stories.append((storm.happened, world.events))
    assert stories[0] == stories[1]


def test_a_file_that_was_sent_twice_or_told_twice_is_found(world):
    world.run(deliver)
    world.check()
    world.resent.append("0.fits")
    with pytest.raises(AssertionError, match=r"the archive has them: \['0.fits'\]"):
        world.check()


def test_code_that_never_ends_is_said_to(world):
    def never(ports: MemoryPorts) -> None:
        world.kill_at(1)
        client(ports).run()

    with pytest.raises(AssertionError, match="not at its end after 60 lives"):
        world.run(never)


@pytest.mark.parametrize(("nth", "times"), [(0, 1), (1, -1)])
def test_calls_are_counted_from_one(world, nth, times):
    with pytest.raises(ValueError, match="counted from 1"):
        world.refuse("*", OSError("x"), nth=nth, times=times)


def test_nothing_begun_is_nothing_delivered(world):
    with pytest.raises(AssertionError, match="there is no journal"):
        world.check()
