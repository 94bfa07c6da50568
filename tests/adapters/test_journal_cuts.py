"""A journal that ends anywhere is read up to its last whole batch: no acknowledged record is lost to a torn line."""

from pathlib import Path

import pytest

from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.files import FileTable


@pytest.mark.promise("R4")
def test_a_journal_cut_at_any_byte_is_read_up_to_its_last_whole_batch(tmp_path: Path, figure):
    table = FileTable.from_columns(["a", "b"], [1, 2])
    created = ev.DeliveryCreated("d", "1", "staging", "me", "data", "file:///x", table.digest, 2)
    journal = DirectoryJournal(tmp_path / "journal")
    journal.create(created, table, time_ms=0)
    segment = tmp_path / "journal" / "events-000001.ndjson"
    ends = [segment.stat().st_size]
    batches: list[list[ev.Event]] = [
        [ev.SessionOpened(1, "me", 1, 2)],
        [ev.TransferQueued(0), ev.TransferStarted(0)],
        [ev.TransferCompleted(0, 1, "AAAAAA=="), ev.TransferQueued(1)],
        [ev.TransferStarted(1)],
    ]
    for batch in batches:
        journal.append(batch, time_ms=0)
        ends.append(segment.stat().st_size)
    journal.close()
    data = segment.read_bytes()
    for cut in range(ends[2], len(data) + 1):
        segment.write_bytes(data[:cut])
        reader = JournalReader(tmp_path / "journal")
        whole = reader.advance()
        assert reader.position.offset == max(end for end in ends if end <= cut), cut
        assert whole == (cut in ends), cut
    figure(len(data) + 1 - ends[2], "cuts")
