"""Many threads append to one journal: they share syncs, and each still gets what it was promised."""

import threading
import time
from pathlib import Path

import pytest

from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.errors import JournalWriteError
from upload_core.files import FileTable

PRODUCERS = 16
EACH = 20


class Disk:
    """Counts syncs, each of which takes a while, and fails or is interrupted when told."""

    def __init__(self) -> None:
        self.syncs = 0
        self.fault: BaseException | None = None

    def sync(self, fd: int) -> None:
        self.syncs += 1
        time.sleep(0.005)
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def journal(tmp_path: Path, disk: Disk):
    count = PRODUCERS * EACH
    table = FileTable.from_columns([f"file-{number}" for number in range(count)], [1] * count)
    created = ev.DeliveryCreated("d", "1", "staging", "me", "data", "file:///x", table.digest, count)
    journal = DirectoryJournal(tmp_path / "journal", sync=disk.sync)
    journal.create(created, table, time_ms=0)
    yield journal
    journal.close()


def produce(journal: DirectoryJournal) -> list[JournalWriteError]:
    """Every producer appends until it is done or refused; what it was refused with."""
    refusals: list[JournalWriteError] = []

    def work(number: int) -> None:
        try:
            for turn in range(EACH):
                file = number * EACH + turn
                journal.append([ev.TransferQueued(file), ev.TransferStarted(file)], time_ms=file)
        except JournalWriteError as error:
            refusals.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refusals


def test_producers_that_wait_for_the_disk_share_its_syncs(journal, disk):
    assert produce(journal) == []
    assert disk.syncs <= PRODUCERS * EACH / 4  # about a sixteenth where nothing else runs


def test_every_event_of_every_producer_is_recorded_once_with_its_own_time(journal):
    produce(journal)
    records = [record for record in JournalReader(journal.path).records() if record.seq > 1]
    assert len(records) == 2 * PRODUCERS * EACH
    files = [record.event.file for record in records if isinstance(record.event, ev.FileEvent)]
    assert sorted(files) == [file for file in range(PRODUCERS * EACH) for _ in range(2)]
    assert [record.time_ms for record in records] == files
    assert [record.seq for record in records] == list(range(2, len(records) + 2))


def test_what_shares_a_sync_is_one_batch_so_that_a_torn_journal_lacks_at_most_one(journal, disk):
    produce(journal)
    data = (journal.path / "events-000001.ndjson").read_bytes()
    marks = data.count(b',"crc":"') - 2  # the header and the first record have theirs
    assert marks == disk.syncs


def test_a_failed_sync_refuses_everybody_who_waited_for_it_and_whoever_comes_later(journal, disk):
    disk.fault = OSError(5, "Input/output error")
    refusals = produce(journal)
    assert len(refusals) == PRODUCERS
    assert disk.syncs == 1
    disk.fault = None
    with pytest.raises(JournalWriteError, match="resume"):
        journal.append([ev.StopReported()], time_ms=0)


def test_an_append_that_was_interrupted_leaves_a_journal_that_takes_nothing_more_but_can_be_resumed(journal, disk):
    journal.append([ev.TransferQueued(0)], time_ms=0)
    disk.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        journal.append([ev.TransferQueued(1)], time_ms=0)
    disk.fault = None
    with pytest.raises(JournalWriteError):
        journal.append([ev.TransferQueued(2)], time_ms=0)
    journal.close()
    reader = JournalReader(journal.path)
    assert reader.advance()
    assert reader.delivery.counts[2] == 2  # the interrupted batch reached the disk, the refused one did not
