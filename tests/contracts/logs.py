"""What both ends of a log promise on every control bucket. An adapter joins with the fixture `control`."""

from functools import partial

import pytest

from tests.contracts.flaky import FlakyControlBucket
from tests.contracts.racing import race, winners
from upload_core.errors import LockLostError
from upload_core.logs import AppendLog, LogReader
from upload_core.ports import ControlBucket

KEY = "log/validator_staging"


class LogsContract:
    """Join by a subclass that defines the fixture."""

    @pytest.fixture
    def control(self) -> ControlBucket:
        """An empty bucket."""
        raise NotImplementedError

    def test_what_one_end_appends_the_other_reads(self, control):
        log, reader = AppendLog(control, KEY), LogReader(control, KEY)
        cursor, seen = 0, b""
        for number in range(20):
            log.append(b"row %d\n" % number * (number % 4))
            read = reader.read_from(cursor)
            assert not read.restarted
            cursor, seen = read.end, seen + read.data
        assert cursor == log.size()
        assert seen == control.read(KEY)[0]

    @pytest.mark.parametrize("fate", ["request lost", "answer lost", "answer lost and repeated"])
    def test_a_lost_answer_neither_loses_nor_doubles_a_row(self, control, fate):
        log = AppendLog(FlakyControlBucket(control, ["answered", "answered", fate]), KEY)
        log.append(b"one\n")
        assert log.append(b"two\n") == 8
        assert log.append(b"three\n") == 14
        assert control.read(KEY)[0] == b"one\ntwo\nthree\n"

    def test_of_two_writers_the_second_stops(self, control):
        ours, theirs = AppendLog(control, KEY), AppendLog(control, KEY)
        ours.append(b"one\n")
        theirs.append(b"theirs\n")
        with pytest.raises(LockLostError):
            ours.append(b"two\n")
        assert control.read(KEY)[0] == b"one\ntheirs\n"

    def test_of_all_who_write_one_log_at_once_one_goes_on(self, control):
        logs = [AppendLog(control, KEY, 0) for _ in range(16)]
        results = race([partial(log.append, b"row of %02d\n" % number) for number, log in enumerate(logs)])
        assert len(winners(results)) == 1
        assert all(isinstance(result, LockLostError) for result in results if result not in winners(results))
        assert control.read(KEY)[0] == b"row of %02d\n" % results.index(winners(results)[0])

    @pytest.mark.parametrize("replacement", [None, b"", b"new\n", b"a new and longer log\n" * 10])
    def test_another_log_in_its_place_is_read_from_the_beginning(self, control, replacement):
        reader = LogReader(control, KEY)
        control.put(KEY, b"one\ntwo\n")
        reader.read_from(0)
        control.delete(KEY)
        if replacement is not None:
            control.put(KEY, replacement)
        read = reader.read_from(8)
        assert read.restarted
        assert (read.offset, read.data) == (0, replacement or b"")
