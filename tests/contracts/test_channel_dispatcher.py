"""The dispatcher with a channel keeps its port's promises, with an archive that has one and with one that has none."""

import threading
import time
from concurrent.futures.thread import _threads_queues
from contextlib import contextmanager

import pytest

from tests.contracts.dispatcher import DispatcherContract
from upload_adapters.clock import SystemClock
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.memory import MemoryArchive, MemorySource
from upload_core.effects import FileNotStored, FileStored, TransferFile
from upload_core.errors import ArchiveUnavailableError
from upload_core.ports import StoredObject


class MemoryChannel:
    """A channel into an archive in memory; every `fails`-th object meets a network that is away."""

    def __init__(self, archive, fails=0):
        self._archive, self._fails = archive, fails
        self._waiting = []
        self._count = 0

    @property
    def under_way(self):
        return len(self._waiting)

    def start(self, tag, relpath, data, checksum, commit=lambda: None):
        self._waiting.append((tag, relpath, data, checksum))

    def finished(self, timeout_s):
        if not self._waiting:
            import time

            time.sleep(min(timeout_s, 0.002))
        found: list[tuple[int, StoredObject | Exception | None]] = []
        for tag, relpath, data, checksum in self._waiting:
            self._count += 1
            if self._fails and self._count % self._fails == 0:
                found.append((tag, ArchiveUnavailableError("away")))
                continue
            stored = self._archive.put_bytes(relpath, data)
            found.append((tag, StoredObject(relpath, len(data), checksum, stored.etag)))
        self._waiting.clear()
        return found

    def wake(self):
        pass

    def close(self):
        return [tag for tag, *_ in self._waiting]


class ChanneledArchive(MemoryArchive):
    fails = 0

    def channel(self):
        return MemoryChannel(self, self.fails)

    def put_bytes(self, relpath, data):
        from tests.contracts.bodies import Body

        return self.put(relpath, Body(data), checksum=None)


class FailingArchive(ChanneledArchive):
    fails = 3


class _Contract(DispatcherContract):
    @pytest.fixture
    def clock(self):
        return SystemClock()

    @pytest.fixture
    def dispatcher(self, clock):
        return ChannelDispatcher(clock, channel_backlog=100)


class TestWithoutAChannel(_Contract):
    pass


class TestWithAChannel(_Contract):
    @pytest.fixture
    def archive(self):
        return ChanneledArchive()


class TestWithAChannelThatFails(_Contract):
    """What the channel does not store goes the ordinary way, and is told as a store that asks for patience."""

    def test_the_load_is_what_was_done_since_it_was_last_asked_for(self, opened, orders, files):
        opened.submit(orders[:3])
        self.collect(opened, 3)
        load = opened.load()
        assert (load.files, load.pushbacks) == (3, 1)

    @pytest.fixture
    def archive(self):
        return FailingArchive()


def outcomes(dispatcher, count, within_s=20):
    found: set[int] = set()
    until_s = time.monotonic() + within_s
    while len(found) < count and time.monotonic() < until_s:
        found |= {news.file for news in dispatcher.collect(0.1) if isinstance(news, FileStored | FileNotStored)}
    return found


def test_a_channel_that_fails_leaves_no_file_unanswered(monkeypatch):
    """Neither what waits for the bandwidth, nor what is being read."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    files = {f"f{number}": b"x" * 1_000 for number in range(3)}

    class Failing(MemoryChannel):
        def finished(self, timeout_s):
            if self._waiting and len(self._waiting) < 9:
                time.sleep(0.3)
                raise MemoryError("no memory")
            time.sleep(min(timeout_s, 0.01))
            return []

    class Archive(ChanneledArchive):
        def channel(self):
            return Failing(self)

    dispatcher = ChannelDispatcher(SystemClock())
    dispatcher.set_bandwidth(1_500.0)
    dispatcher.open(MemorySource(files), Archive(), 8)
    assert dispatcher.slots
    dispatcher.submit([TransferFile(number, path, 1_000, None) for number, path in enumerate(files)])
    assert outcomes(dispatcher, 3) == {0, 1, 2}
    dispatcher.close(1.0)


def test_a_source_that_hangs_keeps_no_process_from_ending(monkeypatch):
    """Python waits at its end for every thread that is no daemon, and for every one of its own pools."""
    hangs, files = threading.Event(), {f"f{number}": b"x" for number in range(200)}

    class Slow(MemorySource):
        opened = 0

        @contextmanager
        def open(self, relpath):
            Slow.opened += 1
            time.sleep(0.02)
            if Slow.opened > 60:
                hangs.wait(30)
            with super().open(relpath) as body:
                yield body

    before = set(threading.enumerate())
    dispatcher = ChannelDispatcher(SystemClock())
    dispatcher.open(Slow(files), ChanneledArchive(), 16)
    dispatcher.submit([TransferFile(number, path, 1, None) for number, path in enumerate(files)][: dispatcher.slots])
    outcomes(dispatcher, 200, within_s=3)
    dispatcher.close(0.1)
    left = set(threading.enumerate()) - before
    hangs.set()
    assert left
    assert [thread.name for thread in left if not thread.daemon or thread in _threads_queues] == []
