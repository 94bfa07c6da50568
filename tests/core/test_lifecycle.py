"""Both lifecycles, walked in full: machine, derived table and `Delivery.apply` agree, and what has no row changes nothing."""

import itertools

import msgspec
import pytest
from transitions import MachineError

from upload_core import events as ev
from upload_core.delivery import PLAIN_KINDS, Delivery
from upload_core.errors import IllegalEventError
from upload_core.facts import FACT_CHANGES
from upload_core.files import FileTable
from upload_core.lifecycle import (
    CLIENT_ROWS,
    CLIENT_STATES,
    FILE_ROWS,
    FILE_STATES,
    FILE_TABLE,
    FILE_TABLE_SPENT,
    ILLEGAL,
    PUBLIC_STATES,
    ClientLifecycle,
    build_machine,
)

STATES = [state.name for state in FILE_STATES]
CLIENT = [state.name for state in CLIENT_STATES]
TRIGGERS = [kind.__name__ for kind in ev.FILE_EVENTS]
CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", "digest", files=1)
PATH = "a"


class File:
    """What a lifecycle's machine drives when it is bound to a model."""

    state: str

    def __init__(self, *, retries_left: bool) -> None:
        self.retries_left = retries_left
        self.machine = build_machine(FILE_ROWS, STATES, "ready", model=self)


def sample(kind: type[ev.Event]) -> ev.Event:
    """An event of that kind whose content is of no interest."""
    values: dict[str, object] = {
        "int": 1 if kind is ev.IndexRevised else 0,
        "str": "x",
        "FileRuns": "0",
        "dict[str, Any]": {},
    }
    return kind(**{f.name: values[str(kind.__annotations__.get(f.name, "int"))] for f in required(kind)})


def required(kind):
    return [field for field in msgspec.structs.fields(kind) if field.required]


def delivery_with(state: str, *, retries_left: bool) -> Delivery:
    delivery = Delivery.begin(CREATED, FileTable.from_columns([PATH], [1], None))
    delivery.facts.max_retries = 1
    delivery.states[0], delivery.retries[0] = STATES.index(state), not retries_left
    delivery.refresh_derived()
    return delivery


@pytest.mark.parametrize("retries_left", [True, False])
@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("state", STATES)
def test_machine_table_and_apply_agree_for_every_state_trigger_and_guard(state, trigger, retries_left):
    model = File(retries_left=retries_left)
    model.machine.set_state(state)
    delivery = delivery_with(state, retries_left=retries_left)
    table = FILE_TABLE if retries_left else FILE_TABLE_SPENT
    code = table[trigger][STATES.index(state)]
    event = sample(ev.KINDS[trigger])
    before = delivery.canonical(), list(delivery.counts), dict(delivery.retry_due_ms)
    if code == ILLEGAL:
        with pytest.raises(MachineError):
            getattr(model, trigger)()
        with pytest.raises(IllegalEventError, match=f"{trigger} cannot happen to '{PATH}' while it is {state}"):
            delivery.apply(event, 0)
        with pytest.raises(IllegalEventError):
            delivery.check([event])
        assert (delivery.canonical(), delivery.counts, delivery.retry_due_ms) == before
        assert model.state == state
    else:
        assert getattr(model, trigger)()
        delivery.check([event])
        delivery.apply(event, 0)
        assert model.state == STATES[code] == STATES[delivery.states[0]]
        assert delivery.counts == [int(n == code) for n in range(len(STATES))]
        assert delivery.facts.seq == 1


@pytest.mark.parametrize("trigger", [kind.__name__ for kind in ev.EVENTS if kind not in ev.FILE_EVENTS])
@pytest.mark.parametrize("state", CLIENT)
def test_the_clients_machine_and_apply_agree_for_every_state_and_trigger(state, trigger):
    rows = [row for row in CLIENT_ROWS if row.trigger.__name__ == trigger]
    targets = {row.target or state for row in rows if state in row.sources}
    assert len(targets) <= 1, "rows contradict each other"
    lifecycle = ClientLifecycle()
    lifecycle.restore(state)
    delivery = delivery_with("ready", retries_left=True)
    delivery.client.restore(state)
    event = sample(ev.KINDS[trigger])
    before = delivery.canonical()
    if rows and not targets:
        with pytest.raises(IllegalEventError, match=f"{trigger} cannot happen while the client is {state}"):
            lifecycle.trigger_by(trigger)
        with pytest.raises(IllegalEventError):
            delivery.check([event])
        with pytest.raises(IllegalEventError):
            delivery.apply(event, 0)
        assert lifecycle.state == state
        assert delivery.canonical() == before
        return
    expected = targets.pop() if targets else state  # what is no trigger moves nothing
    assert lifecycle.after(trigger, state) == expected
    lifecycle.trigger_by(trigger)
    delivery.check([event])
    delivery.apply(event, 0)
    assert lifecycle.state == expected == delivery.client_state


def test_no_two_rows_match_the_same_case():
    for row, other in itertools.combinations(FILE_ROWS, 2):
        if row.trigger is other.trigger and set(row.sources) & set(other.sources):
            assert row.guard == other.guard is not None
            assert row.negated != other.negated
    for row, other in itertools.combinations(CLIENT_ROWS, 2):
        assert row.trigger is not other.trigger or not set(row.sources) & set(other.sources)


def test_every_file_event_is_a_trigger_and_every_state_can_be_reached():
    assert {row.trigger for row in FILE_ROWS} == set(ev.FILE_EVENTS)
    assert {row.target for row in FILE_ROWS if row.target} == set(STATES)
    assert {row.target for row in CLIENT_ROWS if row.target} == set(CLIENT) - {"unconnected"}
    assert not {row.trigger for row in CLIENT_ROWS} & set(ev.FILE_EVENTS)


def test_a_guard_changes_only_where_a_failed_attempt_leads_to():
    differing = {name for name in FILE_TABLE if FILE_TABLE[name] != FILE_TABLE_SPENT[name]}
    assert differing == {"TransferFailed"}
    assert not {kind.__name__ for kind in PLAIN_KINDS} & differing, "replay treats plain events without the guard"


def test_illegal_is_the_code_of_no_state_and_has_no_row():
    assert len(FILE_STATES) <= ILLEGAL
    assert all(len(row) == len(FILE_STATES) for table in (FILE_TABLE, FILE_TABLE_SPENT) for row in table.values())


@pytest.mark.parametrize("states", [FILE_STATES, CLIENT_STATES], ids=["file", "client"])
def test_every_state_has_a_name_of_its_own_and_says_what_it_means(states):
    assert len({state.name for state in states}) == len(states)
    assert all(len(state.meaning) > 10 for state in states)
    assert len({state.meaning for state in states}) == len(states)


def test_every_public_state_is_shown_for_some_state_and_no_other_word_is():
    assert {state.shown_as for state in FILE_STATES} == set(PUBLIC_STATES)
    assert len(PUBLIC_STATES) == len(set(PUBLIC_STATES)) == 7


def test_whatever_the_client_lives_through_it_can_be_closed_and_taken_up_again():
    lifecycle = ClientLifecycle()
    for state in CLIENT_STATES:
        assert lifecycle.after("SessionOpened", state.name) == "connecting", "a process may die in any state"
        if state.live:
            assert lifecycle.after("SessionClosed", state.name) == "quit"
            assert lifecycle.after("ClientCrashed", state.name) == "crashed"


def test_every_fact_is_changed_by_events_of_the_delivery_only():
    assert set(FACT_CHANGES) <= set(ev.EVENTS)
    assert not set(FACT_CHANGES) & set(ev.FILE_EVENTS)


def test_a_failed_check_of_a_batch_looks_at_the_states_that_the_batch_itself_makes():
    delivery = delivery_with("ready", retries_left=True)
    delivery.check([ev.TransferQueued(0), ev.TransferStarted(0), ev.TransferCompleted(0, 1, "AAAAAA==")])
    with pytest.raises(IllegalEventError):
        delivery.check([ev.TransferQueued(0), ev.TransferQueued(0)])
    with pytest.raises(IllegalEventError):
        delivery.check([ev.SessionOpened(1, "us", 1, 0), ev.PipelineRequested("k", 0)])
    assert delivery.facts.seq == 0


def test_a_revision_that_would_take_files_away_is_illegal_and_changes_nothing():
    delivery = delivery_with("valid", retries_left=True)
    before = delivery.canonical()
    with pytest.raises(IllegalEventError, match="has 1 file"):
        delivery.apply(ev.IndexRevised(1, "digest", files=0), 0)
    assert delivery.canonical() == before
