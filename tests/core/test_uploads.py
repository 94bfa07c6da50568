"""Multipart uploads in the state of a delivery: known while they are open, handed to the next attempt, and no cost without."""

import msgspec
import pytest

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.attempt import FreeAttempt, OrderAttempt
from upload_core.delivery import Delivery
from upload_core.effects import OpenUpload, StoredPart
from upload_core.errors import IllegalEventError, LockLostError
from upload_core.files import FileTable
from upload_core.journal import Header, encode_batch, encode_header, replay
from upload_core.views import SentBytes

TABLE = FileTable.from_columns(["a", "b"], [300, 300], None)
CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", "digest", files=2)
OPENING: list[ev.Event] = [ev.SessionOpened(1, "us", 2, 3), ev.LockAcquired("e")]
STARTED: list[ev.Event] = [ev.TransferQueued(0), ev.TransferStarted(0)]
BEGUN = ev.UploadBegun(0, "id", 100, "print")
PARTS: list[ev.Event] = [ev.PartStored(0, 2, "AAAAAg=="), ev.PartStored(0, 1, "AAAAAQ==")]


def delivery_after(*events):
    delivery = Delivery.begin(CREATED, TABLE)
    for event in events:
        delivery.check([event])
        delivery.apply(event, 0)
    return delivery


def upload_of(delivery, file=0):
    return delivery.uploads.get(file)


def test_an_upload_is_known_from_its_beginning_with_each_part():
    delivery = delivery_after(*OPENING, *STARTED, BEGUN)
    assert upload_of(delivery) == OpenUpload("id", 100, "print", {})
    for part in PARTS:
        delivery.apply(part, 0)
    assert upload_of(delivery) == OpenUpload("id", 100, "print", {1: "AAAAAQ==", 2: "AAAAAg=="})
    assert delivery.state_of(0) == "transferring"


@pytest.mark.parametrize(
    "events",
    [
        [ev.UploadEnded(0)],
        [ev.UploadEnded(0), ev.TransferCompleted(0, 300, "AAAAAA==")],
        [ev.UploadEnded(0), ev.TransferFailed(0, "it changed")],
        [ev.TransferInterrupted(0), ev.FileFoundStored(0, 300, "AAAAAA=="), ev.UploadEnded(0)],
        [ev.TransferInterrupted(0), ev.FileFoundMissing(0), ev.FileInvalidated(0, "judged"), ev.UploadEnded(0)],
    ],
    ids=lambda events: "+".join(type(event).__name__ for event in events),
)
def test_once_it_is_ended_nothing_is_known_of_it_whatever_became_of_the_file(events):
    without = [event for event in events if not isinstance(event, ev.UploadEnded)]
    ended = delivery_after(*OPENING, *STARTED, BEGUN, *PARTS, *events)
    assert ended.uploads == {}
    never = delivery_after(*OPENING, *STARTED, *without)
    never.facts.seq = ended.facts.seq
    assert ended.canonical() == never.canonical()


@pytest.mark.parametrize(
    "event",
    [ev.TransferInterrupted(0), ev.TransferFailed(0, "input/output error"), ev.FileInvalidated, ev.FileRevised],
    ids=lambda event: getattr(event, "__name__", type(event).__name__),
)
def test_it_outlives_the_attempt(event):
    if isinstance(event, type):
        more = [ev.TransferInterrupted(0), ev.FileFoundMissing(0)]
        more.append(event(0, "why") if event is ev.FileInvalidated else event(0))
    else:
        more = [event]
    delivery = delivery_after(*OPENING, *STARTED, BEGUN, *PARTS, *more)
    assert upload_of(delivery) == OpenUpload("id", 100, "print", {1: "AAAAAQ==", 2: "AAAAAg=="})


def test_a_new_upload_takes_the_place_of_the_old_one():
    delivery = delivery_after(*OPENING, *STARTED, BEGUN, *PARTS, ev.UploadBegun(0, "other", 50, "print 2"))
    assert upload_of(delivery) == OpenUpload("other", 50, "print 2", {})


def test_a_part_of_no_upload_changes_nothing():
    delivery = delivery_after(*OPENING, *STARTED)
    before = delivery.canonical()
    delivery.apply(PARTS[0], 0)
    delivery.facts.seq -= 1
    assert delivery.canonical() == before


def test_parts_belong_to_a_file_that_is_being_sent():
    delivery = delivery_after(*OPENING)
    for event in (BEGUN, PARTS[0]):
        with pytest.raises(IllegalEventError):
            delivery.check([event])


def test_the_canonical_form_holds_it_and_gives_it_back():
    delivery = delivery_after(*OPENING, *STARTED, BEGUN, *PARTS)
    again = Delivery.from_canonical(delivery.canonical(), TABLE)
    assert again.uploads == delivery.uploads
    assert again.canonical() == delivery.canonical()
    again.apply(ev.PartStored(0, 3, "AAAAAw=="), 0)
    assert again.canonical() != delivery.canonical()
    assert b"uploads" not in delivery_after(*OPENING, *STARTED).canonical()


def test_the_order_of_parts_does_not_matter_to_the_canonical_form():
    one, other = (delivery_after(*OPENING, *STARTED, BEGUN, *parts) for parts in (PARTS, PARTS[::-1]))
    assert one.canonical() == other.canonical()


def test_it_is_replayed_from_the_journal():
    batches: list[list[ev.Event]] = [[*OPENING, *STARTED], [BEGUN], PARTS, [ev.TransferInterrupted(0)]]
    _, start = encode_header(Header.first(CREATED, "n"))
    data, position = b"", start
    for batch in batches:
        encoded, position = encode_batch(batch, 0, position)
        data += encoded
    replayed = Delivery.begin(CREATED, TABLE)
    replay([data], start, replayed)
    assert replayed.uploads == {0: OpenUpload("id", 100, "print", {1: "AAAAAQ==", 2: "AAAAAg=="})}


# --- what the engine asks and is told ------------------------------------------------------------


def test_the_next_attempt_is_handed_what_is_known_as_it_is_then():
    delivery = delivery_after(
        *OPENING, *STARTED, BEGUN, *PARTS, ev.TransferInterrupted(0), ev.FileFoundMissing(0, "nothing is stored")
    )
    decision = delivery.decide(cmd.Tick(slots=2), 0)
    orders = {order.file: order for order in decision.effects if isinstance(order, fx.TransferFile)}
    assert orders[0].upload == OpenUpload("id", 100, "print", {1: "AAAAAQ==", 2: "AAAAAg=="})
    assert orders[1].upload is None
    for event in (*decision.events, ev.PartStored(0, 3, "AAAAAw==")):
        delivery.apply(event, 0)
    assert 3 not in orders[0].upload.parts, "a worker may be reading it"
    assert 3 in delivery.uploads[0].parts


NEWS: list[fx.FileProgress] = [
    fx.UploadBegun(0, OpenUpload("id", 100, "print")),
    fx.PartStored(0, StoredPart(2, "AAAAAg==", '"etag"')),
    fx.UploadEnded(0),
]


def test_news_become_events_in_the_order_in_which_they_were_told():
    delivery = delivery_after(*OPENING, *STARTED)
    stored = fx.FileStored(0, 300, "AAAAAA==", '"e"')
    decision = delivery.decide(cmd.OutcomesFound((*NEWS, stored)), 0)
    assert list(decision.events) == [
        BEGUN,
        PARTS[0],
        ev.UploadEnded(0),
        ev.TransferCompleted(0, 300, "AAAAAA==", '"e"'),
    ]
    delivery.check(decision.events)


@pytest.mark.parametrize("news", NEWS, ids=lambda news: type(news).__name__)
def test_news_of_a_file_that_was_settled_another_way_are_none(news):
    delivery = delivery_after(*OPENING, *STARTED, ev.TransferInterrupted(0))
    assert list(delivery.decide(cmd.OutcomesFound([news]), 0).events) == []


def test_a_part_that_came_during_an_outage_does_not_end_it():
    delivery = delivery_after(*OPENING, *STARTED, ev.OutageBegan("no network"))
    decision = delivery.decide(cmd.OutcomesFound(NEWS[:2]), 0)
    assert not [event for event in decision.events if isinstance(event, ev.OutageEnded)]


# --- what callers see ----------------------------------------------------------------------------


def sent(*events, before=()):
    delivery, count = delivery_after(*OPENING, *before), SentBytes()
    for event in events:
        delivery.apply(event, 0)
        count.count(delivery, [event])
    return count.total


COMPLETED = ev.TransferCompleted(0, 300, "AAAAAA==")


def test_of_a_file_in_parts_each_part_counts_when_it_is_stored():
    assert sent(*STARTED, BEGUN) == 0
    assert sent(*STARTED, BEGUN, *PARTS) == 200
    assert sent(*STARTED, ev.UploadBegun(0, "id", 200, "print"), PARTS[0]) == 100, "the last part is what is left"
    assert sent(*STARTED, BEGUN, *PARTS, ev.PartStored(0, 3, "x"), ev.UploadEnded(0), COMPLETED) == 300


def test_what_an_earlier_session_sent_is_not_counted_again():
    before = [*STARTED, BEGUN, *PARTS, ev.TransferInterrupted(0), ev.FileFoundMissing(0)]
    assert sent(*STARTED, ev.PartStored(0, 3, "x"), ev.UploadEnded(0), COMPLETED, before=before) == 100


def test_any_other_file_counts_when_it_is_stored():
    assert sent(*STARTED, COMPLETED) == 300
    anew = [ev.UploadEnded(0), ev.TransferFailed(0, "changed"), ev.TransferRetried(0), ev.TransferStarted(0)]
    assert sent(*STARTED, BEGUN, PARTS[0], *anew, COMPLETED) == 400


# --- attempts ------------------------------------------------------------------------------------


def test_an_orders_attempt_tells_what_it_is_told_and_knows_what_was_left():
    order = fx.TransferFile(0, "a", 300, None, OpenUpload("id", 100, "print"))
    told: list[fx.FileProgress] = []
    attempt = OrderAttempt(order, lambda: None, told.append)
    assert (attempt.upload, attempt.resumable) == (order.upload, True)
    attempt.upload_begun(OpenUpload("id", 100, "print"))
    attempt.part_stored(StoredPart(2, "AAAAAg==", '"etag"'))
    attempt.upload_ended()
    assert told == NEWS
    assert OrderAttempt(fx.InspectFile(0, "a", 300, None), lambda: None, told.append).upload is None


def test_what_commit_raises_is_passed_on():
    def commit():
        raise LockLostError("taken over")

    for attempt in (FreeAttempt(commit), OrderAttempt(fx.InspectFile(0, "a", 1, None), commit, print)):
        with pytest.raises(LockLostError):
            attempt.commit()


def test_a_free_attempt_lets_everything_pass_and_has_nobody_to_go_on_with_it():
    attempt = FreeAttempt()
    attempt.commit()
    with attempt.slot():
        attempt.spend(10)
    assert (attempt.upload, attempt.resumable) == (None, False)


def test_orders_and_news_can_be_sent_to_another_process():
    order = fx.TransferFile(0, "a", 300, None, OpenUpload("id", 100, "print", {1: "AAAAAQ=="}))
    assert msgspec.json.decode(msgspec.json.encode(order), type=fx.TransferFile) == order
    for news in NEWS:
        assert msgspec.json.decode(msgspec.json.encode(news), type=type(news)) == news
