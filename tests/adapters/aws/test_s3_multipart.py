"""Large files in S3: what S3 has is not sent again, what the journal knows is not read again, nothing is mixed or left."""

import random
import threading

import pytest

from tests.adapters.aws.attempts import Attempt, CountedBody, crc
from tests.adapters.aws.places import KIB, MIB
from tests.contracts.bodies import ChangedBody
from tests.emulator import Fault
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_part import Boto3Sender
from upload_core.attempt import FreeAttempt
from upload_core.effects import OpenUpload
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ChecksumMismatchError,
    IdentityError,
    LockLostError,
    SourceChangedError,
    SourceError,
    SourceMissingError,
)

PART = 256 * KIB
COUNT = 12
DATA = random.Random(5).randbytes((COUNT - 1) * PART + 17)
"""Twelve parts, the last of 17 bytes."""


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket()


@pytest.fixture
def archive(bucket):
    """A new one, as a new process has."""
    return make(bucket)


def make(bucket, *, at_once=3, part_size=PART, sender=None):
    return S3Archive(
        lambda: bucket, single_max=PART, part_size=part_size, pool=PartPool(at_once=at_once), sender=sender
    )


def sent(aws):
    """Numbers of the parts that came to S3, as often as they did."""
    return sorted(int(entry.query["partNumber"]) for entry in aws.log("UploadPart") if entry.status == 200)


class CutError(LockLostError):
    """The process ends here, as the archive sees it."""


def interrupted(bucket, aws, after, *, data=DATA, checksum=None, known=None, body=None):
    """Store the file until `after` parts were sent; what is left of it, as the journal knows it."""
    count = len(sent(aws)) + after

    def commit():
        if len(sent(aws)) >= count:
            raise CutError("cut")

    attempt = Attempt(known, commit)
    with pytest.raises(CutError):
        make(bucket, at_once=1).put("big", body or CountedBody(data), checksum=checksum, attempt=attempt)
    assert attempt.left is not None
    assert len(aws.open_uploads()) == 1
    return attempt.left


def judge(aws, bucket, data=DATA):
    """The object is whole and there are no parts left."""
    found = aws.object(bucket.name, "big")
    assert found.data == data
    assert found.checksum.value == crc(data)
    assert aws.open_uploads() == []


# ── going on ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("checksum", [None, crc(DATA)])
@pytest.mark.parametrize("after", [1, 5, COUNT - 1])
def test_the_next_attempt_sends_and_reads_only_what_is_missing(aws, bucket, after, checksum):
    left = interrupted(bucket, aws, after, checksum=checksum)
    assert sorted(left.parts) == list(range(1, after + 1))
    body, attempt = CountedBody(DATA), Attempt(left)
    stored = make(bucket).put("big", body, checksum=checksum, attempt=attempt)
    judge(aws, bucket)
    assert (stored.size, stored.checksum) == (len(DATA), crc(DATA))
    assert sent(aws) == list(range(1, COUNT + 1))
    assert min(start for start, _ in body.spans) == after * PART
    assert body.read_count() == len(DATA) - after * PART
    assert attempt.left is None
    assert len(aws.log("CreateMultipartUpload")) == 1


def test_a_file_that_is_cut_again_and_again_is_sent_once(aws, bucket):
    left, reads = None, 0
    for _ in range(COUNT - 1):
        body = CountedBody(DATA)
        left = interrupted(bucket, aws, 1, known=left, body=body)
        reads += body.read_count()
    body = CountedBody(DATA)
    make(bucket).put("big", body, checksum=crc(DATA), attempt=Attempt(left))
    judge(aws, bucket)
    assert sent(aws) == list(range(1, COUNT + 1))
    assert reads + body.read_count() <= len(DATA) + (COUNT - 1) * PART  # one more is read ahead of each cut


def test_everything_may_have_been_sent_already(aws, bucket):
    left = interrupted(bucket, aws, COUNT)
    assert len(left.parts) == COUNT
    body = CountedBody(DATA)
    make(bucket).put("big", body, checksum=crc(DATA), attempt=Attempt(left))
    judge(aws, bucket)
    assert (body.spans, len(sent(aws))) == ([], COUNT)


def test_what_s3_has_and_the_journal_does_not_know_is_read_but_not_sent(aws, bucket):
    left = interrupted(bucket, aws, 7)
    for number in (2, 3, 7):
        del left.parts[number]
    body, attempt = CountedBody(DATA), Attempt(left)
    make(bucket).put("big", body, checksum=crc(DATA), attempt=attempt)
    judge(aws, bucket)
    assert sent(aws) == list(range(1, COUNT + 1))
    assert body.read_count() == len(DATA) - 4 * PART


def test_what_s3_has_under_another_checksum_is_sent_again(aws, bucket):
    left = interrupted(bucket, aws, 4)
    [upload] = aws.store.bucket(bucket.name).uploads.values()
    other = bytes(PART)
    aws.store.put_part(bucket.name, "big", upload.id, 2, other, {"CRC32": crc(other)})
    make(bucket).put("big", CountedBody(DATA), checksum=None, attempt=Attempt(left))
    judge(aws, bucket)
    assert sent(aws) == sorted([*range(1, COUNT + 1), 2])


def test_a_part_that_the_journal_has_and_s3_has_not_is_sent_again(aws, bucket):
    left = interrupted(bucket, aws, 4)
    [upload] = aws.store.bucket(bucket.name).uploads.values()
    del upload.parts[3]
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt(left))
    judge(aws, bucket)
    assert sent(aws) == sorted([*range(1, COUNT + 1), 3])


def test_a_part_of_another_size_is_sent_again_whatever_the_journal_says(aws, bucket):
    left = interrupted(bucket, aws, 4)
    [upload] = aws.store.bucket(bucket.name).uploads.values()
    short = DATA[:PART][:-1]
    aws.store.put_part(bucket.name, "big", upload.id, 1, short, {"CRC32": crc(short)})
    left.parts[1] = crc(short)
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt(left))
    judge(aws, bucket)
    assert sent(aws) == sorted([*range(1, COUNT + 1), 1])


def test_parts_are_listed_to_the_last_page(aws, bucket):
    left = interrupted(bucket, aws, 11)
    aws.settings.list_page_max = 3
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt(left))
    judge(aws, bucket)
    assert len(aws.log("ListParts")) == 4
    assert len(sent(aws)) == COUNT


def test_an_upload_keeps_its_part_size_whatever_the_size_would_be_now(aws, bucket):
    left = interrupted(bucket, aws, 5)
    make(bucket, part_size=2 * PART).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt(left))
    judge(aws, bucket)
    assert len(sent(aws)) == COUNT


# ── not going on ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [1, 6, COUNT])
def test_another_content_of_the_same_size_is_sent_whole_and_never_mixed(aws, bucket, after):
    left = interrupted(bucket, aws, after)
    changed = DATA[:-1] + bytes([DATA[-1] ^ 1])
    attempt = Attempt(left)
    make(bucket).put("big", CountedBody(changed), checksum=None, attempt=attempt)
    judge(aws, bucket, changed)
    assert len(sent(aws)) == COUNT + after
    assert attempt.left is None


def test_a_file_that_became_small_leaves_no_parts(aws, bucket):
    attempt = Attempt(interrupted(bucket, aws, 6))
    make(bucket).put("big", CountedBody(b"small"), checksum=None, attempt=attempt)
    judge(aws, bucket, b"small")
    assert attempt.left is None


@pytest.mark.parametrize("part_size", [0, 1, 6 << 30])
def test_parts_of_a_size_that_cannot_be_are_not_gone_on_with(aws, bucket, part_size, monkeypatch):
    monkeypatch.setattr("upload_adapters.aws.s3_multipart.PARTS_MAX", 100)
    left = interrupted(bucket, aws, 2)
    odd = OpenUpload(left.upload_id, part_size, left.fingerprint, left.parts)
    make(bucket).put("big", CountedBody(DATA), checksum=None, attempt=Attempt(odd))
    judge(aws, bucket)
    assert len(sent(aws)) == COUNT + 2


def test_an_upload_that_was_aborted_by_others_is_begun_anew(aws, bucket):
    left = interrupted(bucket, aws, 6)
    bucket.calls.abort_multipart_upload(Bucket=bucket.name, Key="big", UploadId=left.upload_id)
    attempt = Attempt(left)
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=attempt)
    judge(aws, bucket)
    assert len(sent(aws)) == COUNT + 6
    assert attempt.left is None


@pytest.mark.parametrize("checksum", [None, crc(DATA)])
def test_an_upload_whose_completion_was_not_heard_of_is_not_sent_again(aws, bucket, checksum):
    left = interrupted(bucket, aws, COUNT)
    aws.order(Fault("lost", operation="CompleteMultipartUpload"))
    aws.order(Fault("refused", operation="HeadObject", code="ServiceUnavailable", times=0))
    attempt = Attempt(left)
    with pytest.raises(ArchiveUnavailableError):
        make(bucket).put("big", CountedBody(DATA), checksum=checksum, attempt=attempt)
    aws.faults.clear()
    body = CountedBody(DATA)
    stored = make(bucket).put("big", body, checksum=checksum, attempt=Attempt(left))
    assert (stored.size, stored.checksum, body.spans) == (len(DATA), crc(DATA), [])
    judge(aws, bucket)
    assert len(sent(aws)) == COUNT


def test_an_object_of_other_bytes_is_not_taken_for_the_completed_upload(aws, bucket):
    make(bucket).put("big", CountedBody(DATA[::-1]), checksum=None, attempt=FreeAttempt())
    left = interrupted(bucket, aws, COUNT)
    bucket.calls.abort_multipart_upload(Bucket=bucket.name, Key="big", UploadId=left.upload_id)
    make(bucket).put("big", CountedBody(DATA), checksum=None, attempt=Attempt(left))
    judge(aws, bucket)


# ── what nobody knows of ─────────────────────────────────────────────────────────────────────────


def test_what_a_process_left_that_did_not_live_to_tell_is_taken_over(aws, bucket):
    left = interrupted(bucket, aws, 8)
    body, attempt = CountedBody(DATA), Attempt()
    make(bucket).put("big", body, checksum=crc(DATA), attempt=attempt)
    judge(aws, bucket)
    assert sent(aws) == list(range(1, COUNT + 1))
    assert body.read_count() == len(DATA)
    assert len(aws.log("CreateMultipartUpload")) == 1
    assert left.upload_id == aws.log("CompleteMultipartUpload")[0].query["uploadId"]


def test_of_what_was_taken_over_only_parts_of_the_same_bytes_count(aws, bucket):
    interrupted(bucket, aws, 8)
    changed = DATA[: 3 * PART] + bytes(PART) + DATA[4 * PART :]
    make(bucket).put("big", CountedBody(changed), checksum=None, attempt=Attempt())
    judge(aws, bucket, changed)
    assert sent(aws) == sorted([*range(1, COUNT + 1), 4])


def test_of_several_that_were_left_the_fullest_is_taken_over_and_the_others_are_ended(aws, bucket):
    for count in (1, 3, 2):
        begun = bucket.calls.create_multipart_upload(
            Bucket=bucket.name, Key="big", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
        )
        known = {"Bucket": bucket.name, "Key": "big", "UploadId": begun["UploadId"]}
        for number in range(1, count + 1):
            data = DATA[(number - 1) * PART : number * PART]
            bucket.calls.upload_part(**known, PartNumber=number, Body=data, ChecksumCRC32=crc(data))
    bucket.calls.create_multipart_upload(Bucket=bucket.name, Key="big.other", ChecksumAlgorithm="CRC32")
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt())
    assert [key for _, key in aws.open_uploads()] == ["big.other"]
    assert sent(aws)[6:] == sorted(sent(aws)[6:])
    assert len(sent(aws)) == 6 + COUNT - 3


def test_an_upload_of_another_kind_of_checksum_is_ended_and_not_taken_over(aws, bucket):
    bucket.calls.create_multipart_upload(Bucket=bucket.name, Key="big", ChecksumAlgorithm="SHA256")
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt())
    judge(aws, bucket)


def test_what_may_be_at_work_in_other_hands_is_not_taken_over(aws, bucket):
    interrupted(bucket, aws, 8)
    make(bucket).put("big", CountedBody(DATA), checksum=None, attempt=FreeAttempt())
    judge(aws, bucket)
    assert len(aws.log("CreateMultipartUpload")) == 2


# ── how an attempt ends ──────────────────────────────────────────────────────────────────────────

ENDINGS = [
    # what ends it, whether the next attempt goes on with the parts
    (LockLostError("cut"), True),
    (IdentityError("expired"), True),
    (ArchiveUnavailableError("503"), True),
    (ConnectionResetError(), True),
    (SourceError("input/output error"), True),
    (SourceChangedError("changed"), False),
    (SourceMissingError("gone"), False),
    (ZeroDivisionError("a bug"), False),
]


@pytest.mark.parametrize(("error", "kept"), ENDINGS, ids=lambda value: type(value).__name__)
def test_what_ended_the_attempt_decides_whether_its_parts_are_kept(archive, aws, error, kept):
    def at_read():
        if len(sent(aws)) >= 4:
            raise error

    for attempt, stays in ((Attempt(), kept), (FreeAttempt(), False)):
        with pytest.raises(type(error)):
            archive.put("big", CountedBody(DATA, at_read=at_read), checksum=None, attempt=attempt)
        assert len(aws.open_uploads()) == stays
        if isinstance(attempt, Attempt):
            assert (attempt.left is not None) == stays
            if attempt.left is not None:
                assert attempt.left.parts.keys() == set(sent(aws))
                archive.end_uploads({"big": attempt.left.upload_id}, lambda _: False)


def test_a_wrong_checksum_of_the_whole_keeps_no_parts_and_is_told_with_both_values(archive, aws, bucket):
    attempt = Attempt()
    with pytest.raises(ChecksumMismatchError) as caught:
        archive.put("big", CountedBody(DATA), checksum=crc(b"other"), attempt=attempt)
    assert (caught.value.expected, caught.value.actual) == (crc(b"other"), crc(DATA))
    assert (attempt.left, aws.open_uploads(), aws.object(bucket.name, "big")) == (None, [], None)


def test_a_file_that_changed_is_noticed_at_the_end_and_keeps_no_parts(archive, aws, bucket):
    attempt = Attempt()
    with pytest.raises(SourceChangedError):
        archive.put("big", ChangedBody(DATA), checksum=None, attempt=attempt)
    assert (attempt.left, aws.open_uploads(), aws.object(bucket.name, "big")) == (None, [], None)


def test_who_lost_the_lock_ends_nothing_that_its_new_holder_may_be_going_on_with(archive, aws):
    def at_read():
        if len(sent(aws)) >= 4:
            lost.append(None)
            raise SourceChangedError("changed")

    def commit():
        if lost:
            raise LockLostError("taken over")

    lost: list[None] = []
    attempt = Attempt(commit=commit)
    with pytest.raises((SourceChangedError, LockLostError)):
        archive.put("big", CountedBody(DATA, at_read=at_read), checksum=None, attempt=attempt)
    assert len(aws.open_uploads()) == 1
    assert aws.log("AbortMultipartUpload") == []


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_an_outage_in_the_middle_costs_nothing_that_was_sent(aws, bucket, operation):
    nth = 6 if operation == "UploadPart" else 1
    outage = aws.order(Fault("refused", operation=operation, code="ServiceUnavailable", nth=nth, times=0))
    attempt = Attempt()
    with pytest.raises(ArchiveUnavailableError):
        make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=attempt)
    outage.times = outage.fired
    make(bucket).put("big", CountedBody(DATA), checksum=crc(DATA), attempt=Attempt(attempt.left))
    judge(aws, bucket)
    assert sent(aws) == list(range(1, COUNT + 1))


def test_parts_that_are_not_what_s3_confirmed_are_given_up_without_a_storm(archive, aws, bucket):
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="BadDigest", status=400, times=0))
    attempt = Attempt()
    with pytest.raises(ArchiveError, match="not what it confirmed") as caught:
        archive.put("big", CountedBody(DATA), checksum=None, attempt=attempt)
    assert not isinstance(caught.value, ArchiveUnavailableError)
    assert len(aws.log("CompleteMultipartUpload")) == 1
    assert (attempt.left, aws.open_uploads()) == (None, [])


def test_an_upload_that_vanishes_under_its_parts_is_not_gone_on_with(archive, aws):
    aws.order(Fault("refused", operation="UploadPart", code="NoSuchUpload", nth=5, times=0))
    attempt = Attempt()
    with pytest.raises(ArchiveUnavailableError, match="sent anew"):
        archive.put("big", CountedBody(DATA), checksum=None, attempt=attempt)
    assert attempt.left is None


# ── several at once ──────────────────────────────────────────────────────────────────────────────


class Meeting(Boto3Sender):
    """Waits for as many parts to be under way at once as shall be."""

    def __init__(self, count):
        super().__init__()
        self.together = threading.Barrier(count, timeout=30)
        self.met = set()

    def send(self, upload, number, body, offset, size, attempt):
        self.together.wait()
        self.met.add((upload.relpath, number))
        return super().send(upload, number, body, offset, size, attempt)


def test_several_parts_of_one_file_are_sent_at_once(aws, bucket):
    make(bucket, at_once=4, sender=Meeting(4)).put("big", CountedBody(DATA), checksum=crc(DATA))
    judge(aws, bucket)


def test_parts_of_several_files_are_sent_at_once(aws, bucket):
    sender = Meeting(3)
    archive = make(bucket, at_once=3, sender=sender)
    files = {f"f{number}": random.Random(number).randbytes(4 * PART) for number in range(3)}
    threads = [
        threading.Thread(target=archive.put, args=(n, CountedBody(d)), kwargs={"checksum": crc(d)})
        for n, d in files.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {name: aws.object(bucket.name, name).data for name in files} == files
    assert len(sender.met) == 12


def test_each_byte_is_read_once(archive, aws, bucket):
    body = CountedBody(DATA)
    archive.put("big", body, checksum=crc(DATA))
    judge(aws, bucket)
    assert sorted(body.spans) == [(n * PART, min((n + 1) * PART, len(DATA))) for n in range(COUNT)]


def test_a_part_is_hashed_once(archive, aws):
    archive.put("big", CountedBody(DATA), checksum=None)
    assert {entry.headers["x-amz-content-sha256"] for entry in aws.log("UploadPart")} == {"UNSIGNED-PAYLOAD"}
    assert all("content-md5" not in entry.headers for entry in aws.log("UploadPart"))


def test_a_part_too_large_to_be_held_goes_through_in_pieces(aws, bucket):
    body = CountedBody(DATA)
    make(bucket, part_size=4 * MIB, sender=Boto3Sender(held_max=PART)).put("big", body, checksum=crc(DATA))
    judge(aws, bucket)
    assert sent(aws) == [1]
    assert max(end - start for start, end in body.spans) <= MIB


def test_of_a_part_in_pieces_the_source_is_to_blame_for_its_own_faults(aws, bucket):
    def at_read():
        reads.append(None)
        if len(reads) == 3:
            raise SourceChangedError("changed")

    reads: list[None] = []
    archive = make(bucket, part_size=4 * MIB, sender=Boto3Sender(held_max=PART))
    with pytest.raises(SourceChangedError):
        archive.put("big", CountedBody(DATA, at_read=at_read), checksum=None)
    assert aws.open_uploads() == []


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload", "CreateMultipartUpload"])
def test_the_attempt_hears_of_every_request_that_was_pushed_back(archive, aws, bucket, operation):
    aws.order(Fault("refused", operation=operation, code="SlowDown", times=2))
    attempt = Attempt()
    archive.put("big", CountedBody(DATA), checksum=None, attempt=attempt)
    judge(aws, bucket)
    assert len(attempt.pushes) == 2
    assert all("SlowDown" in why for why in attempt.pushes)


def test_other_trouble_is_no_push_back(archive, aws):
    aws.order(Fault("reset", operation="UploadPart"))
    aws.order(Fault("refused", operation="UploadPart", code="InternalError", nth=3))
    attempt = Attempt()
    archive.put("big", CountedBody(DATA), checksum=None, attempt=attempt)
    assert attempt.pushes == []


# ── nothing of ours is left ──────────────────────────────────────────────────────────────────────


def test_at_the_end_uploads_under_our_names_are_ended_and_no_others(archive, aws, bucket):
    odd = "dir/a b+c%20\u00fc&.bin"
    for key in (odd, odd, "ours", "foreign", "ours.not"):
        bucket.calls.create_multipart_upload(Bucket=bucket.name, Key=key)
    aws.settings.list_page_max = 2
    archive.end_uploads({}, lambda relpath: relpath in (odd, "ours"))
    assert sorted(key for _, key in aws.open_uploads()) == ["foreign", "ours.not"]


def test_whoever_may_no_longer_write_ends_none(archive, aws, bucket):
    for key in ("a", "b", "c"):
        bucket.calls.create_multipart_upload(Bucket=bucket.name, Key=key)
    left = [1]

    def commit():
        if not left:
            raise LockLostError("somebody else's")
        left.pop()

    with pytest.raises(LockLostError):
        archive.end_uploads({}, lambda _: True, commit)
    assert len(aws.open_uploads()) == 2


def test_who_may_not_look_ends_what_the_journal_knows(archive, aws, bucket):
    known = {}
    for key in ("a", "b"):
        known[key] = bucket.calls.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
    aws.order(Fault("refused", operation="ListMultipartUploads", code="AccessDenied", times=0))
    archive.end_uploads(known, lambda _: True)
    assert aws.open_uploads() == []


def test_an_upload_that_could_not_be_ended_is_no_success(archive, aws, bucket):
    bucket.calls.create_multipart_upload(Bucket=bucket.name, Key="a")
    aws.order(Fault("refused", operation="AbortMultipartUpload", code="ServiceUnavailable", times=0))
    with pytest.raises(ArchiveUnavailableError):
        archive.end_uploads({}, lambda _: True)


def test_an_upload_is_ended_as_often_as_s3_still_lists_it(aws, bucket):
    class Lagging:
        """S3 with a part under way: the first abort takes effect, and then the part comes."""

        def __init__(self, calls):
            self._calls = calls
            self.aborts = 0

        def __getattr__(self, name):
            return getattr(self._calls, name)

        def abort_multipart_upload(self, **known):
            self.aborts += 1
            if self.aborts > 1:
                self._calls.abort_multipart_upload(**known)

    lagging = Lagging(bucket.calls)
    bucket.calls.create_multipart_upload(Bucket=bucket.name, Key="a")
    S3Archive(lambda: type(bucket)(bucket.name, lagging, bucket.once)).end_uploads({}, lambda _: True)
    assert (lagging.aborts, aws.open_uploads()) == (2, [])


def test_parts_that_the_store_has_otherwise_than_it_confirmed_are_looked_at_again(archive, aws, bucket):
    """A part's first request may land after the second, with another etag where that is not the bytes' MD5."""
    aws.order(Fault("refused", operation="CompleteMultipartUpload", code="InvalidPart"))
    with pytest.raises(ArchiveUnavailableError, match="other parts"):
        archive.put("a", CountedBody(DATA), checksum=None, attempt=FreeAttempt())
    assert len(aws.log("CompleteMultipartUpload")) == 1
    archive.put("a", CountedBody(DATA), checksum=None, attempt=FreeAttempt())
    assert aws.object(bucket.name, "a").data == DATA
