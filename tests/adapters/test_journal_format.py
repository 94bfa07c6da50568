"""The format as its page specifies it: a reader who knows only the page agrees with ours, and old journals replay for ever."""

import json
import shutil
import stat
from pathlib import Path

import msgspec
import pytest

from tests.crash.recordings import SCENARIOS, long_recording, recording, short_recording
from tests.data import independent_reader
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.errors import JournalDamagedError, JournalVersionError
from upload_core.journal import FORMAT_VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "journal-v1"
PINS = json.loads(GOLDEN.joinpath("pins.json").read_text("utf-8"))
PAGE = GOLDEN.parents[2] / "docs" / "journal-format.md"


def theirs(path):
    """Records and file table as the page's reader sees them."""
    return independent_reader.read(path)


def ours(path):
    reader = JournalReader(path, snapshots=False)
    reader.advance()
    records = [
        {"seq": record.seq, "time": record.time, **json.loads(msgspec.json.encode(record.event))}
        for record in reader.records()
    ]
    table = [json.loads(line) for chunk in reader.delivery.table.encode() for line in chunk.splitlines()]
    return records, table


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_reader_that_only_knows_the_page_sees_what_ours_sees(name, tmp_path):
    recording(name).write(tmp_path / "journal", segment_bytes=2_000).close()
    assert theirs(tmp_path / "journal") == ours(tmp_path / "journal")


@pytest.mark.parametrize("name", PINS)
def test_it_reads_the_journals_of_every_released_format(name):
    assert theirs(GOLDEN / name) == ours(GOLDEN / name)


@pytest.mark.parametrize("step", [1, 7])
def test_both_readers_draw_the_same_line_between_a_torn_tail_and_damage(tmp_path, step):
    short_recording().write(tmp_path / "journal", segment_bytes=2_500).close()
    last = sorted((tmp_path / "journal").glob("events-*"))[-1]
    data = last.read_bytes()
    damaged = [data[:size] for size in range(0, len(data), 7)] if step == 7 else []
    damaged += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(step, len(data), 11)]
    for number, changed in enumerate(damaged):
        path = tmp_path / str(number)
        shutil.copytree(tmp_path / "journal", path)
        path.joinpath(last.name).write_bytes(changed)
        try:
            found = theirs(path)
        except ValueError:
            with pytest.raises(JournalDamagedError):
                DirectoryJournal(path).open()
            continue
        journal = DirectoryJournal(path)
        delivery = journal.open()
        journal.close()
        assert delivery is not None
        repaired = [record for record in ours(path)[0] if record["kind"] == "JournalRepaired"]
        assert ours(path)[0][: len(found[0])] == found[0]
        assert len(found[0]) + len(repaired) == delivery.facts.seq


@pytest.mark.promise("R22")
@pytest.mark.parametrize("name", PINS)
def test_a_golden_journal_replays_to_its_pinned_state(name, figure):
    reader = JournalReader(GOLDEN / name, snapshots=False)
    assert reader.advance()
    delivery, pin = reader.delivery, PINS[name]
    assert delivery.facts.seq == pin["records"]
    assert delivery.client_state == pin["client"]
    assert {path: delivery.state_of(row) for row, path in enumerate(delivery.table.paths())} == pin["files"]
    assert delivery.digest == pin["digest"], "a new fact must have a default that old journals leave it at"
    figure(delivery.facts.seq, "records of old journals replayed")


def test_a_golden_snapshot_is_still_believed():
    reader = JournalReader(GOLDEN / "delivered")
    reader._begin()
    assert reader.position.seq == PINS["delivered"]["records"]
    assert reader.advance()
    assert reader.delivery.digest == PINS["delivered"]["digest"]


def test_a_golden_journal_can_be_gone_on_with(tmp_path):
    shutil.copytree(GOLDEN / "every-kind", tmp_path / "journal")
    journal = DirectoryJournal(tmp_path / "journal")
    delivery = journal.open()
    assert delivery is not None
    journal.append([ev.TransferCompleted(6, 60, "AAAABg==")], time_ms=1_900_000_000_000)
    journal.close()
    again = JournalReader(tmp_path / "journal")
    assert again.advance()
    assert again.delivery.state_of(6) == "done"


def test_the_golden_journal_holds_every_kind_of_event_of_this_format():
    assert FORMAT_VERSION == 1, "a new format gets journals of its own"
    kinds = {record["kind"] for name in PINS for record in theirs(GOLDEN / name)[0]}
    assert kinds == set(ev.KINDS)


def test_no_field_of_an_event_stands_in_the_place_of_the_records_own():
    for kind in ev.EVENTS:
        names = {field.name for field in msgspec.structs.fields(kind)}
        assert not names & {"seq", "time", "kind", "batch", "crc"}, kind


def test_every_field_added_since_the_first_release_has_a_default():
    """What the golden journals say without a field can be read without it."""
    for name in PINS:
        for record in theirs(GOLDEN / name)[0]:
            kind = ev.KINDS[record["kind"]]
            required = {field.name for field in msgspec.structs.fields(kind) if field.required}
            assert required <= set(record)


def test_only_its_owner_can_read_a_journal(tmp_path):
    path = tmp_path / "deep" / "journal"
    recorded = recording("a revised index")
    journal = recorded.write(path)
    journal.close(recorded.state_after(len(recorded.batches)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.iterdir()} == {p.name: 0o600 for p in path.iterdir()}
    assert {p.name.partition("-")[0] for p in path.iterdir()} == {"events", "files", "snapshot", "journal.lock"}


def test_a_line_costs_about_a_hundred_bytes():
    data = long_recording().world.real["journal"].data
    assert len(data) / data.count(b"\n") < 125


def test_the_page_names_every_file_and_field_of_the_header():
    page = PAGE.read_text("utf-8")
    header = json.loads(GOLDEN.joinpath("delivered", "events-000001.ndjson").read_text("utf-8").splitlines()[0])
    assert all(f"`{field}`" in page for field in header)
    assert f"It describes format version {FORMAT_VERSION}." in page


@pytest.mark.promise("R22")
@pytest.mark.parametrize("name", PINS)
def test_a_journal_of_a_newer_release_is_refused_by_readers_and_writers_and_untouched(name, tmp_path, figure):
    segments = sorted(path.name for path in (GOLDEN / name).glob("events-*"))
    for number in range(len(segments)):  # a newer release goes on with an old journal in a segment of its own
        copy = tmp_path / f"newer-{number}"
        shutil.copytree(GOLDEN / name, copy)
        for segment in segments[number:]:
            data = (copy / segment).read_bytes()
            (copy / segment).write_bytes(data.replace(b'"version":1,', f'"version":{FORMAT_VERSION + 1},'.encode(), 1))
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        for ask in (
            lambda path: JournalReader(path, snapshots=False).advance(),
            lambda path: JournalReader(path).replay_until(lambda _: False),
            lambda path: DirectoryJournal(path).open(),
        ):
            with pytest.raises(JournalVersionError, match=r"upgrade upload-core"):
                ask(copy)
        (copy / "journal.lock").unlink(missing_ok=True)  # it says who had it open, not what it holds
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
        figure(1, "journals of a newer format refused and untouched")
