"""The transfer bucket in S3: every object under a CRC32 of the whole that S3 itself has verified.

Rule: source and permission are asked again immediately before each request that can make the object visible, and what
did not become an object leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

import attrs

from upload_adapters.aws.bucket import Bucket, Place, patiently, status_of, whole_checksum
from upload_adapters.aws.errors import AwsError, may_retry, translated, was_damaged
from upload_adapters.aws.s3_copy import COPY_PART_SIZE, COPY_SINGLE_MAX, copied_part, copied_whole, unmake
from upload_adapters.crc32 import crc32
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveError, ArchiveUnavailableError, ChecksumMismatchError, SourceChangedError
from upload_core.ports import Archive, CopySource, SourceFile, StoredObject, origin_of

MIB: Final = 1 << 20
SINGLE_MAX: Final = 16 * MIB
"""Larger files go in parts. Each worker holds one such body or part in memory."""
PART_SIZE: Final = 8 * MIB
PARTS_MAX: Final = 10_000
ABORT_ATTEMPTS: Final = 3
"""A part that was under way while its upload was aborted may be kept, so one abort may not be enough."""

Commit = Callable[[], None]


@attrs.frozen
class _Upload:
    """Our own multipart upload and its parts so far."""

    relpath: str
    known: dict[str, str]
    parts: list[dict[str, Any]] = attrs.field(factory=list)


class S3Archive:
    """A general purpose bucket; safe to use by many threads."""

    def __init__(
        self,
        place: Place,
        *,
        single_max: int = SINGLE_MAX,
        part_size: int = PART_SIZE,
        copy_single_max: int = COPY_SINGLE_MAX,
        copy_part_size: int = COPY_PART_SIZE,
    ) -> None:
        self._place = place
        self._single_max = single_max
        self._part_size = part_size
        self._copy_single_max = copy_single_max
        self._copy_part_size = copy_part_size
        self._mutex = threading.Lock()
        self._doubtful: set[str] | None = None
        """Names under which an upload may be open that nobody goes on with; None until the bucket was asked."""

    def stat(self, relpath: str) -> StoredObject | None:
        bucket = self._place()
        try:
            with translated(f"looking at {relpath!r}"):
                answer = bucket.calls.head_object(Bucket=bucket.name, Key=relpath, ChecksumMode="ENABLED")
        except AwsError as error:
            if status_of(error) == 404 and error.code != "NoSuchBucket":
                return None
            raise
        return StoredObject(relpath, answer["ContentLength"], whole_checksum(answer), answer["ETag"])

    def put(
        self, relpath: str, body: SourceFile, *, checksum: str | None, commit: Commit | None = None
    ) -> StoredObject:
        origin = origin_of(body)
        if origin is not None and origin.size:  # of nothing no part can be copied
            return self._put_copy(relpath, origin, checksum, commit or _always)
        store = self._put_whole if body.size <= self._single_max else self._put_in_parts
        return store(relpath, body, checksum, commit or _always)

    def list(self) -> Iterator[StoredObject]:
        bucket = self._place()
        page: dict[str, str] = {}
        while True:
            with translated(f"listing {bucket.name}"):
                answer = bucket.calls.list_objects_v2(Bucket=bucket.name, **page)
            for found in answer.get("Contents", ()):
                yield StoredObject(found["Key"], found["Size"], etag=found["ETag"])
            if not answer.get("IsTruncated"):
                return
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    # --- one request ------------------------------------------------------------------------------

    def _put_whole(self, relpath: str, body: SourceFile, checksum: str | None, commit: Commit) -> StoredObject:
        bucket = self._place()
        data = _read_exactly(body, body.size, relpath)
        _must_end(body, relpath)
        actual = crc32_base64(crc32(data))
        _must_match(relpath, checksum, actual)

        def send() -> StoredObject:
            body.verify_unchanged()
            commit()
            with translated(f"storing {relpath!r}"):
                answer = bucket.once.put_object(Bucket=bucket.name, Key=relpath, Body=data, ChecksumCRC32=actual)
            return self._acknowledged(relpath, len(data), actual, answer)

        return patiently(send)

    # --- copied by S3 -----------------------------------------------------------------------------

    def _put_copy(self, relpath: str, origin: CopySource, checksum: str | None, commit: Commit) -> StoredObject:
        """Have S3 copy the object, of exactly that etag.

        A copy in one request cannot assert a CRC32: it is made only where S3 knows the CRC32 of the origin, which is
        compared first, or where none is asked for. All others go in parts (one will do), whose completion asserts it.
        """
        if origin.checksum:
            _must_match(relpath, checksum, origin.checksum)
            checksum = origin.checksum
        if origin.size <= self._copy_single_max and (origin.checksum or checksum is None):
            return self._copy_whole(relpath, origin, checksum, commit)
        return self._copy_in_parts(relpath, origin, checksum, commit)

    def _copy_whole(self, relpath: str, origin: CopySource, checksum: str | None, commit: Commit) -> StoredObject:
        bucket = self._place()

        def send() -> StoredObject:
            commit()
            answer = copied_whole(bucket, relpath, origin)
            try:
                return self._acknowledged(relpath, origin.size, checksum, answer)
            except ArchiveUnavailableError:
                raise
            except ArchiveError:
                unmake(bucket, relpath, answer["ETag"])
                raise

        return patiently(send)

    def _copy_in_parts(self, relpath: str, origin: CopySource, checksum: str | None, commit: Commit) -> StoredObject:
        bucket = self._place()
        upload = self._begin(bucket, relpath)
        part_size = part_size_for(origin.size, self._copy_part_size)
        try:
            for start in range(0, origin.size, part_size):
                commit()  # nothing becomes visible by a part, but a long file shall end soon after a cut
                end = min(start + part_size, origin.size)
                upload.parts.append(
                    copied_part(bucket, upload.known, len(upload.parts) + 1, relpath, origin, start, end)
                )
            if len(upload.parts) == 1 and "ChecksumCRC32" in upload.parts[0]:
                _must_match(relpath, checksum, upload.parts[0]["ChecksumCRC32"])
            return patiently(
                lambda: self._complete(bucket, upload, origin.size, checksum, commit),
                on=lambda error: may_retry(error) and error.code != "BadDigest",
            )
        except BaseException as error:
            self._abort(bucket, upload)
            if checksum is not None and isinstance(error, AwsError) and error.code == "BadDigest":
                # No byte came from us, so what differs is the object from the index.
                raise ChecksumMismatchError(relpath, expected=checksum, actual="another one") from error
            raise

    # --- in parts ---------------------------------------------------------------------------------

    def _put_in_parts(self, relpath: str, body: SourceFile, checksum: str | None, commit: Commit) -> StoredObject:
        bucket = self._place()
        upload = self._begin(bucket, relpath)
        try:
            actual = self._send_parts(bucket, upload, body)
            _must_end(body, relpath)
            _must_match(relpath, checksum, actual)

            def complete() -> StoredObject:
                body.verify_unchanged()
                return self._complete(bucket, upload, body.size, actual, commit)

            return patiently(complete)
        except BaseException:
            self._abort(bucket, upload)
            raise

    def _begin(self, bucket: Bucket, relpath: str) -> _Upload:
        """A new upload; others that nobody goes on with are ended."""
        named = {"Bucket": bucket.name, "Key": relpath}
        attempts = 0

        def ask() -> str:
            nonlocal attempts
            attempts += 1
            with translated(f"beginning to store {relpath!r}"):
                begun = bucket.once.create_multipart_upload(
                    **named, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
                )
            return str(begun["UploadId"])

        doubtful = self._in_doubt(bucket)  # adding to a set, and taking away, is safe in any thread
        try:
            upload = _Upload(relpath, {**named, "UploadId": patiently(ask)})
        except BaseException:
            doubtful.add(relpath)
            raise
        if relpath in doubtful or attempts > 1:
            self._abort_others(bucket, upload)
            doubtful.discard(relpath)
        return upload

    def _in_doubt(self, bucket: Bucket) -> set[str]:
        """Names with uploads that an earlier process left, asked for once, and those whose fate we do not know."""
        with self._mutex:
            if self._doubtful is None:
                self._doubtful = {upload["Key"] for upload in self._open_uploads(bucket)}
            return self._doubtful

    def _open_uploads(self, bucket: Bucket, prefix: str = "") -> Iterator[dict[str, str]]:
        """Key and id of every open upload under a prefix; none where we may not ask: then nothing can be ended."""
        page: dict[str, str] = {}
        while True:
            try:
                with translated(f"looking for uploads left in {bucket.name}"):
                    answer = bucket.calls.list_multipart_uploads(
                        Bucket=bucket.name, Prefix=prefix, EncodingType="url", **page
                    )
            except AwsError as error:
                if status_of(error) in (403, 501):
                    return
                raise
            for found in answer.get("Uploads", ()):
                yield {"Key": unquote_plus(found["Key"]), "UploadId": found["UploadId"]}
            if not answer.get("IsTruncated"):
                return
            page = {
                "KeyMarker": unquote_plus(answer["NextKeyMarker"]),
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    def _abort_others(self, bucket: Bucket, ours: _Upload) -> None:
        """End what a killed process or a lost answer left open under the name of our upload."""
        for found in self._open_uploads(bucket, ours.relpath):
            if found["Key"] == ours.relpath and found["UploadId"] != ours.known["UploadId"]:
                self._abort(bucket, _Upload(ours.relpath, {"Bucket": bucket.name, **found}))

    def _send_parts(self, bucket: Bucket, upload: _Upload, body: SourceFile) -> str:
        """Send all parts; returns the CRC32 of the whole."""
        running, sent = 0, 0
        part_size = part_size_for(body.size, self._part_size)
        while sent < body.size:
            number = len(upload.parts) + 1
            data = _read_exactly(body, min(part_size, body.size - sent), upload.relpath)
            running = crc32(data, running)
            checksum = crc32_base64(crc32(data))
            part = {"PartNumber": number, "ChecksumCRC32": checksum}
            upload.parts.append({**part, "ETag": self._send_part(bucket, upload, part, data)})
            sent += len(data)
        return crc32_base64(running)

    def _send_part(self, bucket: Bucket, upload: _Upload, part: dict[str, Any], data: bytes) -> str:
        """Send one part; returns its etag. It is seen by nobody yet, so botocore may repeat its request."""

        def send() -> str:
            with translated(f"storing part {part['PartNumber']} of {upload.relpath!r}"):
                answer = bucket.calls.upload_part(**upload.known, **part, Body=data)
            return str(answer["ETag"])

        return patiently(send, on=was_damaged)

    def _complete(
        self, bucket: Bucket, upload: _Upload, size: int, checksum: str | None, commit: Commit
    ) -> StoredObject:
        asserted = {} if checksum is None else {"ChecksumCRC32": checksum}
        commit()
        try:
            with translated(f"completing {upload.relpath!r}"):
                answer = bucket.once.complete_multipart_upload(
                    **upload.known,
                    MultipartUpload={"Parts": upload.parts},
                    **asserted,
                    ChecksumType="FULL_OBJECT",
                    MpuObjectSize=size,
                )
        except AwsError as error:
            if error.code != "NoSuchUpload":
                raise
            # Completed by an attempt whose answer was lost, unless somebody aborted it.
            stored = self.stat(upload.relpath)
            if stored is None or (stored.size, stored.checksum) != (size, checksum):
                raise
            return stored
        return self._acknowledged(upload.relpath, size, checksum, answer)

    def _abort(self, bucket: Bucket, upload: _Upload) -> None:
        """Leave nothing of our upload; if that fails too, the reason for giving up is the one worth telling."""
        for _ in range(ABORT_ATTEMPTS):
            try:
                with translated(f"abandoning {upload.relpath!r}"):
                    bucket.calls.abort_multipart_upload(**upload.known)
                    bucket.calls.list_parts(**upload.known)
            except AwsError as error:
                if error.code != "NoSuchUpload":
                    self._in_doubt(bucket).add(upload.relpath)  # AWS does not answer, and it may be there still
                return

    def _acknowledged(self, relpath: str, size: int, checksum: str | None, answer: Any) -> StoredObject:
        """The object as S3 confirmed it; raises `ArchiveError` if S3 does not say that it has our checksum.

        None stands for whichever it has, but it must have one.
        """
        confirmed = answer.get("ChecksumCRC32")
        if confirmed is None:
            stored = self.stat(relpath)
            confirmed = stored.checksum if stored is not None and stored.size == size else ""
        if not confirmed or checksum not in (None, confirmed):
            raise ArchiveError(
                f"the store took {relpath!r} without confirming its CRC32 {checksum or ''}; this store does not verify what it "
                "is sent, so nothing can be delivered to it safely"
            )
        return StoredObject(relpath, size, confirmed, answer["ETag"])


def part_size_for(size: int, least: int = PART_SIZE) -> int:
    """The part size for a file: `least`, or more in whole MiB where that would make too many parts.

    >>> part_size_for(5 << 40) // MIB
    525
    """
    needed = -(-size // PARTS_MAX)
    return max(least, -(-needed // MIB) * MIB if needed > least else least)


def _always() -> None:
    return None


def _read_exactly(body: SourceFile, size: int, relpath: str) -> bytes:
    """The next `size` bytes; raises `SourceChangedError` if the file ends before."""
    pieces: list[bytes] = []
    missing = size
    while missing:
        piece = body.read(missing)
        if not piece:
            body.verify_unchanged()
            raise SourceChangedError(
                f"{relpath!r} ended {missing} bytes early while it was read; restore it or index it again"
            )
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _must_end(body: SourceFile, relpath: str) -> None:
    """Raises `SourceChangedError` if there is more than the size that the file had."""
    if body.read(1):
        body.verify_unchanged()
        raise SourceChangedError(f"{relpath!r} grew while it was read; restore it or index it again")


def _must_match(relpath: str, expected: str | None, actual: str) -> None:
    if expected is not None and expected != actual:
        raise ChecksumMismatchError(relpath, expected=expected, actual=actual)


if TYPE_CHECKING:
    _archive: type[Archive] = S3Archive
