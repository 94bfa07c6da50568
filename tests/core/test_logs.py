"""Our log gets each row once whatever happens to the answers; the validator's is followed without a gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.flaky import FlakyControlBucket
from upload_adapters.memory import ManualClock, MemoryControlBucket
from upload_core.errors import ArchiveUnavailableError, LockLostError, NotReadyError
from upload_core.logs import AppendLog, LogReader, mark_of

KEY = "log/client_staging"


@pytest.fixture
def control():
    return MemoryControlBucket(ManualClock())


def content(control, key=KEY):
    found = control.read(key)
    return b"" if found is None else found[0]


# --- appending -----------------------------------------------------------------------------------


def test_rows_stand_in_the_order_they_were_appended(control):
    log = AppendLog(control, KEY)
    assert [log.append(b"one\n"), log.append(b"two\n")] == [4, 8]
    assert content(control) == b"one\ntwo\n"
    assert log.size() == 8


def test_a_log_goes_on_where_an_earlier_session_ended(control):
    AppendLog(control, KEY).append(b"one\n")
    assert AppendLog(control, KEY).size() == 4
    assert AppendLog(control, KEY).append(b"two\n") == 8


def test_the_known_size_saves_a_question(control):
    flaky = FlakyControlBucket(control)
    log = AppendLog(flaky, KEY, 0)
    log.append(b"one\n")
    log.append(b"two\n")
    assert flaky.requests == ["append", "append"]


def test_appending_nothing_asks_nothing(control):
    flaky = FlakyControlBucket(control)
    assert AppendLog(flaky, KEY, 0).append(b"") == 0
    assert flaky.requests == []


def test_a_split_row_is_refused(control):
    with pytest.raises(AssertionError):
        AppendLog(control, KEY).append(b"half a row")


@pytest.mark.parametrize("fate", ["request lost", "answer lost", "answer lost and repeated"])
def test_one_lost_answer_is_settled_by_the_logs_own_tail(control, fate):
    log = AppendLog(FlakyControlBucket(control, [fate]), KEY, 0)
    assert log.append(b"one\n") == 4
    assert log.append(b"two\n") == 8
    assert content(control) == b"one\ntwo\n"


@pytest.mark.parametrize("failures", range(3))
def test_before_a_request_is_repeated_somebody_is_asked_whether_it_may_be(control, failures):
    asked = []
    flaky = FlakyControlBucket(control, [fate for _ in range(failures) for fate in ("request lost", "answered")])
    AppendLog(flaky, KEY, 0, again=lambda: asked.append(len(flaky.requests))).append(b"one\n")
    assert len(asked) == failures
    assert flaky.requests.count("append") == failures + 1


def test_a_request_that_may_not_be_repeated_is_not(control):
    def refuse():
        raise LockLostError("it is somebody else's")

    flaky = FlakyControlBucket(control, ["request lost"])
    with pytest.raises(LockLostError):
        AppendLog(flaky, KEY, 0, again=refuse).append(b"one\n")
    assert flaky.requests.count("append") == 1
    assert content(control) == b""


def test_an_outage_ends_in_a_bounded_number_of_requests(control):
    flaky = FlakyControlBucket(control, ["request lost", "answered"] * 50)
    with pytest.raises(ArchiveUnavailableError, match="same rows again"):
        AppendLog(flaky, KEY, 0).append(b"one\n")
    assert len(flaky.requests) <= 8


def test_rows_in_doubt_come_first_and_once(control):
    # The append took effect, its answer and the question about it were lost.
    log = AppendLog(FlakyControlBucket(control, ["answer lost", "request lost"]), KEY, 0)
    with pytest.raises(ArchiveUnavailableError):
        log.append(b"one\n")
    with pytest.raises(NotReadyError):
        log.append(b"other\n")
    assert log.append(b"one\ntwo\n") == 8
    assert content(control) == b"one\ntwo\n"


def test_a_request_that_lands_late_is_not_doubled(control):
    log = AppendLog(FlakyControlBucket(control, ["request lost", "answered"] * 3), KEY, 0)
    with pytest.raises(ArchiveUnavailableError):
        log.append(b"one\n")
    control.append(KEY, b"one\n", offset=0)  # it was still on its way
    assert log.append(b"one\n") == 4
    assert content(control) == b"one\n"


@pytest.mark.parametrize(
    "meddle",
    [
        lambda control: control.append(KEY, b"theirs\n", offset=4),
        lambda control: control.put(KEY, b"x\n"),
        lambda control: control.put(KEY, b"one\nnew\nand more\n"),
        lambda control: control.delete(KEY),
    ],
    ids=["appended", "shrunk", "appended after the same rows", "deleted"],
)
def test_a_foreign_writer_is_noticed_and_nothing_is_written(control, meddle):
    log = AppendLog(control, KEY)
    log.append(b"one\n")
    meddle(control)
    before = content(control)
    with pytest.raises(LockLostError, match="another client"):
        log.append(b"new\n")
    assert content(control) == before


FATES = st.sampled_from(["answered", "request lost", "answer lost", "answer lost and repeated"])


@given(st.lists(FATES, max_size=60), st.integers(1, 12))
def test_whatever_gets_lost_each_row_stands_in_the_log_once(fates, count):
    control = MemoryControlBucket(ManualClock())
    log = AppendLog(FlakyControlBucket(control, fates), KEY)
    rows = [b"row %d\n" % number for number in range(count)]
    waiting = b""
    for row in rows:
        waiting += row  # a caller that collects rows during an outage
        try:
            size = log.append(waiting)
        except ArchiveUnavailableError:
            continue
        waiting = b""
        assert size == len(content(control))
    for _ in range(100):
        try:
            log.append(waiting)
            break
        except ArchiveUnavailableError:
            continue
    assert content(control) == b"".join(rows)


# --- following -----------------------------------------------------------------------------------


def test_a_log_that_does_not_exist_yet_is_empty(control):
    read = LogReader(control, KEY).read_from(0)
    assert (read.data, read.offset, read.end, read.restarted) == (b"", 0, 0, "")


def test_only_what_is_new_is_read(control):
    reader = LogReader(control, KEY)
    control.append(KEY, b"one\n", offset=0)
    assert reader.read_from(0).data == b"one\n"
    control.append(KEY, b"two\n", offset=4)
    read = reader.read_from(4)
    assert (read.data, read.offset, read.end) == (b"two\n", 4, 8)
    assert reader.read_from(8).data == b""


def test_each_look_is_one_small_request(control):
    control.append(KEY, b"x" * 10_000 + b"\n", offset=0)
    flaky = FlakyControlBucket(control)
    reader = LogReader(flaky, KEY)
    reader.read_from(0)
    reader.read_from(10_001)
    reader.read_from(10_001)
    assert flaky.requests == ["read"] * 3


def test_a_row_that_is_not_whole_yet_is_read_again(control):
    reader = LogReader(control, KEY)
    control.append(KEY, b"one\ntw", offset=0)
    assert reader.read_from(0).data == b"one\ntw"
    control.append(KEY, b"o\n", offset=6)
    assert reader.read_from(4).data == b"two\n"


def test_a_resumed_reader_starts_at_its_cursor(control):
    control.append(KEY, b"one\ntwo\n", offset=0)
    assert LogReader(control, KEY).read_from(4).data == b"two\n"
    assert LogReader(control, KEY).read_from(8).data == b""


@pytest.mark.parametrize(
    ("replacement", "words"),
    [
        (None, "gone"),
        (b"", "holds 0 bytes"),
        (b"new\n", "holds 4 bytes"),
        (b"new session\n", "replaced"),
        (b"new\nses\n", "replaced"),
        (b"a new and much longer log of another run\n" * 50, "replaced"),
    ],
)
def test_another_log_in_its_place_is_read_from_the_beginning(control, replacement, words):
    reader = LogReader(control, KEY)
    control.put(KEY, b"one\ntwo\n")
    reader.read_from(0)
    if replacement is None:
        control.delete(KEY)
    else:
        control.put(KEY, replacement)
    read = reader.read_from(8)
    assert words in read.restarted
    assert (read.data, read.offset) == (replacement or b"", 0)
    assert reader.read_from(len(replacement or b"")).restarted == ""


def test_another_log_is_followed_as_the_one_before_was(control):
    control.append(KEY, b"old row\n" * 40, offset=0)
    reader = LogReader(control, KEY)
    assert reader.read_from(0).end == 320
    control.put(KEY, b"new row\n" * 50)
    assert reader.read_from(320).restarted
    assert reader.read_from(400).restarted == ""
    control.append(KEY, b"and one\n", offset=400)
    assert (reader.read_from(400).data, reader.read_from(408).data) == (b"and one\n", b"")


@pytest.mark.parametrize("replacement", [None, b"new\n", b"something else, no row ends where one did\n"])
def test_a_resumed_reader_notices_another_log_too(control, replacement):
    if replacement is not None:
        control.put(KEY, replacement)
    read = LogReader(control, KEY).read_from(8)
    assert read.restarted
    assert (read.data, read.offset) == (replacement or b"", 0)


@given(st.binary(min_size=200, max_size=300), st.data())
def test_the_mark_of_any_place_is_known_again_and_no_other_logs_is(rows, data):
    control = MemoryControlBucket(ManualClock())
    control.append("log", rows, offset=0)
    first = data.draw(st.integers(0, len(rows)))
    reader = LogReader(control, "log")
    reader.read_from(0)
    read = reader.read_from(first)
    offset = data.draw(st.integers(first, len(rows)))
    mark = read.mark_at(offset)
    assert mark == mark_of(rows[:offset])
    again = LogReader(control, "log").read_from(offset, mark)
    assert (again.data, again.offset, again.restarted) == (rows[offset:], offset, "")
    if offset:
        other = rows[: offset - 1] + bytes([rows[offset - 1] ^ 1]) + rows[offset:]
        control.put("log", other)
        again = LogReader(control, "log").read_from(offset, mark)
        assert (again.data, again.offset) == (other, 0)
        assert again.restarted


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=100).map(lambda b: b.replace(b"\n", b"")), st.booleans())))
def test_however_it_grows_every_byte_is_seen_once(appends):
    control = MemoryControlBucket(ManualClock())
    reader = LogReader(control, KEY)
    size = cursor = 0
    seen = b""
    for piece, ends in appends:
        data = piece + (b"\n" if ends else b"")
        size = control.append(KEY, data, offset=size).size
        read = reader.read_from(cursor)
        assert (read.restarted, read.offset) == ("", cursor)
        whole = read.data[: read.data.rfind(b"\n") + 1]
        cursor += len(whole)
        seen += whole
    assert seen == content(control)[:cursor]
