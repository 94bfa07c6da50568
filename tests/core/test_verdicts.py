"""What the validator's rows mean: a table that is total, and entries that never stop the client."""

import msgspec
import pytest

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.lifecycle import FILE_STATES, FILE_TABLE, ILLEGAL
from upload_core.validation import Entry, LogParser, MalformedLine
from upload_core.verdicts import VERDICTS, meaning_of

STATES = [state.name for state in FILE_STATES]
CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", "digest", files=1)


def entry(category, ref, status="ok", message=""):
    return Entry(0, "2027-01-15T08:00:00.000Z", category, ref, status, message, "validator")


def delivery_in(state, client="running"):
    delivery = Delivery.begin(CREATED, FileTable.from_columns(["a"], [1], None))
    delivery.states[0] = STATES.index(state)
    delivery.client.restore(client)
    delivery.refresh_derived()
    return delivery


def heard(delivery, *entries, offset=100):
    decision = delivery.decide(cmd.ValidatorLogFound(entries, offset), 0)
    assert decision.effects == ()
    delivery.check(decision.events)
    for event in decision.events:
        delivery.apply(event, 0)
    return list(decision.events)


def test_every_state_has_a_meaning_for_ok_and_for_anything_else():
    assert set(VERDICTS) == set(STATES)
    assert all(set(meanings) == {True, False} for meanings in VERDICTS.values())


@pytest.mark.parametrize("client", ["running", "connecting", "connected", "stopping", "stopped", "starting"])
@pytest.mark.parametrize("status", ["ok", "failure", "error", "odd"])
@pytest.mark.parametrize("state", STATES)
def test_a_verdict_in_any_state_gives_one_event_that_is_legal_there(state, status, client):
    delivery = delivery_in(state, client)
    before = delivery.state_of(0)
    events = heard(delivery, entry("validation", "a", status, "why"))
    [verdict] = [event for event in events if isinstance(event, ev.FileEvent)]
    assert FILE_TABLE[type(verdict).__name__][STATES.index(state)] != ILLEGAL
    assert events[-1] == ev.ValidatorLogRead(100, 1)
    if status == "ok" and state in ("done", "reported"):
        assert delivery.state_of(0) == "valid"
    elif state in ("valid", "invalid") and (status == "ok") == (state == "valid"):
        assert delivery.state_of(0) == before, "a repeat has no effect"
    elif meaning_of(state, ok=status == "ok", catching_up=client in ("connecting", "connected")) == "defer":
        assert delivery.deferred == {0: (status, "why")}
    else:
        assert delivery.state_of(0) == "invalid"
        assert delivery.message_of(0)


def test_an_ok_for_a_file_that_was_never_sent_makes_it_invalid():
    delivery = delivery_in("ready")
    heard(delivery, entry("validation", "a"))
    assert delivery.state_of(0) == "invalid"
    assert "was not sent" in str(delivery.message_of(0))


def test_a_contradiction_makes_it_invalid_and_says_so():
    delivery = delivery_in("valid")
    heard(delivery, entry("validation", "a", "failure", "on second thoughts"))
    assert delivery.message_of(0) == (
        "the validator contradicts itself: the file was valid, now it says failure: on second thoughts"
    )


def test_two_verdicts_in_one_look_follow_each_other():
    delivery = delivery_in("reported")
    kinds = [type(event).__name__ for event in heard(delivery, *[entry("validation", "a")] * 2)]
    assert kinds == ["RunConfirmed", "FileValidated", "VerdictRepeated", "ValidatorLogRead"]


@pytest.mark.parametrize("state", ["pending", "transferring"])
@pytest.mark.parametrize("status", ["ok", "failure"])
def test_a_verdict_on_a_file_under_way_makes_it_invalid_whatever_becomes_of_the_transfer(state, status):
    delivery = delivery_in(state)
    heard(delivery, entry("validation", "a", status, "hm"))
    assert delivery.state_of(0) == "invalid"
    assert delivery.decide(cmd.OutcomesFound([fx.FileStored(0, 1, "AAAAAA==", "etag")]), 0).events == []
    assert ("not sent" in str(delivery.message_of(0))) == (status == "ok")


def test_an_unknown_path_a_torn_line_and_an_unknown_category_are_recorded_and_change_no_file():
    delivery = delivery_in("done")
    before = bytes(delivery.states)
    events = heard(
        delivery, entry("validation", "b"), MalformedLine(5, "torn", "tor"), entry("weather", "self", "ok", "fine")
    )
    assert [type(event) for event in events] == [
        ev.UnexpectedVerdictFound,
        ev.LogLineRejected,
        ev.LogEntryNoted,
        ev.ValidatorLogRead,
    ]
    assert bytes(delivery.states) == before


def test_another_validators_failed_start_is_not_the_end_of_the_one_at_work():
    delivery = delivery_in("reported", "starting")
    delivery.facts.run_open = True

    def of(agent, *row):
        return msgspec.structs.replace(entry(*row), agent_id=agent)

    heard(delivery, of("one", "init", "self", "ok", "validation pipeline started"))
    events = heard(
        delivery,
        of("two", "init", "lock", "failure", "could not acquire lock"),
        of("two", "shutdown", "self", "error", "could not acquire lock"),
        of("two", "stop", "self"),
        of("one", "keepalive", "self", "ok", "0 / 1"),
        offset=200,
    )
    assert [type(event) for event in events] == [*[ev.LogEntryNoted] * 3, ev.ValidatorKeptAlive, ev.ValidatorLogRead]
    assert delivery.client_state == "running"
    heard(delivery, of("one", "stop", "self"), offset=300)
    assert delivery.client_state == "stopped"


@pytest.mark.parametrize(
    ("category", "status", "kind"),
    [
        ("init", "ok", ev.ValidatorStarted),
        ("init", "failure", ev.ValidatorStartFailed),
        ("init", "error", ev.ValidatorStartFailed),
        ("keepalive", "ok", ev.ValidatorKeptAlive),
        ("shutdown", "error", ev.ValidatorShutDown),
        ("stop", "ok", ev.ValidatorStopped),
        ("init2", "ok", ev.LogEntryNoted),
    ],
)
def test_every_category_of_the_protocol_has_its_event(category, status, kind):
    events = heard(delivery_in("ready"), entry(category, "self", status, "m"))
    assert type(events[0]) is kind


@pytest.mark.parametrize("ref", ["self", "lock", "d-1-label.yaml", "d-1-staging-index.csv"])
def test_a_start_that_failed_is_one_whatever_it_stumbled_over_and_its_first_words_are_the_reason(ref):
    delivery = delivery_in("ready", "starting")
    events = heard(
        delivery,
        entry("init", ref, "failure", "summary: could not acquire lock"),
        entry("shutdown", "self", "error", "shutting down due to initialization failure"),
    )
    assert type(events[0]) is ev.ValidatorStartFailed
    assert (delivery.client_state, delivery.facts.validator_message) == ("stopped", "summary: could not acquire lock")


def awaiting():
    delivery = delivery_in("ready", "starting")
    delivery.facts.run_open = True
    return delivery


def test_the_last_rows_of_an_earlier_run_do_not_end_the_one_that_was_asked_for():
    delivery = awaiting()
    heard(delivery, entry("shutdown", "self", "ok", "client status: quit"), entry("stop", "self"))
    assert (delivery.client_state, delivery.facts.run_open, delivery.facts.validator_message) == ("starting", True, "")
    heard(delivery, entry("stop", "self"), entry("init", "self"), offset=200)
    assert delivery.client_state == "running"
    heard(delivery, entry("shutdown", "self", "ok", "all done"), entry("stop", "self"), offset=300)
    assert (delivery.client_state, delivery.facts.run_open) == ("stopped", False)


def test_a_run_that_fails_to_start_is_over_with_its_stop_row():
    delivery = awaiting()
    heard(delivery, entry("stop", "self"), entry("init", "lock", "failure", "no lock"), entry("stop", "self"))
    assert (delivery.client_state, delivery.facts.run_open) == ("stopped", False)
    assert delivery.facts.validator_message == "no lock"


def test_nothing_new_is_no_event():
    assert heard(delivery_in("ready"), offset=0) == []


def test_any_one_byte_mutation_of_a_log_is_decided_without_an_exception_and_without_losing_the_other_rows():
    rows = [
        b"2027-01-15T08:00:00.000Z\tvalidation\ta\tok\t\tv\n",
        b'2027-01-15T08:00:01.000Z\tvalidation\ta\tfailure\t"problems:\n- ""x""\n"\tv\n',
        b"2027-01-15T08:00:02.000Z\tkeepalive\tself\tok\t1 / 1\tv\n",
    ]
    log = b"".join(rows)
    for offset in range(len(log)):
        for byte in (0, 9, 10, 13, 34, 92, 0xFF, log[offset] ^ 1):
            delivery = delivery_in("reported")
            parser = LogParser()
            entries = parser.feed(log[:offset] + bytes([byte]) + log[offset + 1 :]) + parser.finish()
            heard(delivery, *entries, offset=parser.consumed)
