"""Which faults spend a file's retries, and how long it rests before the next attempt."""

import pytest

from upload_core import events as ev
from upload_core.effects import Fault
from upload_core.lifecycle import FILE_ROWS
from upload_core.retry import FAULT_RULES, FIRST_DELAY_MS, LONGEST_DELAY_MS, delay_ms
from upload_core.worker import FAULTS


def test_every_fault_has_a_rule():
    assert set(FAULT_RULES) == set(Fault) == set(FAULTS.values())


@pytest.mark.parametrize("fault", Fault)
def test_only_a_files_own_fault_spends_a_retry_and_only_the_worlds_is_an_outage(fault):
    rule = FAULT_RULES[fault]
    own = fault in (Fault.FILE, Fault.FILE_FOR_GOOD, Fault.CHECKSUM)
    assert (rule.event is ev.TransferInterrupted) == (not own)
    assert rule.outage == (fault is Fault.WORLD)
    assert any(row.trigger is rule.event and "transferring" in row.sources for row in FILE_ROWS)


def test_a_wrong_checksum_is_read_once_more_and_no_other_fault_has_such_patience():
    assert {fault: rule.patience for fault, rule in FAULT_RULES.items() if rule.patience is not None} == {
        Fault.CHECKSUM: 1
    }


def test_the_rest_doubles_from_half_a_second_and_never_exceeds_half_a_minute():
    rests = [delay_ms(retries) for retries in range(201)]
    assert rests[:4] == [500, 1_000, 2_000, 4_000]
    assert rests[0] == FIRST_DELAY_MS
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_DELAY_MS == 30_000
