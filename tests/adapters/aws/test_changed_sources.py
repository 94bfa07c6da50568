"""No changed file passes: six kinds of change, at three moments, in one request and in parts, and between two sessions."""

import os
import random
import zlib

import pytest

from tests.adapters.aws.attempts import Attempt
from tests.adapters.aws.places import KIB, MIB
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import crc32_base64
from upload_core.effects import FileNotStored, FileStored, TransferFile
from upload_core.worker import execute

PART = 256 * KIB
DATA = random.Random(11).randbytes(4 * PART + 5)
OTHER = random.Random(12).randbytes(len(DATA))


def rewrite(path):
    with path.open("r+b") as file:
        file.seek(len(DATA) // 2)
        file.write(OTHER[:10])


def rewrite_and_hide(path):
    status = path.stat()
    rewrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def append(path):
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path):
    os.truncate(path, len(DATA) - 4)


def replace(path):
    new = path.with_name("new")
    new.write_bytes(OTHER)
    new.rename(path)


def delete(path):
    path.unlink()


CHANGES = [rewrite, rewrite_and_hide, append, truncate, replace, delete]


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "source" / "a.fits"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


def run(bucket, path, attempt, *, single, checksum):
    archive = S3Archive(
        lambda: bucket, single_max=MIB * 8 if single else PART, part_size=PART, pool=PartPool(at_once=1)
    )
    order = TransferFile(0, path.name, len(DATA), checksum)
    with DirectorySource(path.parent) as source:
        return execute(order, source, archive, attempt)


class ChangingAttempt(Attempt):
    """Changes the file when the `nth` request with bytes has its slot, and so its bytes."""

    def __init__(self, change, nth):
        super().__init__()
        self.change, self.nth, self.count = change, nth, 0

    def spend(self, size_bytes):
        self.count += 1
        if self.count == self.nth:
            self.change()


@pytest.mark.promise("R16")
@pytest.mark.parametrize("indexed", [True, False], ids=["checksum indexed", "no checksum indexed"])
@pytest.mark.parametrize("single", [True, False], ids=["one request", "parts"])
@pytest.mark.parametrize("moment", ["before", "between", "at the end"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_is_never_stored_under_its_name(aws, bucket, path, change, moment, single, indexed, figure):
    checksum = crc32_base64(zlib.crc32(DATA)) if indexed else None
    if moment == "before":
        if not indexed and change in (rewrite, rewrite_and_hide, replace):
            pytest.skip("an index without checksum, size unchanged: nobody can know")
        change(path)
        attempt = Attempt()
    else:
        last = 1 if single else 5
        attempt = ChangingAttempt(lambda: change(path), 1 if moment == "between" else last)
    outcome = run(bucket, path, attempt, single=single, checksum=checksum)
    assert isinstance(outcome, FileNotStored)
    assert aws.object(bucket.name, path.name) is None
    assert aws.open_uploads() == []
    assert attempt.left is None
    if indexed:
        figure(1, "changes while S3 takes the file")


@pytest.mark.promise("R16")
@pytest.mark.parametrize("after", range(1, 6))
@pytest.mark.parametrize("change", CHANGES)
def test_between_two_sessions_of_one_upload_no_change_is_mixed_in(aws, bucket, path, change, after, figure):
    def stop():
        raise ConnectionResetError

    first = ChangingAttempt(stop, after + 1)
    if after == 5:
        first.commit = lambda: stop() if len(aws.log("UploadPart")) == 5 else None  # type: ignore[method-assign]
    assert isinstance(run(bucket, path, first, single=False, checksum=None), FileNotStored)
    assert first.left is not None
    assert len(first.left.parts) == after
    change(path)
    second = Attempt(first.left)
    outcome = run(bucket, path, second, single=False, checksum=None)
    found = aws.object(bucket.name, path.name)
    if isinstance(outcome, FileStored):
        assert found.data == path.read_bytes()
        assert found.checksum.value == outcome.checksum == crc32_base64(zlib.crc32(found.data))
        assert len(aws.log("UploadPart")) == after + 5, "sent whole"
        assert (aws.open_uploads(), second.left) == ([], None)
    else:
        assert change in (append, truncate, delete)
        assert found is None
    figure(1, "changes between two sessions of an upload")


def test_without_a_change_the_second_session_sends_the_rest(aws, bucket, path):
    def stop():
        raise ConnectionResetError

    first = ChangingAttempt(stop, 4)
    run(bucket, path, first, single=False, checksum=None)
    outcome = run(bucket, path, Attempt(first.left), single=False, checksum=None)
    assert isinstance(outcome, FileStored)
    assert aws.object(bucket.name, path.name).data == DATA
    assert len(aws.log("UploadPart")) == 5
