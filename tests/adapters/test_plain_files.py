"""The quick way to a file's CRC32 gives it for exactly those files, and only then, that the careful way would give it for."""

import os
import threading
import time
import zlib
from contextlib import suppress

import pytest

from tests.paths import HOSTILE, ODD
from upload_adapters.checksums import plain_files
from upload_adapters.checksums.plain_files import BLOCK_BYTES, PlainFiles, crc_of, new_block
from upload_adapters.source_directory import DirectorySource
from upload_core.errors import SourceChangedError, SourceError

SECRET = b"secret of another directory"
SIZE_MAX = 1 << 30


@pytest.fixture
def place(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "root" / "data").mkdir(parents=True)
    (tmp_path / "root" / "a.txt").write_bytes(b"alpha")
    (tmp_path / "root" / "data" / "b.txt").write_bytes(b"beta!")
    return tmp_path


@pytest.fixture
def root(place):
    return place / "root"


@pytest.fixture
def plain(root):
    with DirectorySource(root) as source:
        plain = PlainFiles(source, new_block())
        yield plain
        plain.close()


def crc(plain, relpath, size_max=SIZE_MAX):
    found = plain.crc32(relpath, time.time_ns() + 1_000_000_000, size_max)  # all files are at rest for a second
    return None if found is None else found[0]


def test_a_plain_file_has_the_crc_of_its_bytes_and_the_state_it_is_in(plain, root):
    assert crc(plain, "a.txt") == zlib.crc32(b"alpha")
    found = plain.crc32("data/b.txt", time.time_ns() + 1_000_000_000, SIZE_MAX)
    status = (root / "data" / "b.txt").stat()
    assert found == (
        zlib.crc32(b"beta!"),
        (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
    )


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 7])
def test_files_of_any_size_and_ranges_of_them_are_summed_up(plain, root, size):
    data = os.urandom(size)
    (root / "a.txt").write_bytes(data)
    assert crc(plain, "a.txt") == zlib.crc32(data)
    with open(root / "a.txt", "rb") as file:
        for start, end in ((0, size), (size // 3, size // 2), (size // 2, size), (size, size)):
            assert crc_of(file.fileno(), start, end, new_block()) == zlib.crc32(data[start:end])
        with pytest.raises(SourceChangedError, match="ended before"):
            crc_of(file.fileno(), 0, size + 1, new_block())


def test_reads_that_come_in_small_pieces_add_up(plain, root, monkeypatch):
    (root / "a.txt").write_bytes(bytes(range(100)))
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, start: real(fd, [buffers[0][:7]], start))
    assert crc(plain, "a.txt") == zlib.crc32(bytes(range(100)))


def test_a_larger_file_than_is_wanted_is_left_to_others(plain):
    assert crc(plain, "a.txt", 5) is not None
    assert crc(plain, "a.txt", 4) is None


def test_a_file_that_changed_a_moment_ago_is_left_to_whoever_can_wait(plain, root):
    (root / "a.txt").write_bytes(b"ALPHA")
    now_ns = (root / "a.txt").stat().st_ctime_ns + 5_000_000
    assert plain.crc32("a.txt", now_ns, SIZE_MAX) is None


@pytest.mark.parametrize("path", [path for paths in HOSTILE.values() for path in paths] + ["gone", "data", "data/gone"])
def test_a_hostile_path_and_whatever_is_no_file_is_left_to_others(plain, path):
    assert crc(plain, path) is None


@pytest.mark.parametrize("path", [path for path in ODD if max(map(len, path.encode().split(b"/"))) < 256])
def test_an_odd_name_is_read_like_any_other(plain, root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(path.encode())
    assert crc(plain, path) == zlib.crc32(path.encode())


@pytest.mark.parametrize("target", ["a.txt", "../outside/secret", "gone", "data"])
def test_a_link_is_left_to_others(plain, root, target):
    (root / "link").symlink_to(target)
    assert crc(plain, "link") is None
    (root / "folder").symlink_to("data")
    assert crc(plain, "folder/b.txt") is None


def test_a_fifo_is_not_opened(plain, root):
    os.mkfifo(root / "fifo")
    assert crc(plain, "fifo") is None


def test_a_folder_that_was_swapped_since_the_last_file_is_noticed(plain, root, place):
    assert crc(plain, "data/b.txt") is not None
    (root / "data").rename(root / "old")
    (root / "data").mkdir()
    (root / "data" / "b.txt").write_bytes(b"gamma")
    with pytest.raises(SourceError, match="changed while it was read"):
        crc(plain, "data/b.txt")
    plain.close()
    assert crc(plain, "data/b.txt") == zlib.crc32(b"gamma")


def test_a_change_between_opening_and_reading_is_noticed(plain, root, monkeypatch):
    def crc_of_and_write(*arguments):
        found = crc_of(*arguments)
        with (root / "a.txt").open("r+b") as file:
            file.write(b"ALPHA")
        return found

    monkeypatch.setattr(plain_files, "crc_of", crc_of_and_write)
    with pytest.raises(SourceError, match="changed while it was read"):
        crc(plain, "a.txt")


def test_a_link_swapped_in_at_any_moment_never_shows_what_is_outside(place, root, plain):
    """A folder and a file flip between themselves and links to the outside, as fast as the disk can do it."""
    (place / "outside" / "b.txt").write_bytes(SECRET)
    done = threading.Event()

    def flip() -> None:
        trap, spare = place / "trap", place / "spare"
        while not done.is_set():
            with suppress(OSError):
                trap.symlink_to(place / "outside")
                os.rename(root / "data", spare)
                os.rename(trap, root / "data")
                os.unlink(root / "data")
                os.rename(spare, root / "data")
            with suppress(OSError):
                trap.symlink_to(place / "outside" / "secret")
                os.rename(trap, root / "a.txt")
                (place / "new").write_bytes(b"alpha")
                os.rename(place / "new", root / "a.txt")

    flipping = threading.Thread(target=flip)
    flipping.start()
    read = refused = 0
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for path, right in (("data/b.txt", b"beta!"), ("a.txt", b"alpha")):
                try:
                    found = crc(plain, path)
                except SourceError:
                    refused += 1
                    continue
                assert found in (None, zlib.crc32(right))
                read += found is not None
                refused += found is None
            plain.close()
    finally:
        done.set()
        flipping.join()
    assert read
    assert refused


def test_no_descriptor_is_left_open(plain, root):
    before = len(os.listdir("/dev/fd"))
    for path in ("a.txt", "data/b.txt", "gone", "data/gone", "a.txt/x", "data"):
        crc(plain, path)
    plain.close()
    plain.close()
    assert len(os.listdir("/dev/fd")) == before
