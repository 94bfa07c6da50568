"""What every `Clock` promises. An adapter joins with the fixture `clock`."""

import pytest

from upload_core.ports import Clock


class ClockContract:
    """Join by a subclass that defines the fixture."""

    @pytest.fixture
    def clock(self) -> Clock:
        raise NotImplementedError

    def test_it_counts_milliseconds_since_the_epoch(self, clock):
        assert 1_600_000_000_000 < clock.now_ms() < 4_000_000_000_000

    def test_it_never_goes_back(self, clock):
        times = [clock.now_ms() for _ in range(10_000)]
        assert times == sorted(times)

    def test_sleeping_lets_that_time_pass(self, clock):
        before = clock.now_ms()
        clock.sleep(0.05)
        assert 45 <= clock.now_ms() - before < 10_000

    @pytest.mark.parametrize("seconds", [0, -1, -0.001])
    def test_sleeping_for_no_time_is_no_error_and_never_goes_back(self, clock, seconds):
        before = clock.now_ms()
        clock.sleep(seconds)
        assert clock.now_ms() >= before

    def test_sleeping_passes_by_each_of_its_clocks(self, clock):
        before = clock.machine_ms(), clock.monotonic_ms()
        clock.sleep(0.05)
        assert all(
            45 <= after - was < 10_000
            for was, after in zip(before, (clock.machine_ms(), clock.monotonic_ms()), strict=True)
        )

    def test_the_monotonic_clock_never_goes_back(self, clock):
        times = [clock.monotonic_ms() for _ in range(10_000)]
        assert times == sorted(times)
