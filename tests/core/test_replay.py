"""The state is a fold of the journal: live, replayed, and snapshot plus tail are the same bytes at every batch and event."""

import pytest

from tests.crash.recordings import SCENARIOS, Recording, recording
from upload_adapters import snapshot_file
from upload_adapters.journal_reader import JournalReader
from upload_core.delivery import Delivery
from upload_core.events import IndexRevised
from upload_core.journal import Header, Position, encode_batch, encode_header, replay


@pytest.fixture(params=SCENARIOS)
def recorded(request) -> Recording:
    return recording(request.param)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # what is tested here is what is read, not what survives
    monkeypatch.setattr("os.fdatasync", lambda _: None, raising=False)
    return tmp_path / "journal"


def header(recorded: Recording) -> Header:
    return Header.first(recorded.created, "n")


def replayed(recorded: Recording, data: bytes, start: Position, onto: Delivery | None = None) -> Delivery:
    delivery = onto or Delivery.begin(recorded.created, recorded.table)
    _, whole = replay([data], start, delivery)
    assert whole
    delivery.refresh_derived()
    return delivery


def test_replaying_any_prefix_gives_the_live_state_of_that_moment(recorded):
    _, start = encode_header(header(recorded))
    data, position = b"", start
    for (events, time_ms), live in zip(recorded.batches, recorded.live, strict=True):
        batch, position = encode_batch(events, time_ms, position)
        data += batch
        assert replayed(recorded, data, start).canonical() == live


def test_a_snapshot_of_any_prefix_and_the_tail_after_it_give_the_final_state(recorded):
    _, position = encode_header(header(recorded))
    encoded = []
    for events, time_ms in recorded.batches:
        before = position
        batch, position = encode_batch(events, time_ms, position)
        encoded.append((before, batch))
    for number, live in enumerate(recorded.live, 1):
        snapshot = Delivery.from_canonical(live, recorded.table)
        assert snapshot.canonical() == live
        tail = b"".join(batch for _, batch in encoded[number:])
        if tail:
            replayed(recorded, tail, encoded[number][0], snapshot)
        assert snapshot.canonical() == recorded.live[-1]


def test_the_fast_replay_agrees_with_apply_after_every_single_event(recorded):
    _, start = encode_header(header(recorded))
    slow = Delivery.begin(recorded.created, recorded.table)
    data, position = b"", start
    for event, time_ms in recorded.events:
        line, position = encode_batch([event], time_ms, position)
        data += line
        slow.apply(event, time_ms)
        fast = replayed(recorded, data, start)
        assert fast.canonical() == slow.canonical()
        assert fast.counts == slow.counts == [slow.states.count(code) for code in range(len(slow.counts))]
        assert list(fast.retry_due_ms) == sorted(slow.retry_due_ms)


def test_replaying_twice_gives_identical_bytes(recorded):
    journal = recorded.world.real["journal"]
    assert journal.replayed().canonical() == journal.replayed().canonical() == recorded.live[-1]


def test_a_journal_in_many_segments_replays_to_the_live_state_after_every_batch(recorded, directory):
    journal = recorded.write(directory, segment_bytes=700, batches=1)
    reader = JournalReader(directory, snapshots=False)
    for number, (events, time_ms) in enumerate(recorded.batches[1:], 2):
        journal.append(events, time_ms=time_ms)
        live = recorded.live[number - 1]
        assert reader.advance()
        assert reader.delivery.canonical() == live, "read along"
        afresh = JournalReader(directory, snapshots=False)
        assert afresh.advance()
        assert afresh.delivery.canonical() == live, "read from the start"
        assert afresh.delivery.table == recorded.state_after(number).table
    journal.close()
    assert len(list(directory.glob("events-*"))) > 3


def test_a_snapshot_in_the_directory_changes_nothing_of_what_is_read(recorded, directory):
    journal = recorded.write(directory, segment_bytes=700, batches=1)
    for number, (events, time_ms) in enumerate(recorded.batches[1:], 2):
        journal.append(events, time_ms=time_ms)
        live = recorded.state_after(number)
        journal.snapshot(live)
        newest = snapshot_file.newest_first(directory)[0]
        assert newest.name.endswith(f"{live.facts.seq:012d}")
        for old in snapshot_file.newest_first(directory)[1:]:
            old.unlink()
        if number % 3:
            continue  # the next ones leave a tail after this snapshot
        reader = JournalReader(directory)
        assert reader.advance()
        assert reader.delivery.canonical() == live.canonical()
        assert reader.delivery.table == live.table
    journal.close()


def test_the_end_is_the_same_from_every_snapshot(recorded, directory):
    journal = recorded.write(directory, segment_bytes=700)
    journal.close()
    whole = JournalReader(directory, snapshots=False)
    whole.advance()
    records = list(whole.records())
    for number in range(1, len(recorded.batches) + 1):
        live = recorded.state_after(number)
        partial = directory.with_name(f"partial-{number}")
        partial_journal = recorded.write(partial, segment_bytes=700, batches=number)
        partial_journal.snapshot(live)
        for events, time_ms in recorded.batches[number:]:
            partial_journal.append(events, time_ms=time_ms)
        partial_journal.close()
        reader = JournalReader(partial)
        assert reader.advance()
        assert reader.delivery.canonical() == recorded.live[-1]
    assert [record.event for record in records] == [event for event, _ in recorded.events]


def test_the_recordings_hold_what_they_are_for():
    kinds = {type(event).__name__ for name in SCENARIOS for event, _ in recording(name).events}
    assert {
        "TransferRetried",
        "TransferAbandoned",
        "TransferInterrupted",
        "FileRequeued",
        "FileRevised",
        "FileFoundStored",
        "FileFoundMissing",
        "FileInvalidated",
        "VerdictRepeated",
        "UnexpectedVerdictFound",
        "LogLineRejected",
        "LogEntryNoted",
        "OutageBegan",
        "OutageEnded",
        "PipelineAttached",
        "ReportLapsed",
        "StopRequested",
        "UploadBegun",
        "PartStored",
        "UploadEnded",
        "ConcurrencyChanged",
        "TransfersPaused",
        "TransfersContinued",
        "SuspensionNoticed",
        "CopyJobRequested",
        "CopyJobCreated",
        "CopyJobProgressed",
        "CopyJobEnded",
        IndexRevised.__name__,
    } <= kinds
    large = recording("large files in parts")
    assert sum(bool(large.state_after(n).uploads) for n in range(1, len(large.batches) + 1)) > 10
    assert sum(type(event).__name__ == "SessionOpened" for event, _ in recording("a revised index").events) == 3
