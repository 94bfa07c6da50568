"""The transfer bucket in S3 keeps its port's promises: whole and equal, or nothing, and nothing left behind."""

import random
import zlib

import pytest

from tests.adapters.aws.places import KIB, MIB
from tests.contracts.archive import ArchiveContract
from tests.contracts.bodies import Body
from tests.emulator import Fault
from upload_adapters.aws.curl_sender import CurlSender
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_multipart import PARTS_MAX, part_size_for
from upload_adapters.aws.s3_part import Boto3Sender
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ChecksumMismatchError,
    ConfigurationError,
    LockLostError,
    SourceChangedError,
)

DATA = random.Random(3).randbytes(3 * MIB + 17)


def crc(data: bytes) -> str:
    return crc32_base64(zlib.crc32(data))


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket()


@pytest.fixture(params=[Boto3Sender, CurlSender])
def archive(bucket, request):
    """Files over a mebibyte go in parts."""
    return S3Archive(lambda: bucket, sender=request.param(), single_max=MIB, part_size=MIB)


class TestS3Archive(ArchiveContract):
    @pytest.fixture
    def archive(self, bucket):
        return S3Archive(lambda: bucket)

    @pytest.fixture
    def stored(self, aws, bucket):
        return lambda relpath: (found := aws.object(bucket.name, relpath)) and found.data


class TestS3ArchiveInParts(ArchiveContract):
    """The same with everything in parts that has a byte at all."""

    @pytest.fixture
    def archive(self, bucket):
        return S3Archive(lambda: bucket, single_max=0, part_size=256 * KIB)

    @pytest.fixture
    def stored(self, aws, bucket):
        return lambda relpath: (found := aws.object(bucket.name, relpath)) and found.data

    @pytest.fixture(autouse=True)
    def _nothing_left(self, aws):
        yield
        assert aws.open_uploads() == []


class TestS3ArchiveByCurl(TestS3Archive):
    """The same with libcurl carrying whole bodies."""

    @pytest.fixture
    def archive(self, bucket):
        return S3Archive(lambda: bucket, sender=CurlSender())


class TestS3ArchiveInPartsByCurl(TestS3ArchiveInParts):
    """The same with libcurl carrying parts."""

    @pytest.fixture
    def archive(self, bucket):
        return S3Archive(lambda: bucket, sender=CurlSender(), single_max=0, part_size=256 * KIB)


# ── what S3 adds ─────────────────────────────────────────────────────────────────────────────────


def test_a_large_file_goes_in_parts_under_one_checksum_and_size(archive, aws, bucket):
    archive.put("big", Body(DATA), checksum=crc(DATA))
    assert aws.object(bucket.name, "big").checksum.kind == "FULL_OBJECT"
    assert len(aws.log("UploadPart")) == 4
    [completed] = aws.log("CompleteMultipartUpload")
    assert completed.headers["x-amz-checksum-crc32"] == crc(DATA)
    assert completed.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert completed.headers["x-amz-mp-object-size"] == str(len(DATA))
    assert all("x-amz-checksum-crc32" in part.headers for part in aws.log("UploadPart"))


def test_a_small_file_is_one_request_that_asserts_its_crc32(archive, aws):
    archive.put("small", Body(b"data"), checksum=None)
    assert [(entry.operation, entry.headers["x-amz-checksum-crc32"]) for entry in aws.log()] == [
        ("PutObject", crc(b"data"))
    ]


def test_bytes_of_another_checksum_are_not_even_sent(archive, aws):
    with pytest.raises(ChecksumMismatchError):
        archive.put("small", Body(b"data"), checksum=crc(b"other"))
    assert aws.log() == []


ANYWHERE = ["lost", "refused", "reset", "duplicate", "duplicate_last"]
FAULTS = [
    *((operation, kind) for operation in ["PutObject", "UploadPart"] for kind in [*ANYWHERE, "corrupt"]),
    *(("CreateMultipartUpload", kind) for kind in ANYWHERE),
    # S3 answers 200 before it is done here, and says in the body how it ended.
    *(("CompleteMultipartUpload", kind) for kind in [*ANYWHERE, "error_in_200"]),
]


@pytest.mark.parametrize(("operation", "kind"), FAULTS)
def test_whichever_request_fails_once_the_object_is_stored_whole(archive, aws, bucket, operation, kind):
    data = DATA[:1000] if operation == "PutObject" else DATA
    aws.order(Fault(kind, operation=operation, code="InternalError"))
    stored = archive.put("dir/a", Body(data), checksum=crc(data))
    assert (stored.size, stored.checksum) == (len(data), crc(data))
    assert aws.object(bucket.name, "dir/a").data == data
    assert stored.etag == aws.object(bucket.name, "dir/a").etag
    # A beginning that the network doubled looks like one to us; the next process that sends this file ends the other.
    unheard = operation == "CreateMultipartUpload" and kind in {"duplicate", "duplicate_last"}
    assert len(aws.open_uploads()) == unheard


@pytest.mark.parametrize("size", [1, 17, 60, 1000])
def test_a_part_is_sent_again_wherever_a_bit_of_its_request_was_changed(aws, bucket, size):
    """In the middle of a short part's request stands the name of its trailer."""
    aws.order(Fault("corrupt", operation="UploadPart"))
    S3Archive(lambda: bucket, sender=CurlSender(), single_max=0).put("a", Body(DATA[:size]), checksum=crc(DATA[:size]))
    assert aws.object(bucket.name, "a").data == DATA[:size]


@pytest.mark.parametrize("data", [DATA[:1000], DATA], ids=["single", "parts"])
def test_permission_is_asked_before_every_request_that_could_make_it_visible(archive, aws, data, bucket):
    aws.order(Fault("refused", operation="PutObject", code="SlowDown", times=2))
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="SlowDown", times=2))
    asked = []
    body = Body(data)
    archive.put("a", body, checksum=None, attempt=FreeAttempt(lambda: asked.append(aws.object(bucket.name, "a"))))
    assert set(asked) == {None}
    assert body.verified == 3
    assert len(asked) >= 3


@pytest.mark.parametrize("data", [DATA[:1000], DATA], ids=["single", "parts"])
def test_once_permission_is_gone_nothing_is_sent_again(archive, aws, data, bucket):
    aws.order(Fault("refused", operation="PutObject", code="SlowDown"))
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="SlowDown"))

    def tried():
        return len(aws.log("PutObject") + aws.log("CompleteMultipartUpload"))

    def commit():
        if tried():
            raise LockLostError("taken over")

    with pytest.raises(LockLostError):
        archive.put("a", Body(data), checksum=None, attempt=FreeAttempt(commit))
    assert tried() == 1
    assert aws.object(bucket.name, "a") is None
    assert aws.open_uploads() == []


@pytest.mark.parametrize("data", [DATA[:1000], DATA], ids=["single", "parts"])
def test_a_store_that_stays_out_of_order_is_unavailable_and_keeps_no_parts(archive, aws, data, bucket):
    aws.order(Fault("refused", operation="PutObject", code="ServiceUnavailable", times=0))
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="ServiceUnavailable", times=0))
    with pytest.raises(ArchiveUnavailableError):
        archive.put("a", Body(data), checksum=None)
    assert (aws.object(bucket.name, "a"), aws.open_uploads()) == (None, [])


def test_a_file_that_shrinks_or_grows_in_parts_leaves_nothing(archive, aws, bucket):
    for size in (len(DATA) - 1, len(DATA) + 1):
        with pytest.raises(SourceChangedError):
            archive.put("big", Body(DATA, size=size), checksum=None)
    assert (aws.object(bucket.name, "big"), aws.open_uploads()) == (None, [])


def test_an_upload_that_somebody_aborted_under_us_is_no_success(archive, aws, bucket):
    archive.put("big", Body(b"an older one"), checksum=None)
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="NoSuchUpload", times=0))
    with pytest.raises(ArchiveUnavailableError, match="sent anew"):
        archive.put("big", Body(DATA), checksum=None)
    assert aws.object(bucket.name, "big").data == b"an older one"


def leave_uploads(bucket, *keys):
    """What a killed process leaves: uploads with a part and nobody to go on with them."""
    for key in keys:
        begun = bucket.calls.create_multipart_upload(Bucket=bucket.name, Key=key, ChecksumAlgorithm="CRC32")
        bucket.calls.upload_part(
            Bucket=bucket.name, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=DATA, ChecksumAlgorithm="CRC32"
        )


def test_what_a_killed_process_left_of_a_file_is_ended_when_it_is_sent_and_nothing_else(archive, aws, bucket):
    odd = "dir/a b+c%20\u00fc&.bin"
    leave_uploads(bucket, odd, odd, f"{odd}.other", "large")
    archive.put(odd, Body(DATA), checksum=crc(DATA))
    assert aws.object(bucket.name, odd).data == DATA
    assert sorted(key for _, key in aws.open_uploads()) == [f"{odd}.other", "large"]
    archive.put("large", Body(DATA), checksum=crc(DATA))
    assert [key for _, key in aws.open_uploads()] == [f"{odd}.other"]


def test_the_bucket_is_asked_once_for_what_was_left_however_many_files_are_sent(archive, aws):
    for number in range(3):
        archive.put(f"{number}", Body(DATA), checksum=None)
    assert len(aws.log("ListMultipartUploads")) == 1


def test_an_upload_that_could_not_be_ended_is_ended_at_the_next_attempt(archive, aws):
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="ServiceUnavailable", times=4))
    aborts = aws.order(Fault("refused", operation="AbortMultipartUpload", code="ServiceUnavailable", times=0))
    with pytest.raises(ArchiveUnavailableError):
        archive.put("a", Body(DATA), checksum=None)
    assert len(aws.open_uploads()) == 1
    aborts.times = aborts.fired
    archive.put("a", Body(DATA), checksum=None)
    assert aws.open_uploads() == []


def test_who_may_not_look_for_uploads_delivers_all_the_same(archive, aws, bucket):
    aws.order(Fault("refused", operation="ListMultipartUploads", code="AccessDenied", times=0))
    archive.put("a", Body(DATA), checksum=None)
    assert aws.object(bucket.name, "a").data == DATA


def test_a_store_that_confirms_no_checksum_is_refused(bucket, aws):
    class Deaf:
        """S3 that takes an object and forgets what was asserted of it, as some stand-ins do."""

        def __init__(self, calls):
            self._calls = calls

        def __getattr__(self, name):
            call = getattr(self._calls, name)

            def forgetful(**arguments):
                answer = call(**arguments)
                answer.pop("ChecksumCRC32", None)
                return answer

            return forgetful

    bucket = type(bucket)(bucket.name, Deaf(bucket.calls), Deaf(bucket.once))
    with pytest.raises(ArchiveError, match="without confirming"):
        S3Archive(lambda: bucket).put("a", Body(b"data"), checksum=None)


def test_an_object_of_composite_checksum_has_none_that_counts(archive, bucket):
    known = {"Bucket": bucket.name, "Key": "a"}
    begun = bucket.calls.create_multipart_upload(**known, ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")
    upload = {**known, "UploadId": begun["UploadId"]}
    part = bucket.calls.upload_part(**upload, PartNumber=1, Body=b"data", ChecksumCRC32=crc(b"data"))
    named = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": crc(b"data")}
    bucket.calls.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]})
    assert archive.stat("a").checksum == ""


def test_a_long_listing_comes_page_by_page(archive, aws):
    aws.settings.list_page_max = 7
    names = {f"dir/{number:03}" for number in range(50)}
    for name in names:
        archive.put(name, Body(b""), checksum=None)
    assert {found.relpath for found in archive.list()} == names
    assert len(aws.log("ListObjectsV2")) == 8


def test_a_bucket_that_is_not_there_is_a_matter_of_configuration(archive_places):
    bucket = archive_places.bucket(exists=False)
    archive = S3Archive(lambda: bucket)
    with pytest.raises(ConfigurationError, match="NoSuchBucket"):
        archive.put("a", Body(b""), checksum=None)
    with pytest.raises(ConfigurationError, match="NoSuchBucket"):
        list(archive.list())


@pytest.mark.parametrize("size", [0, 1, 80_000 * MIB, 80_001 * MIB, 5 << 40])
def test_a_file_of_any_size_fits_into_the_parts_that_an_upload_may_have(size):
    part = part_size_for(size)
    assert part % MIB == 0
    assert part * PARTS_MAX >= size


def test_a_small_file_costs_one_request(archive, aws):
    for number in range(20):
        archive.put(f"{number}", Body(b"data"), checksum=None)
    assert len(aws.log()) == 20
