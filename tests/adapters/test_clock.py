"""The system clock goes on whatever somebody does to the machine's."""

import time

from upload_adapters.clock import SystemClock


class Machine:
    """A machine whose two clocks the test moves."""

    def __init__(self, monkeypatch):
        self.wall, self.monotonic = 1_800_000_000_000_000_000, 5_000_000_000
        monkeypatch.setattr(time, "time_ns", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.monotonic)

    def run(self, seconds):
        self.wall += int(seconds * 1e9)
        self.monotonic += int(seconds * 1e9)

    def set_clock(self, seconds):
        self.wall += int(seconds * 1e9)


def test_it_shows_the_machines_time():
    assert abs(SystemClock().now_ms() - time.time() * 1000) < 1000


def test_when_the_machines_clock_is_set_back_it_runs_on_slowly_until_both_agree(monkeypatch):
    machine = Machine(monkeypatch)
    clock = SystemClock()
    machine.run(10)
    before = clock.now_ms()
    machine.set_clock(-60)
    assert clock.now_ms() == before
    machine.run(10)
    assert clock.now_ms() == before + 5_000
    machine.run(120)
    clock.now_ms()
    machine.run(1)
    assert clock.now_ms() == machine.wall // 1_000_000


def test_after_a_sleep_of_the_machine_it_shows_the_new_time(monkeypatch):
    machine = Machine(monkeypatch)
    clock = SystemClock()
    machine.set_clock(8 * 3600)  # the monotonic clock stood still meanwhile
    assert clock.now_ms() == machine.wall // 1_000_000
