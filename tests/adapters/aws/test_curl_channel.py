"""Many small objects through one thread: each asserted by its CRC32, each handed back once, whatever becomes of it."""

import threading
import time
import zlib

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from tests.contracts.archive import ODD_NAMES
from tests.emulator import Fault
from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.curl_channel import CurlChannel
from upload_adapters.aws.errors import AwsError, AwsUnavailableError
from upload_adapters.aws.signing import UNSIGNED_PAYLOAD, Form, Signer, quoted
from upload_core.checksum import crc32_base64
from upload_core.errors import IdentityError, LockLostError
from upload_core.ports import StoredObject


def crc(data: bytes) -> str:
    return crc32_base64(zlib.crc32(data))


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket()


@pytest.fixture
def channel(bucket):
    made = CurlChannel(bucket.endpoint)
    yield made
    made.close()


def all_of(channel):
    found = []
    while channel.under_way:
        found += channel.finished(5.0)
    return found


def test_what_is_started_is_stored_whole_under_its_checksum(channel, aws, bucket):
    bodies = {f"dir/f{number}": b"%d," % number * 300 for number in range(200)}
    for tag, (relpath, data) in enumerate(bodies.items()):
        channel.start(tag, relpath, data, crc(data))
    found = dict(all_of(channel))
    assert sorted(found) == list(range(200))
    for tag, (relpath, data) in enumerate(bodies.items()):
        stored = aws.object(bucket.name, relpath)
        assert (stored.data, stored.checksum.value) == (data, crc(data))
        assert found[tag] == StoredObject(relpath, len(data), crc(data), stored.etag)


@pytest.mark.parametrize("relpath", ODD_NAMES)
def test_any_name_that_an_index_may_hold_is_kept_as_it_is(channel, aws, bucket, relpath):
    channel.start(1, relpath, b"data", crc(b"data"))
    [(_, stored)] = all_of(channel)
    assert isinstance(stored, StoredObject)
    assert aws.object(bucket.name, relpath).data == b"data"


@pytest.mark.parametrize("asked", [0, 3])
def test_nothing_is_stored_of_what_may_no_longer_go_when_its_bytes_are_due(channel, aws, bucket, asked):
    """On a new connection that is long after it was started: a machine may have slept in between."""
    data, questions = b"x" * 3_000_000, []

    def commit():
        questions.append(1)
        if len(questions) > asked:
            raise LockLostError("taken over")

    channel.start(1, "a", data, crc(data), commit)
    [(tag, error)] = all_of(channel)
    assert tag == 1
    assert isinstance(error, LockLostError)
    assert aws.object(bucket.name, "a") is None
    channel.start(2, "b", data, crc(data))
    [(tag, stored)] = all_of(channel)
    assert isinstance(stored, StoredObject)
    assert aws.object(bucket.name, "a") is None


def test_an_empty_file_is_stored(channel, aws, bucket):
    channel.start(1, "empty", b"", crc(b""))
    [(_, stored)] = all_of(channel)
    assert stored.size == 0
    assert aws.object(bucket.name, "empty").data == b""


def test_each_file_is_one_request_without_waiting_for_a_continue(channel, aws):
    channel.start(1, "a", b"data", crc(b"data"))
    all_of(channel)
    [entry] = aws.log()
    assert entry.operation == "PutObject"
    assert "expect" not in entry.headers
    assert entry.headers["x-amz-content-sha256"] == UNSIGNED_PAYLOAD


def test_bytes_that_are_not_what_was_asserted_become_no_object(channel, aws, bucket):
    channel.start(1, "a", b"data", crc(b"other"))
    [(_, error)] = all_of(channel)
    assert isinstance(error, AwsUnavailableError)
    assert error.code == "BadDigest"
    assert aws.object(bucket.name, "a") is None


@pytest.mark.parametrize("kind", ["lost", "refused", "reset"])
def test_a_request_that_fails_is_handed_back_and_not_repeated(channel, aws, kind):
    aws.order(Fault(kind, operation="PutObject"))
    channel.start(7, "a", b"data", crc(b"data"))
    [(tag, error)] = all_of(channel)
    assert tag == 7
    assert isinstance(error, AwsError)
    assert len(aws.log("PutObject")) <= 1
    channel.start(8, "b", b"data", crc(b"data"))
    [(tag, stored)] = all_of(channel)
    assert isinstance(stored, StoredObject)


def test_a_bucket_that_is_not_there_is_told_as_boto3_would(archive_places):
    nowhere = archive_places.bucket(exists=False)
    channel = CurlChannel(nowhere.endpoint)
    channel.start(1, "a", b"data", crc(b"data"))
    [(_, error)] = all_of(channel)
    channel.close()
    assert error.code == "NoSuchBucket"


def test_a_server_that_is_away_is_an_archive_out_of_reach(bucket):
    away = Endpoint("http://127.0.0.1:9/b/", "us-east-1", bucket.endpoint.keys, bucket.endpoint.now_ms)
    channel = CurlChannel(away)
    channel.start(1, "a", b"data", crc(b"data"))
    [(_, error)] = all_of(channel)
    channel.close()
    assert isinstance(error, AwsUnavailableError)


def test_what_getting_keys_raises_is_raised_at_the_start_and_leaves_nothing_under_way(bucket):
    def no_keys():
        raise IdentityError("expired")

    channel = CurlChannel(Endpoint(bucket.endpoint.base, "us-east-1", no_keys, bucket.endpoint.now_ms))
    with pytest.raises(IdentityError):
        channel.start(1, "a", b"data", crc(b"data"))
    assert channel.under_way == 0
    channel.close()


def test_a_wake_from_another_thread_ends_the_waiting(channel):
    timer = threading.Timer(0.1, channel.wake)
    timer.start()
    before = time.monotonic()
    assert channel.finished(30.0) == []
    assert time.monotonic() - before < 20
    timer.join()


def test_closing_names_those_of_whom_nobody_will_hear(channel, aws):
    aws.order(Fault("hang", operation="PutObject"))
    channel.start(5, "a", b"data", crc(b"data"))
    channel.finished(0.05)
    assert channel.close() == [5]
    assert channel.close() == []
    channel.wake()


# --- signatures --------------------------------------------------------------------------------------


class _Keys:
    access_key = "AKIAEXAMPLE"
    secret_key = "not/a+secret"

    def __init__(self, token):
        self.token = token


def signed_by_botocore(method, url, headers, token, now):
    """Authorization as botocore makes it, of the very same request."""
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=headers)
    request.context["payload_signing_enabled"] = False
    request.context["timestamp"] = now
    keys = botocore.credentials.Credentials(_Keys.access_key, _Keys.secret_key, token)
    auth = botocore.auth.S3SigV4Auth(keys, "s3", "eu-west-1")
    auth.payload = lambda _: headers["X-Amz-Content-SHA256"]
    request.headers["X-Amz-Date"] = now
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(request)
    string = auth.string_to_sign(request, canonical)
    return auth.signature(string, request)


@pytest.mark.parametrize("token", [None, "tok/en+with=all%of it"])
@pytest.mark.parametrize("query", ["", "partNumber=3&uploadId=a-b"])
@pytest.mark.parametrize("key", ["a b/c+d%.fits", "Größe/大きさ.dat", "plain"])
def test_a_signature_is_the_one_that_botocore_makes(token, query, key):
    now_ms = 1_790_000_000_000
    signer = Signer("mast.s3.eu-west-1.amazonaws.com", "eu-west-1", lambda: _Keys(token), lambda: now_ms)
    form = Form(signer, "PUT", UNSIGNED_PAYLOAD, ["x-amz-checksum-crc32"])
    headers = dict(line.split(": ", 1) for line in form.headers("/" + quoted(key), query, "yH2GHg=="))
    expected = signed_by_botocore(
        "PUT",
        f"https://mast.s3.eu-west-1.amazonaws.com/{quoted(key)}" + (f"?{query}" if query else ""),
        {"x-amz-checksum-crc32": "yH2GHg==", "X-Amz-Content-SHA256": UNSIGNED_PAYLOAD},
        token,
        headers["x-amz-date"],
    )
    assert headers["Authorization"].endswith(f"Signature={expected}")


def test_new_keys_and_a_new_day_give_new_signatures():
    token, now_ms = ["one"], [1_790_000_000_000]
    signer = Signer("host", "us-east-1", lambda: _Keys(token[0]), lambda: now_ms[0])
    form = Form(signer, "PUT", UNSIGNED_PAYLOAD)
    seen = {form.headers("/a", "")[-1]}
    token[0] = "two"
    seen.add(form.headers("/a", "")[-1])
    now_ms[0] += 86_400_000
    seen.add(form.headers("/a", "")[-1])
    now_ms[0] += 1_000
    seen.add(form.headers("/a", "")[-1])
    assert len(seen) == 4
    assert form.headers("/a", "")[-1] in seen


# ── new connections ──────────────────────────────────────────────────────────────────────────────


def test_after_another_generation_no_connection_is_used_again_and_nothing_under_way_is_lost(aws, bucket):
    generation, before = [0], aws.connections
    channel = CurlChannel(bucket.endpoint, lambda: generation[0])
    try:
        for tag in range(4):
            channel.start(tag, f"a{tag}", b"data", crc(b"data"))
            assert [tag for tag, _ in all_of(channel)] == [tag]
        assert aws.connections - before == 1
        generation[0] += 1
        for tag in range(4):
            channel.start(tag, f"b{tag}", b"data", crc(b"data"))
            assert [tag for tag, _ in all_of(channel)] == [tag]
        assert aws.connections - before == 2
        channel.start(0, "c0", b"data", crc(b"data"))
        generation[0] += 1
        channel.start(1, "c1", b"data", crc(b"data"))  # beside one that is under way
        assert sorted(tag for tag, _ in all_of(channel)) == [0, 1]
        assert aws.connections - before == 3
        for tag in range(20):
            channel.start(tag, f"d{tag}", b"data", crc(b"data"))
        found = all_of(channel)
        assert sorted(tag for tag, _ in found) == list(range(20))
        assert all(isinstance(result, StoredObject) for _, result in found)
        assert 4 <= aws.connections - before <= 23
        waker = threading.Timer(0.05, channel.wake)
        waker.start()
        began = time.monotonic()
        assert channel.finished(20) == []
        assert time.monotonic() - began < 10, "it is woken as before"
    finally:
        channel.close()


def test_what_hangs_on_old_connections_keeps_nobody_busy(aws, bucket, monkeypatch):
    generation = [0]
    aws.order(Fault("held", operation="PutObject"))
    channel = CurlChannel(bucket.endpoint, lambda: generation[0])
    looks, moved = [], channel._moved

    def look(connections):
        looks.append(1)
        return moved(connections)

    monkeypatch.setattr(channel, "_moved", look)
    try:
        channel.start(1, "hangs", b"data", crc(b"data"))
        assert channel.finished(0.3) == []
        generation[0] += 1
        channel.start(2, "b", b"data", crc(b"data"))
        assert [tag for tag, _ in channel.finished(5.0)] == [2]
        looks.clear()
        assert channel.finished(0.5) == []
        assert len(looks) < 300, "two connections, looked at every hundredth of a second"
    finally:
        aws.release()
        channel.close()
