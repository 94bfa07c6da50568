"""The control bucket in S3 keeps its port's promises, on a store with AWS's rules, whatever happens to requests."""

import attrs
import pytest
from botocore.exceptions import ClientError

from tests.contracts.control_bucket import ControlBucketContract
from tests.contracts.logs import LogsContract
from tests.contracts.owner_lock import OwnerLockContract
from tests.emulator import Fault
from upload_adapters.aws.deployment import make_bucket
from upload_adapters.aws.s3_control import S3ControlBucket
from upload_adapters.aws.server_clock import ServerClock
from upload_adapters.clock import SystemClock
from upload_core.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    IdentityError,
    OffsetConflictError,
    PreconditionFailedError,
)
from upload_core.logs import AppendLog
from upload_core.owner_lock import OwnerLock

KEY = "log/client_staging"


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket(directory=True)


@pytest.fixture
def control(bucket):
    return S3ControlBucket(lambda: bucket)


class TestS3ControlBucket(ControlBucketContract):
    @pytest.fixture
    def control(self, bucket):
        return S3ControlBucket(lambda: bucket)


class TestLogsInS3(LogsContract):
    @pytest.fixture
    def control(self, bucket):
        return S3ControlBucket(lambda: bucket)


class TestOwnerLockInS3(OwnerLockContract):
    @pytest.fixture
    def control(self, bucket):
        return S3ControlBucket(lambda: bucket)

    @pytest.fixture
    def make_old(self, aws, bucket):
        def make_old(key, seconds):
            objects = aws.store.bucket(bucket.name).objects
            objects[key] = attrs.evolve(objects[key], modified=objects[key].modified - seconds)

        return make_old


# ── what S3 adds ─────────────────────────────────────────────────────────────────────────────────


def test_every_write_is_asserted_by_the_store(control, aws):
    control.put("lock/client", b"me")
    control.append(KEY, b"row\n", offset=0)
    writes = aws.log("PutObject")
    assert len(writes) == 2
    assert all("x-amz-checksum-crc32" in entry.headers for entry in writes)


def test_a_write_is_sent_once_however_it_ends(control, aws):
    fault = aws.order(Fault("lost", operation="PutObject", times=0))
    for write in (
        lambda: control.put("lock/client", b"me", if_absent=True),
        lambda: control.append(KEY, b"row\n", offset=0),
    ):
        sent = fault.fired
        with pytest.raises(ArchiveUnavailableError):
            write()
        assert fault.fired == sent + 1


@pytest.mark.parametrize("code", ["SlowDown", "ConditionalRequestConflict"])
def test_a_write_that_s3_says_it_did_not_do_is_sent_again(control, aws, code):
    aws.order(Fault("refused", operation="PutObject", code=code, times=2))
    control.put("lock/client", b"me", if_absent=True)
    assert len(aws.log("PutObject")) == 3


def test_after_ten_thousand_parts_a_log_goes_on(control, aws):
    aws.settings.parts_max = 50
    log = AppendLog(control, KEY)
    for number in range(120):
        log.append(b"row %03d\n" % number)
    assert control.read(KEY)[0] == b"".join(b"row %03d\n" % number for number in range(120))
    assert len(aws.log("CopyObject")) == 2


@pytest.mark.parametrize("kind", ["lost", "refused", "reset", "duplicate", "duplicate_last"])
@pytest.mark.parametrize("operation", ["PutObject", "CopyObject", "HeadObject", "GetObject", "CreateSession"])
def test_a_log_loses_and_doubles_no_row_whichever_request_fails(control, aws, operation, kind):
    aws.settings.parts_max = 3
    log = AppendLog(control, KEY)
    for number in range(10):
        aws.order(Fault(kind, operation=operation, code="InternalError"))
        while True:
            try:
                log.append(b"row %d\n" % number)
            except ArchiveUnavailableError:
                continue
            break
    aws.faults.clear()
    assert control.read(KEY)[0] == b"".join(b"row %d\n" % number for number in range(10))


def test_a_log_that_somebody_else_wrote_meanwhile_is_not_compacted_into(control, aws, bucket):
    aws.settings.parts_max = 2
    control.append(KEY, b"1\n", offset=0)
    control.append(KEY, b"2\n", offset=2)
    with pytest.raises(OffsetConflictError):
        control.append(KEY, b"3\n", offset=2)
    assert aws.object(bucket.name, KEY).data == b"1\n2\n"


@pytest.mark.parametrize("kind", ["lost", "refused", "hang_after", "reset", "duplicate", "duplicate_last"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_lock_is_taken_renewed_and_given_back_whichever_write_fails(control, aws, kind, nth, bucket):
    aws.order(Fault(kind, operation="*Object", key="lock/*", nth=nth, code="InternalError", seconds=0.1))
    lock = OwnerLock(control, "lock/client", "us", 3600.0)

    def until_answered(call):
        for _ in range(5):
            try:
                return call()
            except ArchiveUnavailableError:
                continue
        raise AssertionError("no end of it")

    until_answered(lock.acquire)
    until_answered(lock.renew)
    assert aws.object(bucket.name, "lock/client").data == b"us"
    until_answered(lock.release)
    assert aws.object(bucket.name, "lock/client") is None


def test_an_answer_cut_short_is_read_again(control, aws):
    control.put(KEY, b"0123456789" * 100)
    aws.order(Fault("truncated", operation="GetObject", times=2))
    assert control.read(KEY, 500)[0] == b"0123456789" * 50


def test_ages_are_by_the_servers_clock(control, aws):
    control.put(KEY, b"x")
    aws.settings.skew_s = 500.0
    assert 499 <= control.head(KEY).age_s <= 502
    assert 499 <= control.read(KEY)[1].age_s <= 502


def test_a_bucket_that_is_not_there_is_a_matter_of_configuration(archive_places):
    bucket = archive_places.bucket(directory=True, exists=False)
    control = S3ControlBucket(lambda: bucket)
    for call in (lambda: control.head(KEY), lambda: control.read(KEY), lambda: control.put(KEY, b"")):
        with pytest.raises(ConfigurationError, match="NoSuchBucket"):
            call()


def test_expired_credentials_are_the_identitys_affair(control, aws):
    aws.order(Fault("refused", operation="PutObject", code="ExpiredToken", times=2))
    with pytest.raises(IdentityError, match="sign in again"):
        control.put(KEY, b"x")


def test_sessions_that_end_after_minutes_are_renewed(control, aws, bucket):
    # botocore renews a session a minute before its end: this one is as good as over when it begins.
    aws.settings.session_lifetime_s = 30.0
    for number in range(3):
        control.append(KEY, b"x", offset=number)
    assert aws.object(bucket.name, KEY).data == b"xxx"
    assert len(aws.log("CreateSession")) >= 3


def bucket_with_a_clock(archive_places):
    """A directory bucket whose clients learn the archive's time, as those of a delivery do."""
    clock = ServerClock(SystemClock())

    def client(config):
        made = archive_places.session.client("s3", endpoint_url=archive_places.aws.url, config=config)
        clock.watch(made)
        return made

    name = archive_places.bucket(directory=True).name
    return make_bucket(name, archive_places.session, client, clock.now_ms)


@pytest.mark.parametrize("skew_s", [600.0, -600.0, 120.0, -120.0])
def test_a_session_is_renewed_by_the_archives_clock_however_wrong_ours_is(archive_places, aws, skew_s):
    aws.settings.skew_s, aws.settings.session_lifetime_s = skew_s, 30.0  # which botocore renews at every look
    bucket = bucket_with_a_clock(archive_places)
    control = S3ControlBucket(lambda: bucket)
    for number in range(4):
        control.append(KEY, b"x", offset=number)
    renewed = len(aws.log("CreateSession"))
    assert renewed >= 4
    aws.settings.session_lifetime_s = 300.0
    for number in range(4, 8):
        control.append(KEY, b"x", offset=number)
    assert len(aws.log("CreateSession")) == renewed + 1, "one that has minutes left is used again"
    assert aws.object(bucket.name, KEY).data == b"xxxxxxxx"


def test_a_session_that_ends_before_its_time_is_opened_anew_and_nothing_is_lost_or_doubled(control, aws, bucket):
    aws.settings.parts_max = 3
    for number in range(8):
        control.append(KEY, b"%d" % number, offset=number)
        aws.keyring.expire_all()
        assert control.read(KEY)[0] == b"01234567"[: number + 1]
        aws.keyring.expire_all()
        assert control.head(KEY).size == number + 1
        aws.keyring.expire_all()
    control.delete(KEY)
    assert aws.object(bucket.name, KEY) is None


def test_a_write_to_any_other_bucket_is_never_repeated_by_itself(archive_places, aws):
    bucket = archive_places.bucket(directory=True)
    aws.order(Fault("refused", operation="PutObject", code="ExpiredToken"))
    with pytest.raises(ClientError, match="ExpiredToken"):
        bucket.once.put_object(Bucket=bucket.name, Key="a", Body=b"x")
    assert len(aws.log("PutObject")) == 1
    bucket.once.put_object(Bucket=bucket.name, Key="a", Body=b"x")
    assert len(aws.log("CreateSession")) == 2


def test_a_lost_race_is_known_for_what_it_is_even_behind_a_refused_delete(control):
    control.put("lock/client", b"them")
    with pytest.raises(PreconditionFailedError):
        control.delete("lock/client", if_match='"other"')
