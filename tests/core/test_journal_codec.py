"""What is encoded together is read back event by event, whatever the texts in it hold, and looks as the page says."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upload_core import events as ev
from upload_core.journal import Position, encode_batch, encode_together, is_torn, read_records

START = Position(1, 0, 0, 0)
NOW_MS = 1_800_000_000_000

# what would be taken for the end of an event, a format, a seal or a record if it were not escaped or told apart
AWKWARD = st.sampled_from(['\n{"', "}\n{", "%d%s%%", '{"seq":', ',"crc":"', "\r\n\x00\u2028\x85", "\u00e4\U0001f600"])
TEXTS = st.one_of(AWKWARD, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
EVENTS = st.one_of(
    st.builds(ev.TransferQueued, st.integers(0, 9)),
    st.builds(ev.TransferFailed, st.integers(0, 2**40), TEXTS),
    st.builds(ev.ValidatorStopped),
    st.builds(ev.LogLineRejected, st.integers(0, 9), TEXTS, TEXTS),
)
PARTS = st.lists(st.tuples(st.lists(EVENTS, max_size=5), st.integers(0, 10**12)), min_size=1, max_size=4).filter(
    lambda parts: any(events for events, _ in parts)
)


@given(PARTS, TEXTS)
@example([([ev.TransferFailed(0, "\n{")], 0), ([], 5), ([ev.ValidatorStopped()], 7)], "")
def test_every_event_is_read_back_with_its_number_and_its_time(parts, before):
    first, start = encode_batch([ev.ValidatorKeptAlive(before)], NOW_MS, START)
    data, end = encode_together(parts, start)
    records = list(read_records([first + data], START))[1:]
    assert [record.event for record in records] == [event for events, _ in parts for event in events]
    assert [record.seq for record in records] == list(range(2, 2 + len(records)))
    assert [record.time_ms for record in records] == [time_ms for events, time_ms in parts for _ in events]
    assert (end.seq, end.offset, end.time) == (1 + len(records), len(first + data), records[-1].time)


@given(PARTS)
def test_each_line_is_the_record_that_the_page_describes(parts):
    data, _ = encode_together(parts, START)
    lines = data.split(b"\n")
    assert lines.pop() == b""
    for number, line in enumerate(lines, 1):
        fields = list(json.loads(line))
        assert line.startswith(b'{"seq":%d,"time":"' % number)
        assert fields[:3] == ["seq", "time", "kind"]
        assert (fields[-2:] == ["batch", "crc"]) == (number == len(lines))
    assert json.loads(lines[-1])["batch"] == len(lines)


# --- what may be missing at a journal's end ------------------------------------------------------

WRITTEN = encode_batch([ev.TransferQueued(number) for number in range(3)], NOW_MS, Position(1, 0, 40, 0))[0]
LINES = WRITTEN.splitlines(keepends=True)
AGAIN = encode_batch([ev.TransferQueued(4)], NOW_MS, Position(1, 0, 43, 0))[0]


@pytest.mark.parametrize(
    ("tail", "last_seq", "torn"),
    [
        (b"", 40, True),
        (b"\x00" * 512, 40, True),
        (LINES[0] + LINES[1][:9], 40, True),
        (WRITTEN, 40, True),
        (LINES[0][9:] + LINES[1] + LINES[2], 40, True),
        (WRITTEN, 39, False),
        (WRITTEN, 41, False),
        (LINES[2], 41, False),
        (LINES[0] + WRITTEN, 40, False),
        (WRITTEN + AGAIN, 40, False),
        (b"".join(LINES).replace(b'"batch":3', b'"batch":x'), 40, False),
        (b"".join(LINES).replace(b'"batch":3', b'"batch":' + b"3" * 5_000), 40, False),
    ],
    ids=[
        "nothing",
        "zeros",
        "no mark",
        "one batch",
        "one batch without its beginning",
        "a batch that leaves one out",
        "a batch that begins with what is there",
        "the end of a batch of which more is there",
        "more records than the batch has",
        "two batches",
        "a mark that says no size",
        "a size that Python makes no number of",
    ],
)
def test_only_one_unfinished_batch_counts_as_torn(tail, last_seq, torn):
    assert is_torn(tail, last_seq) is torn
