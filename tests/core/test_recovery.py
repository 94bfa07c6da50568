"""The recovery tables are total: every combination of what journal, archive and validator say has exactly one row."""

import itertools

import pytest

from upload_core.effects import ArchiveHolds
from upload_core.lifecycle import FILE_ROWS, FILE_STATES
from upload_core.recovery import FILE_CASES, RUN_CASES, Run, RunStep, Verdict, file_case, run_step


@pytest.mark.parametrize("state", [state.name for state in FILE_STATES])
@pytest.mark.parametrize("holds", ArchiveHolds)
@pytest.mark.parametrize("verdict", Verdict)
def test_exactly_one_row_matches_and_its_event_is_legal_in_that_state(state, holds, verdict):
    case = file_case(state, holds, verdict)
    if case.event is not None:
        legal = [row for row in FILE_ROWS if row.trigger is case.event and state in row.sources]
        assert len(legal) == 1
    assert (case.event is None) == (state != "unresolved" or holds is ArchiveHolds.UNKNOWN)


def test_only_what_is_stored_as_indexed_counts_as_stored_and_only_an_ok_as_accepted():
    for holds, verdict in itertools.product(ArchiveHolds, Verdict):
        label = file_case("unresolved", holds, verdict).label
        assert (label == "accepted") == (holds is ArchiveHolds.EQUAL and verdict is Verdict.OK)
        assert (label == "stored") == (holds is ArchiveHolds.EQUAL and verdict is not Verdict.OK)
        assert (label == "not stored") == (holds in (ArchiveHolds.NOTHING, ArchiveHolds.DIFFERENT))


@pytest.mark.parametrize("run", Run)
@pytest.mark.parametrize("at_work", [True, False])
def test_exactly_one_step_follows_from_the_run_and_the_validator(run, at_work):
    step = run_step(run, validator_at_work=at_work)
    if step is RunStep.START_AGAIN:
        return  # the same key starts nothing beside what it started
    assert (step in (RunStep.START, RunStep.AWAIT_BEGIN)) == (not at_work), (
        "no second run while one is at work, no attaching to nothing"
    )


def test_only_a_request_whose_answer_was_lost_is_asked_for_again():
    again = {case.run for case in RUN_CASES if case.step is RunStep.START_AGAIN}
    assert again == {Run.REQUESTED}


def test_only_a_run_that_was_seen_to_begin_is_gone_on_with():
    assert [case.run for case in RUN_CASES if case.step is RunStep.ATTACH] == [Run.STARTED]


def test_every_row_has_a_label_or_case_of_its_own_and_a_reason():
    assert len({case.label for case in FILE_CASES}) == len(FILE_CASES)
    assert len({(case.run, case.validator_at_work) for case in RUN_CASES}) == len(RUN_CASES)
    assert all(case.why for case in (*FILE_CASES, *RUN_CASES))
