"""The lock's story under lost answers: whoever's agent id is in it owns it, and nobody else writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.flaky import FlakyControlBucket
from upload_adapters.memory import ManualClock, MemoryControlBucket
from upload_core.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LockHeldError,
    LockLostError,
    NotReadyError,
)
from upload_core.owner_lock import AGENT_ID_BYTES_MAX, ATTEMPTS_MAX, OwnerLock

KEY = "lock/client"
STALENESS_S = 3600.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def control(clock):
    return MemoryControlBucket(clock)


def lock(control, agent="us"):
    return OwnerLock(control, KEY, agent, STALENESS_S)


def body(control):
    found = control.read(KEY)
    return found and found[0].decode()


def test_the_error_names_holder_time_and_what_to_do(control, clock):
    lock(control, "them@host").acquire()
    clock.advance(600)
    with pytest.raises(LockHeldError) as caught:
        lock(control).acquire()
    assert caught.value.holder == "them@host"
    assert caught.value.since == clock.now_ms() / 1000 - 600
    for words in ("'them@host'", "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z", KEY, "resume"):
        assert words in str(caught.value)


def test_a_holders_name_cannot_act_on_the_terminal(control):
    control.put(KEY, b"\x1b[2J\xff" + b"x" * 5000)
    with pytest.raises(LockHeldError) as caught:
        lock(control).acquire()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_ownership_says_until_when_nobody_may_take_it_over(control, clock):
    assert lock(control).acquire().until == clock.now_ms() / 1000 + STALENESS_S


def test_who_lost_the_lock_is_told_to_whom(control, clock):
    ours = lock(control)
    ours.acquire()
    clock.advance(STALENESS_S + 1)
    assert lock(control, "them").acquire().taken_over == "us"
    with pytest.raises(LockLostError, match="'them'"):
        ours.renew()
    assert not ours.held
    assert not ours.release()
    assert body(control) == "them"


def test_who_comes_between_our_look_and_our_write_keeps_the_lock(control):
    class Quicker(MemoryControlBucket):
        def read(self, key, start=0):
            found = control.read(key, start)
            if found is None:
                lock(control, "them").acquire()
            return found

        def put(self, key, data, **conditions):
            return control.put(key, data, **conditions)

    with pytest.raises(LockHeldError, match="'them'"):
        lock(Quicker(ManualClock())).acquire()
    assert body(control) == "them"


def test_another_process_of_the_same_agent_re_enters_its_lock_and_displaces_nobody(control):
    lock(control).acquire()
    assert lock(control).acquire().taken_over == ""


def test_a_lock_is_held_up_to_the_very_second_at_which_it_gets_stale(control, clock):
    lock(control, "them").acquire()
    clock.advance(STALENESS_S)
    with pytest.raises(LockHeldError, match="at 2027-01-15T09:00:00Z, when"):
        lock(control).acquire()
    clock.advance(1)
    assert lock(control).acquire().taken_over == "them"


def test_a_deleted_lock_is_lost(control):
    ours = lock(control)
    ours.acquire()
    control.delete(KEY)
    with pytest.raises(LockLostError, match="deleted"):
        ours.renew()
    assert body(control) is None


def test_renewing_before_acquiring_is_refused(control):
    with pytest.raises(NotReadyError):
        lock(control).renew()


@pytest.mark.parametrize("agent", ["", "x" * (AGENT_ID_BYTES_MAX + 1), "a\nb", " a", "a ", "\udcff", "é" * 1025])
def test_an_agent_id_that_cannot_be_a_lock_is_refused(control, agent):
    with pytest.raises(ConfigurationError, match="agent id"):
        lock(control, agent)


def test_the_longest_agent_id_is_accepted(control):
    lock(control, "x" * AGENT_ID_BYTES_MAX).acquire()


# --- lost answers --------------------------------------------------------------------------------


def test_a_lock_created_without_an_answer_is_ours_at_the_next_try(control):
    ours = lock(FlakyControlBucket(control, ["answered", "answer lost"]))
    with pytest.raises(ArchiveUnavailableError):
        ours.acquire()
    ours.acquire()
    ours.renew()
    assert body(control) == "us"


def test_a_takeover_without_an_answer_still_names_whom_it_replaced(control, clock):
    lock(control, "them").acquire()
    clock.advance(STALENESS_S + 1)
    ours = lock(FlakyControlBucket(control, ["answered", "answer lost"]))
    with pytest.raises(ArchiveUnavailableError):
        ours.acquire()
    assert ours.acquire().taken_over == "them"


def test_a_lock_created_without_an_answer_can_be_released(control):
    ours = lock(FlakyControlBucket(control, ["answered", "answer lost"]))
    with pytest.raises(ArchiveUnavailableError):
        ours.acquire()
    assert ours.release()
    assert body(control) is None


def test_a_renewal_without_an_answer_does_not_lose_the_lock(control):
    ours = lock(FlakyControlBucket(control, ["answered", "answered", "answer lost"]))
    ours.acquire()
    with pytest.raises(ArchiveUnavailableError):
        ours.renew()
    ours.renew()
    assert ours.release()
    assert body(control) is None


def test_a_release_without_an_answer_leaves_a_successor_alone(control):
    ours = lock(FlakyControlBucket(control, ["answered", "answered", "answer lost"]))
    ours.acquire()
    with pytest.raises(ArchiveUnavailableError):
        ours.release()
    lock(control, "them").acquire()
    assert not ours.release()
    assert body(control) == "them"


def test_an_unfinished_takeover_is_forgotten_when_the_lock_turns_out_free(control, clock):
    theirs = lock(control, "them")
    theirs.acquire()
    clock.advance(STALENESS_S + 1)
    ours = lock(FlakyControlBucket(control, ["answered", "request lost"]))
    with pytest.raises(ArchiveUnavailableError):
        ours.acquire()
    theirs.release()
    assert ours.acquire().taken_over == ""


def test_a_lock_is_nobody_elses_until_its_whole_time_is_over(control, clock):
    lock(control, "them").acquire()
    clock.advance(STALENESS_S)
    with pytest.raises(LockHeldError):
        lock(control).acquire()
    clock.advance(0.001)
    assert lock(control).acquire().taken_over == "them"


class Crowded(FlakyControlBucket):
    """Somebody with our own agent id is always a moment quicker."""

    def put(self, key, data, *, if_match=None, if_absent=False):
        self.control.put(key, data)
        return super().put(key, data, if_match=if_match, if_absent=if_absent)

    def delete(self, key, *, if_match=None):
        self.control.put(key, b"us")
        return super().delete(key, if_match=if_match)


@pytest.mark.parametrize("step", ["acquire", "renew", "release"])
def test_a_lock_that_changes_at_every_try_is_given_up_after_a_few(control, step):
    crowded = Crowded(control)
    ours = lock(control)
    ours.acquire()
    ours._control = crowded
    with pytest.raises(ArchiveUnavailableError, match=f"changed {ATTEMPTS_MAX} times"):
        getattr(ours, step)()
    assert len(crowded.requests) <= 2 * ATTEMPTS_MAX


def test_a_lock_that_turned_out_not_to_be_ours_is_asked_for_no_more(control):
    flaky = FlakyControlBucket(control, ["answered", "request lost"])
    ours = lock(flaky)
    with pytest.raises(ArchiveUnavailableError):
        ours.acquire()
    assert not ours.release()
    asked = len(flaky.requests)
    assert not ours.release()
    assert len(flaky.requests) == asked


FATES = st.sampled_from(["answered", "request lost", "answer lost", "answer lost and repeated"])
STEPS = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["acquire", "renew", "release", "wait"])))


@given(STEPS, st.lists(FATES, max_size=40), st.lists(FATES, max_size=40))
def test_whoever_is_told_that_the_lock_is_his_finds_his_name_in_it(steps, our_fates, their_fates):
    clock = ManualClock()
    control = MemoryControlBucket(clock)
    locks = [
        lock(FlakyControlBucket(control, our_fates), "us"),
        lock(FlakyControlBucket(control, their_fates), "them"),
    ]
    for who, step in steps:
        if step == "wait":
            clock.advance(STALENESS_S * 0.6)
            continue
        before = body(control)
        info = control.head(KEY)
        theirs_and_fresh = before == ["them", "us"][who] and info is not None and info.age_s <= STALENESS_S
        try:
            getattr(locks[who], step)()
        except (ArchiveUnavailableError, LockHeldError, LockLostError, NotReadyError):
            continue
        if step == "release":
            assert body(control) != ["us", "them"][who]
            assert body(control) in (None, before)
            assert not (theirs_and_fresh and body(control) is None)
        else:
            # A success is believed at once, so at that instant the object must be ours.
            assert body(control) == ["us", "them"][who]
            assert locks[who].held
            assert not theirs_and_fresh
