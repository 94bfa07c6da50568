"""What is encoded together is read back event by event, whatever the texts in it hold, and looks as the page says."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from upload_core import events as ev
from upload_core.journal import Position, encode_batch, encode_together, read_records

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
