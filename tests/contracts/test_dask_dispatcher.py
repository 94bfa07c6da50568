"""The dispatcher on a cluster keeps its port's promises, with real worker processes; archives stay in this process."""

import msgspec
import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from tests.contracts.afar import Home
from tests.contracts.dispatcher import DispatcherContract, order
from upload_adapters.clock import SystemClock
from upload_adapters.dask import DaskDispatcher
from upload_adapters.memory import MemoryArchive, MemorySource
from upload_core.effects import FileStored, OpenUpload, StoredPart


@pytest.fixture(scope="module")
def cluster():
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


class DaskFromHere(DaskDispatcher):
    """Hands workers what leads back here, for sources and archives that live in this process alone."""

    def __init__(self, clock, address):
        super().__init__(clock, address, delivery="contract")
        self.home = Home()

    def open(self, source, archive, n_threads):
        super().open(self.home.source(source), self.home.archive(archive), n_threads)


class TestDaskDispatcher(DispatcherContract):
    @pytest.fixture
    def clock(self):
        return SystemClock()

    @pytest.fixture
    def dispatcher(self, clock, cluster):
        dispatcher = DaskFromHere(clock, cluster)
        yield dispatcher
        dispatcher.home.close()

    def test_a_part_counts_when_it_is_stored_and_once(self, dispatcher, archive):
        """As everywhere, but what a worker counts is on its way for a while."""
        upload, loads = OpenUpload("id", 100, "print", {1: "AAAAAA=="}), []

        class InParts(MemoryArchive):
            def put(self, relpath, body, *, checksum, attempt=None):
                for number in (2, 3):
                    attempt.part_stored(StoredPart(number, "AAAAAA=="))
                    for _ in range(1000):
                        if size := dispatcher.load().bytes:
                            loads.append(size)
                            break
                        dispatcher.clock_sleep(0.01)
                return super().put(relpath, body, checksum=checksum, attempt=attempt)

        dispatcher.clock_sleep = SystemClock().sleep
        data = bytes(250)
        dispatcher.open(MemorySource({"f1": data}), InParts(), self.N_THREADS)
        dispatcher.submit([msgspec.structs.replace(order(1, data), upload=upload)])
        for _ in range(1000):
            if any(isinstance(told, FileStored) for told in dispatcher.collect(1.0)):
                break
        assert [*loads, dispatcher.load().bytes] == [100, 50, 0]
        dispatcher.close(0)
