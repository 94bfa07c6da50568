"""Every rule the emulator claims, driven through boto3 as any client would.

A stand-in that is kinder than the real store proves nothing; these tests say how unkind this one is.
"""

import base64
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.emulator import CommandRunner, Emulator, Fault, Settings
from tests.emulator.services import unsigned_token

ROOT = Path(__file__).resolve().parents[2]
PLAIN = "plain-bucket"
EXPRESS = "fast--use1-az4--x-s3"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def aws(server):
    server.reset()
    server.store.create_bucket(PLAIN)
    server.store.create_bucket(EXPRESS)
    return server


@pytest.fixture(scope="module")
def session():
    """Of many sessions each would read AWS's models anew."""
    return boto3.Session("AKIATEST", "secret", region_name="us-east-1")


@pytest.fixture
def connect(aws, session):
    """Makes boto3 clients of the emulator, one attempt each, and closes them."""
    made = []

    def client(service="s3", *, key="AKIATEST", secret="secret", token=None, s3=None, attempts=1, **config):
        options = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, s3=s3, **config)
        made.append(
            session.client(
                service,
                endpoint_url=aws.url,
                config=options,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                aws_session_token=token,
            )
        )
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def s3(connect):
    return connect()


def crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def refused(call, **arguments) -> tuple[str, int]:
    """Code and HTTP status with which the call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def body_of(s3, bucket, key, **arguments):
    with s3.get_object(Bucket=bucket, Key=key, **arguments)["Body"] as stream:
        return stream.read()


# ── plain objects ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["a", "dir/é ü.txt", "a+b&c=d?.txt", "x//y", "per%20cent", "tab\there", "日本/語"])
def test_an_object_comes_back_as_it_was_put_whatever_its_name(s3, key):
    s3.put_object(Bucket=PLAIN, Key=key, Body=b"content")
    assert body_of(s3, PLAIN, key) == b"content"
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=PLAIN)["Contents"]] == [key]


def test_head_tells_size_etag_and_time_and_metadata(s3):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"abc", Metadata={"who": "me"}, ContentType="text/plain")
    head = s3.head_object(Bucket=PLAIN, Key="a")
    assert (head["ContentLength"], head["ETag"]) == (3, '"900150983cd24fb0d6963f7d28e17f72"')
    assert (head["Metadata"], head["ContentType"]) == ({"who": "me"}, "text/plain")
    assert abs(head["LastModified"].timestamp() - time.time()) < 5


def test_what_is_not_there_is_404(s3):
    assert refused(s3.get_object, Bucket=PLAIN, Key="no") == ("NoSuchKey", 404)
    assert refused(s3.head_object, Bucket=PLAIN, Key="no") == ("404", 404)
    assert refused(s3.get_object, Bucket="no-bucket", Key="no") == ("NoSuchBucket", 404)
    assert refused(s3.put_object, Bucket="no-bucket", Key="no") == ("NoSuchBucket", 404)
    s3.delete_object(Bucket=PLAIN, Key="no")


def test_a_key_of_more_than_1024_bytes_is_refused(s3):
    s3.put_object(Bucket=PLAIN, Key="k" * 1024)
    assert refused(s3.put_object, Bucket=PLAIN, Key="é" * 513) == ("KeyTooLongError", 400)


def test_a_range_is_a_part_of_the_object_and_one_beyond_its_end_is_416(s3):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"0123456789")
    answer = s3.get_object(Bucket=PLAIN, Key="a", Range="bytes=4-")
    with answer["Body"] as stream:
        assert stream.read() == b"456789"
    assert answer["ContentRange"] == "bytes 4-9/10"
    assert body_of(s3, PLAIN, "a", Range="bytes=2-3") == b"23"
    assert body_of(s3, PLAIN, "a", Range="bytes=-3") == b"789"
    assert body_of(s3, PLAIN, "a", Range="bytes=8-100") == b"89"
    assert refused(s3.get_object, Bucket=PLAIN, Key="a", Range="bytes=10-") == ("InvalidRange", 416)
    s3.put_object(Bucket=PLAIN, Key="empty", Body=b"")
    assert refused(s3.get_object, Bucket=PLAIN, Key="empty", Range="bytes=0-") == ("InvalidRange", 416)


def test_reads_can_be_conditional(s3):
    tag = s3.put_object(Bucket=PLAIN, Key="a", Body=b"1")["ETag"]
    assert body_of(s3, PLAIN, "a", IfMatch=tag) == b"1"
    assert refused(s3.get_object, Bucket=PLAIN, Key="a", IfMatch='"other"') == ("PreconditionFailed", 412)
    assert refused(s3.get_object, Bucket=PLAIN, Key="a", IfNoneMatch=tag)[1] == 304


def test_an_operation_it_does_not_know_is_refused(s3):
    assert refused(s3.get_object_tagging, Bucket=PLAIN, Key="a") == ("NotImplemented", 501)
    assert refused(s3.get_bucket_versioning, Bucket=PLAIN) == ("NotImplemented", 501)


@pytest.mark.parametrize(
    ("method", "status", "location"), [("GET", 307, "https://aws.amazon.com/s3/"), ("HEAD", 405, None)]
)
def test_whoever_asks_s3_itself_unsigned_is_sent_elsewhere_and_told_the_time(aws, method, status, location):
    connection = http.client.HTTPConnection("127.0.0.1", int(aws.url.rpartition(":")[2]), timeout=10)
    connection.request(method, "/")
    answer = connection.getresponse()
    assert (answer.status, answer.read(), answer.headers["Location"]) == (status, b"", location)
    assert parsedate_to_datetime(answer.headers["Date"]).tzinfo is not None
    connection.close()


def test_buckets_are_made_and_deleted_when_empty(s3):
    s3.create_bucket(Bucket="new-bucket")
    s3.head_bucket(Bucket="new-bucket")
    assert "new-bucket" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    s3.put_object(Bucket="new-bucket", Key="a")
    assert refused(s3.delete_bucket, Bucket="new-bucket") == ("BucketNotEmpty", 409)
    s3.delete_objects(Bucket="new-bucket", Delete={"Objects": [{"Key": "a"}]})
    s3.delete_bucket(Bucket="new-bucket")
    assert refused(s3.head_bucket, Bucket="new-bucket")[1] == 404


# ── checksums ────────────────────────────────────────────────────────────────────────────────────


def test_an_asserted_crc32_is_verified_and_kept(s3):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"abc", ChecksumCRC32=crc(b"abc"))
    head = s3.head_object(Bucket=PLAIN, Key="a", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (crc(b"abc"), "FULL_OBJECT")
    assert "ChecksumCRC32" not in s3.head_object(Bucket=PLAIN, Key="a")


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256"])
def test_the_other_digests_are_verified_too(s3, algorithm):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"abc", ChecksumAlgorithm=algorithm)
    assert s3.head_object(Bucket=PLAIN, Key="a", ChecksumMode="ENABLED")[f"Checksum{algorithm}"]
    wrong = {f"Checksum{algorithm}": base64.b64encode(b"0" * (20 if algorithm == "SHA1" else 32)).decode()}
    assert refused(s3.put_object, Bucket=PLAIN, Key="b", Body=b"abc", **wrong) == ("BadDigest", 400)


def test_a_wrong_crc32_stores_nothing(s3, aws):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"before")
    wrong = {"Bucket": PLAIN, "Key": "a", "Body": b"abc", "ChecksumCRC32": crc(b"abd")}
    assert refused(s3.put_object, **wrong) == ("BadDigest", 400)
    assert aws.object(PLAIN, "a").data == b"before"


def test_a_checksum_that_is_none_is_refused_as_such(s3):
    assert refused(s3.put_object, Bucket=PLAIN, Key="a", Body=b"", ChecksumCRC32="AAA=") == ("InvalidRequest", 400)
    assert refused(s3.put_object, Bucket=PLAIN, Key="a", Body=b"", ContentMD5="AAA=") == ("InvalidDigest", 400)
    wrong = base64.b64encode(b"0" * 16).decode()
    assert refused(s3.put_object, Bucket=PLAIN, Key="a", Body=b"", ContentMD5=wrong) == ("BadDigest", 400)


def test_an_object_without_an_asserted_crc32_has_none(connect):
    silent = connect(request_checksum_calculation="when_required")
    silent.put_object(Bucket=PLAIN, Key="a", Body=b"abc")
    assert "ChecksumCRC32" not in silent.head_object(Bucket=PLAIN, Key="a", ChecksumMode="ENABLED")


def test_a_checksum_in_the_trailer_of_a_chunked_body_is_verified(aws):
    def send(trailer: str, payload: bytes = b"hello world") -> int:
        coded = b"5\r\nhello\r\n6\r\n world\r\n0\r\n" + f"x-amz-checksum-crc32:{trailer}\r\n\r\n".encode()
        headers = {
            **signature(),
            "content-encoding": "aws-chunked",
            "x-amz-trailer": "x-amz-checksum-crc32",
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": str(len(payload)),
        }
        return raw(aws, "PUT", f"/{PLAIN}/a", coded, headers)[0]

    assert send(crc(b"hello world")) == 200
    assert (aws.object(PLAIN, "a").data, aws.object(PLAIN, "a").checksum.value) == (b"hello world", crc(b"hello world"))
    assert send(crc(b"hello")) == 400
    assert send(crc(b"hello world"), payload=b"hello") == 400, "another length was announced"


def test_a_payload_hash_that_is_wrong_is_refused(aws):
    status, answer = raw(aws, "PUT", f"/{PLAIN}/a", b"abc", {**signature(), "x-amz-content-sha256": "0" * 64})
    assert (status, b"XAmzContentSHA256Mismatch" in answer) == (400, True)


def signature(key="AKIATEST", service="s3") -> dict[str, str]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{key}/{stamp[:8]}/us-east-1/{service}/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"
    return {"x-amz-date": stamp, "authorization": signed}


def raw(aws, method, path, body, headers) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(aws.url.rpartition(":")[2]), timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_checksums_that_it_cannot_compute_are_refused_and_not_believed(aws):
    for name in ("crc32c", "crc64nvme"):
        status, _ = raw(aws, "PUT", f"/{PLAIN}/a", b"abc", {**signature(), f"x-amz-checksum-{name}": "AAAAAA=="})
        assert status == 501
    two = {"x-amz-checksum-crc32": crc(b"abc"), "x-amz-checksum-sha1": "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="}
    assert raw(aws, "PUT", f"/{PLAIN}/a", b"abc", {**signature(), **two})[0] == 400
    assert aws.object(PLAIN, "a") is None


@pytest.mark.parametrize("coded", [b"5\r\nhel", b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b""])
def test_a_chunked_body_that_is_torn_or_lacks_its_trailer_is_refused(aws, coded):
    headers = {
        **signature(),
        "content-encoding": "aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": "5",
    }
    assert raw(aws, "PUT", f"/{PLAIN}/a", coded, headers)[0] == 400
    assert aws.object(PLAIN, "a") is None


def test_attributes_tell_the_checksum_without_the_object(s3):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"abc", ChecksumCRC32=crc(b"abc"))
    wanted = ["Checksum", "ObjectSize", "ETag"]
    found = s3.get_object_attributes(Bucket=PLAIN, Key="a", ObjectAttributes=wanted)
    assert (found["Checksum"]["ChecksumCRC32"], found["ObjectSize"]) == (crc(b"abc"), 3)
    assert found["ETag"] == "900150983cd24fb0d6963f7d28e17f72"


# ── conditional writes ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bucket", [PLAIN, EXPRESS])
def test_if_none_match_creates_only_what_is_absent(s3, aws, bucket):
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")
    assert refused(s3.put_object, Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert aws.object(bucket, "a").data == b"1"
    assert refused(s3.put_object, Bucket=bucket, Key="a", IfNoneMatch='"tag"') == ("NotImplemented", 501)


@pytest.mark.parametrize("bucket", [PLAIN, EXPRESS])
def test_if_match_replaces_only_the_object_named(s3, aws, bucket):
    first = s3.put_object(Bucket=bucket, Key="a", Body=b"1")["ETag"]
    second = s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfMatch=first)["ETag"]
    assert refused(s3.put_object, Bucket=bucket, Key="a", Body=b"3", IfMatch=first) == ("PreconditionFailed", 412)
    assert aws.object(bucket, "a").data == b"2"
    s3.put_object(Bucket=bucket, Key="a", Body=b"4", IfMatch=second.strip('"'))
    assert refused(s3.put_object, Bucket=bucket, Key="no", Body=b"3", IfMatch=first) == ("NoSuchKey", 404)


def test_of_many_racing_creators_one_wins(aws):
    def create(number: int) -> int:
        return raw(aws, "PUT", f"/{EXPRESS}/lock", str(number).encode(), {**signature(), "if-none-match": "*"})[0]

    with ThreadPoolExecutor(16) as pool:
        for _ in range(20):
            assert sorted(pool.map(create, range(16))) == [200] + [412] * 15
            aws.store.bucket(EXPRESS).remove("lock")


def test_a_delete_during_a_conditional_write_is_a_conflict(aws, s3):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"old")
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2])), timeout=10) as connection:
        head = {"host": "x", "content-length": "3", "if-none-match": "*", **signature()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        connection.sendall(f"PUT /{PLAIN}/a HTTP/1.1\r\n{lines}\r\nab".encode())
        time.sleep(0.2)
        s3.delete_object(Bucket=PLAIN, Key="a")
        connection.sendall(b"c")
        answer = connection.recv(10_000)
    assert b" 409 " in answer.split(b"\r\n")[0]
    assert b"ConditionalRequestConflict" in answer
    assert aws.object(PLAIN, "a") is None


@pytest.mark.parametrize("bucket", [PLAIN, EXPRESS])
def test_a_delete_can_demand_an_etag(s3, aws, bucket):
    tag = s3.put_object(Bucket=bucket, Key="a", Body=b"1")["ETag"]
    assert refused(s3.delete_object, Bucket=bucket, Key="a", IfMatch='"other"') == ("PreconditionFailed", 412)
    assert aws.object(bucket, "a") is not None
    s3.delete_object(Bucket=bucket, Key="a", IfMatch=tag)
    assert aws.object(bucket, "a") is None


def test_the_etag_of_a_directory_bucket_is_no_digest(s3):
    tags = {s3.put_object(Bucket=EXPRESS, Key="a", Body=b"same")["ETag"] for _ in range(3)}
    assert len(tags) == 3


# ── append ───────────────────────────────────────────────────────────────────────────────────────


def test_an_append_at_the_size_extends_the_object_and_its_crc32(s3, aws):
    s3.put_object(Bucket=EXPRESS, Key="log", Body=b"one\n", WriteOffsetBytes=0, ChecksumCRC32=crc(b"one\n"))
    answer = s3.put_object(Bucket=EXPRESS, Key="log", Body=b"two\n", WriteOffsetBytes=4, ChecksumCRC32=crc(b"two\n"))
    assert (answer["Size"], aws.object(EXPRESS, "log").data) == (8, b"one\ntwo\n")
    head = s3.head_object(Bucket=EXPRESS, Key="log", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ETag"]) == (crc(b"one\ntwo\n"), answer["ETag"])


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_an_append_elsewhere_writes_nothing(s3, aws, offset):
    s3.put_object(Bucket=EXPRESS, Key="log", Body=b"1234", WriteOffsetBytes=0)
    wrong = {"Bucket": EXPRESS, "Key": "log", "Body": b"5", "WriteOffsetBytes": offset}
    assert refused(s3.put_object, **wrong) == ("InvalidWriteOffset", 400)
    assert aws.object(EXPRESS, "log").data == b"1234"


def test_an_append_to_nothing_has_offset_0(s3):
    assert refused(s3.put_object, Bucket=EXPRESS, Key="no", Body=b"5", WriteOffsetBytes=1) == (
        "InvalidWriteOffset",
        400,
    )


def test_an_append_with_a_wrong_checksum_writes_nothing(s3, aws):
    s3.put_object(Bucket=EXPRESS, Key="log", Body=b"1234", WriteOffsetBytes=0)
    wrong = {"Bucket": EXPRESS, "Key": "log", "Body": b"5", "WriteOffsetBytes": 4, "ChecksumCRC32": crc(b"6")}
    assert refused(s3.put_object, **wrong) == ("BadDigest", 400)
    assert aws.object(EXPRESS, "log").data == b"1234"


def test_general_purpose_buckets_have_no_append(s3):
    assert refused(s3.put_object, Bucket=PLAIN, Key="log", Body=b"5", WriteOffsetBytes=0)[1] == 501


def test_too_many_parts_are_refused_until_the_object_was_copied_onto_itself(s3, aws):
    aws.settings.parts_max = 3
    for offset in range(3):
        s3.put_object(Bucket=EXPRESS, Key="log", Body=b"x", WriteOffsetBytes=offset)
    fourth = {"Bucket": EXPRESS, "Key": "log", "Body": b"x", "WriteOffsetBytes": 3}
    assert refused(s3.put_object, **fourth) == ("TooManyParts", 400)
    s3.copy_object(Bucket=EXPRESS, Key="log", CopySource={"Bucket": EXPRESS, "Key": "log"})
    s3.put_object(**fourth)
    assert aws.object(EXPRESS, "log").data == b"xxxx"


def test_the_limit_of_parts_is_10000_unless_told_otherwise():
    assert Settings().parts_max == 10_000


def test_of_many_racing_appends_at_one_offset_one_wins(aws):
    def append(number: int) -> int:
        headers = {**signature(), "x-amz-write-offset-bytes": "0"}
        return raw(aws, "PUT", f"/{EXPRESS}/log", b"%02d" % number, headers)[0]

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(append, range(16))) == [200] + [400] * 15
    assert len(aws.object(EXPRESS, "log").data) == 2


# ── multipart ────────────────────────────────────────────────────────────────────────────────────


def begin(s3, key="big", **arguments):
    options = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT", **arguments}
    upload = s3.create_multipart_upload(Bucket=PLAIN, Key=key, **options)["UploadId"]
    return {"Bucket": PLAIN, "Key": key, "UploadId": upload}


def send(s3, upload, parts):
    named = []
    for number, data in enumerate(parts, 1):
        answer = s3.upload_part(**upload, PartNumber=number, Body=data, ChecksumCRC32=crc(data))
        named.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": crc(data)})
    return named


PARTS = [random.Random(1).randbytes(5 * MIB), b"a" * (5 * MIB), b"tail"]
WHOLE = b"".join(PARTS)


def test_a_multipart_object_has_the_crc32_of_the_whole(s3, aws):
    upload = begin(s3)
    named = send(s3, upload, PARTS)
    assert aws.object(PLAIN, "big") is None
    s3.complete_multipart_upload(
        **upload,
        MultipartUpload={"Parts": named},
        ChecksumCRC32=crc(WHOLE),
        ChecksumType="FULL_OBJECT",
        MpuObjectSize=len(WHOLE),
    )
    head = s3.head_object(Bucket=PLAIN, Key="big", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"], head["ContentLength"]) == (
        crc(WHOLE),
        "FULL_OBJECT",
        len(WHOLE),
    )
    assert head["ETag"].endswith('-3"')
    assert aws.object(PLAIN, "big").data == WHOLE
    assert aws.open_uploads() == []
    again = {"MultipartUpload": {"Parts": named}}
    assert refused(s3.complete_multipart_upload, **upload, **again) == ("NoSuchUpload", 404)


@pytest.mark.parametrize(
    ("assertion", "code"),
    [
        ({"ChecksumCRC32": crc(b"other"), "ChecksumType": "FULL_OBJECT"}, "BadDigest"),
        ({"ChecksumCRC32": crc(WHOLE), "ChecksumType": "COMPOSITE"}, "BadDigest"),
        ({"MpuObjectSize": len(WHOLE) + 1}, "InvalidRequest"),
    ],
)
def test_a_wrong_assertion_at_completion_leaves_the_upload_open(s3, aws, assertion, code):
    upload = begin(s3)
    parts = {"MultipartUpload": {"Parts": send(s3, upload, PARTS)}}
    assert refused(s3.complete_multipart_upload, **upload, **parts, **assertion) == (code, 400)
    assert (aws.object(PLAIN, "big"), aws.open_uploads()) == (None, [(PLAIN, "big")])


def test_completion_demands_the_parts_as_they_are(s3):
    upload = begin(s3)
    one, two, three = send(s3, upload, PARTS)

    def complete(*parts) -> str:
        return refused(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": list(parts)})[0]

    assert complete(two, one, three) == "InvalidPartOrder"
    assert complete(one, {**two, "ETag": three["ETag"]}, three) == "InvalidPart"
    assert complete(one, {**two, "ChecksumCRC32": crc(b"")}, three) == "InvalidPart"
    assert complete(one, two, three, {**three, "PartNumber": 4}) == "InvalidPart"
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": []})[0] == "MalformedXML"


def test_a_part_that_is_not_named_at_completion_is_left_out(s3, aws):
    upload = begin(s3)
    one, _, three = send(s3, upload, PARTS)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [one, three]})
    assert aws.object(PLAIN, "big").data == PARTS[0] + PARTS[2]


def test_parts_in_a_directory_bucket_are_consecutive(s3):
    upload = s3.create_multipart_upload(
        Bucket=EXPRESS, Key="big", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    known = {"Bucket": EXPRESS, "Key": "big", "UploadId": upload["UploadId"]}
    tag = s3.upload_part(**known, PartNumber=2, Body=b"a")["ETag"]
    named = {"Parts": [{"PartNumber": 2, "ETag": tag}]}
    assert refused(s3.complete_multipart_upload, **known, MultipartUpload=named) == ("InvalidPart", 400)


def test_only_the_last_part_may_be_small(s3):
    upload = begin(s3)
    named = send(s3, upload, [b"small", b"tail"])
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": named}) == ("EntityTooSmall", 400)


def test_a_part_with_a_wrong_checksum_is_not_kept(s3):
    upload = begin(s3)
    assert refused(s3.upload_part, **upload, PartNumber=1, Body=b"a", ChecksumCRC32=crc(b"b")) == ("BadDigest", 400)
    assert "Parts" not in s3.list_parts(**upload)
    assert refused(s3.upload_part, **upload, PartNumber=10_001, Body=b"a") == ("InvalidArgument", 400)


def test_without_full_object_the_checksum_is_a_composite_of_the_parts(s3):
    upload = begin(s3, ChecksumType="COMPOSITE")
    named = send(s3, upload, PARTS)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": named})
    head = s3.head_object(Bucket=PLAIN, Key="big", ChecksumMode="ENABLED")
    assert head["ChecksumType"] == "COMPOSITE"
    assert head["ChecksumCRC32"].endswith("-3")


def test_full_object_is_for_crcs_only(s3):
    wrong = {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"}
    assert refused(s3.create_multipart_upload, Bucket=PLAIN, Key="big", **wrong) == ("InvalidRequest", 400)


def test_list_parts_tells_checksums_and_sizes_page_by_page(s3):
    upload = begin(s3)
    sent = [bytes([65 + number]) * (number + 1) for number in range(5)]
    send(s3, upload, sent)
    pages = list(s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 2}))
    parts = [part for page in pages for part in page["Parts"]]
    assert len(pages) == 3
    assert [(part["PartNumber"], part["Size"], part["ChecksumCRC32"]) for part in parts] == [
        (number, number, crc(data)) for number, data in enumerate(sent, 1)
    ]


def test_a_part_sent_again_replaces_the_first(s3):
    upload = begin(s3)
    send(s3, upload, [b"first"])
    send(s3, upload, [b"second"])
    assert [part["ChecksumCRC32"] for part in s3.list_parts(**upload)["Parts"]] == [crc(b"second")]


def test_a_conditional_delete_of_many_deletes_what_still_fits(s3, aws):
    tag = s3.put_object(Bucket=PLAIN, Key="a", Body=b"1")["ETag"]
    s3.put_object(Bucket=PLAIN, Key="b", Body=b"2")
    answer = s3.delete_objects(
        Bucket=PLAIN, Delete={"Objects": [{"Key": "a", "ETag": tag}, {"Key": "b", "ETag": '"other"'}]}
    )
    assert [item["Key"] for item in answer["Deleted"]] == ["a"]
    assert [(item["Key"], item["Code"]) for item in answer["Errors"]] == [("b", "PreconditionFailed")]
    assert aws.object(PLAIN, "b") is not None


def test_an_aborted_upload_is_gone(s3, aws):
    upload = begin(s3)
    s3.abort_multipart_upload(**upload)
    assert aws.open_uploads() == []
    assert refused(s3.list_parts, **upload) == ("NoSuchUpload", 404)
    assert refused(s3.abort_multipart_upload, **upload) == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, **upload, PartNumber=1, Body=b"a") == ("NoSuchUpload", 404)


def test_open_uploads_are_listed_page_by_page(s3):
    keys = ["a", "b", "b", "dir/ü", "other"]
    ids = {begin(s3, key)["UploadId"] for key in keys}
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket=PLAIN, PaginationConfig={"PageSize": 2}))
    found = [upload for page in pages for upload in page["Uploads"]]
    assert (sorted(upload["Key"] for upload in found), {upload["UploadId"] for upload in found}) == (keys, ids)
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=PLAIN, Prefix="dir/")["Uploads"]] == ["dir/ü"]


def test_completion_can_be_conditional(s3, aws):
    s3.put_object(Bucket=PLAIN, Key="big", Body=b"there")
    upload = begin(s3)
    named = {"MultipartUpload": {"Parts": send(s3, upload, [b"new"])}}
    assert refused(s3.complete_multipart_upload, **upload, **named, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refused(s3.complete_multipart_upload, **upload, **named, IfMatch='"x"') == ("PreconditionFailed", 412)
    assert aws.object(PLAIN, "big").data == b"there"
    s3.complete_multipart_upload(**upload, **named, IfMatch=s3.head_object(Bucket=PLAIN, Key="big")["ETag"])
    assert aws.object(PLAIN, "big").data == b"new"


def test_parts_can_be_copied_from_an_object(s3, aws):
    tag = s3.put_object(Bucket=PLAIN, Key="source", Body=WHOLE, ChecksumCRC32=crc(WHOLE))["ETag"]
    upload = begin(s3)
    source = {"CopySource": {"Bucket": PLAIN, "Key": "source"}}
    named = []
    for number, (start, end) in enumerate([(0, 6 * MIB), (6 * MIB, len(WHOLE))], 1):
        span = {"CopySourceRange": f"bytes={start}-{end - 1}", "CopySourceIfMatch": tag}
        result = s3.upload_part_copy(**upload, **source, **span, PartNumber=number)["CopyPartResult"]
        assert result["ChecksumCRC32"] == crc(WHOLE[start:end])
        named.append({"PartNumber": number, "ETag": result["ETag"], "ChecksumCRC32": result["ChecksumCRC32"]})
    stale = {"CopySourceIfMatch": '"other"', "PartNumber": 3}
    assert refused(s3.upload_part_copy, **upload, **source, **stale) == ("PreconditionFailed", 412)
    beyond = {"CopySourceRange": f"bytes=0-{len(WHOLE)}", "PartNumber": 3}
    assert refused(s3.upload_part_copy, **upload, **source, **beyond) == ("InvalidArgument", 400)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": named}, ChecksumCRC32=crc(WHOLE))
    assert aws.object(PLAIN, "big").data == WHOLE


# ── copy ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_copy_gets_the_checksum_that_is_asked_for(s3, connect):
    connect(request_checksum_calculation="when_required").put_object(Bucket=PLAIN, Key="a", Body=b"abc")
    source = {"CopySource": {"Bucket": PLAIN, "Key": "a"}}
    s3.copy_object(Bucket=PLAIN, Key="b", **source)
    assert "ChecksumCRC32" not in s3.head_object(Bucket=PLAIN, Key="b", ChecksumMode="ENABLED")
    answer = s3.copy_object(Bucket=PLAIN, Key="b", **source, ChecksumAlgorithm="CRC32")
    assert answer["CopyObjectResult"]["ChecksumCRC32"] == crc(b"abc")
    head = s3.head_object(Bucket=PLAIN, Key="b", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (crc(b"abc"), "FULL_OBJECT")


def test_a_copy_can_demand_an_etag_of_its_source(s3):
    tag = s3.put_object(Bucket=PLAIN, Key="a", Body=b"abc")["ETag"]
    source = {"CopySource": {"Bucket": PLAIN, "Key": "a"}}
    s3.copy_object(Bucket=PLAIN, Key="b", **source, CopySourceIfMatch=tag)
    stale = {"Bucket": PLAIN, "Key": "b", **source, "CopySourceIfMatch": '"other"'}
    assert refused(s3.copy_object, **stale) == ("PreconditionFailed", 412)
    missing = {"Bucket": PLAIN, "Key": "b", "CopySource": {"Bucket": PLAIN, "Key": "no"}}
    assert refused(s3.copy_object, **missing) == ("NoSuchKey", 404)


def test_a_copy_onto_itself_that_changes_nothing_is_illegal_in_a_general_purpose_bucket(s3):
    s3.put_object(Bucket=PLAIN, Key="a", Body=b"abc")
    itself = {"Bucket": PLAIN, "Key": "a", "CopySource": {"Bucket": PLAIN, "Key": "a"}}
    assert refused(s3.copy_object, **itself) == ("InvalidRequest", 400)
    s3.copy_object(**itself, MetadataDirective="REPLACE")


# ── listing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_listing_is_sorted_and_comes_in_pages(s3):
    keys = [f"{name}/{number:02}" for name in "ab" for number in range(5)]
    for key in reversed(keys):
        s3.put_object(Bucket=PLAIN, Key=key, Body=key.encode())
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=PLAIN, PaginationConfig={"PageSize": 3}))
    assert [item["Key"] for page in pages for item in page["Contents"]] == keys
    assert [page["KeyCount"] for page in pages] == [3, 3, 3, 1]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=PLAIN, Prefix="b/0")["Contents"]] == keys[5:]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=PLAIN, StartAfter="b/03")["Contents"]] == ["b/04"]
    folded = s3.list_objects_v2(Bucket=PLAIN, Delimiter="/")
    assert ([item["Prefix"] for item in folded["CommonPrefixes"]], "Contents" in folded) == (["a/", "b/"], False)


def test_a_directory_bucket_lists_every_key_once_in_no_order(s3):
    keys = [f"dir/{number:02}" for number in range(20)]
    for key in keys:
        s3.put_object(Bucket=EXPRESS, Key=key)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=EXPRESS, PaginationConfig={"PageSize": 3})
    found = [item["Key"] for page in pages for item in page["Contents"]]
    assert sorted(found) == keys
    assert found != keys


def test_a_prefix_in_a_directory_bucket_ends_in_a_slash(s3):
    s3.put_object(Bucket=EXPRESS, Key="log/a")
    assert s3.list_objects_v2(Bucket=EXPRESS, Prefix="log/")["KeyCount"] == 1
    assert refused(s3.list_objects_v2, Bucket=EXPRESS, Prefix="lo") == ("InvalidArgument", 400)
    assert refused(s3.list_objects_v2, Bucket=EXPRESS, Delimiter="-") == ("InvalidArgument", 400)


# ── who may ask, and when ────────────────────────────────────────────────────────────────────────


def test_a_directory_bucket_is_reached_through_a_session(s3, aws):
    s3.put_object(Bucket=EXPRESS, Key="a")
    s3.put_object(Bucket=EXPRESS, Key="b")
    assert [entry.operation for entry in aws.log()] == ["CreateSession", "PutObject", "PutObject"]
    assert aws.log()[-1].headers["x-amz-date"]
    assert "x-amz-s3session-token" not in aws.log()[-1].headers, "the log holds no secrets"


def test_sessions_can_be_switched_off(connect, aws):
    plain = connect(s3={"disable_s3_express_session_auth": True})
    plain.put_object(Bucket=EXPRESS, Key="a")
    assert [entry.operation for entry in aws.log()] == ["PutObject"]


def test_a_session_ends_and_its_credentials_are_then_refused(s3, aws):
    s3.put_object(Bucket=EXPRESS, Key="a")
    aws.keyring.expire_all()
    assert refused(s3.put_object, Bucket=EXPRESS, Key="a") == ("ExpiredToken", 400)


def test_general_purpose_buckets_have_no_sessions(s3):
    assert refused(s3.create_session, Bucket=PLAIN) == ("InvalidRequest", 400)


def test_a_request_must_be_signed(aws):
    assert raw(aws, "GET", f"/{PLAIN}?list-type=2", b"", {})[0] == 403
    assert raw(aws, "GET", f"/{PLAIN}?list-type=2", b"", signature())[0] == 200


def test_temporary_credentials_hold_until_they_expire(connect, aws):
    issued = aws.keyring.issue("arn:aws:iam::0:role/x", 1.0)
    client = connect(key=issued.access_key, secret=issued.secret_key, token=issued.token)
    client.put_object(Bucket=PLAIN, Key="a")
    aws.settings.skew_s = 2.0
    assert refused(client.put_object, Bucket=PLAIN, Key="a") == ("ExpiredToken", 400)
    forged = connect(key=issued.access_key, secret="x", token="made-up")
    assert refused(forged.put_object, Bucket=PLAIN, Key="a") == ("InvalidToken", 400)
    assert refused(connect(key="ASIAUNKNOWN").put_object, Bucket=PLAIN, Key="a") == ("InvalidAccessKeyId", 403)


def test_the_credentials_of_one_principal_can_be_ended_alone(connect, aws):
    mine, yours = (aws.keyring.issue(name, 60) for name in ("me", "you"))
    aws.keyring.expire_all("me")
    clients = [connect(key=each.access_key, secret=each.secret_key, token=each.token) for each in (mine, yours)]
    assert refused(clients[0].put_object, Bucket=PLAIN, Key="a") == ("ExpiredToken", 400)
    clients[1].put_object(Bucket=PLAIN, Key="a")
    assert {mine.token, yours.token} <= set(aws.keyring.tokens())


def test_only_issued_keys_are_accepted_where_that_is_wanted(connect, aws):
    aws.settings.accept_any_key = False
    assert refused(connect().put_object, Bucket=PLAIN, Key="a") == ("InvalidAccessKeyId", 403)
    issued = aws.keyring.issue("x", 60)
    connect(key=issued.access_key, secret=issued.secret_key, token=issued.token).put_object(Bucket=PLAIN, Key="a")


def test_a_sessions_credentials_are_good_for_their_bucket_only(s3, aws):
    aws.store.create_bucket("other--use1-az4--x-s3")
    issued = s3.create_session(Bucket=EXPRESS)["Credentials"]
    headers = {**signature(issued["AccessKeyId"]), "x-amz-s3session-token": issued["SessionToken"]}
    assert raw(aws, "PUT", f"/{EXPRESS}/a", b"", headers)[0] == 200
    assert raw(aws, "PUT", "/other--use1-az4--x-s3/a", b"", headers)[0] == 403


def test_the_date_is_the_servers_and_a_request_far_from_it_is_refused(s3, aws):
    aws.settings.skew_s = -300.0
    answer = s3.put_object(Bucket=PLAIN, Key="a")
    date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    assert -302 <= date - time.time() <= -299
    assert -302 <= s3.head_object(Bucket=PLAIN, Key="a")["LastModified"].timestamp() - time.time() <= -299
    aws.settings.skew_s = 1000.0
    assert refused(s3.put_object, Bucket=PLAIN, Key="a") == ("RequestTimeTooSkewed", 403)


# ── the other services ───────────────────────────────────────────────────────────────────────────


def test_a_secure_parameter_is_readable_only_with_decryption(connect):
    ssm = connect("ssm")
    ssm.put_parameter(Name="/a/b", Value="plain text", Type="SecureString")
    assert ssm.get_parameter(Name="/a/b", WithDecryption=True)["Parameter"]["Value"] == "plain text"
    assert ssm.get_parameter(Name="/a/b")["Parameter"]["Value"] != "plain text"
    assert refused(ssm.get_parameter, Name="/no") == ("ParameterNotFound", 400)


def test_a_function_is_called_with_the_payload_and_answers_json(connect, aws):
    aws.functions.by_name["init"] = lambda payload: f"status: success\nfor: {payload['who']}"
    client = connect("lambda")
    for name in ("init", "arn:aws:lambda:us-east-1:000000000000:function:init"):
        answer = client.invoke(FunctionName=name, Payload=json.dumps({"who": "me"}))
        with answer["Payload"] as stream:
            assert json.loads(stream.read()) == "status: success\nfor: me"
        assert answer["StatusCode"] == 200
        assert "FunctionError" not in answer
    assert refused(client.invoke, FunctionName="no") == ("ResourceNotFoundException", 404)


def test_a_function_that_fails_is_a_function_error(connect, aws):
    def fail(payload):
        raise ValueError("bad luck")

    aws.functions.by_name["init"] = fail
    answer = connect("lambda").invoke(FunctionName="init", Payload=b"{}")
    with answer["Payload"] as stream:
        assert json.loads(stream.read()) == {"errorMessage": "bad luck", "errorType": "ValueError"}
    assert answer["FunctionError"] == "Unhandled"


def test_an_identity_pool_gives_credentials_for_a_role_of_the_token(connect, aws):
    role = "arn:aws:iam::0:role/x-role"
    claims = {"sub": "me", "exp": time.time() + 60, "cognito:roles": [role]}
    logins = {"Logins": {"pool": unsigned_token(claims)}}
    pool = connect("cognito-identity")
    identity = pool.get_id(IdentityPoolId="us-east-1:pool", **logins)["IdentityId"]
    assert pool.get_id(IdentityPoolId="us-east-1:pool", **logins)["IdentityId"] == identity
    issued = pool.get_credentials_for_identity(IdentityId=identity, **logins, CustomRoleArn=role)["Credentials"]
    assert abs(issued["Expiration"].timestamp() - time.time() - 3600) < 5
    keys = {"key": issued["AccessKeyId"], "secret": issued["SecretKey"], "token": issued["SessionToken"]}
    assert connect("sts", **keys).get_caller_identity()["Arn"] == role
    connect(**keys).put_object(Bucket=PLAIN, Key="a")
    assert pool.get_open_id_token(IdentityId=identity, **logins)["Token"].count(".") == 2
    other = {"IdentityId": identity, **logins, "CustomRoleArn": "arn:aws:iam::0:role/other"}
    assert refused(pool.get_credentials_for_identity, **other) == ("NotAuthorizedException", 400)


def test_an_identity_pool_refuses_no_login_an_old_one_and_a_revoked_identity(connect, aws):
    pool = connect("cognito-identity")
    known = {"IdentityPoolId": "us-east-1:pool"}
    assert refused(pool.get_id, **known)[0] == "NotAuthorizedException"
    old = {"pool": unsigned_token({"sub": "me", "exp": time.time() - 1})}
    assert refused(pool.get_id, **known, Logins=old)[0] == "NotAuthorizedException"
    assert refused(pool.get_id, **known, Logins={"pool": "nonsense"})[0] == "NotAuthorizedException"
    good = {"pool": unsigned_token({"sub": "me", "exp": time.time() + 60})}
    identity = pool.get_id(**known, Logins=good)["IdentityId"]
    aws.identity_pools.revoked.add(identity)
    assert refused(pool.get_credentials_for_identity, IdentityId=identity, Logins=good)[0] == "NotAuthorizedException"
    assert (
        refused(pool.get_credentials_for_identity, IdentityId="us-east-1:no", Logins=good)[0]
        != "NotAuthorizedException"
    )


def test_a_role_can_be_assumed(connect):
    issued = connect("sts").assume_role(RoleArn="arn:aws:iam::0:role/x", RoleSessionName="session")["Credentials"]
    keys = {"key": issued["AccessKeyId"], "secret": issued["SecretAccessKey"], "token": issued["SessionToken"]}
    assert connect("sts", **keys).get_caller_identity()["Arn"] == "arn:aws:iam::0:role/x"


def test_the_other_services_refuse_expired_credentials_in_their_own_words(connect, aws):
    issued = aws.keyring.issue("x", -1)
    keys = {"key": issued.access_key, "secret": issued.secret_key, "token": issued.token}
    assert refused(connect("ssm", **keys).get_parameter, Name="/a") == ("ExpiredTokenException", 400)
    assert refused(connect("lambda", **keys).invoke, FunctionName="x")[0] == "ExpiredTokenException"
    assert refused(connect("sts", **keys).get_caller_identity)[0] == "ExpiredToken"
    assert refused(connect("cognito-idp").get_user, AccessToken="x") == ("NotImplemented", 501)


def test_a_task_runs_a_command_with_the_environment_asked_for_and_its_output_is_its_log(connect, aws):
    code = "import os, time; print('for', os.environ['WHO']); time.sleep(60)"
    aws.tasks.runner = CommandRunner([sys.executable, "-c", code])
    ecs, logs = connect("ecs"), connect("logs")
    override = {"containerOverrides": [{"name": "main", "environment": [{"name": "WHO", "value": "me"}]}]}
    tag = {"key": "Name", "value": "x"}
    started = ecs.run_task(cluster="c", taskDefinition="main", overrides=override, tags=[tag])["tasks"][0]
    assert ecs.list_tasks(cluster="c", desiredStatus="RUNNING")["taskArns"] == [started["taskArn"]]
    [task] = ecs.describe_tasks(cluster="c", tasks=[started["taskArn"]], include=["TAGS"])["tasks"]
    assert (task["lastStatus"], task["tags"]) == ("RUNNING", [tag])
    definition = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
    options = definition["containerDefinitions"][0]["logConfiguration"]["options"]
    stream = f"{options['awslogs-stream-prefix']}/main/{started['taskArn'].rpartition('/')[2]}"
    deadline = time.monotonic() + 10
    while not (events := logs.get_log_events(logGroupName=options["awslogs-group"], logStreamName=stream)["events"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [event["message"] for event in events] == ["for me"]
    ecs.stop_task(cluster="c", task=started["taskArn"])
    assert ecs.list_tasks(cluster="c", desiredStatus="RUNNING")["taskArns"] == []
    assert ecs.list_tasks(cluster="c", desiredStatus="STOPPED")["taskArns"] == [started["taskArn"]]
    aws.tasks.runner = None
    assert refused(ecs.run_task, taskDefinition="main")[0] == "ClientException"


def test_a_message_to_a_queue_is_kept(connect, aws):
    connect("sqs").send_message(QueueUrl="queue", MessageBody="done")
    assert aws.tasks.messages == ["done"]


# ── faults by order ──────────────────────────────────────────────────────────────────────────────


def put(client, key="a", body=b"body", **arguments):
    return client.put_object(Bucket=PLAIN, Key=key, Body=body, **arguments)


def test_a_lost_answer_comes_after_the_effect(s3, aws):
    aws.order(Fault("lost", operation="PutObject"))
    with pytest.raises(ConnectionClosedError):
        put(s3)
    assert aws.object(PLAIN, "a").data == b"body"
    assert [(entry.status, entry.fault) for entry in aws.log()] == [(0, "lost")]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("InternalError", 500),
        ("AccessDenied", 403),
        ("ExpiredToken", 400),
        ("RequestTimeTooSkewed", 403),
        ("ConditionalRequestConflict", 409),
    ],
)
def test_a_refusal_has_no_effect(s3, aws, code, status):
    fault = aws.order(Fault("refused", code=code))
    assert refused(put, client=s3) == (code, status)
    assert (aws.object(PLAIN, "a"), fault.fired) == (None, 1)
    put(s3)


def test_an_error_can_hide_in_a_200(s3, aws):
    upload = begin(s3)
    named = {"MultipartUpload": {"Parts": send(s3, upload, [b"part"])}}
    aws.order(Fault("error_in_200", operation="CompleteMultipartUpload"))
    assert refused(s3.complete_multipart_upload, **upload, **named)[0] == "InternalError"
    assert aws.object(PLAIN, "big") is None


def test_a_hang_outlasts_the_clients_patience_without_an_effect(connect, aws):
    impatient = connect(read_timeout=0.3)
    aws.order(Fault("hang", seconds=30))
    with pytest.raises(ReadTimeoutError):
        put(impatient)
    assert aws.object(PLAIN, "a") is None
    aws.order(Fault("hang_after", seconds=30))
    with pytest.raises(ReadTimeoutError):
        put(impatient)
    assert aws.object(PLAIN, "a") is not None


def test_a_late_request_takes_effect_when_nobody_waits_any_more(connect, aws):
    aws.order(Fault("late", seconds=0.8))
    with pytest.raises(ReadTimeoutError):
        put(connect(read_timeout=0.3))
    assert aws.object(PLAIN, "a") is None
    time.sleep(1)
    assert aws.object(PLAIN, "a") is not None


def test_a_held_request_takes_effect_once_it_is_released_and_none_is_held_then(connect, aws):
    held = aws.order(Fault("held", times=0))
    with pytest.raises(ReadTimeoutError):
        put(connect(read_timeout=0.3))
    assert (held.fired, aws.object(PLAIN, "a")) == (1, None)
    aws.release()
    put(connect(), "b")
    while aws.object(PLAIN, "a") is None:  # nobody waits for it any more; the test's time limit ends this
        time.sleep(0.01)


def test_a_duplicate_takes_effect_twice(s3, aws):
    aws.order(Fault("duplicate", key="log"))
    s3.put_object(Bucket=EXPRESS, Key="log", Body=b"1", WriteOffsetBytes=0)
    aws.order(Fault("duplicate_last", key="log"))
    again = {"Bucket": EXPRESS, "Key": "log", "Body": b"1", "WriteOffsetBytes": 1}
    assert refused(s3.put_object, **again) == ("InvalidWriteOffset", 400)
    assert aws.object(EXPRESS, "log").data == b"11"
    aws.order(Fault("duplicate", operation="PutObject", key="new"))
    put(s3, "new", IfNoneMatch="*")
    aws.order(Fault("duplicate_last", operation="PutObject", key="newer"))
    assert refused(put, client=s3, key="newer", IfNoneMatch="*") == ("PreconditionFailed", 412)


def test_a_reset_in_mid_body_has_no_effect(s3, aws):
    aws.order(Fault("reset"))
    with pytest.raises(HTTPClientError):
        put(s3, body=b"x" * MIB)
    assert aws.object(PLAIN, "a") is None


def test_a_truncated_answer_is_noticed_by_the_reader(s3, aws):
    put(s3, body=b"0123456789")
    aws.order(Fault("truncated", operation="GetObject"))
    answer = s3.get_object(Bucket=PLAIN, Key="a")
    with closing(answer["Body"]) as stream, pytest.raises(ResponseStreamingError):
        stream.read()


def test_bytes_that_change_on_their_way_are_caught_by_the_checksum(s3, aws):
    aws.order(Fault("corrupt"))
    assert refused(put, client=s3, ChecksumCRC32=crc(b"body"))[0] in {"BadDigest", "XAmzContentSHA256Mismatch"}
    aws.order(Fault("corrupt"))
    headers = {**signature(), "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-checksum-crc32": crc(b"body")}
    status, answer = raw(aws, "PUT", f"/{PLAIN}/a", b"body", headers)
    assert (status, b"BadDigest" in answer) == (400, True)
    assert aws.object(PLAIN, "a") is None


def test_a_fault_meets_the_nth_fitting_request_and_as_many_as_it_was_told(s3, aws):
    fault = aws.order(Fault("refused", operation="PutObject", key="a*", nth=2, times=2))
    outcomes = []
    for key in ["a1", "b1", "a2", "b2", "a3", "a4"]:
        try:
            put(s3, key)
            outcomes.append(key)
        except ClientError:
            outcomes.append("refused")
    assert outcomes == ["a1", "b1", "refused", "b2", "refused", "a4"]
    assert (fault.seen, fault.fired) == (4, 2)


def test_faults_meet_the_other_services_too(connect, aws):
    aws.parameters.values["/a"] = ("String", "x")
    aws.order(Fault("refused", operation="GetParameter", code="SlowDown"))
    assert refused(connect("ssm").get_parameter, Name="/a")[0] == "ThrottlingException"
    aws.functions.by_name["init"] = lambda _: "yes"
    aws.order(Fault("lost", operation="Invoke"))
    with pytest.raises(ConnectionClosedError):
        connect("lambda").invoke(FunctionName="init")


# ── as a process ─────────────────────────────────────────────────────────────────────────────────


def test_an_order_that_makes_no_sense_is_refused(aws):
    for path, said in [("/_faults", {"kind": "odd"}), ("/_settings", {"odd": 1}), ("/_odd", {})]:
        assert raw(aws, "POST", path, json.dumps(said), {})[0] == 400


def test_a_reset_forgets_everything_but_credentials(aws, s3):
    put(s3)
    aws.order(Fault("refused"))
    aws.settings.skew_s = 5.0
    aws.reset()
    assert (aws.log(), aws.faults.listing(), aws.store.buckets, aws.settings.skew_s) == ([], [], {}, 0.0)


@pytest.mark.parametrize("kind", ["hang", "hang_after", "late", "held"])
def test_a_reset_cuts_what_still_waits_and_the_next_test_reads_nothing_of_it(aws, kind):
    fault = aws.order(Fault(kind, operation="PutObject", seconds=60))
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(f"PUT /{PLAIN}/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na".encode())
        while not fault.fired:
            time.sleep(0.01)
        aws.reset()
        assert connection.recv(10) == b""
    assert aws.log() == []


def test_it_runs_as_a_process_and_is_controlled_over_http():
    command = f"{sys.executable} -c 'import json, sys; print(json.dumps(json.load(sys.stdin)[\"a\"]))'"
    argv = [
        sys.executable,
        "-m",
        "tests.emulator",
        "--bucket",
        PLAIN,
        "--parameter",
        "/p=v",
        "--function",
        f"f={command}",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            started = json.loads(process.stdout.readline())
            url = started["url"]

            def control(method, path, **said):
                data = json.dumps(said).encode() if said else None
                with urllib.request.urlopen(urllib.request.Request(url + path, data, method=method)) as answer:
                    return json.load(answer)

            session = boto3.Session("AKIATEST", "secret", region_name="us-east-1")
            once = Config(retries={"total_max_attempts": 1})
            s3, functions, ssm = (
                session.client(name, endpoint_url=url, config=once) for name in ("s3", "lambda", "ssm")
            )
            control("POST", "/_faults", kind="refused", operation="PutObject", code="SlowDown")
            assert refused(put, client=s3) == ("SlowDown", 503)
            control("DELETE", "/_faults")
            put(s3)
            assert [(entry["operation"], entry["status"]) for entry in control("GET", "/_log")] == [
                ("PutObject", 503),
                ("PutObject", 200),
            ]
            control("POST", "/_buckets", name="another")
            control("POST", "/_settings", skew_s=60.0)
            s3.head_bucket(Bucket="another")
            assert ssm.get_parameter(Name="/p")["Parameter"]["Value"] == "v"
            with functions.invoke(FunctionName="f", Payload=b'{"a": [1]}')["Payload"] as stream:
                assert json.loads(stream.read()) == [1]
            for client in (s3, functions, ssm):
                client.close()
        finally:
            process.terminate()
            process.wait(10)


def test_closing_it_cuts_every_connection_and_leaves_no_thread():
    before = threading.active_count()
    emulator = Emulator()
    with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.1)
        emulator.close()
        assert connection.recv(10) == b""
    assert threading.active_count() <= before
