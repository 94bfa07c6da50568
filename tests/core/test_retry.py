"""Which faults spend a file's retries, and how long it rests before the next attempt."""

import pytest

from upload_adapters.memory import ManualClock
from upload_core import events as ev
from upload_core.effects import Fault
from upload_core.errors import ArchiveUnavailableError, LockLostError
from upload_core.lifecycle import FILE_ROWS
from upload_core.retry import (
    FAULT_RULES,
    FIRST_DELAY_MS,
    INSIST_ATTEMPTS,
    INSIST_WAIT_S,
    LONGEST_DELAY_MS,
    OutageProbe,
    delay_ms,
    insist,
)
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


@pytest.mark.parametrize("failures", range(INSIST_ATTEMPTS + 1))
def test_who_has_no_time_asks_a_few_times_and_then_says_that_it_failed(failures):
    asked, slept = [], []

    def act():
        asked.append(1)
        if len(asked) <= failures:
            raise ArchiveUnavailableError("away")
        return "done"

    class Clock(ManualClock):
        def sleep(self, seconds):
            slept.append(seconds)

    if failures < INSIST_ATTEMPTS:
        assert insist(act, Clock()) == "done"
    else:
        with pytest.raises(ArchiveUnavailableError, match="away"):
            insist(act, Clock())
    assert len(asked) == min(failures + 1, INSIST_ATTEMPTS)
    assert slept == [INSIST_WAIT_S * 2**turn for turn in range(len(asked) - 1)]


def test_whatever_else_goes_wrong_is_not_repeated():
    asked = []

    def act():
        asked.append(1)
        raise LockLostError("gone")

    with pytest.raises(LockLostError):
        insist(act, ManualClock())
    assert asked == [1]


def probes(until_ms: int, step_ms: int = 1, begin_ms: int = 10_000) -> list[int]:
    probe = OutageProbe(begin_ms, begin_ms + until_ms)
    return [at for at in range(0, until_ms + 60_000, step_ms) if probe.due(begin_ms + at)]


def test_probes_come_after_a_second_then_at_doubling_intervals_up_to_half_a_minute():
    times = probes(200_000, 100)
    assert times[:7] == [1_000, 3_000, 7_000, 15_000, 31_000, 61_000, 91_000]


@pytest.mark.parametrize("until_ms", [1_000, 1_500, 62_000, 89_000, 91_000, 200_000])
def test_one_probe_falls_on_the_moment_at_which_the_time_is_over(until_ms):
    assert until_ms in probes(until_ms, 100)


def test_after_an_answer_the_next_probe_comes_at_once():
    probe = OutageProbe(0, 900_000)
    assert [probe.due(1_000), probe.due(1_001)] == [True, False]
    probe.answered()
    assert [probe.due(1_002), probe.due(1_003)] == [True, False]
