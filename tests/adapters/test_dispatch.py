"""Threads under bad circumstances: hanging transfers, cuts in the middle of a file, doers that try to end the process."""

import cProfile
import pstats
import sys
import threading
import time

import pytest

from upload_adapters.clock import SystemClock
from upload_adapters.dispatch import ThreadDispatcher, backlog
from upload_adapters.memory import MemoryArchive, MemoryFile, MemorySource
from upload_adapters.pacing import Slots
from upload_core.effects import ArchiveHolds, Fault, FileInspected, FileNotStored, FileStored, InspectFile, TransferFile
from upload_core.errors import LockLostError, NotReadyError


@pytest.fixture
def dispatcher():
    made = ThreadDispatcher(SystemClock())
    yield made
    made.close(0)


def orders(count, size=4):
    return [TransferFile(number, f"f{number}", size, None) for number in range(count)]


def files(count, size=4):
    return {f"f{number}": bytes(size) for number in range(count)}


class GatedSource(MemorySource):
    """A source whose reads wait for `gate`; `reading` is set when the first one does."""

    def __init__(self, held):
        super().__init__(held)
        self.gate = threading.Event()
        self.reading = threading.Event()

    def open(self, relpath):
        source = self

        class Gated(MemoryFile):
            def __enter__(self):
                return self

            def __exit__(self, *exc):
                pass

            def read(self, size=-1, /):
                source.reading.set()
                source.gate.wait(30)
                return super().read(size)

        return Gated(self._files, relpath)


def test_as_many_transfers_run_at_once_as_there_are_threads(dispatcher):
    together = threading.Barrier(5)

    class Meeting(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            together.wait(20)  # passes only when five are here
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

    dispatcher.open(MemorySource(files(5)), Meeting(), 5)
    dispatcher.submit(orders(5))
    outcomes = dispatcher.collect(20) + dispatcher.close(20)
    assert all(isinstance(outcome, FileStored) for outcome in outcomes)
    assert len(outcomes) == 5


class Counting(MemoryArchive):
    """Counts how many puts run at a time; each waits for `gate`."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.mutex = threading.Lock()
        self.running = 0
        self.entered = threading.Semaphore(0)

    def put(self, relpath, body, *, checksum, attempt=None):
        with self.mutex:
            self.running += 1
        self.entered.release()
        assert self.gate.acquire(timeout=20)
        with self.mutex:
            self.running -= 1
        return super().put(relpath, body, checksum=checksum, attempt=attempt)


def wait_for(semaphore, count):
    for _ in range(count):
        assert semaphore.acquire(timeout=20)


def test_a_level_that_rises_starts_as_many_more_and_one_that_falls_starts_no_more(dispatcher):
    archive = Counting()
    dispatcher.open(MemorySource(files(40)), archive, 2)
    dispatcher.submit(orders(40))
    wait_for(archive.entered, 2)
    assert not archive.entered.acquire(timeout=0.05)
    dispatcher.set_level(5)
    wait_for(archive.entered, 3)
    assert archive.running == 5
    dispatcher.set_level(1)
    archive.gate.release(4)
    assert not archive.entered.acquire(timeout=0.1)
    assert archive.running == 1
    archive.gate.release(1)
    wait_for(archive.entered, 1)
    dispatcher.set_level(3)
    wait_for(archive.entered, 2)
    archive.gate.release(100)
    done: list[object] = []
    while len(done) < 40:
        done += dispatcher.collect(20)
    assert all(isinstance(outcome, FileStored) for outcome in done)


def test_requests_with_bytes_are_as_many_as_the_level_however_many_threads_an_archive_uses(dispatcher):
    most, now, mutex, both = [0], [0], threading.Lock(), threading.Barrier(2)

    class InParts(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            def part():
                with attempt.slot():
                    with mutex:
                        now[0] += 1
                        most[0] = max(most[0], now[0])
                    both.wait(20)
                    with mutex:
                        now[0] -= 1

            threads = [threading.Thread(target=part) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

    dispatcher.open(MemorySource(files(1)), InParts(), 2)
    dispatcher.submit(orders(1))
    assert len(dispatcher.collect(20)) == 1
    assert most == [2]


def test_slots_are_scarce_once_somebody_had_to_wait():
    slots, got = Slots(1), threading.Event()

    def second():
        with slots:
            got.set()

    with slots:
        assert not slots.scarce()
        waiter = threading.Thread(target=second)
        waiter.start()
        deadline = time.monotonic() + 20
        while not slots.scarce():
            assert time.monotonic() < deadline
        assert slots.scarce(), "somebody still waits"
        assert not got.is_set()
    waiter.join(20)
    assert got.is_set()
    assert not slots.scarce()


def test_paused_at_level_0_what_is_under_way_keeps_its_right_to_requests(dispatcher):
    entered, go_on = threading.Event(), threading.Event()

    class Slow(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            entered.set()
            assert go_on.wait(20)
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

    dispatcher.open(MemorySource(files(1)), Slow(), 1)
    dispatcher.submit(orders(1))
    assert entered.wait(20)
    dispatcher.set_level(0)
    go_on.set()
    [outcome] = dispatcher.collect(20)
    assert isinstance(outcome, FileStored)


def test_a_request_that_waits_for_its_turn_is_cut_with_the_others(dispatcher, monkeypatch):
    monkeypatch.setattr("upload_adapters.dispatch.CUT_S", 10)
    holding = threading.Event()

    class Hogging(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            with attempt.slot():
                holding.set()
                waiter = threading.Thread(target=lambda: blocked.append(self.second(attempt)))
                waiter.start()
                waiter.join(20)
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

        def second(self, attempt):
            try:
                with attempt.slot():
                    return "got it"
            except LockLostError as error:
                return str(error)

    blocked: list[str] = []
    dispatcher.open(MemorySource(files(1)), Hogging(), 1)
    dispatcher.submit(orders(1))
    assert holding.wait(20)
    [outcome] = dispatcher.close(0.05)
    assert blocked == ["stopped before it was finished"]
    assert outcome.fault is Fault.STOPPED


def test_outcomes_that_come_close_together_are_handed_over_together(dispatcher):
    dispatcher.open(MemorySource(files(2000)), MemoryArchive(), 2)
    waiting, turns, done = iter(orders(2000)), 0, 0
    while done < 2000:
        dispatcher.submit([order for _, order in zip(range(dispatcher.slots), waiting, strict=False)])
        done += len(dispatcher.collect(20))
        turns += 1
    assert turns < 200, "a turn costs two syncs of the journal"


def test_an_outcome_waits_for_no_other_when_few_are_due(dispatcher, monkeypatch):
    monkeypatch.setattr("upload_adapters.dispatch.GATHER_S", 600.0)
    dispatcher.open(MemorySource(files(3)), MemoryArchive(), 1)
    dispatcher.submit(orders(3))
    done = 0
    while done < 3:
        done += len(dispatcher.collect(60))


def test_a_wake_ends_the_gathering(dispatcher, monkeypatch):
    monkeypatch.setattr("upload_adapters.dispatch.GATHER_S", 600.0)
    archive = Counting()
    dispatcher.open(MemorySource(files(50)), archive, 1)
    dispatcher.submit(orders(50))
    archive.gate.release(1)
    wait_for(archive.entered, 2)  # the first is done, the second hangs, and many are due
    threading.Timer(0.2, dispatcher.wake).start()
    assert len(dispatcher.collect(600)) == 1
    archive.gate.release(100)


@pytest.mark.parametrize(("level", "expected"), [(1, 64), (16, 64), (32, 128), (512, 2000), (1000, 2000)])
def test_the_backlog_grows_with_the_level_within_bounds(level, expected):
    assert backlog(level) == expected


def test_running_transfers_finish_within_the_grace_and_waiting_ones_never_begin(dispatcher):
    archive, source = MemoryArchive(), GatedSource(files(10))
    dispatcher.open(source, archive, 1)
    dispatcher.submit(orders(10))
    assert source.reading.wait(10)
    threading.Timer(0.1, source.gate.set).start()
    outcomes = {outcome.file: outcome for outcome in dispatcher.close(20)}
    assert isinstance(outcomes.pop(0), FileStored)
    assert set(outcomes) == set(range(1, 10))
    assert all(isinstance(o, FileNotStored) and o.fault is Fault.STOPPED for o in outcomes.values())
    assert list(archive.contents()) == ["f0"]


def test_a_long_file_is_cut_at_its_next_read_once_the_grace_is_over(dispatcher):
    archive, source = MemoryArchive(), GatedSource(files(1, size=8 << 20))
    dispatcher.open(source, archive, 1)
    dispatcher.submit(orders(1, size=8 << 20))
    assert source.reading.wait(10)
    threading.Timer(0.3, source.gate.set).start()
    [outcome] = dispatcher.close(0.05)
    assert isinstance(outcome, FileNotStored)
    assert outcome.fault is Fault.STOPPED
    assert archive.contents() == {}


def test_a_transfer_that_hangs_is_given_up_and_can_never_commit_later(dispatcher, monkeypatch):
    monkeypatch.setattr("upload_adapters.dispatch.CUT_S", 0.1)
    archive, source = MemoryArchive(), GatedSource(files(1))
    dispatcher.open(source, archive, 1)
    dispatcher.submit(orders(1))
    assert source.reading.wait(10)
    worker = next(thread for thread in threading.enumerate() if thread.name == "upload-0")
    [outcome] = dispatcher.close(0.1)
    assert isinstance(outcome, FileNotStored)
    assert outcome.fault is Fault.STOPPED
    # A new session begins; the old worker wakes up.
    dispatcher.open(MemorySource({}), MemoryArchive(), 1)
    source.gate.set()
    worker.join(10)
    assert not worker.is_alive()
    assert archive.contents() == {}
    assert dispatcher.collect(0.05) == []


def test_a_hanging_inspection_comes_back_as_unknown(dispatcher, monkeypatch):
    monkeypatch.setattr("upload_adapters.dispatch.CUT_S", 0.1)
    release = threading.Event()

    class Hanging(MemoryArchive):
        def stat(self, relpath):
            release.wait(30)

    dispatcher.open(MemorySource({}), Hanging(), 1)
    dispatcher.submit([InspectFile(3, "f", 1, None)])
    time.sleep(0.05)
    outcomes = dispatcher.close(0)
    release.set()
    assert [(o.file, isinstance(o, FileInspected) and o.holds) for o in outcomes] == [(3, ArchiveHolds.UNKNOWN)]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_a_doer_that_tries_to_end_the_process_ends_only_its_order(dispatcher, error):
    class Quitting(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            if relpath == "f0":
                raise error
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

    dispatcher.open(MemorySource(files(3)), Quitting(), 1)
    dispatcher.submit(orders(3))
    outcomes: dict[int, object] = {}
    while len(outcomes) < 3:
        outcomes |= {outcome.file: outcome for outcome in dispatcher.collect(10)}
    assert isinstance(outcomes[0], FileNotStored)
    assert type(error).__name__ in outcomes[0].message
    assert isinstance(outcomes[1], FileStored)
    assert isinstance(outcomes[2], FileStored)


def test_a_wake_from_another_thread_ends_a_waiting_collect(dispatcher):
    dispatcher.open(MemorySource({}), MemoryArchive(), 1)
    threading.Timer(0.1, dispatcher.wake).start()
    began = time.monotonic()
    assert dispatcher.collect(60) == []
    assert time.monotonic() - began < 30


def test_before_it_is_open_nothing_can_be_submitted(dispatcher):
    assert dispatcher.slots == 0
    dispatcher.wake()
    with pytest.raises(NotReadyError):
        dispatcher.submit(orders(1))


def test_no_thread_is_left_after_closing(dispatcher):
    dispatcher.open(MemorySource(files(50)), MemoryArchive(), 8)
    dispatcher.submit(orders(50))
    dispatcher.close(10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("upload-")]


def test_an_order_costs_the_same_however_many_there_are(dispatcher):
    """Counted in calls that the engine's thread makes, which no busy machine changes much."""

    def calls_per_order(count):
        dispatcher.open(MemorySource(files(count)), MemoryArchive(), 1)
        profile, done, waiting = cProfile.Profile(), 0, iter(orders(count))
        profile.enable()
        while done < count:
            dispatcher.submit([order for _, order in zip(range(dispatcher.slots), waiting, strict=False)])
            done += len(dispatcher.collect(10))
        profile.disable()
        dispatcher.close(10)
        return pstats.Stats(profile).total_calls / count  # type: ignore[attr-defined]  # typeshed does not know it

    few, many = calls_per_order(1_000), calls_per_order(10_000)
    assert many < (60 if sys.version_info < (3, 12) else 200), (
        many
    )  # a newer profiler counts what other threads call, too
    assert many < 2 * few
