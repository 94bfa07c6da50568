"""Indexing gives every file its size and CRC32, or says why not."""

import os
import threading
import zlib

import pytest

from upload_adapters.checksums import index
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveUnavailableError


@pytest.fixture
def source(tmp_path):
    """Files of many sizes: none, one byte, a block and its neighbours, several blocks."""
    for number, size in enumerate([0, 1, 4096, 512 * 1024, 512 * 1024 - 1, 512 * 1024 + 1, 3 * 1024 * 1024] * 5):
        (tmp_path / f"{number:03}").write_bytes(bytes([number]) * size)
    with DirectorySource(tmp_path) as source:
        yield source


@pytest.mark.parametrize("jobs", [1, 2, 7, None])
def test_every_file_has_its_size_and_checksum_in_the_order_given(source, tmp_path, jobs):
    names = source.scan().relpaths
    found = index(source, names, jobs=jobs)
    assert list(found.columns.paths) == names
    assert found.columns.sizes == [(tmp_path / name).stat().st_size for name in names]
    assert found.columns.checksums == [crc32_base64(zlib.crc32((tmp_path / name).read_bytes())) for name in names]
    assert found.unreadable == []


def test_without_checksums_no_file_is_read(source, monkeypatch):
    monkeypatch.setattr(DirectorySource, "open", None)
    found = index(source, source.scan().relpaths, with_checksums=False)
    assert found.columns.checksums is None
    assert found.columns.sizes is not None
    assert found.columns.sizes[6] == 3 * 1024 * 1024


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_indexed(source, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    found = index(source, ["000", "gone", "fifo", "../x", "001"], jobs=2)
    assert list(found.columns.paths) == ["000", "001"]
    assert [(file.relpath, file.reason.split(";")[0]) for file in found.unreadable] == [
        ("gone", "does not exist in the source"),
        ("fifo", "is a FIFO, not a plain file"),
        ("../x", "climbs up with '..'"),
    ]


def test_a_file_that_changes_while_it_is_read_gets_no_row(source, tmp_path, monkeypatch):
    from upload_adapters.source_directory import OpenedFile

    read = OpenedFile.read

    def read_and_write(self, size=-1, /):
        data = read(self, size)
        with (tmp_path / "002").open("ab") as file:
            file.write(b"more")
        return data

    monkeypatch.setattr(OpenedFile, "read", read_and_write)
    found = index(source, ["002"])
    assert list(found.columns.paths) == []
    assert "changed while it was read" in found.unreadable[0].reason


def test_progress_ends_with_all_files_and_bytes_and_comes_from_the_caller(source, tmp_path):
    names = source.scan().relpaths
    told: list[tuple[int, int]] = []

    def progress(files, size):
        assert threading.current_thread() is threading.main_thread()
        told.append((files, size))

    index(source, names, jobs=2, progress=progress)
    assert told == sorted(told)
    assert told[-1] == (len(names), sum((tmp_path / name).stat().st_size for name in names))


def test_no_files_give_an_empty_index(source):
    found = index(source, [])
    assert found.columns.paths == []
    assert found.unreadable == []


def test_an_error_that_is_no_fault_of_a_file_ends_the_work(source, monkeypatch):
    def fail(self, relpath):
        raise ArchiveUnavailableError("the disk's server is away")

    monkeypatch.setattr(DirectorySource, "open", fail)
    with pytest.raises(ArchiveUnavailableError):
        index(source, source.scan().relpaths, jobs=2)
