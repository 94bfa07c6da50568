"""Indexing gives every file its size and CRC32, or says why not, and reads no unchanged file twice."""

import os
import threading
import zlib
from pathlib import Path

import pytest

from upload_adapters import checksums
from upload_adapters.checksums import index, measuring, plain_files, worker
from upload_adapters.checksums.cache import ChecksumCache
from upload_adapters.checksums.columns import State
from upload_adapters.checksums.measuring import Batch, Measurer
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveUnavailableError


def crc_text(data: bytes) -> str:
    return crc32_base64(zlib.crc32(data))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def source(root):
    """Files of many sizes: none, one byte, a block and its neighbours, several blocks."""
    for number, size in enumerate([0, 1, 4096, 256 * 1024, 256 * 1024 - 1, 256 * 1024 + 1, 3 * 1024 * 1024] * 5):
        (root / f"{number:03}").write_bytes(bytes([number]) * size)
    with DirectorySource(root) as source:
        yield source


@pytest.fixture
def cache(tmp_path):
    return lambda: ChecksumCache(tmp_path / "beside" / "index.csv.checksums")


@pytest.fixture
def at_once(monkeypatch):
    """Whatever is read counts as settled, although the tests' files are a moment old."""
    monkeypatch.setattr(measuring, "RACY_NS", -(1 << 62))


@pytest.fixture
def reads(monkeypatch):
    """The ranges that were read, whoever read them in this process."""
    found: list[tuple[int, int]] = []
    real = plain_files.crc_of

    def crc_of(fd, start, end, block):
        found.append((start, end))
        return real(fd, start, end, block)

    monkeypatch.setattr(plain_files, "crc_of", crc_of)
    monkeypatch.setattr(measuring, "crc_of", crc_of)
    return found


def pieces_of(monkeypatch, size):
    monkeypatch.setattr(measuring, "PIECE_BYTES", size)
    monkeypatch.setattr(checksums, "PIECE_BYTES", size)


def expected(root: Path, names: list[str]) -> list[str]:
    return [crc_text((root / name).read_bytes()) for name in names]


# ── what is found ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("piece", [64 << 20, 100_000, 256 << 10])
@pytest.mark.parametrize("jobs", [1, 2, 7, None])
def test_every_file_has_its_size_and_checksum_in_the_order_given(source, root, monkeypatch, jobs, piece):
    pieces_of(monkeypatch, piece)
    names = source.scan().relpaths[::-1]
    found = index(source, names, jobs=jobs)
    assert list(found.columns.paths) == names
    assert found.columns.sizes == [(root / name).stat().st_size for name in names]
    assert found.columns.checksums == expected(root, names)
    assert found.unreadable == []
    assert found.believed == 0


def test_files_that_are_reached_by_links_are_read_as_well(source, root):
    (root / "link").symlink_to("006")
    (root / "folder").mkdir()
    (root / "folder" / "x").write_bytes(b"x")
    (root / "folder-link").symlink_to("folder")
    names = ["link", "folder/x", "folder-link/x"]
    assert index(source, names).columns.checksums == expected(root, names)


def test_without_checksums_no_file_is_read(source, reads):
    found = index(source, source.scan().relpaths, with_checksums=False)
    assert found.columns.checksums is None
    assert found.columns.sizes is not None
    assert found.columns.sizes[6] == 3 * 1024 * 1024
    assert reads == []


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_indexed(source, root):
    os.mkfifo(root / "fifo")
    (root / "away").symlink_to("/etc/passwd")
    found = index(source, ["000", "gone", "fifo", "../x", "away", "001"], jobs=2)
    assert list(found.columns.paths) == ["000", "001"]
    assert [(file.relpath, file.reason.split(";")[0]) for file in found.unreadable] == [
        ("gone", "does not exist in the source"),
        ("fifo", "is a FIFO, not a plain file"),
        ("../x", "climbs up with '..'"),
        ("away", "leads out of the source by a symbolic link"),
    ]


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def overwrite_and_forge_the_time(path):
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


CHANGES = [
    grow,
    lambda path: os.truncate(path, 2),
    lambda path: path.write_bytes(bytes(path.stat().st_size)),
    overwrite_and_forge_the_time,
    replace,
    lambda path: path.rename(path.with_name("elsewhere")),
    os.unlink,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("piece", [64 << 20, 1 << 20], ids=["whole", "in pieces"])
def test_a_file_that_changes_while_it_is_read_gets_no_row(source, root, monkeypatch, change, piece):
    pieces_of(monkeypatch, piece)
    real = plain_files.crc_of
    changed: list[object] = []

    def crc_of(fd, start, end, block):
        crc = real(fd, start, end, block)
        if end >= 2 << 20 and (root / "006").exists():
            changed.append(change(root / "006"))
        return crc

    monkeypatch.setattr(plain_files, "crc_of", crc_of)
    monkeypatch.setattr(measuring, "crc_of", crc_of)
    found = index(source, ["005", "006", "007"])
    assert list(found.columns.paths) == ["005", "007"]
    assert changed
    assert found.unreadable[0].relpath == "006"


@pytest.mark.parametrize("change", CHANGES[:5])
def test_a_large_file_that_changes_between_two_of_its_pieces_gets_no_row(source, root, monkeypatch, change):
    pieces_of(monkeypatch, 1 << 20)
    real, opened = DirectorySource.open, list[str]()

    def open_(self, relpath):
        opened.append(relpath)
        if len(opened) == 4:  # once to look at it, and for each piece
            change(root / "006")
        return real(self, relpath)

    monkeypatch.setattr(DirectorySource, "open", open_)
    found = index(source, ["006", "007"], jobs=1)
    assert list(found.columns.paths) == ["007"]
    assert "changed while it was read" in found.unreadable[0].reason


def test_several_workers_read_one_large_file_at_a_time(source, root, monkeypatch):
    pieces_of(monkeypatch, 1 << 20)
    (root / "006").write_bytes(os.urandom(4 << 20))
    meeting = threading.Barrier(2, timeout=30)

    def crc_of(*arguments):
        meeting.wait()
        return plain_files.crc_of(*arguments)

    monkeypatch.setattr(measuring, "crc_of", crc_of)
    monkeypatch.setattr(worker, "BYTES_WORTH_IT", 0)
    monkeypatch.setattr(worker, "can_fork", lambda: False)
    assert index(source, ["006"], jobs=2).columns.checksums == expected(root, ["006"])


def test_a_file_that_cannot_be_read_to_its_end_says_so(source, monkeypatch):
    def preadv(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", preadv)
    found = index(source, ["005"])
    assert found.unreadable == [("005", "could not be read to its end: Input/output error")]


def test_progress_ends_with_all_files_and_bytes_and_comes_from_the_caller(source, root, monkeypatch):
    pieces_of(monkeypatch, 1 << 20)
    names = source.scan().relpaths
    told: list[tuple[int, int]] = []

    def progress(files, size):
        assert threading.current_thread() is threading.main_thread()
        told.append((files, size))

    index(source, names, jobs=2, progress=progress)
    assert told == sorted(told)
    assert told[-1] == (len(names), sum((root / name).stat().st_size for name in names))


def test_no_files_give_an_empty_index(source):
    found = index(source, [])
    assert found.columns.paths == []
    assert found.unreadable == []


def test_an_error_that_is_no_fault_of_a_file_ends_the_work(source, monkeypatch):
    def fail(self, relpath):
        raise ArchiveUnavailableError("the disk's server is away")

    monkeypatch.setattr(DirectorySource, "open", fail)
    monkeypatch.setattr(DirectorySource, "open_folder", fail)
    with pytest.raises(ArchiveUnavailableError, match="the disk's server is away"):
        index(source, source.scan().relpaths, jobs=2)


def test_a_worker_stops_early_once_it_has_read_enough(source, monkeypatch):
    monkeypatch.setattr(measuring, "ENOUGH_BYTES", 5000)
    found = Measurer(source).measure(Batch(["001", "002", "003", "004"], None))
    assert len(found.columns) == 3
    monkeypatch.setattr(measuring, "ENOUGH_NS", -1)
    assert len(Measurer(source).measure(Batch(["001", "002"], None)).columns) == 1


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no hints to the kernel here")
@pytest.mark.parametrize(("memory", "dropped"), [(1 << 40, []), (5 << 20, [(0, 2 << 20), (2 << 20, 1 << 20)])])
def test_a_file_that_memory_cannot_hold_pushes_nothing_else_out(source, monkeypatch, memory, dropped):
    pieces_of(monkeypatch, 2 << 20)
    told: list[tuple[int, int]] = []

    def posix_fadvise(fd, start, length, advice):
        if advice == os.POSIX_FADV_DONTNEED:
            told.append((start, length))

    monkeypatch.setattr(os, "posix_fadvise", posix_fadvise)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory}[name])
    index(source, ["006"], jobs=1)
    assert told == dropped


# ── a second time ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("piece", [64 << 20, 1 << 20], ids=["whole", "in pieces"])
def test_unchanged_files_are_not_read_again(source, root, cache, at_once, reads, monkeypatch, piece):
    pieces_of(monkeypatch, piece)
    names = source.scan().relpaths
    first = index(source, names, cache=cache())
    assert reads
    reads.clear()
    opened: list[str] = []
    monkeypatch.setattr(DirectorySource, "open", lambda _, relpath: opened.append(relpath))
    again = index(source, names, cache=cache())
    assert again.columns == first.columns
    assert again.columns.checksums == expected(root, names)
    assert again.believed == len(names)
    assert (reads, opened) == ([], [])


@pytest.mark.parametrize("change", CHANGES[:5])
@pytest.mark.parametrize("name", ["004", "006"])
def test_a_changed_file_is_read_again_and_no_other(source, root, cache, at_once, reads, monkeypatch, change, name):
    pieces_of(monkeypatch, 2 << 20)
    names = source.scan().relpaths
    index(source, names, cache=cache())
    change(root / name)
    reads.clear()
    again = index(source, names, cache=cache())
    assert again.columns.checksums == expected(root, names)
    assert again.believed == len(names) - 1
    assert sum(end - start for start, end in reads) == (root / name).stat().st_size


def test_the_same_size_and_a_time_that_was_set_back_hide_no_change(source, root, cache, at_once):
    index(source, ["002"], cache=cache())
    before = (root / "002").stat()
    overwrite_and_forge_the_time(root / "002")
    after = (root / "002").stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    again = index(source, ["002"], cache=cache())
    assert again.columns.checksums == [crc_text(bytes(4096))]
    assert again.believed == 0


def test_a_file_that_was_made_a_moment_ago_is_read_again_next_time(source, cache):
    names = source.scan().relpaths
    index(source, names, cache=cache())
    assert index(source, names, cache=cache()).believed == 0


def test_a_change_that_a_coarse_clock_does_not_show_is_found(source, root, cache, monkeypatch):
    """A file system whose times are whole seconds, two by two; the change comes right after the file was read."""

    def coarse(size, mtime_ns, ctime_ns, inode):
        return State(size, mtime_ns // 2_000_000_000 * 2_000_000_000, ctime_ns // 2_000_000_000 * 2_000_000_000, inode)

    monkeypatch.setattr(
        State, "shown_by", lambda status: coarse(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    )
    monkeypatch.setattr(State, "of", lambda found: coarse(found.size, found.mtime_ns, found.ctime_ns, found.inode))
    (root / "002").write_bytes(b"a" * 4096)
    index(source, ["002"], cache=cache())
    (root / "002").write_bytes(b"b" * 4096)
    assert index(source, ["002"], cache=cache()).columns.checksums == [crc_text(b"b" * 4096)]


def test_a_file_from_the_future_is_read_each_time(source, root, cache, monkeypatch):
    monkeypatch.setattr(measuring, "RACY_NS", 0)
    os.utime(root / "002", (2e9, 4e9))
    index(source, ["001", "002"], cache=cache())
    assert index(source, ["001", "002"], cache=cache()).believed == 1


def test_fresh_reads_everything_and_remembers_it(source, cache, at_once):
    names = source.scan().relpaths
    index(source, names, cache=cache())
    assert index(source, names, cache=cache(), fresh=True).believed == 0
    assert index(source, names, cache=cache()).believed == len(names)


def test_a_link_is_as_unchanged_as_what_it_leads_to(source, root, cache, at_once):
    (root / "link").symlink_to("001")
    index(source, ["link"], cache=cache())
    assert index(source, ["link"], cache=cache()).believed == 1
    (root / "link").unlink()
    (root / "link").symlink_to("002")
    assert index(source, ["link"], cache=cache()).columns.checksums == expected(root, ["002"])


def test_the_pieces_that_were_read_of_a_large_file_are_not_read_again(source, cache, at_once, reads, root, monkeypatch):
    pieces_of(monkeypatch, 512 << 10)

    class Killed(BaseException):
        pass

    real, left = plain_files.crc_of, [4]

    def crc_of(*arguments):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(measuring, "crc_of", crc_of)
    with pytest.raises(Killed):
        index(source, ["006"], jobs=1, cache=cache())
    left[0] = 1 << 30
    reads.clear()
    again = index(source, ["006"], jobs=1, cache=cache())
    assert again.columns.checksums == expected(root, ["006"])
    assert reads == [(4 * (512 << 10), 5 * (512 << 10)), (5 * (512 << 10), 6 * (512 << 10))]


def test_pieces_of_a_file_that_changed_meanwhile_are_worth_nothing(source, cache, at_once, root, monkeypatch):
    pieces_of(monkeypatch, 512 << 10)
    real = plain_files.crc_of

    class Killed(BaseException):
        pass

    def crc_of(fd, start, end, block):
        if start >= 4 * (512 << 10):
            raise Killed
        return real(fd, start, end, block)

    monkeypatch.setattr(measuring, "crc_of", crc_of)
    with pytest.raises(Killed):
        index(source, ["006"], jobs=1, cache=cache())
    overwrite_and_forge_the_time(root / "006")
    monkeypatch.setattr(measuring, "crc_of", real)
    assert index(source, ["006"], cache=cache()).columns.checksums == [crc_text(bytes(3 << 20))]


def test_files_that_are_gone_are_forgotten(source, root, cache, at_once):
    names = source.scan().relpaths
    index(source, names, cache=cache())
    index(source, names[:2], cache=cache())
    assert len(cache().path.read_bytes().splitlines()) == 2
    assert index(source, names, cache=cache()).believed == 2
