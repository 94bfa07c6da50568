"""The archive's clock: ours where it may be right, moved as little as possible where it cannot be."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.clock import ClockContract
from upload_adapters.aws.server_clock import ServerClock
from upload_adapters.clock import SystemClock

NOW_MS = 1_800_000_000_123


class SetClock:
    """A machine's clock that a test sets."""

    def __init__(self, ms=NOW_MS):
        self.ms = ms

    def now_ms(self):
        return self.ms

    machine_ms = monotonic_ms = now_ms

    def sleep(self, seconds):
        self.ms += int(seconds * 1000)


class TestServerClock(ClockContract):
    @pytest.fixture
    def clock(self):
        return ServerClock(SystemClock())


def date(ms):
    return formatdate(ms // 1000, usegmt=True)


def observed(skew_ms, *, took_ms=50, times=1, base=None):
    base = base or SetClock()
    clock = ServerClock(base)
    for _ in range(times):
        sent = base.ms
        base.ms += took_ms
        clock.observe(date(base.ms - took_ms // 2 + skew_ms), sent_ms=sent, received_ms=base.ms)
        base.ms += 137
    return clock


@pytest.mark.parametrize("skew_ms", [0, 100, -100, 400, -400])
def test_a_clock_that_may_be_right_is_left_alone(skew_ms):
    assert abs(observed(skew_ms).offset_ms) <= 1_000 if skew_ms else observed(0).offset_ms == 0


@given(st.integers(-10_000_000, 10_000_000), st.integers(0, 30_000), st.integers(1, 20))
def test_after_any_answers_it_is_right_to_a_second_and_the_time_they_took(skew_ms, took_ms, times):
    clock = observed(skew_ms, took_ms=took_ms, times=times)
    assert abs(clock.offset_ms - skew_ms) <= 1_000 + took_ms


@given(st.integers(-10_000_000, 10_000_000))
def test_a_right_clock_is_never_moved(start):
    base = SetClock(NOW_MS + start)
    assert observed(0, times=20, base=base).offset_ms == 0


def test_many_answers_narrow_it_down():
    assert abs(observed(5_400, times=50).offset_ms - 5_400) <= 200


def test_a_clock_that_is_set_meanwhile_is_followed():
    base = SetClock()
    clock = observed(0, times=5, base=base)
    base.ms -= 300_000
    for _ in range(2):
        clock.observe(date(base.ms + 300_000), sent_ms=base.ms, received_ms=base.ms)
    assert abs(clock.offset_ms - 300_000) <= 1_000
    base.ms += 300_000
    for _ in range(2):
        clock.observe(date(base.ms), sent_ms=base.ms, received_ms=base.ms)
    assert abs(clock.offset_ms) <= 1_000


@pytest.mark.parametrize("wrong_ms", [-1_200_000, 1_200_000])
def test_one_answer_that_contradicts_all_others_is_not_believed(wrong_ms):
    base = SetClock()
    clock = observed(0, times=5, base=base)
    for _ in range(3):
        clock.observe(date(base.ms + wrong_ms), sent_ms=base.ms, received_ms=base.ms)
        assert clock.offset_ms == 0
        clock.observe(date(base.ms), sent_ms=base.ms, received_ms=base.ms)
        clock.observe(date(base.ms + 2 * wrong_ms), sent_ms=base.ms, received_ms=base.ms)
        assert clock.offset_ms == 0


@pytest.mark.parametrize("wrong", ["", "yesterday", "Sun, 99 Nov 2026 07:24:36 GMT"])
def test_a_date_that_is_none_teaches_nothing(wrong):
    clock = ServerClock(SetClock())
    clock.observe(wrong, sent_ms=0, received_ms=NOW_MS)
    assert clock.offset_ms == 0


def test_it_learns_from_whatever_a_client_is_answered(aws, archive_places):
    aws.settings.skew_s = -240.0
    system = SystemClock()
    clock = ServerClock(system)
    client = archive_places.session.client("s3", endpoint_url=aws.url)
    try:
        clock.watch(client)
        bucket = archive_places.bucket()
        client.put_object(Bucket=bucket.name, Key="a", Body=b"")
        assert abs(clock.offset_ms + 240_000) <= 1_500
        assert abs(clock.now_ms() - system.now_ms() + 240_000) <= 1_600
    finally:
        client.close()


def test_sleeping_is_the_base_clocks_business():
    base = SetClock()
    ServerClock(base).sleep(2)
    assert base.ms == NOW_MS + 2_000


def test_what_is_learnt_does_not_move_the_machines_own_clocks():
    base = SetClock()
    clock = observed(500_000, base=base)
    assert clock.offset_ms > 400_000
    assert (clock.machine_ms(), clock.monotonic_ms()) == (base.ms, base.ms)


def test_after_relearning_the_next_answer_alone_counts_and_until_then_nothing_changes():
    base = SetClock()
    clock = observed(2_000, base=base, times=5)
    before = clock.offset_ms
    clock.relearn()
    assert clock.offset_ms == before
    clock.observe(date(base.ms + 2_600), sent_ms=base.ms - 50, received_ms=base.ms)
    assert abs(clock.offset_ms - 2_600) <= 1_100
