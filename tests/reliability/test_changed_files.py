"""No changed file passes, where files are copied into a directory or sent many at a time: what counts is never mixed.

S3's two ordinary ways are in `tests/adapters/aws/test_changed_sources.py`.
"""

import zlib

import pytest

from tests.adapters.aws.test_changed_sources import (
    CHANGES,
    DATA,
    ChangingAttempt,
    delete,
    replace,
    rewrite,
    rewrite_and_hide,
)
from upload_adapters.local import DirectoryArchive
from upload_adapters.opened_file import OpenedFile
from upload_adapters.source_directory import DirectorySource
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.effects import FileNotStored, FileStored, TransferFile
from upload_core.errors import SourceError
from upload_core.worker import execute, read_whole

CHECKSUM = crc32_base64(zlib.crc32(DATA))
SAME_SIZE = (rewrite, rewrite_and_hide, replace)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "source" / "a.fits"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


class LateAttempt(FreeAttempt):
    """Changes the file when it is asked for the last time, just before the object becomes visible."""

    def __init__(self, change, calls):
        super().__init__()
        self.change, self.calls, self.count = change, calls, 0

    def commit(self):
        self.count += 1
        if self.count == self.calls:
            self.change()


@pytest.mark.promise("R16")
@pytest.mark.parametrize("indexed", [True, False], ids=["checksum indexed", "no checksum indexed"])
@pytest.mark.parametrize("moment", ["before", "between", "at the end", "after the last look"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_directory_holds_the_indexed_file_or_none(tmp_path, path, change, moment, indexed, figure):
    archive = DirectoryArchive(tmp_path / "archive")
    order = TransferFile(0, path.name, len(DATA), CHECKSUM if indexed else None)
    with DirectorySource(path.parent) as source:
        attempt: FreeAttempt
        if moment == "before":
            if not indexed and change in SAME_SIZE:
                pytest.skip("an index without checksum, size unchanged: nobody can know")
            change(path)
            attempt = FreeAttempt()
        elif moment == "after the last look":
            counting = LateAttempt(lambda: None, 0)
            execute(order, source, DirectoryArchive(tmp_path / "rehearsal"), counting)
            attempt = LateAttempt(lambda: change(path), counting.count)
        else:
            attempt = ChangingAttempt(lambda: change(path), 1 if moment == "between" else 2)
        outcome = execute(order, source, archive, attempt)
    stored = tmp_path / "archive" / path.name
    if moment == "after the last look":
        assert isinstance(attempt, LateAttempt)
        assert attempt.count == attempt.calls
        assert isinstance(outcome, FileStored)
        assert stored.read_bytes() == DATA
    else:
        assert isinstance(outcome, FileNotStored)
        assert not stored.exists()
    if indexed:
        figure(1, "changes while a directory takes the file")


@pytest.mark.promise("R16")
@pytest.mark.parametrize("moment", ["before", "between", "at the end"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_read_to_be_sent_with_many_others_is_the_indexed_one_or_none(path, change, moment, monkeypatch, figure):
    """Small files are read whole and sent by one thread; their checksum is asserted of what was read."""
    order = TransferFile(0, path.name, len(DATA), CHECKSUM)
    really = OpenedFile.read
    reads = 0

    def read(file, size=-1, /):
        nonlocal reads
        reads += 1
        if reads == 1 and moment == "between":
            data = really(file, size // 2)
            change(path)
            return data
        data = really(file, size)
        if reads == 1 and moment == "at the end":
            change(path)
        return data

    monkeypatch.setattr(OpenedFile, "read", read)
    if moment == "before":
        change(path)
    with DirectorySource(path.parent) as source:
        try:
            data = read_whole(order, source)
        except SourceError:
            assert not (moment == "before" and change in SAME_SIZE), "that is for the checksum to say"
        else:
            assert moment == "before"
            assert change in SAME_SIZE
            assert change is not delete
            assert data is not None
            assert crc32_base64(zlib.crc32(data)) != CHECKSUM, "and the store refuses it"
    figure(1, "changes while a small file is read")
