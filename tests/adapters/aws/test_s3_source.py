"""A bucket as source: pinned by etags, read or copied on the server, and never a wrong object left in the archive."""

import random
import zlib

import pytest

from tests.adapters.aws.attempts import Attempt
from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, EmulatedArchive
from tests.adapters.aws.places import MIB
from tests.contracts.source import SourceContract
from tests.emulator import Fault
from tests.emulator.objects import Condition
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_source import S3Source, bucket_and_prefix
from upload_adapters.indexing import build_table
from upload_adapters.wiring import open_source, wire_journal
from upload_core import Bucket, DataRoot, UploadClient
from upload_core import events as ev
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.errors import (
    ArchiveError,
    ChecksumMismatchError,
    ConfigurationError,
    IdentityError,
    IndexProblemsError,
    LockLostError,
    SourceChangedError,
    SourceError,
)
from upload_core.ports import origin_of

DATA = random.Random(7).randbytes(3 * MIB + 17)
PARTS = -(-len(DATA) // MIB)
READS = ("GetObject", "PutObject", "UploadPart")
"""What an object's bytes would pass through us by."""


def crc(data):
    return crc32_base64(zlib.crc32(data))


def keep(aws, bucket, key, data, *, checksum=True):
    """Put an object there without a request; with or without a CRC32 that S3 knows of."""
    sums = {"CRC32": crc(data)} if checksum else {}
    return aws.store.put(bucket, key, data, Condition(), checksums=sums, metadata={})


class _Contract(SourceContract):
    prefix = ""

    @pytest.fixture
    def bucket(self, archive_places):
        return archive_places.bucket()

    @pytest.fixture
    def make(self, aws, bucket):
        def make(files):
            for relpath, data in files.items():
                keep(aws, bucket.name, self.prefix + relpath, data)
            return S3Source(f"s3://{bucket.name}/{self.prefix}", lambda: bucket)

        return make

    @pytest.fixture
    def write(self, aws, bucket):
        def write(relpath, data):
            if data is None:
                aws.store.delete(bucket.name, self.prefix + relpath, None)
            else:
                keep(aws, bucket.name, self.prefix + relpath, data)

        return write


class TestABucket(_Contract):
    pass


class TestAPrefixOfABucket(_Contract):
    prefix = "some/place/"

    @pytest.fixture(autouse=True)
    def _neighbours(self, aws, bucket):
        keep(aws, bucket.name, "some/place", b"not under it")
        keep(aws, bucket.name, "some/places/x", b"nor this")
        keep(aws, bucket.name, "secret", b"nor that")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket()


@pytest.fixture
def source(bucket):
    return S3Source(f"s3://{bucket.name}", lambda: bucket)


@pytest.fixture
def destination(archive_places):
    return archive_places.bucket()


@pytest.fixture
def archive(destination):
    """Copies over a mebibyte go in parts."""
    return S3Archive(lambda: destination, copy_single_max=MIB, copy_part_size=MIB)


@pytest.mark.parametrize("kind", ["truncated", "lost", "reset"])
def test_an_answer_that_breaks_off_is_asked_for_again(source, aws, bucket, kind):
    keep(aws, bucket.name, "a", DATA)
    fault = aws.order(Fault(kind, operation="GetObject", times=2))
    with source.open("a") as file:
        assert file.read() == DATA
    assert fault.fired == 2


def test_nothing_is_asked_before_the_first_use(aws):
    def asked():
        raise AssertionError

    assert S3Source("s3://anywhere/place/", asked).name == "s3://anywhere/place"


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "file:///a", "s3://b/../c", "s3://b//c", "s3://b/\x07"])
def test_a_url_that_names_no_place_is_refused(url):
    with pytest.raises(ConfigurationError, match="names no"):
        bucket_and_prefix(url)


# ── checking an index ────────────────────────────────────────────────────────────────────────────


def test_an_index_is_checked_against_one_listing(source, aws, bucket):
    aws.settings.list_page_max = 100
    for number in range(250):
        keep(aws, bucket.name, f"night/{number:03d}", b"x" * number)
        keep(aws, bucket.name, f"other/{number:03d}", b"x")
    table = build_table({"path": [f"night/{number:03d}" for number in range(250)]}, source)
    assert [table.size(row) for row in range(250)] == list(range(250))
    assert [entry.operation for entry in aws.log()] == ["ListObjectsV2"] * 3


def test_few_of_many_objects_are_asked_for_singly(source, aws, bucket):
    aws.settings.list_page_max = 5
    for number in range(500):
        keep(aws, bucket.name, f"{number:03d}", b"xyz")
    table = build_table({"path": [f"{number:03d}" for number in range(0, 500, 25)]}, source)
    assert table.total_bytes == 60
    assert len(aws.log()) <= 40


def test_every_problem_of_an_index_is_named(source, aws, bucket):
    for number in range(20):
        keep(aws, bucket.name, f"{number}", b"xyz")
    index = {"path": [*map(str, range(20)), "missing", "../x"], "size": [3] * 19 + [4, 3, 3]}
    with pytest.raises(IndexProblemsError) as caught:
        build_table(index, source)
    assert [(problem.row, problem.rule) for problem in caught.value.problems] == [
        (20, "size-differs"),
        (21, "missing"),
        (22, "traversal"),
    ]


# ── copying on the server ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("known", [True, False], ids=["crc known", "crc unknown"])
@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not indexed"])
@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, len(DATA)])
def test_a_copy_is_whole_and_under_its_crc32(source, archive, aws, bucket, destination, size, known, indexed):
    data = DATA[:size]
    keep(aws, bucket.name, "a b/ü+?.fits", data, checksum=known)
    with source.open("a b/ü+?.fits") as file:
        stored = archive.put("a b/ü+?.fits", file, checksum=crc(data) if indexed else None)
    found = aws.object(destination.name, "a b/ü+?.fits")
    assert (found.data, found.checksum.value, found.checksum.kind) == (data, crc(data), "FULL_OBJECT")
    assert (stored.size, stored.checksum, stored.etag) == (size, crc(data), found.etag)
    assert not size or not [entry for entry in aws.log() if entry.operation in READS]
    assert aws.open_uploads() == []


def test_an_object_whose_crc32_s3_knows_is_copied_by_one_request(source, archive, aws, bucket):
    keep(aws, bucket.name, "a", b"data")
    with source.open("a") as file:
        archive.put("a", file, checksum=crc(b"data"))
    assert [entry.operation for entry in aws.log()] == ["HeadObject", "CopyObject"]


@pytest.mark.parametrize("known", [True, False], ids=["crc known", "crc unknown"])
@pytest.mark.parametrize("size", [1, len(DATA)])
def test_an_object_that_is_not_the_indexed_one_never_becomes_visible(
    source, archive, aws, bucket, destination, size, known
):
    keep(aws, bucket.name, "a", DATA[:size], checksum=known)
    keep(aws, destination.name, "a", b"what was there")
    with source.open("a") as file, pytest.raises(ChecksumMismatchError):
        archive.put("a", file, checksum=crc(b"indexed"))
    assert aws.object(destination.name, "a").data == b"what was there"
    assert not aws.log("CopyObject")
    assert aws.open_uploads() == []


def test_a_copy_whose_crc32_turns_out_wrong_is_taken_away(source, archive, aws, bucket, destination):
    wrong = {"CRC32": crc(b"something else")}
    aws.store.put(bucket.name, "a", b"rotten", Condition(), checksums=wrong, metadata={})
    with source.open("a") as file, pytest.raises(ArchiveError, match="CRC32"):
        archive.put("a", file, checksum=crc(b"something else"))
    assert aws.object(destination.name, "a") is None


@pytest.mark.parametrize("size", [4, len(DATA)])
@pytest.mark.parametrize("now", [b"new", None], ids=["replaced", "gone"])
def test_an_object_that_changes_before_its_copy_is_noticed(source, archive, aws, bucket, destination, size, now):
    keep(aws, bucket.name, "a", DATA[:size])
    with source.open("a") as file:
        keep(aws, bucket.name, "a", now) if now else aws.store.delete(bucket.name, "a", None)
        with pytest.raises(SourceChangedError):
            archive.put("a", file, checksum=None)
    assert aws.object(destination.name, "a") is None
    assert aws.open_uploads() == []


@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"])
@pytest.mark.parametrize("kind", ["lost", "refused", "error_in_200"])
def test_trouble_while_copying_changes_nothing(source, archive, aws, bucket, destination, operation, kind):
    data = DATA[:10] if operation == "CopyObject" else DATA
    keep(aws, bucket.name, "a", data)
    fault = aws.order(Fault(kind, operation=operation, times=1))
    with source.open("a") as file:
        archive.put("a", file, checksum=crc(data))
    assert fault.fired
    assert aws.object(destination.name, "a").data == data
    assert aws.open_uploads() == []


def interrupted_copy(source, destination, aws, after):
    """What a journal knows of a copy that was cut after so many parts."""

    def commit():
        if len(aws.log("UploadPartCopy")) >= after:
            raise LockLostError("cut")

    attempt = Attempt(commit=commit)
    archive = S3Archive(lambda: destination, copy_single_max=MIB, copy_part_size=MIB, pool=PartPool(at_once=1))
    with source.open("a") as file, pytest.raises(LockLostError):
        archive.put("a", file, checksum=None, attempt=attempt)
    assert attempt.left is not None
    return attempt.left


@pytest.mark.parametrize("journaled", [True, False], ids=["journaled", "only s3 knows"])
@pytest.mark.parametrize("after", [1, 2])
def test_a_copy_in_parts_is_gone_on_with(source, archive, aws, bucket, destination, after, journaled):
    keep(aws, bucket.name, "a", DATA)
    left = interrupted_copy(source, destination, aws, after)
    assert list(left.parts) == list(range(1, after + 1))
    if not journaled:
        left.parts.clear()
    with source.open("a") as file:
        assert archive.put("a", file, checksum=crc(DATA), attempt=Attempt(left)).checksum == crc(DATA)
    assert aws.object(destination.name, "a").data == DATA
    assert sorted(int(entry.query["partNumber"]) for entry in aws.log("UploadPartCopy")) == list(range(1, PARTS + 1))
    assert not [entry for entry in aws.log() if entry.operation in READS]
    assert aws.open_uploads() == []


def test_a_copy_of_an_object_that_was_replaced_between_two_sessions_is_begun_anew(
    source, archive, aws, bucket, destination
):
    keep(aws, bucket.name, "a", DATA)
    left = interrupted_copy(source, destination, aws, 2)
    keep(aws, bucket.name, "a", DATA[::-1])
    with source.open("a") as file:
        archive.put("a", file, checksum=None, attempt=Attempt(left))
    assert aws.object(destination.name, "a").data == DATA[::-1]
    assert aws.open_uploads() == []


def test_a_copy_that_became_small_leaves_no_parts(source, archive, aws, bucket, destination):
    keep(aws, bucket.name, "a", DATA)
    left = interrupted_copy(source, destination, aws, 2)
    keep(aws, bucket.name, "a", b"small")
    attempt = Attempt(left)
    with source.open("a") as file:
        archive.put("a", file, checksum=None, attempt=attempt)
    assert aws.object(destination.name, "a").data == b"small"
    assert (aws.open_uploads(), attempt.left) == ([], None)


@pytest.mark.parametrize("size", [4, len(DATA)])
def test_nothing_is_copied_once_it_may_not_be(source, archive, aws, bucket, destination, size):
    def cut():
        raise LockLostError("cut")

    keep(aws, bucket.name, "a", DATA[:size])
    with source.open("a") as file, pytest.raises(LockLostError):
        archive.put("a", file, checksum=None, attempt=FreeAttempt(cut))
    assert aws.object(destination.name, "a") is None
    assert aws.open_uploads() == []


def test_an_object_in_an_archive_tier_is_the_files_fault_not_that_of_the_credentials(source, archive, aws, bucket):
    keep(aws, bucket.name, "a", b"data")
    aws.order(Fault("refused", operation="CopyObject", code="InvalidObjectState", status=403))
    with source.open("a") as file, pytest.raises(SourceError, match="restore"):
        archive.put("a", file, checksum=None)


# ── whole deliveries ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def delivery(aws, tmp_path, monkeypatch):
    """An archive whose files lie in a bucket."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    made = EmulatedArchive(aws, tmp_path, count=12)
    aws.store.create_bucket("observatory")
    for relpath, data in made.files.items():
        keep(aws, "observatory", f"2026/{relpath}", data)
    made.source = "s3://observatory/2026"  # type: ignore[assignment]  # all that is asked of it is to be a source
    yield made
    made.close()


def copies(archive):
    return [entry for entry in archive.aws.log("CopyObject") if entry.bucket == archive.transfer_bucket]


def test_a_bucket_is_delivered_to_a_bucket_without_its_bytes_passing_here(delivery):
    assert delivery.client().run().outcome == "complete"
    delivery.judge()
    assert len(copies(delivery)) == len(delivery.files)
    assert not [entry for entry in delivery.aws.log() if entry.bucket == "observatory" and entry.operation in READS]


def test_a_bucket_may_be_given_as_one(delivery):
    ports = delivery.ports(source=Bucket("s3://observatory/2026/"))
    assert delivery.client(ports=ports).run().outcome == "complete"
    delivery.judge()


def test_what_is_stored_already_is_not_copied_again(delivery):
    delivery.client().run()
    before = len(copies(delivery))
    assert delivery.client(ports=delivery.ports(journal="another")).run().outcome == "complete"
    assert len(copies(delivery)) == before
    delivery.judge()


def test_an_index_without_checksums_is_compared_by_what_s3_knows(delivery):
    index = {"path": list(delivery.files)}
    for journal in ("journal", "another"):
        client = UploadClient(
            dataset=DATASET,
            delivery_id=DELIVERY,
            file_index=index,
            transfer_type="staging",
            source=delivery.source,
            ports=delivery.ports(journal=journal),
        )
        assert client.run().outcome == "complete"
    assert len(copies(delivery)) == len(delivery.files)
    assert not [entry for entry in delivery.aws.log("GetObject") if entry.bucket == "observatory"]


def test_resume_finds_the_bucket_in_the_journal(delivery):
    client = delivery.client()
    client.subscribe(lambda record: isinstance(record.event, ev.PipelineAccepted) and client.stop("later"))
    assert client.run().outcome == "interrupted"
    ports = wire_journal(delivery.root / "journal", {})
    assert ports.source.name == "s3://observatory/2026"
    assert delivery.resumed().run().outcome == "complete"
    assert len(copies(delivery)) == len(delivery.files)


def test_an_object_that_is_replaced_midway_fails_alone(delivery):
    client = delivery.client(max_retries=1)
    late = "dir/file 07.txt"
    client.subscribe(
        lambda record: (
            isinstance(record.event, ev.PipelineAccepted)
            and keep(delivery.aws, "observatory", f"2026/{late}", b"CONTENT 7\n")
        )
    )
    summary = client.run()
    assert summary.exit_code != 0
    assert client.file(late).state == "failed"
    assert delivery.transfer.found(late) is None
    others = set(delivery.files) - {late}
    assert {client.file(relpath).state for relpath in others} == {"valid"}


def test_without_credentials_the_index_check_says_so(delivery, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(IdentityError, match="no AWS credentials"):
        delivery.client()


def test_a_bucket_that_does_not_exist_is_a_wrong_configuration(delivery):
    with pytest.raises(ConfigurationError, match="NoSuchBucket"):
        delivery.client(ports=delivery.ports(source="s3://nowhere"))


def test_a_bucket_is_delivered_to_a_directory(delivery, tmp_path):
    ports = delivery.ports(to=f"file://{tmp_path}/archive")
    assert delivery.client(ports=ports).run().outcome == "complete"
    assert not copies(delivery)
    assert ports.archive.stat("dir/file 03.txt").checksum == crc(delivery.files["dir/file 03.txt"])


def test_a_data_root_lists_a_bucket_and_copies_from_it(delivery, aws):
    aws.store.create_bucket("anywhere")
    root = DataRoot(Bucket(delivery.source))
    assert (root.ls(), len(root.ls("dir"))) == (("dir",), 12)
    file = delivery.client().file("dir/file 03.txt")
    assert root.cp(file, Bucket("s3://anywhere"))
    assert aws.object("anywhere", "dir/file 03.txt").data == delivery.files["dir/file 03.txt"]
    with open_source(delivery.source).open("dir/file 03.txt") as body:
        origin = origin_of(body)
        assert origin is not None
        assert origin.key == "2026/dir/file 03.txt"
    assert len(aws.log("CopyObject")) == 1
