"""The small rules of a delivery's state, each by itself: what a busier test passes by without a look."""

import pytest

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import IllegalEventError
from upload_core.files import FileTable
from upload_core.lifecycle import FAILED, READY
from upload_core.recovery import Run
from upload_core.retry import delay_ms

NOW_MS = 1_800_000_000_000
CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", "digest", files=3)
OPEN = (ev.SessionOpened(1, "us", 2, 1), ev.LockAcquired("e"))
RUNNING = (ev.PipelineRequested("key", 0), ev.ValidatorStarted(""))
SENT = (ev.TransferQueued(0), ev.TransferStarted(0))


def table_of(*paths):
    return FileTable.from_columns(list(paths), [5] * len(paths), None)


def delivery_after(*events):
    delivery = Delivery.begin(CREATED, table_of("a", "b", "c"))
    for event in (*OPEN, *events):
        delivery.check([event])
        delivery.apply(event, NOW_MS)
    return delivery


@pytest.mark.parametrize(
    "outcome",
    [
        fx.FileStored(0, 5, "AAAAAA=="),
        fx.FileNotStored(0, fx.Fault.FILE, "gone"),
        fx.FileInspected(0, fx.ArchiveHolds.EQUAL),
        fx.UploadEnded(0),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_what_a_worker_of_an_earlier_life_says_of_a_settled_file_changes_nothing(outcome):
    delivery = delivery_after(*SENT, ev.TransferCompleted(0, 5, "AAAAAA=="))
    assert list(delivery.decide(cmd.OutcomesFound([outcome]), NOW_MS).events) == []


def test_an_event_that_cannot_happen_names_itself_the_file_and_its_state():
    delivery = delivery_after()
    for refused in (delivery.check, lambda events: delivery.apply(events[0], NOW_MS)):
        with pytest.raises(IllegalEventError, match="TransferStarted cannot happen to 'b' while it is ready"):
            refused([ev.TransferStarted(1)])


def test_a_path_that_only_the_newer_table_knows_is_no_file_of_the_delivery_yet():
    delivery = delivery_after()
    delivery.table = table_of("a", "b", "c", "d")
    assert (delivery.find("c"), delivery.find("d")) == (2, None)
    delivery.apply(ev.IndexRevised(1, "newer", 4), NOW_MS)
    assert delivery.find("d") == 3


def test_a_failed_file_goes_before_the_ready_ones_from_the_moment_its_rest_is_over():
    delivery = delivery_after(*SENT, ev.TransferFailed(0, "gone"))
    over_ms = NOW_MS + delay_ms(0)
    assert delivery.next_file(over_ms - 1) == 1
    assert delivery.next_file(over_ms) == 0
    queued = delivery.decide(cmd.QueueNext(1), over_ms).events
    assert list(queued) == [ev.TransferRetried(0)]
    assert list(delivery.decide(cmd.QueueNext(1), over_ms - 1).events) == [ev.TransferQueued(1)]


def test_a_file_that_rests_goes_at_once_where_no_other_is_left():
    delivery = delivery_after(*SENT, ev.TransferFailed(0, "gone"))
    for file in (1, 2):
        delivery.apply(ev.TransferQueued(file), NOW_MS)
    assert delivery.next_file(NOW_MS) == 0
    assert list(delivery.decide(cmd.QueueNext(5), NOW_MS).events) == [ev.TransferRetried(0)]


def test_after_a_replay_no_file_rests_any_more():
    delivery = delivery_after(*SENT, ev.TransferFailed(0, "gone"))
    delivery.retry_due_ms.clear()
    delivery.counts[:] = [0] * len(delivery.counts)
    delivery.refresh_derived()
    assert list(delivery.retry_due_ms.items()) == [(0, 0)]
    assert (delivery.counts[FAILED], delivery.counts[READY], sum(delivery.counts)) == (1, 2, 3)
    delivery.states[0] = 200
    with pytest.raises(IllegalEventError):
        delivery.refresh_derived()


@pytest.mark.parametrize(
    ("before", "run", "state"),
    [
        ([*SENT, ev.TransferAbandoned(0, "gone")], [*RUNNING], Run.OUTDATED),
        ([*SENT, ev.TransferFailed(0, "gone")], [*RUNNING], Run.STARTED),
        ([], [*RUNNING], Run.STARTED),
        ([*SENT, ev.TransferAbandoned(0, "gone")], [*RUNNING, ev.ValidatorStopped()], Run.OVER),
    ],
    ids=["given up before the run", "failed", "ready", "no run any more"],
)
def test_a_word_on_a_file_that_was_given_up_outdates_the_run_at_work(before, run, state):
    delivery = delivery_after(*before, *run)
    delivery.apply(ev.VerdictDeferred(0, "ok", ""), NOW_MS)
    assert delivery.run_state is state
    if state is Run.OVER:
        assert not delivery.facts.run_outdated


def test_a_message_is_shown_only_while_it_says_why_a_file_is_failed_or_invalid():
    delivery = delivery_after(*SENT, ev.TransferFailed(0, "gone"))
    assert delivery.message_of(0) == "gone"
    delivery.apply(ev.TransferRetried(0), NOW_MS)
    assert delivery.message_of(0) is None


def test_files_of_a_state_are_taken_in_turns_and_never_twice_at_once():
    delivery = delivery_after()
    assert delivery.take(READY, 2) == [0, 1]
    assert delivery.take(READY, 2) == [2, 0]
    assert sorted(delivery.take(READY, 9)) == [0, 1, 2]
    assert list(delivery.files_in(READY, FAILED)) == [0, 1, 2]
