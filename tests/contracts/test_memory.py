"""The memory adapters keep every contract."""

import pytest

from tests.contracts.archive import ArchiveContract
from tests.contracts.clock import ClockContract
from tests.contracts.control_bucket import ControlBucketContract
from tests.contracts.dispatcher import DispatcherContract
from tests.contracts.logs import LogsContract
from tests.contracts.owner_lock import OwnerLockContract
from tests.contracts.source import SourceContract
from tests.contracts.state_dump import StateDumpContract
from upload_adapters.memory import (
    InlineDispatcher,
    ManualClock,
    MemoryArchive,
    MemoryControlBucket,
    MemorySource,
    MemoryStateDump,
)


class TestMemoryArchive(ArchiveContract):
    @pytest.fixture
    def archive(self):
        return MemoryArchive()

    @pytest.fixture
    def stored(self, archive):
        return lambda relpath: archive.contents().get(relpath)


class MemoryBucket:
    @pytest.fixture
    def clock(self):
        return ManualClock()

    @pytest.fixture
    def control(self, clock):
        return MemoryControlBucket(clock)

    @pytest.fixture
    def make_old(self, clock):
        return lambda _key, seconds: clock.advance(seconds)


class TestMemoryControlBucket(MemoryBucket, ControlBucketContract):
    pass


class TestOwnerLockInMemory(MemoryBucket, OwnerLockContract):
    pass


class TestLogsInMemory(MemoryBucket, LogsContract):
    pass


class TestMemorySource(SourceContract):
    @pytest.fixture
    def files(self):
        return {}

    @pytest.fixture
    def make(self, files):
        def make(held):
            files.update(held)
            return MemorySource(files)

        return make

    @pytest.fixture
    def write(self, files):
        def write(relpath, data):
            if data is None:
                del files[relpath]
            else:
                files[relpath] = data

        return write


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self):
        return ManualClock()

    def test_no_time_passes_by_itself(self, clock):
        assert clock.now_ms() == clock.now_ms()
        clock.advance(1.5)
        assert clock.now_ms() == ManualClock().now_ms() + 1500


class TestInlineDispatcher(DispatcherContract):
    @pytest.fixture
    def clock(self):
        return ManualClock()

    @pytest.fixture
    def dispatcher(self, clock):
        return InlineDispatcher(clock)


class TestMemoryStateDump(StateDumpContract):
    @pytest.fixture
    def dump(self):
        return MemoryStateDump()

    @pytest.fixture
    def table(self, dump):
        return lambda place: dump.dumps[place]
