"""A limit on bytes per second, shared by all that send."""

import json
import threading
import time
from itertools import pairwise

import pytest

from tests.adapters.test_dispatch import files, orders
from tests.command_line import Desk
from tests.contracts.test_channel_dispatcher import ChanneledArchive
from upload_adapters.cli.options import bytes_per_s
from upload_adapters.clock import SystemClock
from upload_adapters.dispatch import ThreadDispatcher
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.memory import InlineDispatcher, ManualClock, MemoryArchive, MemorySource
from upload_adapters.pacing import BURST_S, Bandwidth
from upload_core.effects import Fault, FileNotStored, FileStored
from upload_core.errors import LockLostError


class Time:
    """Time that passes by sleeping."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def bandwidth(rate, time):
    return Bandwidth(rate, monotonic=time.monotonic, sleep=time.sleep)


@pytest.mark.parametrize("size", [1, 999, 100_000, 10_000_000])
def test_in_the_long_run_it_gives_out_the_rate_whatever_the_pieces(size):
    time = Time()
    bucket, begin = bandwidth(1_000_000, time), time.now
    pieces = 20_000_000 // size if size > 1 else 20_000
    for _ in range(pieces):
        bucket.spend(size, lambda: None)
    bucket.spend(1, lambda: None)  # whoever comes next has waited for all before
    seconds = time.now - begin
    assert seconds == pytest.approx(pieces * size / 1_000_000, abs=BURST_S + 1e-6)


@pytest.mark.parametrize("made", [ThreadDispatcher, ChannelDispatcher])
@pytest.mark.parametrize("then", [None, 10_000_000.0])
def test_whoever_waits_hears_of_another_limit(made, then):
    dispatcher = made(SystemClock())
    dispatcher.set_bandwidth(10.0)
    dispatcher.open(MemorySource(files(4, 1_000)), ChanneledArchive(), 2)
    assert dispatcher.slots
    dispatcher.submit(orders(4, 1_000))
    time.sleep(0.3)
    dispatcher.set_bandwidth(then)
    stored, until_s = 0, time.monotonic() + 20
    while stored < 4 and time.monotonic() < until_s:
        stored += sum(isinstance(news, FileStored) for news in dispatcher.collect(0.1))
    dispatcher.close(0.0)
    assert stored == 4


def test_an_idle_line_catches_up_one_burst_and_no_more():
    time = Time()
    bucket = bandwidth(1000, time)
    bucket.spend(1, lambda: None)
    time.now += 3600
    begin = time.now
    for _ in range(10):
        bucket.spend(100, lambda: None)
    bucket.spend(1, lambda: None)
    assert time.now - begin == pytest.approx(1.0 - BURST_S, abs=1e-6)


def test_those_who_come_later_wait_for_those_before():
    waits = list(map(bandwidth(1000, Time()).reserve, [500] * 5))
    assert all(later - earlier == pytest.approx(0.5) for earlier, later in pairwise(waits[1:]))


def test_whoever_waits_is_cut_soon():
    time = Time()
    bucket = bandwidth(1, time)
    bucket.spend(1_000_000, lambda: None)
    asked = []

    def heed():
        asked.append(time.now)
        if len(asked) == 3:
            raise LockLostError("cut")

    with pytest.raises(LockLostError):
        bucket.spend(1, heed)
    assert max(time.slept) <= 0.2


def test_many_threads_share_one_bucket():
    bucket, waits, mutex = bandwidth(1000, Time()), [], threading.Lock()

    def take():
        for _ in range(100):
            wait = bucket.reserve(10)
            with mutex:
                waits.append(wait)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(waits) == pytest.approx(8 * 100 * 10 / 1000 - BURST_S - 0.01)


def test_a_dispatcher_holds_to_it_over_all_files():
    clock = ManualClock()
    dispatcher = InlineDispatcher(clock)
    dispatcher.set_bandwidth(1000)
    dispatcher.open(MemorySource(files(20, size=500)), MemoryArchive(), 4)
    begin = clock.now_ms()
    dispatcher.submit(orders(20, size=500))
    assert len(dispatcher.collect(0)) == 20
    assert clock.now_ms() - begin >= 9_000
    dispatcher.set_bandwidth(None)
    begin = clock.now_ms()
    dispatcher.submit(orders(20, size=500))
    dispatcher.collect(0)
    assert clock.now_ms() == begin


def test_a_transfer_that_waits_for_bandwidth_ends_with_the_session(monkeypatch):
    monkeypatch.setattr("upload_adapters.dispatch.CUT_S", 20)
    dispatcher, archive = ThreadDispatcher(SystemClock()), MemoryArchive()
    dispatcher.set_bandwidth(1)
    dispatcher.open(MemorySource(files(3, size=1000)), archive, 2)
    dispatcher.submit(orders(3, size=1000))
    [_] = dispatcher.collect(20)  # the first takes what there is, and all others wait for a quarter of an hour
    outcomes = dispatcher.close(0)
    assert [isinstance(o, FileNotStored) and o.fault for o in outcomes] == [Fault.STOPPED] * 2
    assert len(archive.contents()) == 1


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500K", 500e3),
        ("500k/s", 500e3),
        ("50MB/s", 50e6),
        ("50 MB/s", 50e6),
        ("1.5GiB", 1.5 * 2**30),
        ("1.5GiB/s", 1.5 * 2**30),
        ("2T", 2e12),
        ("1000", 1000),
        ("7B/s", 7),
    ],
)
def test_a_rate_is_written_in_the_usual_ways(text, rate):
    assert bytes_per_s(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "0MB", "-5M", "50Mb/s", "50Mbit", "1e6", "5iB", "MB/s", "50MB/h"])
def test_what_is_no_rate_is_a_usage_error_that_says_how_to_write_one(text, tmp_path):
    with pytest.raises(ValueError, match="write 500K, 50MB/s"):
        bytes_per_s(text)


def test_a_delivery_to_a_directory_holds_to_it_as_well(tmp_path):
    desk = Desk(tmp_path, count=3)
    (desk.data / "large.bin").write_bytes(bytes(3_000_000))
    desk.index()
    assert desk.run(*desk.deliver, "--max-bandwidth", "fast").returncode == 2
    done = desk.run(*desk.deliver, "--max-bandwidth", "1MB/s", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["seconds"] >= 1.8
    assert desk.equal()
