"""Append, apply, act: the order in which everything happens, seen from the ports, and what each turn costs."""

import itertools

import msgspec
import pytest

from tests.crash.world import FILES, World
from upload_adapters.memory import InlineDispatcher
from upload_adapters.testing import Killed
from upload_core import JournalWriteError
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import IllegalEventError
from upload_core.files import FileTable
from upload_core.lifecycle import DONE, READY, UNRESOLVED


@pytest.fixture
def world():
    return World(bad=[])


def journaled_when(world, port, method):
    """For each such call: the events in the journal at that moment, and the call's arguments."""
    events = world.events
    for (p, m, args), seq in zip(world.calls.made, world.calls.seqs, strict=True):
        if (p, m) == (port, method):
            yield [event for event in events if event["seq"] <= seq], args


def test_a_transfer_is_journaled_before_it_begins(world):
    world.client().run()
    for events, (path, *_) in journaled_when(world, "archive", "put"):
        row = list(FILES).index(path)
        assert [event["kind"] for event in events if event.get("file") == row][-1] == "TransferStarted"


def test_a_worker_gets_an_order_only_once_its_start_is_journaled(world):
    client, dispatcher = world.client(), world.ports.dispatcher
    submit, seen = dispatcher.submit, []

    def watched(orders):
        started = {event["file"] for event in world.events if event["kind"] == "TransferStarted"}
        assert {order.file for order in orders} <= started
        seen.extend(orders)
        submit(orders)

    dispatcher.submit = watched
    client.run()
    assert len(seen) == len(FILES)


def test_a_file_is_announced_only_once_its_storage_is_journaled(world):
    world.client().run()
    rows = 0
    for events, (key, data) in journaled_when(world, "control", "append"):
        assert key == "log/client_staging"
        for line in data.decode().splitlines():
            _, category, path, *_ = line.split("\t")
            if category == "transfer":
                stored = {event["file"] for event in events if event["kind"] == "TransferCompleted"}
                assert list(FILES).index(path) in stored
                rows += 1
    assert rows == len(FILES)


def test_the_pipeline_is_asked_under_a_key_that_is_journaled_already(world):
    world.client().run()
    [(events, _)] = journaled_when(world, "pipeline", "start")
    [key] = [event["key"] for event in events if event["kind"] == "PipelineRequested"]
    assert world.real["pipeline"].requests[0].idempotency_key == key


def test_the_first_file_is_announced_alone_and_the_rest_once_it_was_judged(world):
    """Rows written before the validator looks are never read, so one row finds out."""
    world.client(n_threads=8).run()
    told = [event.get("told", 0) for event in world.events if event["kind"] == "ClientLogAppended"]
    assert [count for count in told if count] == [1, 7]
    kinds = world.kinds("FileReported", "RunConfirmed")
    assert kinds == ["FileReported", "RunConfirmed", *["FileReported"] * 7]


def test_verdicts_and_the_position_in_the_log_are_one_batch(world):
    world.client().run()
    batches: list[list[str]] = [[]]
    for line in world.real["journal"].data.decode().splitlines()[1:]:
        batches[-1].append(line)
        if ',"crc":"' in line:
            batches.append([])
    for batch in batches:
        if any("FileValidated" in line for line in batch):
            assert "ValidatorLogRead" in batch[-1]


def test_what_the_journal_refuses_is_neither_believed_nor_done(world):
    client = world.client()
    client.connect()
    client.initiate_transfer()
    world.real["journal"].failure = "the disk is full"
    before = client.delivery.canonical()
    puts = len(world.puts)
    with pytest.raises(JournalWriteError):
        client.transfer_next_file()
    assert client.delivery.canonical() == before
    assert len(world.puts) == puts
    assert client.done
    assert client.summary().exit_code == 8
    assert world.real["control"].size("lock/client") == 0
    world.real["journal"].failure = None
    world.client().run()
    world.judge()


def test_an_event_that_cannot_follow_is_never_journaled(world):
    client = world.client()
    client.connect()
    size = len(world.real["journal"].data)
    assert client._engine is not None
    with pytest.raises(IllegalEventError):
        client._engine.record([ev.TransferQueued(0), ev.TransferCompleted(0, 1, "AAAAAA==")])
    assert len(world.real["journal"].data) == size
    client.quit()


def test_our_log_is_appended_to_at_most_once_a_second_and_theirs_read_at_most_once_a_second():
    world = World({f"{n:03}": b"x" for n in range(200)}, bad=[])
    began = world.ports.clock.now_ms()
    world.client(n_threads=1).run()
    seconds = (world.ports.clock.now_ms() - began) / 1000
    made = [(port, method, args[0]) for port, method, args in world.calls.made if port == "control"]
    assert made.count(("control", "append", "log/client_staging")) <= seconds + 3
    assert made.count(("control", "read", "log/validator_staging")) <= seconds + 5


def test_nothing_is_asked_of_the_archive_but_one_put_for_each_file_a_listing_before_and_a_look_for_uploads_after(world):
    world.client().run()
    asked = [method for port, method, _ in world.calls.made if port == "archive"]
    assert sorted(asked) == ["end_uploads", "list", *["put"] * len(FILES)]


def test_a_resumed_delivery_asks_for_no_listing(world):
    world.calls.kill_at(30, after=True)
    world.deliver()
    assert [method for port, method, _ in world.calls.made if port == "archive"].count("list") == 1


def test_the_clock_may_step_back_without_stopping_anything():
    world = World(bad=[])
    client = world.client()
    client.subscribe(lambda record: steps.pop()() if record.seq == 15 else None)
    steps = [lambda: vars(world.ports.clock).update(_now_ms=world.ports.clock.now_ms() - 3_600_000)]
    assert client.run().exit_code == 0
    times = [event["time"] for event in world.events]
    assert times == sorted(times)


def test_a_session_whose_clock_is_behind_the_last_ones_reports_at_once(world):
    world.calls.kill_at(40, after=True)
    with pytest.raises(Killed):
        world.client().run()
    world.die(validator_too=True)
    vars(world.ports.clock).update(_now_ms=world.ports.clock.now_ms() - 1_800_000)
    began = world.ports.clock.now_ms()
    assert world.client().run().exit_code == 0
    assert world.ports.clock.now_ms() - began < 60_000
    world.judge()


# --- the state -----------------------------------------------------------------------------------

CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", "digest", files=100)


def hundred() -> Delivery:
    return Delivery.begin(CREATED, FileTable.from_columns([f"{n}" for n in range(100)], [1] * 100, None))


def test_take_goes_round_the_index_and_never_gives_a_file_twice():
    delivery = hundred()
    seen = list(itertools.chain.from_iterable(delivery.take(READY, 7) for _ in range(14)))
    assert seen == list(range(98))
    assert delivery.take(READY, 7) == [98, 99, 0, 1, 2, 3, 4]
    assert sorted(delivery.take(READY, 500)) == list(range(100))
    assert delivery.take(DONE, 3) == []


def test_states_that_differ_in_anything_differ_in_their_bytes():
    base = hundred()
    seen = {base.canonical()}
    for change in (
        ev.SessionOpened(1, "us", 1, 0),
        ev.FileSighted(3),
        ev.VerdictDeferred(3, "ok"),
        ev.VerdictDeferred(3, "ok", "m"),
        ev.FileFoundMissing(3),
        ev.FileInvalidated(3, "why"),
        ev.FileInvalidated(3, "why not"),
        ev.OutageBegan("x"),
        ev.ClientLogAppended(7),
    ):
        base.apply(change, 1)
        seen.add(base.canonical())
    assert len(seen) == 10
    assert len({Delivery.from_canonical(state, base.table).digest for state in seen}) == 10


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"\n", b"null\n"])
def test_what_is_no_canonical_state_is_refused(damage):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        Delivery.from_canonical(damage, hundred().table)
    with pytest.raises(ValueError, match="state columns"):
        Delivery.from_canonical(hundred().canonical()[:-1], hundred().table)


def test_the_properties_need_no_look_at_the_files():
    """Each is answered from ten counters, whatever the number of files."""
    delivery = hundred()
    delivery.states = _Untouchable(delivery.states)  # type: ignore[assignment]
    assert delivery.n_complete == 0
    assert not delivery.transfer_complete
    assert sum(delivery.public_counts().values()) == 100
    assert delivery.counts[UNRESOLVED] == 0


class _Untouchable:
    def __init__(self, states):
        self._length = len(states)

    def __len__(self):
        return self._length


def test_inline_dispatcher_is_what_the_memory_ports_use_unless_told_otherwise(world):
    assert isinstance(world.ports.dispatcher, InlineDispatcher)
