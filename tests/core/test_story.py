"""A journal told as a story: one pass, in any pieces, agrees with the replay and with a plain count of the records."""

from collections import Counter
from pathlib import Path

import pytest

from tests.sample_delivery import PLANS, write_sample
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.files import FileTable
from upload_core.journal import Position, encode_batch
from upload_core.story import DIARY_MAX, SLOWEST_MAX, Story
from upload_core.tally import GROUPS_MAX, SAMPLES_MAX, Groups, LargeFile, StoredColumn
from upload_core.timeline import BINS_MAX, Bin, Span, Timeline, joined, merged, without

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "journal-v1"
START = Position(1, 0, 0, 0)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "journal"
    write_sample(path, files=600)
    return path


def told(path: Path, *, lines: int = 0) -> tuple[Story, JournalReader]:
    """The story of a journal; with `lines`, told in pieces of so many."""
    reader = JournalReader(path, snapshots=False)
    reader.advance()
    story = Story(reader.delivery.created, reader.delivery.table)
    for piece, _ in reader.pieces():
        if not lines:
            story.take(piece)
            continue
        whole = piece.splitlines(keepends=True)
        for first in range(0, len(whole), lines):
            story.take(b"".join(whole[first : first + lines]))
    story.finish()
    return story, reader


def everything(story: Story) -> list[object]:
    """All that a story tells, to be compared."""
    return [
        story.timeline,
        story.sessions,
        story.outages,
        story.pauses,
        story.standstills,
        story.diary,
        list(story.setbacks),
        list(story.failed()),
        story.sending,
        story.judging,
        story.slowest,
        story.large,
        story.attempts,
        story.sent_bytes,
        list(story.rows()),
        story.delivery.digest,
    ]


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
def test_the_story_of_every_golden_journal_ends_in_the_state_of_its_replay(name):
    story, reader = told(GOLDEN / name)
    assert story.delivery.digest == reader.delivery.digest


def test_the_pieces_that_it_is_told_in_make_no_difference(sample):
    whole, reader = told(sample)
    assert whole.delivery.digest == reader.delivery.digest
    for lines in (1, 7, 500):
        assert everything(told(sample, lines=lines)[0]) == everything(whole)


def test_what_it_counts_is_what_the_records_hold(sample):
    story, reader = told(sample)
    kinds = Counter(type(record.event) for record in reader.records())
    bins = list(story.timeline.bins.values())
    assert sum(bin_.sent_files for bin_ in bins) == kinds[ev.TransferCompleted]
    assert sum(bin_.accepted for bin_ in bins) == kinds[ev.FileValidated] == story.delivery.public_counts()["valid"]
    assert sum(bin_.rejected for bin_ in bins) == kinds[ev.FileInvalidated]
    assert sum(bin_.retries for bin_ in bins) == kinds[ev.TransferRetried]
    broken = kinds[ev.TransferFailed] + kinds[ev.TransferAbandoned] + kinds[ev.TransferInterrupted]
    assert sum(bin_.faults for bin_ in bins) == sum(group.count for group in story.setbacks) == broken
    assert story.attempts == kinds[ev.TransferStarted]
    assert sum(story.sending) == kinds[ev.TransferCompleted]
    assert sum(story.judging) == kinds[ev.FileValidated] + kinds[ev.FileInvalidated]
    assert bins[-1].counts == tuple(story.delivery.counts)
    assert {sum(bin_.counts) for bin_ in bins} == {600}
    assert len(bins) <= BINS_MAX


def test_bytes_are_counted_once_although_large_files_are_told_part_by_part(sample):
    story, _ = told(sample)
    stored = [row.size for row in story.rows() if row.stored]
    assert story.sent_bytes == sum(stored)
    assert sum(bin_.sent_bytes for bin_ in story.timeline.bins.values()) == sum(stored)
    assert sum(session.sent_bytes for session in story.sessions) == sum(stored)


def test_sessions_outages_pauses_and_sleep_are_those_that_happened(sample):
    story, _ = told(sample)
    assert [session.outcome for session in story.sessions] == ["cut off", "incomplete"]
    first, second = story.sessions
    assert first.end_ms < second.begin_ms
    blocks = Counter(block.kind for plan in PLANS for block in plan.blocks)
    assert (len(story.outages), len(story.pauses), len(story.standstills)) == (
        blocks["outage"],
        blocks["pause"],
        blocks["sleep"],
    )
    (pause,) = (block for plan in PLANS for block in plan.blocks if block.kind == "pause")
    assert story.pauses[0].end_ms - story.pauses[0].begin_ms == pytest.approx(pause.end - pause.begin, abs=400)
    assert story.pauses[0].text == "the telescope needs the line"


def test_a_session_that_was_cut_off_ended_with_its_last_record_and_so_did_its_outage():
    table = FileTable.from_columns(["a"], [1])
    story = Story(ev.DeliveryCreated("d", "1", "staging", "me", "/s", "file:///a", table.digest, 1), table)
    position = START
    for ms, event in (
        (1_000, story.created),
        (2_000, ev.SessionOpened(1, "me", 4, 2)),
        (3_000, ev.OutageBegan("no route")),
        (9_000, ev.SessionOpened(2, "me", 4, 2)),
    ):
        data, position = encode_batch([event], ms, position)
        story.take(data)
    story.finish()
    assert [(s.begin_ms, s.end_ms, s.outcome) for s in story.sessions] == [
        (2_000, 3_000, "cut off"),
        (9_000, 9_000, ""),
    ]
    assert story.outages == [Span(3_000, 3_000, "no route")]


def test_a_clock_that_was_set_back_makes_nothing_happen_before_what_it_followed():
    table = FileTable.from_columns(["a"], [1])
    story = Story(ev.DeliveryCreated("d", "1", "staging", "me", "/s", "file:///a", table.digest, 1), table)
    position = START
    for ms, event in (
        (100_000, story.created),
        (100_000, ev.SessionOpened(1, "me", 4, 2)),
        (101_000, ev.TransferQueued(0)),
        (102_000, ev.TransferStarted(0)),
        (50_000, ev.TransferCompleted(0, 1, "yH2GHg==")),
    ):
        data, position = encode_batch([event], ms, position)
        story.take(data)
    story.finish()
    assert story.slowest[0].ms == 0
    assert list(story.timeline.bins) == sorted(story.timeline.bins)
    assert story.stored.times[0] == story.now_ms == 102_000


def test_what_the_archive_acknowledged_last_is_what_counts(sample):
    story, reader = told(sample)
    expected: dict[int, tuple[str, str]] = {}
    for record in reader.records():
        if isinstance(record.event, ev.TransferCompleted):
            expected[record.event.file] = record.event.checksum, record.event.etag
    assert {file: (row.checksum, row.etag) for file, row in enumerate(story.rows()) if row.stored} == expected


def test_a_column_of_stored_files_forgets_what_was_before():
    stored = StoredColumn(2)
    stored.put(0, 5, "yH2GHg==", '"one"')
    stored.put(1, 6, "", "")
    stored.put(0, 7, "AAAAAQ==", '"naïve"')
    assert (stored.times[0], stored.checksum(0), stored.etag(0)) == (7, "AAAAAQ==", '"naïve"')
    assert (stored.times[1], stored.checksum(1), stored.etag(1)) == (6, "", "")
    stored.drop(0)
    assert stored.times[0] == 0


def test_the_slowest_are_those_that_took_longest(sample):
    story, reader = told(sample)
    began: dict[int, int] = {}
    took: list[int] = []
    for record in reader.records():
        if isinstance(record.event, ev.TransferStarted):
            began[record.event.file] = record.time_ms
        elif isinstance(record.event, ev.TransferCompleted):
            took.append(record.time_ms - began[record.event.file])
    assert [slow.ms for slow in story.slowest] == sorted(took, reverse=True)[:SLOWEST_MAX]


def test_the_story_of_a_large_file_tells_how_often_it_broke_off_and_that_no_part_went_twice(sample):
    story, _ = told(sample)
    assert story.large
    for file in story.large.values():
        parts = -(-story.table.size(file.file) // file.part_size)
        assert file.parts == parts
        assert (file.uploads, file.sent_again) == (1, 0)
        assert [count for _, count in file.samples] == sorted(count for _, count in file.samples)
    assert any(file.interruptions for file in story.large.values())


def test_parts_that_are_stored_again_are_counted():
    story, _ = told(GOLDEN / "in-parts")
    first, second = story.large[0], story.large[1]
    assert (first.uploads, first.interruptions, second.uploads, second.interruptions) == (2, 1, 1, 1)


def test_whatever_comes_it_stays_in_bounded_room():
    groups = Groups()
    for number in range(5_000):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number % 2_500))
        groups.add("invalid", f"{word}!", f"file {number}")
    assert len(groups) == GROUPS_MAX + 1
    assert next(iter(groups)).reason == "other reasons"
    assert sum(group.count for group in groups) == 5_000
    large = LargeFile(0, 1, 0, 0)
    for part in range(10_000):
        large.look(part, part)
    assert len(large.samples) <= SAMPLES_MAX
    assert (large.samples[0], large.samples[-1]) == ((0, 0), (9_999, 9_999))
    timeline = Timeline()
    for ms in range(0, 10_000_000, 999):
        timeline.at(ms).retries += 1
    assert len(timeline.bins) <= BINS_MAX
    assert sum(bin_.retries for bin_ in timeline.bins.values()) == len(range(0, 10_000_000, 999))


def test_more_large_files_than_can_be_told_are_counted(monkeypatch):
    monkeypatch.setattr("upload_core.story.LARGE_MAX", 1)
    whole, _ = told(GOLDEN / "in-parts")
    assert (len(whole.large), whole.large_left_out) == (1, 1)
    assert whole.sent_bytes == told(GOLDEN / "in-parts")[0].sent_bytes


def test_a_long_diary_keeps_its_beginning_and_its_end():
    table = FileTable.from_columns(["a"], [1])
    story = Story(ev.DeliveryCreated("d", "1", "staging", "me", "/s", "file:///a", table.digest, 1), table)
    events = [ev.TransfersPaused("user", f"number {number}") for number in range(DIARY_MAX * 3)]
    data, _ = encode_batch([story.created, ev.SessionOpened(1, "me", 1, 1), *events], 1_000, START)
    story.take(data)
    assert len(story.diary) == DIARY_MAX
    assert len(story.diary) + story.diary_left_out == len(events) + 1
    assert "number 0" in story.diary[1].text
    assert f"number {len(events) - 1}" in story.diary[-1].text


# --- timelines -----------------------------------------------------------------------------------


def test_widening_loses_nothing_and_keeps_how_it_stood_at_the_end():
    timeline = Timeline(bins={2: Bin((5, 0), 8, sent_bytes=1), 3: Bin((3, 2), 0, sent_bytes=2), 9: Bin((0, 5), 4)})
    timeline.widen(100)
    assert timeline.bins == {1: Bin((3, 2), 8, sent_bytes=3), 4: Bin((0, 5), 4)}


def test_timelines_of_different_widths_are_joined_at_the_wider_one():
    one, other = Timeline(bins={0: Bin((9, 1)), 8: Bin((0, 10))}), Timeline(400, {1: Bin((0, 5))})
    whole = joined([(one, (10, 0)), (other, (5, 0))])
    assert whole.width_ms == 400
    assert [bin_.counts for bin_ in whole.bins.values()] == [(14, 1), (0, 15)]
    assert one.width_ms == 50, "what is joined stays as it was"


def test_many_timelines_together_stay_in_bounds():
    apart = [(Timeline(bins={500 * k + n: Bin((1,)) for n in range(400)}), (1,)) for k in range(4)]
    assert len(joined(apart).bins) <= BINS_MAX


@pytest.mark.parametrize(
    ("hole", "left"),
    [
        (Span(0, 5), [(10, 20)]),
        (Span(5, 12), [(12, 20)]),
        (Span(12, 15), [(10, 12), (15, 20)]),
        (Span(15, 30), [(10, 15)]),
        (Span(5, 30), []),
    ],
)
def test_what_is_left_out_is_left_out(hole, left):
    assert [(s.begin_ms, s.end_ms) for s in without([Span(10, 20)], [hole])] == left


def test_spans_that_touch_are_one():
    assert merged([Span(3, 4, "x"), Span(1, 3)]) == [Span(1, 4)]
