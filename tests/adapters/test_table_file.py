"""A table's columns beside the snapshot: the same table as the decoded one, and no one is ever misled by wrong columns."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from upload_adapters import table_file
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_adapters.table_file import COLUMNS, load_columns
from upload_core import events as ev
from upload_core.errors import JournalDamagedError
from upload_core.files import FileTable

NOW_MS = 1_800_000_000_000
ROWS = 40


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch):
    monkeypatch.setattr(table_file, "ROWS_MIN", 1)
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None, raising=False)


def table_of(rows: int = ROWS, stem: str = "f\u00e4ld/") -> FileTable:
    checksums = [None if row % 7 == 3 else "yH2GHg==" for row in range(rows)]
    return FileTable.from_columns([f"{stem}{row:05}" for row in range(rows)], range(rows), checksums)


def begin(path: Path, table: FileTable) -> None:
    """A journal of that index which was closed once, and so has a snapshot and columns."""
    journal = DirectoryJournal(path)
    created = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", table.digest, files=len(table))
    journal.close(journal.create(created, table, time_ms=NOW_MS))


def revise(path: Path, newer: FileTable, revision: int, *, record: bool = True, snapshot: bool = False) -> FileTable:
    """Store a revision as an opening session does; `record` False is a crash before its event."""
    journal = DirectoryJournal(path)
    delivery = journal.open()
    assert delivery is not None
    merged, changed = delivery.table.merged(newer)
    journal.add_revision(revision, merged, changed)
    if record:
        event = ev.IndexRevised(revision, merged.digest, len(merged))
        journal.append([event], time_ms=NOW_MS)
        delivery.apply(event, NOW_MS)
        delivery.table = merged
    journal.close(delivery if snapshot else None)
    return merged


def opened(path: Path) -> tuple[FileTable, bytes, bool]:
    """The table and state that a reader gets, and whether columns gave them."""
    reader = JournalReader(path)
    reader.advance()
    assert reader.delivery.table.digest == reader.delivery.facts.index_digest
    return reader.delivery.table, reader.delivery.canonical(), reader.columns_of is not None


def reopen(path: Path) -> None:
    """Open to write and close in order."""
    journal = DirectoryJournal(path)
    journal.close(journal.open())


# --- right columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 1_000])
def test_columns_give_the_table_that_decoding_gives(tmp_path, rows):
    table = table_of(rows)
    begin(tmp_path / "j", table)
    kept = load_columns(tmp_path / "j")
    assert kept is not None
    assert (kept.revision, kept.digest) == (0, table.digest)
    assert kept.table == table
    assert b"".join(kept.table.encode()) == b"".join(table.encode())
    assert kept.table.total_bytes == table.total_bytes
    assert kept.table.has_checksums == table.has_checksums
    assert [kept.table.find(path) for path in table.paths()] == list(range(rows))
    assert opened(tmp_path / "j")[2]


def test_a_table_from_columns_can_be_revised_like_any_other(tmp_path):
    table, newer = table_of(), table_of(ROWS + 5, "other/")
    begin(tmp_path / "j", table)
    kept = load_columns(tmp_path / "j")
    assert kept is not None
    assert kept.table.merged(newer) == table.merged(newer)


def test_what_was_loaded_is_not_decoded(tmp_path, monkeypatch):
    begin(tmp_path / "j", table_of())
    monkeypatch.setattr(FileTable, "decode", None)
    assert opened(tmp_path / "j")[0] == table_of()


def test_in_full_means_without_columns(tmp_path):
    begin(tmp_path / "j", table_of())
    (tmp_path / "j" / "files-0000.ndjson").write_bytes(b"{}\n")
    with pytest.raises(JournalDamagedError, match=r"files-0000\.ndjson"):
        JournalReader(tmp_path / "j", snapshots=False).advance()


def test_a_small_table_leaves_no_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "ROWS_MIN", ROWS + 1)
    begin(tmp_path / "j", table_of())
    assert not (tmp_path / "j" / COLUMNS).exists()


def test_columns_that_are_there_are_not_written_again(tmp_path):
    begin(tmp_path / "j", table_of())
    before = (tmp_path / "j" / COLUMNS).stat().st_ino
    reopen(tmp_path / "j")
    assert (tmp_path / "j" / COLUMNS).stat().st_ino == before


def test_a_disk_that_has_no_room_for_columns_is_no_failure(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table_file, "write_durably", full)
    begin(tmp_path / "j", table_of())
    table, _, from_columns = opened(tmp_path / "j")
    assert table == table_of()
    assert not from_columns


# --- wrong columns -------------------------------------------------------------------------------


def assert_ignored_then_mended(path: Path, wrong: bytes, right: FileTable) -> None:
    """With these columns the journal opens to `right` by decoding, and has whole columns after the next close."""
    place = path / COLUMNS
    place.write_bytes(wrong)
    table, state, from_columns = opened(path)
    assert table == right
    assert not from_columns
    reopen(path)
    assert place.read_bytes() != wrong
    table, again, from_columns = opened(path)
    assert (table, again, from_columns) == (right, state, True)


def test_a_flipped_byte_anywhere_is_seen(tmp_path):
    begin(tmp_path / "j", table_of())
    whole = (tmp_path / "j" / COLUMNS).read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        (tmp_path / "j" / COLUMNS).write_bytes(damaged)
        assert load_columns(tmp_path / "j") is None, f"byte {at}, bit {at % 8}"
    for at in range(0, len(whole), 97):
        assert_ignored_then_mended(tmp_path / "j", whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :], table_of())


def test_columns_cut_short_or_grown_are_ignored(tmp_path):
    begin(tmp_path / "j", table_of())
    whole = (tmp_path / "j" / COLUMNS).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "j" / COLUMNS).write_bytes(whole[:size])
        assert load_columns(tmp_path / "j") is None, f"cut to {size} bytes"
    for wrong in (b"", whole[:-1], whole + b"0", whole + whole, b"\0" * len(whole)):
        assert_ignored_then_mended(tmp_path / "j", wrong, table_of())


def resealed(path: Path, **changed: object) -> bytes:
    """The columns with other words in their head, and a seal that fits them."""
    line, _, rest = (path / COLUMNS).read_bytes().partition(b"\n")
    data = json.dumps({**json.loads(line), **changed}).encode() + b"\n" + rest[:-8]
    return data + b"%08x" % zlib.crc32(data)


OTHER_ORDER = "big" if sys.byteorder == "little" else "little"


@pytest.mark.parametrize(
    "changed",
    [
        {"byte_order": OTHER_ORDER},
        {"version": 2},
        {"digest": "0" * 64},
        {"revision": 1},
        {"revision": 1, "tables": [1, 1]},
        {"files": ROWS - 1},
        {"files": 2**62},
        {"path_bytes": 2**80},
        {"start_bytes": 0},
        {"start_bytes": 8},
        {"tables": []},
    ],
    ids=str,
)
def test_a_head_that_says_something_else_is_not_believed(tmp_path, changed):
    begin(tmp_path / "j", table_of())
    assert_ignored_then_mended(tmp_path / "j", resealed(tmp_path / "j", **changed), table_of())


def test_a_seal_that_fits_is_believed_or_the_tests_above_show_nothing(tmp_path):
    begin(tmp_path / "j", table_of())
    (tmp_path / "j" / COLUMNS).write_bytes(resealed(tmp_path / "j"))
    assert opened(tmp_path / "j")[2]


def test_columns_of_another_journal_are_ignored(tmp_path):
    begin(tmp_path / "j", table_of())
    begin(tmp_path / "other", table_of(stem="g\u00e4ld/"))
    theirs = (tmp_path / "other" / COLUMNS).read_bytes()
    assert len(theirs) == (tmp_path / "j" / COLUMNS).stat().st_size
    assert_ignored_then_mended(tmp_path / "j", theirs, table_of())


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_columns_do_not_hide_that_the_table_is_gone_or_cut_short(tmp_path, change):
    begin(tmp_path / "j", table_of())
    change(tmp_path / "j" / "files-0000.ndjson")
    with pytest.raises(JournalDamagedError, match=r"files-0000\.ndjson"):
        JournalReader(tmp_path / "j").advance()


# --- revisions -----------------------------------------------------------------------------------


def test_columns_follow_a_revision_with_the_next_snapshot(tmp_path):
    begin(tmp_path / "j", table_of())
    before = (tmp_path / "j" / COLUMNS).read_bytes()
    merged = revise(tmp_path / "j", table_of(ROWS + 3), 1)
    assert (tmp_path / "j" / COLUMNS).read_bytes() == before
    table, state, from_columns = opened(tmp_path / "j")
    assert (table, from_columns) == (merged, False)
    assert_ignored_then_mended(tmp_path / "j", before, merged)
    kept = load_columns(tmp_path / "j")
    assert kept is not None
    assert kept.revision == 1
    assert opened(tmp_path / "j") == (merged, state, True)


def test_columns_of_a_revision_whose_event_was_lost_are_ignored(tmp_path):
    begin(tmp_path / "j", table_of())
    shutil.copytree(tmp_path / "j", tmp_path / "later")
    revise(tmp_path / "later", table_of(ROWS + 3), 1, snapshot=True)
    revised = (tmp_path / "later" / COLUMNS).read_bytes()
    revise(tmp_path / "j", table_of(ROWS + 3), 1, record=False)
    assert_ignored_then_mended(tmp_path / "j", revised, table_of())


def test_columns_of_another_revision_of_the_same_number_are_ignored(tmp_path):
    begin(tmp_path / "j", table_of())
    shutil.copytree(tmp_path / "j", tmp_path / "other")
    # the same bytes in every table: only the digest tells them apart
    revise(tmp_path / "other", table_of(ROWS + 3, "a\u00e4ld/"), 1, snapshot=True)
    merged = revise(tmp_path / "j", table_of(ROWS + 3, "b\u00e4ld/"), 1)
    sizes = [(tmp_path / name / "files-0001.ndjson").stat().st_size for name in ("j", "other")]
    assert sizes[0] == sizes[1]
    assert_ignored_then_mended(tmp_path / "j", (tmp_path / "other" / COLUMNS).read_bytes(), merged)


def test_columns_of_a_lost_revision_do_not_spoil_later_ones(tmp_path):
    begin(tmp_path / "j", table_of())
    shutil.copytree(tmp_path / "j", tmp_path / "other")
    revise(tmp_path / "other", table_of(ROWS + 3, "a\u00e4ld/"), 1, snapshot=True)
    revise(tmp_path / "j", table_of(ROWS + 3, "b\u00e4ld/"), 1)
    merged = revise(tmp_path / "j", table_of(ROWS + 4), 2)
    assert_ignored_then_mended(tmp_path / "j", (tmp_path / "other" / COLUMNS).read_bytes(), merged)


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from upload_adapters import table_file
table_file.ROWS_MIN = 1
from tests.adapters.test_table_file import revise, table_of, ROWS
path = Path(sys.argv[1])
for revision in range(1, 26):
    revise(path, table_of(ROWS + revision, "r%d/" % (revision % 3)), revision, snapshot=True)
"""


def test_a_reader_sees_one_whole_table_while_another_process_writes_it_anew(tmp_path):
    begin(tmp_path / "j", table_of())
    root = Path(__file__).resolve().parents[2]
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path / "j"), str(root)])
    revisions: set[int] = set()
    following = JournalReader(tmp_path / "j")
    try:
        while True:
            running = writer.poll() is None
            following.advance()
            reader = JournalReader(tmp_path / "j")
            reader.advance()
            for delivery in (reader.delivery, following.delivery):
                encoded = FileTable.decode(list(delivery.table.encode()))
                assert encoded.digest == delivery.facts.index_digest
                assert len(delivery.table) == len(delivery)
            revisions.add(reader.delivery.facts.index_revision)
            if not running:
                break
            time.sleep(0.001)
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == 0
    assert max(revisions) == 25
    assert len(revisions) > 2, "the reader never met the writer at work"
