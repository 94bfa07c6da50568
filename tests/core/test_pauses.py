"""Pauses: no file is begun while anybody wants one, and everything else goes on."""

import threading
import time

import pytest

from tests.crash.world import World
from upload_adapters.dispatch import ThreadDispatcher
from upload_core import events as ev
from upload_core.facts import FACT_CHANGES, Facts


@pytest.fixture
def world():
    return World(bad=[])


def puts_after(world, seq):
    return [path for path, at in world.puts if at >= seq]


def when(client, wanted, act):
    """Call `act` once, right after the first event that `wanted` accepts; returns where its sequence number will be."""
    found: list[int] = []

    def notice(record):
        if not found and wanted(record):
            found.append(record.seq)
            act()

    client.subscribe(notice)
    return found


def is_kind(kind, **fields):
    return lambda record: (
        isinstance(record.event, kind) and all(getattr(record.event, name) == value for name, value in fields.items())
    )


def paused_for(client, world, seconds):
    """Pause after the first stored file, and stop that many seconds of virtual time later."""
    clock, begun = world.ports.clock, []

    def begin():
        client.pause("lunch")
        begun.append(clock.now_ms())

    when(client, is_kind(ev.TransferCompleted), begin)
    dispatcher = world.ports.dispatcher
    collect = dispatcher.collect

    def watched(timeout_s):
        if begun and not client.done and clock.now_ms() > begun[0] + seconds * 1000:
            client.stop("enough")
        return collect(timeout_s)

    dispatcher.collect = watched


def test_while_paused_no_file_is_begun_and_lock_and_validator_are_served(world):
    client = world.client(n_threads=1)
    paused_for(client, world, 3 * 3600)
    assert client.run().outcome == "interrupted"
    [paused] = [event["seq"] for event in world.events if event["kind"] == "TransfersPaused"]
    assert puts_after(world, paused) == []
    after = [event["kind"] for event in world.events if event["seq"] > paused]
    assert after.count("LockRenewed") >= 8
    assert sum(row[1] == "keepalive" for row in world.rows()) >= 100
    assert "ValidatorLost" not in after


def test_what_was_handed_over_and_not_begun_waits_too():
    world = World({f"{n:03}": b"x" for n in range(50)}, bad=[])
    client = world.client(n_threads=1)
    first, gate = threading.Event(), threading.Event()
    archive = world.real["archive"]
    put = archive.put

    def slow(*args, **kwargs):
        first.set()
        assert gate.wait(20)
        return put(*args, **kwargs)

    archive.put = slow
    world.ports.dispatcher = ThreadDispatcher(world.ports.clock)
    turns = [0]

    def drive():
        client.connect()
        client.initiate_transfer()
        while not client.transfer_complete:
            client._step(0.01, queue=True)
            turns[0] += 1
        client.quit()

    thread = threading.Thread(target=drive)
    thread.start()
    assert first.wait(20)
    client.pause()
    before = turns[0]
    while turns[0] < before + 3 and thread.is_alive():
        time.sleep(0.01)
    gate.set()
    before = turns[0]
    while turns[0] < before + 10 and thread.is_alive():
        time.sleep(0.01)
    assert len(archive.contents()) == 1
    client.unpause()
    thread.join(60)
    assert len(archive.contents()) == 50


def test_it_goes_on_once_nobody_pauses_any_more(world):
    client = world.client(n_threads=1)
    when(client, is_kind(ev.TransferCompleted), lambda: (client.pause("a", by="user"), client.pause("b")))
    order = []

    def lift(by, next_by):
        order.append(by)
        client.unpause(by=by)
        assert set(client.delivery.facts.paused) == {by, next_by} - {None}

    when(client, is_kind(ev.TransfersPaused, by="host"), lambda: lift("user", "host"))
    when(client, is_kind(ev.TransfersContinued, by="user"), lambda: lift("host", None))
    assert client.run().outcome == "complete"
    assert order == ["user", "host"]
    assert world.kinds("TransfersPaused", "TransfersContinued") == ["TransfersPaused"] * 2 + ["TransfersContinued"] * 2
    world.judge()


def test_a_pause_asked_for_before_the_session_holds_from_its_first_file_on(world):
    client = world.client()
    client.pause("not yet")
    when(client, is_kind(ev.TransfersPaused), lambda: client.stop("enough"))
    client.run()
    assert world.puts == []
    assert [event["message"] for event in world.events if event["kind"] == "TransfersPaused"] == ["not yet"]


def test_a_new_session_starts_unpaused(world):
    client = world.client(n_threads=1)
    paused_for(client, world, 10)
    client.run()
    assert client.delivery.facts.paused == {"host": "lunch"}
    assert world.client().run().outcome == "complete"
    world.judge()


def test_a_host_that_asks_for_the_next_file_itself_waits_as_well(world):
    client = world.client()
    client.connect()
    client.initiate_transfer()
    client.pause()
    client.transfer_next_file()
    client.update()
    assert world.puts == []
    assert client.delivery.public_counts()["pending"] == 1
    client.unpause()
    client.update()
    client.update()
    assert len(world.puts) == 1
    client.quit()


def test_pausing_twice_and_continuing_what_is_not_paused_are_nothing_new(world):
    client = world.client(n_threads=1)
    when(client, is_kind(ev.TransferCompleted), lambda: (client.pause("a"), client.pause("b")))
    when(client, is_kind(ev.TransfersPaused), lambda: (client.pause("c"), client.unpause(), client.unpause()))
    assert client.run().outcome == "complete"
    assert world.kinds("TransfersPaused", "TransfersContinued") == ["TransfersPaused", "TransfersContinued"]


@pytest.mark.parametrize("kind", [ev.TransfersPaused, ev.TransfersContinued, ev.ConcurrencyChanged])
def test_every_pacing_event_changes_a_fact_that_a_new_session_forgets(kind):
    facts = Facts()
    fresh = ev.SessionOpened(1, "a", 1, 1)
    FACT_CHANGES[ev.SessionOpened](facts, fresh, 0)
    before = Facts(**{name: getattr(facts, name) for name in facts.__struct_fields__})
    facts.paused = {"user": "x"}
    event = {
        ev.TransfersPaused: ev.TransfersPaused("host"),
        ev.TransfersContinued: ev.TransfersContinued("user"),
        ev.ConcurrencyChanged: ev.ConcurrencyChanged(8, "why"),
    }[kind]
    FACT_CHANGES[kind](facts, event, 0)
    assert (facts.paused, facts.level) != ({"user": "x"}, 0)
    FACT_CHANGES[ev.SessionOpened](facts, fresh, 0)
    assert facts == before
