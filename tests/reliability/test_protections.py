"""Each protection is turned off, and the check that is there for it goes red: no check is there for show.

The simulation has mutants of its own; these are protections of adapters, of the journal and of the engine on real
files. A check is a test of another module, called by hand, or a few lines here.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from tests.adapters import test_journal_durability as durability
from tests.adapters import test_journal_torture as torture
from tests.adapters.aws import test_server_clock as server_clock
from tests.contracts.flaky import FlakyControlBucket
from tests.crash import test_faults as faults
from tests.crash import test_outages as outages
from tests.crash import test_suspensions as suspensions
from tests.crash.recordings import short_recording
from tests.reliability import test_holders as holders
from tests.reliability.test_rows import Writer, demand_every_row_once
from upload_adapters import durable, journal_file, snapshot_file
from upload_adapters.aws import server_clock as clock_module
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.local import DirectoryArchive, DirectoryControlBucket
from upload_adapters.local import archive as local_archive
from upload_adapters.memory import ManualClock, MemoryControlBucket, MemoryFile
from upload_adapters.opened_file import OpenedFile
from upload_adapters.source_directory import DirectorySource
from upload_core import events as ev
from upload_core import journal as journal_codec
from upload_core import retry
from upload_core.checksum import crc32_base64
from upload_core.engine import Engine
from upload_core.errors import ChecksumMismatchError, JournalDamagedError
from upload_core.owner_lock import OwnerLock

Patch = pytest.MonkeyPatch


def nothing(*_: Any, **__: Any) -> None:
    """What is left of a step that is turned off."""


# --- the disk ------------------------------------------------------------------------------------


class Watched:
    """Notes which directories' names, and how many bytes of each file, would survive a power cut."""

    def __init__(self, patch: Patch) -> None:
        self.names: set[str] = set()
        self.sizes: dict[int, int] = {}
        for call in ("fsync", "fdatasync"):
            patch.setattr(os, call, self._noting(getattr(os, call)))

    def _noting(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            real(fd)
            found = os.fstat(fd)
            self.sizes[found.st_ino] = found.st_size
            path = f"/proc/self/fd/{fd}"
            if os.path.isdir(path):
                self.names |= {f"{os.readlink(path)}/{name}" for name in os.listdir(path)}

        return sync


def names_survive(root: Path) -> None:
    """A journal's files are found by their names after a power cut, once it was created."""
    with Patch.context() as patch:
        watched = Watched(patch)
        durability.begin(root / "j").close()
    made = {str(path) for path in (root / "j").iterdir() if path.name != "journal.lock"}
    assert made <= watched.names
    assert str(root / "j") in watched.names


def bytes_survive(root: Path) -> None:
    """What `append` returned from is on disk."""
    with Patch.context() as patch:
        watched = Watched(patch)
        journal = durability.begin(root / "j")
        path = root / "j" / "events-000001.ndjson"
        for number in range(3):
            journal.append([ev.ValidatorKeptAlive(str(number))], time_ms=durability.NOW_MS)
            assert watched.sizes.get(path.stat().st_ino) == path.stat().st_size
        journal.close()


def an_object_survives(root: Path) -> None:
    """A file of the archive has its bytes and its name on disk before it counts as stored."""
    (root / "source").mkdir()
    (root / "source" / "a").write_bytes(b"content")
    with Patch.context() as patch:
        watched = Watched(patch)
        with DirectorySource(root / "source").open("a") as body:
            DirectoryArchive(root / "archive").put("a", body, checksum=None)
        stored = root / "archive" / "a"
        assert str(stored) in watched.names
        assert watched.sizes.get(stored.stat().st_ino) == 7


def a_failed_write_poisons(root: Path) -> None:
    durability.test_after_a_failed_write_or_sync_nothing_more_is_accepted_and_nothing_retried(root, "fdatasync", 5)


def forget_failures(patch: Patch) -> None:
    """A journal that never remembers that a write failed."""
    patch.setattr(DirectoryJournal, "_failure", property(nothing, nothing), raising=False)


# --- the journal ---------------------------------------------------------------------------------


def victim_in(root: Path) -> Callable[..., torture.Victim]:
    return lambda recorded, segment_bytes: torture.Victim(recorded, root / "journal", segment_bytes)


def count(*_: object, **__: object) -> None:
    """A figure that nobody wants to know."""


def no_flip_is_believed(root: Path) -> None:
    one = victim_in(root)(short_recording(), 2_000)
    chance = random.Random(5)
    for name in one.segments:
        data = one.whole[name]
        for offset in range(data.index(b"\n") + 1, len(data), 53):
            one.restore(**{name: torture.flipped(data, offset, chance.randrange(8))})
            one.open_to(len(one.recorded.batches))


def no_damaged_snapshot_is_believed(root: Path) -> None:
    one = victim_in(root)(short_recording(), 1 << 20)
    [(name, data)] = torture.snapshots_of(one, len(one.recorded.batches) // 2).items()
    for offset in range(0, len(data), 41):
        one.restore(**{name: torture.flipped(data, offset, offset % 8)})
        found = one.open()
        assert not isinstance(found, Exception)
        assert found[0].canonical() == one.recorded.live[-1]


def a_torn_tail_is_kept(root: Path) -> None:
    one = victim_in(root)(short_recording(), 1 << 20)
    [name] = one.segments
    one.restore(**{name: one.whole[name][:-5]})
    assert not isinstance(one.open(), Exception)


def keep_no_copy(patch: Patch) -> None:
    def write(path: Path, chunks: Any) -> None:
        if ".torn" not in path.name:
            durable.write_durably(path, chunks)

    patch.setattr("upload_adapters.journal_file.write_durably", write)


def a_second_process_is_refused(root: Path) -> None:
    durability.test_a_second_journal_in_this_process_is_refused_too_and_leaves_the_first_alone(root)


class Unlocked:
    """A file lock that everybody gets."""

    def __init__(self, *_: object, **__: object) -> None:
        self.acquire = self.release = nothing


# --- lock and logs -------------------------------------------------------------------------------


def one_wins_each_race(root: Path) -> None:
    control = DirectoryControlBucket(root / "control")
    chance = random.Random(1)
    for _ in range(20):
        holders.race_once(control, chance, lambda: age_lock(root / "control"))


def age_lock(control: Path) -> None:
    path = control / holders.KEY
    then = path.stat().st_mtime - holders.STALENESS_S - 5
    os.utime(path, (then, then))


def ignoring(name: str) -> Callable[[Patch], None]:
    """A control bucket that does not look at this condition, as `rclone serve s3` does not."""

    def turn_off(patch: Patch) -> None:
        real = DirectoryControlBucket.put
        lenient = {"if_match": None, "if_absent": False}

        def put(self: DirectoryControlBucket, key: str, data: bytes, **conditions: Any) -> Any:
            return real(self, key, data, **{**conditions, name: lenient[name]})

        patch.setattr(DirectoryControlBucket, "put", put)

    return turn_off


def who_lost_its_lock_cannot_renew(root: Path) -> None:
    control = DirectoryControlBucket(root / "control")
    theirs = OwnerLock(control, holders.KEY, "them", holders.STALENESS_S)
    theirs.acquire()
    age_lock(root / "control")
    OwnerLock(control, holders.KEY, "us", holders.STALENESS_S).acquire()
    with pytest.raises(Exception, match="us"):
        theirs.renew()


def every_row_is_there_once(_: Path) -> None:
    control = MemoryControlBucket(ManualClock())
    chance = random.Random(1)
    writer = Writer(FlakyControlBucket(control, (["answered", "answer lost and repeated"] * 200)), chance)
    writer.write(200)
    demand_every_row_once(control, 200)


def append_anywhere(patch: Patch) -> None:
    real = MemoryControlBucket.append

    def append(self: MemoryControlBucket, key: str, data: bytes, *, offset: int) -> Any:
        found = self.head(key)
        return real(self, key, data, offset=found.size if found else 0)

    patch.setattr(MemoryControlBucket, "append", append)


def whoever_overslept_writes_nothing(_: Path) -> None:
    for number in range(12, 40, 4):
        faults.test_whoever_sleeps_past_its_lock_writes_nothing_once_a_rival_has_it(number, count)


def what_is_read_ends_no_outage_of_writing(_: Path) -> None:
    outages.test_a_control_bucket_that_can_be_read_and_not_written_is_one_outage(4, 120, 60, count)


def believe_what_is_read(patch: Patch) -> None:
    patch.setattr(Engine, "_unrenewed", property(lambda _: False, nothing), raising=False)
    from upload_core.conversation import Conversation

    patch.setattr(Conversation, "unsent", None)


# --- files ---------------------------------------------------------------------------------------


def no_mixed_file_is_stored(_: Path) -> None:
    faults.test_a_file_that_keeps_changing_is_given_up_and_never_stored_in_pieces()


def a_changed_file_is_caught(root: Path) -> None:
    (root / "source").mkdir()
    (root / "source" / "a").write_bytes(b"first")
    archive = DirectoryArchive(root / "archive")
    with DirectorySource(root / "source").open("a") as body:
        real = body.read

        def meddle(size: int) -> bytes:
            data = real(size)
            (root / "source" / "a").write_bytes(b"other")
            return data

        with pytest.raises(Exception, match="changed"):
            archive.put(
                "a", SimpleNamespace(read=meddle, size=5, verify_unchanged=body.verify_unchanged), checksum=None
            )
    assert archive.stat("a") is None


def the_store_asserts_the_checksum(root: Path) -> None:
    (root / "source").mkdir()
    (root / "source" / "a").write_bytes(b"first")
    archive = DirectoryArchive(root / "archive")
    with DirectorySource(root / "source").open("a") as body, pytest.raises(ChecksumMismatchError):
        archive.put("a", body, checksum=crc32_base64(1))
    assert archive.stat("a") is None


def take_its_word(patch: Patch) -> None:
    real = DirectoryArchive.put
    patch.setattr(DirectoryArchive, "put", lambda self, relpath, body, **_: real(self, relpath, body, checksum=None))


def no_link_is_followed(root: Path) -> None:
    (root / "archive").mkdir()
    (root / "secret").write_bytes(b"outside")
    (root / "archive" / "a").symlink_to(root / "secret")
    with pytest.raises(Exception, match="link"):
        DirectoryArchive(root / "archive").stat("a")


# --- pace ----------------------------------------------------------------------------------------


def the_archive_is_not_hammered(_: Path) -> None:
    outages.test_a_total_outage_at_any_request_costs_time_and_nothing_else("small", 20, 300, False, count)


def one_wrong_date_is_not_believed(_: Path) -> None:
    server_clock.test_one_answer_that_contradicts_all_others_is_not_believed(1_200_000)


def believe_every_date(patch: Patch) -> None:
    real = clock_module.ServerClock.observe

    def observe(self: clock_module.ServerClock, date: str, **times: int) -> None:
        self.relearn()
        real(self, date, **times)

    patch.setattr(clock_module.ServerClock, "observe", observe)


def time_never_stands_still(_: Path) -> None:
    suspensions.test_an_archives_clock_that_goes_back_costs_no_time(9)


def stand_still(patch: Patch) -> None:
    latest = [0]

    def now_ms(self: Engine) -> int:
        latest[0] = max(latest[0], self.ports.clock.now_ms())
        return latest[0]

    patch.setattr(Engine, "now_ms", now_ms)


RED = (AssertionError, pytest.fail.Exception, ValueError, JournalDamagedError)
"""How a check goes red; a `ValueError` is that of `[won] = winners(...)` with two of them, the last one of a journal read wrongly."""


class Protection(NamedTuple):
    """What protects, how it is turned off, and the check that must notice."""

    name: str
    off: Callable[[Patch], object]
    check: Callable[[Path], object]


def setting(target: object, name: str, value: object) -> Callable[[Patch], object]:
    return lambda patch: patch.setattr(target, name, value)


PROTECTIONS = [
    Protection("names of the journal are synced", setting(durable, "fsync_directory", nothing), names_survive),
    Protection(
        "the directory above the journal is synced", setting(journal_file, "fsync_directory", nothing), names_survive
    ),
    Protection("appends are synced", setting(journal_file, "_sync", nothing), bytes_survive),
    Protection("objects are synced", setting(local_archive, "sync", nothing), an_object_survives),
    Protection("a failed write poisons the journal", forget_failures, a_failed_write_poisons),
    Protection(
        "batches carry a CRC",
        setting(journal_codec, "zlib", SimpleNamespace(crc32=lambda *_: 0)),
        no_flip_is_believed,
    ),
    Protection("a torn tail is kept as a copy", keep_no_copy, a_torn_tail_is_kept),
    Protection(
        "one process works with a journal", setting(journal_file, "FileLock", Unlocked), a_second_process_is_refused
    ),
    Protection(
        "snapshots are sealed",
        setting(snapshot_file, "_seal", lambda _: b"00000000"),
        no_damaged_snapshot_is_believed,
    ),
    Protection(
        "snapshots of what was lost are dropped",
        setting(snapshot_file, "drop_beyond", nothing),
        lambda root: torture.test_a_snapshot_of_what_was_lost_is_ignored_for_good(victim_in(root)),
    ),
    Protection("a lock is created only if absent", ignoring("if_absent"), one_wins_each_race),
    Protection("a lock is replaced only by its etag", ignoring("if_match"), who_lost_its_lock_cannot_renew),
    Protection("an append names the size it expects", append_anywhere, every_row_is_there_once),
    Protection(
        "the lock is looked at before a write", setting(Engine, "guard", nothing), whoever_overslept_writes_nothing
    ),
    Protection("what is owed in writing must be written", believe_what_is_read, what_is_read_ends_no_outage_of_writing),
    Protection(
        "a body in memory is looked at again", setting(MemoryFile, "verify_unchanged", nothing), no_mixed_file_is_stored
    ),
    Protection("a file is looked at again", setting(OpenedFile, "verify_unchanged", nothing), a_changed_file_is_caught),
    Protection("the store asserts the checksum", take_its_word, the_store_asserts_the_checksum),
    Protection("links are not followed", setting(os, "O_NOFOLLOW", 0), no_link_is_followed),
    Protection("probes of an outage are paced", setting(retry, "PROBE_LONGEST_MS", 1), the_archive_is_not_hammered),
    Protection("a single wrong date is not believed", believe_every_date, one_wrong_date_is_not_believed),
    Protection("our time goes on when a clock goes back", stand_still, time_never_stands_still),
]


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own():
    assert len({protection.name for protection in PROTECTIONS}) == len(PROTECTIONS) >= 20


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda protection: protection.name)
def test_without_it_its_check_goes_red_and_with_it_the_check_is_green(protection, tmp_path):
    (tmp_path / "on").mkdir()
    (tmp_path / "off").mkdir()
    protection.check(tmp_path / "on")
    with Patch.context() as patch:
        protection.off(patch)
        with pytest.raises(RED):
            protection.check(tmp_path / "off")
