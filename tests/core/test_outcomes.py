"""Exit codes: one for every way in which a session can end, 0 for a complete delivery alone."""

import pytest

from upload_core import client, sessions
from upload_core.outcomes import EXIT_CODES, exit_code_of

MEANINGS = {0, 1, 2, 4, 5, 6, 7, 8, 70, 130}


def test_only_a_complete_delivery_is_a_success():
    assert [end for end, code in EXIT_CODES.items() if code == 0] == [("complete", "")]


def test_every_documented_code_is_used_and_no_other():
    assert set(EXIT_CODES.values()) == MEANINGS


def test_every_ending_that_the_client_knows_has_a_code():
    for outcome, reason in client._ENDINGS.values():
        assert exit_code_of(outcome, reason) != 0
    assert {outcome for outcome, _ in EXIT_CODES} == {"complete", "incomplete", "interrupted", "crashed", "refused"}
    assert {"complete", "incomplete"} == sessions.FINISHED_OUTCOMES


def test_an_unknown_ending_is_an_error_and_no_guess():
    with pytest.raises(KeyError):
        exit_code_of("complete", "somehow")
