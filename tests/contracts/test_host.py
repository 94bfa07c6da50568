"""The adapters of the machine that a client runs on keep every contract: threads, clock, dumps, a source directory."""

import csv
import os

import pytest

from tests.contracts.clock import ClockContract
from tests.contracts.dispatcher import DispatcherContract
from tests.contracts.source import SourceContract
from tests.contracts.state_dump import StateDumpContract
from upload_adapters.clock import SystemClock
from upload_adapters.dispatch import ThreadDispatcher
from upload_adapters.source_directory import DirectorySource
from upload_adapters.state_dump import DirectoryStateDump


class TestThreadDispatcher(DispatcherContract):
    @pytest.fixture
    def clock(self):
        return SystemClock()

    @pytest.fixture
    def dispatcher(self, clock):
        return ThreadDispatcher(clock)


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self):
        return SystemClock()


class TestDirectoryStateDump(StateDumpContract):
    @pytest.fixture
    def dump(self, tmp_path):
        return DirectoryStateDump(tmp_path)

    @pytest.fixture
    def table(self):
        def table(place):
            with open(place, encoding="utf-8", newline="") as file:
                return [tuple(row) for row in csv.reader(file)]

        return table


class TestDirectorySource(SourceContract):
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "secret").write_bytes(b"outside")
        return tmp_path / "root"

    @pytest.fixture
    def write(self, root):
        def write(relpath, data):
            path = os.path.join(root, relpath)
            if data is None:
                os.unlink(path)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)

        return write

    @pytest.fixture
    def make(self, root, write):
        def make(held):
            root.mkdir()
            for relpath, data in held.items():
                write(relpath, data)
            return DirectorySource(root)

        return make
