"""What every `Dispatcher` promises. An adapter joins with the fixtures `clock` and `dispatcher`."""

import time
import zlib

import msgspec
import pytest

from upload_adapters.memory import MemoryArchive, MemorySource
from upload_core.checksum import crc32_base64
from upload_core.effects import (
    ArchiveHolds,
    Fault,
    FileInspected,
    FileNotStored,
    FileOutcome,
    FileStored,
    InspectFile,
    OpenUpload,
    PartStored,
    StoredPart,
    TransferFile,
    UploadBegun,
    UploadEnded,
)
from upload_core.errors import ArchiveUnavailableError
from upload_core.ports import Clock, Dispatcher


def order(number, data):
    return TransferFile(number, f"f{number}", len(data), crc32_base64(zlib.crc32(data)))


class DispatcherContract:
    """Join by a subclass that defines both fixtures; it must end what it began even if a test fails."""

    N_THREADS = 4

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that deadlines are judged by."""
        raise NotImplementedError

    @pytest.fixture
    def dispatcher(self, clock: Clock) -> Dispatcher:
        """Not open yet."""
        raise NotImplementedError

    @pytest.fixture
    def files(self):
        return {f"f{number}": b"%d" % number * 50 for number in range(500)}

    @pytest.fixture
    def orders(self, files):
        return [order(int(relpath[1:]), data) for relpath, data in files.items()]

    @pytest.fixture
    def archive(self):
        return MemoryArchive()

    @pytest.fixture
    def opened(self, dispatcher, files, archive):
        dispatcher.open(MemorySource(files), archive, self.N_THREADS)
        yield dispatcher
        dispatcher.close(0)

    def collect(self, dispatcher, count):
        outcomes: list[FileOutcome] = []
        for _ in range(1000):
            if len(outcomes) >= count:
                break
            outcomes += dispatcher.collect(1.0)
        return outcomes

    def test_every_order_is_answered_exactly_once(self, opened, orders, archive, files):
        outcomes: list[FileOutcome] = []
        waiting = list(orders)
        while waiting or len(outcomes) < len(orders):
            count = opened.slots
            opened.submit(waiting[:count])
            del waiting[:count]
            outcomes += opened.collect(1.0)
        assert sorted(outcome.file for outcome in outcomes) == list(range(len(orders)))
        assert all(isinstance(outcome, FileStored) for outcome in outcomes)
        assert archive.contents() == dict(sorted(files.items()))
        assert opened.collect(0) == []

    def test_both_kinds_of_orders_are_carried_out(self, opened, files):
        opened.submit([InspectFile(1, "f1", 50, None), order(2, files["f2"]), order(3, b"not what is there")])
        outcomes = {outcome.file: outcome for outcome in self.collect(opened, 3)}
        assert outcomes[1] == FileInspected(1, ArchiveHolds.NOTHING)
        assert isinstance(outcomes[2], FileStored)
        assert isinstance(outcomes[3], FileNotStored)
        assert outcomes[3].fault is Fault.FILE

    def test_what_an_archive_tells_of_a_file_comes_before_its_outcome_and_ends_no_order(
        self, dispatcher, files, archive
    ):
        upload, part = OpenUpload("id", 5, "print"), StoredPart(1, "AAAAAA==")

        class Telling(MemoryArchive):
            def put(self, relpath, body, *, checksum, attempt=None):
                assert attempt.upload == (upload if relpath == "f1" else None)
                attempt.upload_begun(upload)
                attempt.part_stored(part)
                attempt.upload_ended()
                return super().put(relpath, body, checksum=checksum, attempt=attempt)

        dispatcher.open(MemorySource(files), Telling(), self.N_THREADS)
        free = dispatcher.slots
        dispatcher.submit([order(number, files[f"f{number}"]) for number in range(2, 5)])
        dispatcher.submit([msgspec.structs.replace(order(1, files["f1"]), upload=upload)])
        news = []
        for _ in range(1000):
            news += dispatcher.collect(1.0)
            if sum(isinstance(told, FileStored) for told in news) == 4:
                break
        assert dispatcher.slots == free
        for number in range(1, 5):
            told = [one for one in news if one.file == number]
            assert told[:3] == [UploadBegun(number, upload), PartStored(number, part), UploadEnded(number)]
            assert [type(one) for one in told[3:]] == [FileStored]
        dispatcher.close(0)

    def test_slots_fall_with_each_order_and_come_back_with_each_outcome(self, opened, orders):
        free = opened.slots
        assert free >= self.N_THREADS
        opened.submit(orders[:2])
        assert opened.slots == free - 2
        self.collect(opened, 2)
        assert opened.slots == free

    def test_at_level_0_nothing_is_begun_and_a_level_begins_it_again(self, opened, orders, archive):
        opened.set_level(0)
        assert opened.slots == 0
        opened.submit(orders[:5])
        assert opened.collect(0.1) == []
        assert archive.contents() == {}
        opened.set_level(2)
        assert len(self.collect(opened, 5)) == 5
        assert opened.slots > 0

    def test_orders_that_a_level_of_0_held_back_are_due_when_it_closes(self, opened, orders):
        opened.set_level(0)
        opened.submit(orders[:5])
        assert sorted(outcome.file for outcome in opened.close(5.0)) == list(range(5))

    def test_a_level_moves_the_slots(self, opened):
        assert opened.level_max >= 1
        opened.set_level(64)
        high = opened.slots
        opened.set_level(1)
        assert 1 <= opened.slots < high

    def test_the_load_is_what_was_done_since_it_was_last_asked_for(self, opened, orders, files):
        assert (opened.load().files, opened.load().bytes) == (0, 0)
        opened.submit([*orders[:3], InspectFile(3, "f3", 50, None), order(4, b"not what is there")])
        self.collect(opened, 5)
        load = opened.load()
        assert (load.files, load.bytes, load.pushbacks) == (4, sum(len(files[f"f{n}"]) for n in range(3)), 0)
        assert (opened.load().files, opened.load().bytes) == (0, 0)

    def test_what_a_store_pushed_back_is_part_of_the_load(self, dispatcher, files, orders):
        class Busy(MemoryArchive):
            def put(self, relpath, body, *, checksum, attempt=None):
                attempt.pushed_back("SlowDown")
                attempt.pushed_back("SlowDown")
                if relpath == "f0":
                    raise ArchiveUnavailableError("SlowDown")
                return super().put(relpath, body, checksum=checksum, attempt=attempt)

        dispatcher.open(MemorySource(files), Busy(), self.N_THREADS)
        dispatcher.submit(orders[:2])
        self.collect(dispatcher, 2)
        load = dispatcher.load()
        assert (load.files, load.pushbacks) == (1, 5)
        dispatcher.close(0)

    def test_a_part_counts_when_it_is_stored_and_once(self, dispatcher, archive):
        upload, loads = OpenUpload("id", 100, "print", {1: "AAAAAA=="}), []

        class InParts(MemoryArchive):
            def put(self, relpath, body, *, checksum, attempt=None):
                for number in (2, 3):
                    attempt.part_stored(StoredPart(number, "AAAAAA=="))
                    loads.append(dispatcher.load().bytes)
                return super().put(relpath, body, checksum=checksum, attempt=attempt)

        data = bytes(250)
        dispatcher.open(MemorySource({"f1": data}), InParts(), self.N_THREADS)
        dispatcher.submit([msgspec.structs.replace(order(1, data), upload=upload)])
        for _ in range(1000):
            if any(isinstance(told, FileStored) for told in dispatcher.collect(1.0)):
                break
        assert [*loads, dispatcher.load().bytes] == [100, 50, 0]
        dispatcher.close(0)

    def test_more_work_than_the_level_takes_saturates_it_and_less_does_not(self, dispatcher, files, orders):
        class Slow(MemoryArchive):
            def put(self, relpath, body, *, checksum, attempt=None):
                time.sleep(0.001)
                return super().put(relpath, body, checksum=checksum, attempt=attempt)

        dispatcher.open(MemorySource(files), Slow(), 1)
        dispatcher.set_level(4)
        dispatcher.submit(orders[:2])
        self.collect(dispatcher, 2)
        assert not dispatcher.load().saturated
        dispatcher.submit(orders)
        self.collect(dispatcher, len(orders))
        assert dispatcher.load().saturated
        assert not dispatcher.load().saturated
        dispatcher.close(0)

    def test_a_bandwidth_holds_for_all_orders_together_and_over_the_next_open(self, dispatcher, files, orders, clock):
        dispatcher.set_bandwidth(10_000)
        for _ in range(2):
            begin = clock.now_ms()
            dispatcher.open(MemorySource(files), MemoryArchive(), self.N_THREADS)
            dispatcher.submit(orders[100:130])
            assert len(self.collect(dispatcher, 30)) == 30
            assert clock.now_ms() - begin >= 250, "4,500 bytes at 10,000 a second, less the burst"
            dispatcher.close(0)

    def test_more_orders_than_slots_are_accepted_all_the_same(self, opened, orders):
        opened.submit(orders)
        assert opened.slots == 0
        assert len(self.collect(opened, len(orders))) == len(orders)

    def test_waiting_for_nothing_ends_after_the_timeout(self, opened, clock):
        before = clock.now_ms()
        assert opened.collect(0.05) == []
        assert clock.now_ms() >= before + 45

    def test_a_wake_ends_the_waiting_at_once(self, opened, clock):
        before = clock.now_ms()
        opened.wake()
        assert opened.collect(60.0) == []
        assert clock.now_ms() < before + 10_000

    def test_a_wake_takes_no_outcome_away(self, opened, orders):
        opened.wake()
        opened.submit(orders[:10])
        opened.wake()
        assert len(self.collect(opened, 10)) == 10

    def test_after_the_deadline_nothing_becomes_visible(self, opened, orders, archive, clock):
        opened.hold_until(clock.now_ms() - 1)
        opened.submit(orders[:10])
        outcomes = self.collect(opened, 10)
        assert [outcome.fault for outcome in outcomes] == [Fault.STOPPED] * 10
        assert archive.contents() == {}

    def test_a_deadline_that_moves_on_lets_transfers_go_on(self, opened, orders, archive, clock):
        opened.hold_until(clock.now_ms() - 1)
        opened.submit(orders[:5])
        self.collect(opened, 5)
        opened.hold_until(clock.now_ms() + 60_000)
        opened.submit(orders[:5])
        self.collect(opened, 5)
        assert len(archive.contents()) == 5

    def test_closing_returns_everything_that_is_due(self, opened, orders, archive):
        opened.submit(orders)
        early = opened.collect(0)
        late = opened.close(30.0)
        assert sorted(outcome.file for outcome in early + late) == list(range(len(orders)))
        stored = {outcome.file for outcome in early + late if isinstance(outcome, FileStored)}
        assert {int(relpath[1:]) for relpath in archive.contents()} == stored
        rest = [outcome for outcome in early + late if not isinstance(outcome, FileStored)]
        assert all(isinstance(outcome, FileNotStored) and outcome.fault is Fault.STOPPED for outcome in rest)

    def test_inspections_that_never_began_come_back_as_unknown(self, opened):
        opened.submit([InspectFile(number, f"f{number}", 50, None) for number in range(400)])
        outcomes = opened.close(0)
        assert {outcome.holds for outcome in outcomes} <= {ArchiveHolds.UNKNOWN, ArchiveHolds.NOTHING}
        assert len(outcomes) == 400

    def test_after_closing_there_are_no_slots_and_no_outcomes(self, opened, orders):
        opened.submit(orders[:3])
        opened.close(1.0)
        assert opened.slots == 0
        assert opened.collect(0) == []
        assert opened.close(0) == []

    def test_it_can_be_opened_again(self, opened, orders, files):
        opened.submit(orders[:3])
        opened.close(0)
        archive = MemoryArchive()
        opened.open(MemorySource(files), archive, 1)
        opened.submit(orders[:3])
        assert len(self.collect(opened, 3)) == 3
        assert len(archive.contents()) == 3
