"""What `append` returned from is on disk; a disk that fails is not written to again; one process at a time writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.crash.recordings import recording
from tests.crash.world import FILES, World
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.errors import ConfigurationError, JournalError, JournalInUseError, JournalWriteError
from upload_core.files import FileTable
from upload_core.journal import Record

TABLE = FileTable.from_columns(["a"], [1], None)
CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", TABLE.digest, files=1)
NOW_MS = 1_800_000_000_000


def begin(path, **options) -> DirectoryJournal:
    journal = DirectoryJournal(path, **options)
    journal.create(CREATED, TABLE, time_ms=NOW_MS)
    return journal


def notes(path) -> list[str]:
    return [r.event.message for r in records(path) if isinstance(r.event, ev.ValidatorKeptAlive)]


def records(path) -> list[Record]:
    reader = JournalReader(path)
    assert reader.advance()
    return list(reader.records())


# --- group commit --------------------------------------------------------------------------------


def test_sixteen_threads_lose_nothing_keep_their_order_and_share_their_syncs(tmp_path, monkeypatch):
    journal, syncs = begin(tmp_path / "j", segment_bytes=20_000), []
    real = os.fdatasync if hasattr(os, "fdatasync") else os.fsync

    def slow(fd):
        syncs.append(fd)
        time.sleep(0.003)
        real(fd)

    monkeypatch.setattr(os, real.__name__, slow)
    acknowledged: list[list[str]] = [[] for _ in range(16)]

    def work(thread):
        for number in range(25):
            note = f"{thread}.{number}"
            journal.append([ev.ValidatorKeptAlive(note), ev.ValidatorKeptAlive(note + "'")], time_ms=NOW_MS)
            acknowledged[thread].append(note)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found = notes(tmp_path / "j")
    assert len(found) == 2 * 16 * 25
    for mine in acknowledged:
        assert [note for note in found if note in set(mine)] == mine
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert second == first + "'", "the events of one append stay together"
    assert len(syncs) < 16 * 25 / 5


def test_what_one_thread_was_told_is_in_the_file_at_that_moment(tmp_path):
    journal = begin(tmp_path / "j")
    for number in range(20):
        journal.append([ev.ValidatorKeptAlive(str(number))], time_ms=NOW_MS)
        assert notes(tmp_path / "j")[-1] == str(number)
    journal.close()


def test_an_event_that_cannot_be_written_is_nobody_elses_loss(tmp_path):
    """Text that is no UTF-8 fails to encode: that append raises, and no other is acknowledged without being there."""
    journal = begin(tmp_path / "j")
    acknowledged, refused = [], []

    def work(thread):
        for number in range(10):
            text = "\ud800" if (thread, number) == (3, 5) else f"{thread}.{number}"
            try:
                journal.append([ev.ValidatorKeptAlive(text)], time_ms=NOW_MS)
                acknowledged.append(text)
            except (JournalWriteError, UnicodeEncodeError):
                refused.append(text)
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert "\ud800" in refused
    assert sorted(notes(tmp_path / "j")) == sorted(acknowledged)


# --- failing disks -------------------------------------------------------------------------------


class Disk:
    """`os.write` and the syncs, of which the n-th of one kind fails."""

    def __init__(self, monkeypatch, call: str, number: int, error: int):
        self.left, self.error, self.failed = number, error, 0
        real = getattr(os, call)

        def failing(fd, *args):
            self.left -= 1
            if self.left == 0:
                self.failed += 1
                if call == "write":  # a full disk takes a part first
                    real(fd, bytes(args[0])[: len(args[0]) // 2])
                raise OSError(self.error, os.strerror(self.error))
            if self.left < 0 and error == errno.ENOSPC and call == "write":
                raise OSError(self.error, os.strerror(self.error))
            return real(fd, *args)

        monkeypatch.setattr(os, call, failing)


FAILURES = [
    ("write", errno.ENOSPC),
    ("write", errno.EIO),
    ("fdatasync", errno.EIO),
    ("fdatasync", errno.ENOSPC),
    ("fsync", errno.EIO),
]
needs_fdatasync = pytest.mark.skipif(not hasattr(os, "fdatasync"), reason="this system syncs by fsync alone")


@needs_fdatasync
@pytest.mark.parametrize(("call", "error"), FAILURES[:4])
def test_after_a_failed_write_or_sync_nothing_more_is_accepted_and_nothing_retried(tmp_path, call, error):
    journal = begin(tmp_path / "j")
    journal.append([ev.ValidatorKeptAlive("before")], time_ms=NOW_MS)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, call, 1, error)
        with pytest.raises(JournalWriteError, match=r"make room or mend the disk"):
            journal.append([ev.ValidatorKeptAlive("lost")], time_ms=NOW_MS)
        left = disk.left
        with pytest.raises(JournalWriteError):
            journal.append([ev.ValidatorKeptAlive("after")], time_ms=NOW_MS)
        assert disk.left == left, "a failed sync is never retried"
    with pytest.raises(JournalWriteError):
        journal.append([ev.ValidatorKeptAlive("mended")], time_ms=NOW_MS)
    journal.close()
    again = DirectoryJournal(tmp_path / "j")
    assert again.open() is not None
    again.append([ev.ValidatorKeptAlive("opened again")], time_ms=NOW_MS)
    again.close()
    assert notes(tmp_path / "j") in (["before", "opened again"], ["before", "lost", "opened again"])


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_middle_of_a_write_leaves_no_second_chance_to_write_wrongly(tmp_path, interruption):
    journal = begin(tmp_path / "j")
    real = os.write

    def interrupted(fd, data):
        real(fd, data)
        raise interruption

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(interruption):
            journal.append([ev.ValidatorKeptAlive("who knows")], time_ms=NOW_MS)
    with pytest.raises(JournalWriteError):
        journal.append([ev.ValidatorKeptAlive("again")], time_ms=NOW_MS)
    journal.close()
    again = DirectoryJournal(tmp_path / "j")
    assert again.open() is not None
    again.close()
    assert notes(tmp_path / "j") == ["who knows"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_segment_that_cannot_be_begun_leaves_a_journal_that_opens(tmp_path, call):
    for number in range(1, 6):
        path = tmp_path / f"{call}-{number}"
        journal = begin(path, segment_bytes=100)
        journal.append([ev.ValidatorKeptAlive("before")], time_ms=NOW_MS)
        real, left = getattr(os, call), [number]

        def failing(*args, real=real, left=left, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **kwargs)

        told = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                journal.append([ev.ValidatorKeptAlive("next")], time_ms=NOW_MS)
                told = True
            except JournalWriteError:
                with pytest.raises(JournalWriteError):
                    journal.append([ev.ValidatorKeptAlive("after")], time_ms=NOW_MS)
        journal.close()
        again = DirectoryJournal(path)
        assert again.open() is not None
        again.close()
        found = notes(path)
        assert found in ([["before", "next"]] if told else [["before"], ["before", "next"]])


def test_a_journal_that_cannot_be_created_says_so_and_leaves_none(tmp_path):
    for call, number in (("write", 1), ("write", 2), ("fsync", 1), ("fsync", 3), ("replace", 1), ("replace", 2)):
        path = tmp_path / f"{call}{number}"
        with pytest.MonkeyPatch.context() as patch:
            real, left = getattr(os, call), [number]

            def failing(*args, real=real, left=left):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(*args)

            patch.setattr(os, call, failing)
            with pytest.raises(JournalWriteError):
                begin(path)
        again = DirectoryJournal(path)
        delivery = again.open() or again.create(CREATED, TABLE, time_ms=NOW_MS)
        assert delivery.facts.seq == 1
        again.close()


@needs_fdatasync
@pytest.mark.promise("R7")
@pytest.mark.parametrize(("call", "error"), FAILURES)
def test_whenever_the_disk_fails_the_lock_is_given_back_and_resume_is_right(tmp_path, call, error, figure):
    for number in (1, 2, 3, 5, 8, 13, 21):
        world = World()
        world.ports.journal = DirectoryJournal(tmp_path / f"{number}", segment_bytes=1_500)  # type: ignore[assignment]
        client = world.client()
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, call, number, error)
            try:
                client.run()
            except JournalError:
                assert disk.failed
        assert client.done
        assert world.real["control"].size("lock/client") == 0, f"{call} {number}: the lock was not given back"
        if disk.failed and client.delivery.facts.session:
            assert client.summary().exit_code == 8
        world.deliver()
        reader = JournalReader(tmp_path / f"{number}")
        assert reader.advance()
        assert reader.delivery.public_counts()["valid"] == len(FILES) - 1
        assert reader.delivery.public_counts()["invalid"] == 1
        world.judge_runs()
        figure(1, "calls of the journal that fail")


# --- one process ---------------------------------------------------------------------------------


def test_a_second_process_is_told_at_once_that_the_journal_is_in_use(tmp_path):
    journal = begin(tmp_path / "j")
    journal.append([ev.SessionOpened(1, "us", 1, 0, host="this-host", pid=4242)], time_ms=NOW_MS)
    code = (
        "import sys; from upload_adapters.journal_file import DirectoryJournal\n"
        "try: DirectoryJournal(sys.argv[1]).open()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "else: print('opened')"
    )

    def second() -> str:
        began = time.monotonic()
        command = [sys.executable, "-c", code, str(tmp_path / "j")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert time.monotonic() - began < 20
        return done.stdout

    said = second()
    assert said.startswith("JournalInUseError")
    assert "4242" in said
    assert "this-host" in said
    journal.close()
    assert second() == "opened\n"


def test_a_second_journal_in_this_process_is_refused_too_and_leaves_the_first_alone(tmp_path):
    journal = begin(tmp_path / "j")
    second = DirectoryJournal(tmp_path / "j")
    with pytest.raises(JournalInUseError):
        second.open()
    second.close()
    with pytest.raises(JournalInUseError):
        DirectoryJournal(tmp_path / "j").open()
    journal.append([ev.ValidatorKeptAlive("still here")], time_ms=NOW_MS)
    journal.close()


def test_a_journal_opened_in_one_thread_is_given_back_by_another(tmp_path):
    begin(tmp_path / "j").close()
    journal = DirectoryJournal(tmp_path / "j")
    thread = threading.Thread(target=journal.open)
    thread.start()
    thread.join()
    journal.close()
    again = DirectoryJournal(tmp_path / "j")
    assert again.open() is not None
    again.close()


def test_a_reader_needs_no_lock_and_writes_nothing(tmp_path):
    journal = recording("plain").write(tmp_path / "j")
    before = {path.name: path.read_bytes() for path in (tmp_path / "j").iterdir()}
    reader = JournalReader(tmp_path / "j")
    assert reader.advance()
    assert {path.name: path.read_bytes() for path in (tmp_path / "j").iterdir()} == before
    journal.close()


def test_a_reader_of_a_batch_that_is_being_written_waits_for_its_end(tmp_path):
    recording("plain").write(tmp_path / "j", segment_bytes=1 << 20).close()
    path = tmp_path / "j" / "events-000001.ndjson"
    data = path.read_bytes()
    cut = data.rindex(b"\n", 0, len(data) - 1) + 20
    path.write_bytes(data[:cut])
    reader = JournalReader(tmp_path / "j")
    assert not reader.advance()
    before = reader.position.seq
    path.write_bytes(data)
    assert reader.advance()
    assert reader.position.seq > before
    assert reader.delivery.canonical() == recording("plain").live[-1]


# a user who may do anything (root) is refused nothing, so the refusals are made up
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_journal_that_may_not_be_written_is_told_without_the_error_of_the_system(tmp_path, monkeypatch, number):
    begin(tmp_path / "j").close()
    real = os.open

    def refused(path, flags, *arguments, **options):
        if flags & os.O_APPEND:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(ConfigurationError, match="may not be written by this user") as caught:
        DirectoryJournal(tmp_path / "j").open()
    assert "events-000001.ndjson" in str(caught.value)
    assert "Errno" not in str(caught.value)


def test_a_journal_that_may_not_be_read_is_told_with_what_to_do(tmp_path, monkeypatch):
    begin(tmp_path / "j").close()
    real = Path.open

    def refused(path, *arguments, **options):
        if path.name.startswith("events-"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    reader = JournalReader(tmp_path / "j", snapshots=False)
    for read in (reader.advance, reader.latest_session):
        with pytest.raises(JournalError, match="give this user access"):
            read()
