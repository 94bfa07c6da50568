"""The dispatcher with a channel keeps its port's promises, with an archive that has one and with one that has none."""

import pytest

from tests.contracts.dispatcher import DispatcherContract
from upload_adapters.clock import SystemClock
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.memory import MemoryArchive
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
