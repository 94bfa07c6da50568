"""The transfer bucket in S3: every object under a CRC32 of the whole that S3 itself has verified.

Rule: source and permission are asked again immediately before each request that can make the object visible, and what
did not become an object leaves nothing behind but parts that somebody goes on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from upload_adapters.aws.bucket import Bucket, Endpoint, Place, patiently, telling
from upload_adapters.aws.errors import AwsSourceChangedError, translated
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_copy import COPY_PART_SIZE, COPY_SINGLE_MAX, PartCopier, copied_whole, unmake
from upload_adapters.aws.s3_multipart import PART_SIZE, Multipart
from upload_adapters.aws.s3_part import MIB, Boto3Sender, S3Sender
from upload_adapters.aws.s3_stored import acknowledged, must_match, stored_object
from upload_adapters.aws.s3_uploads import LeftUploads, end, open_uploads
from upload_adapters.crc32 import crc32
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveError, ArchiveUnavailableError
from upload_core.ports import Archive, Attempt, Channel, CopySource, SourceFile, StoredObject, origin_of

SINGLE_MAX: Final = 16 * MIB
"""Larger files go in parts. Each worker holds one such body in memory; parts are held by the pool that sends them."""


class S3Archive:
    """A general purpose bucket; safe to use by many threads."""

    def __init__(
        self,
        place: Place,
        *,
        sender: S3Sender | None = None,
        pool: PartPool | None = None,
        channel: Callable[[Endpoint], Channel] | None = None,
        single_max: int = SINGLE_MAX,
        part_size: int = PART_SIZE,
        copy_single_max: int = COPY_SINGLE_MAX,
        copy_part_size: int = COPY_PART_SIZE,
        carrier: str = "boto3",
    ) -> None:
        """`sender` is how bytes get to S3 (by boto3, if none is given), `pool` where parts do; `channel` makes what sends
        many small objects at once; `carrier` is the name of the transport that other machines use for this archive.
        """
        self._place = place
        self.carrier = carrier
        self.sizes = {
            "single_max": single_max,
            "part_size": part_size,
            "copy_single_max": copy_single_max,
            "copy_part_size": copy_part_size,
        }
        """From which size on files go in parts, and of which size those are."""
        self._single_max = single_max
        self._copy_single_max = copy_single_max
        self._channel = channel
        self._sender: S3Sender = sender or Boto3Sender()
        left, pool = LeftUploads(), pool or PartPool()
        self._parts = Multipart(place, self._sender, pool, left, part_size=part_size)
        self._copied_parts = Multipart(place, PartCopier(), pool, left, part_size=copy_part_size, pinned=True)

    @property
    def bucket(self) -> Bucket:
        """The bucket that is written; asking for it may sign in."""
        return self._place()

    def portable(self) -> tuple[Any, Callable[[], Any]]:
        """What another machine makes this archive from, and what says the keys that it needs for it at any time."""
        from upload_adapters.aws.portable import portable_archive

        return portable_archive(self)

    def stat(self, relpath: str) -> StoredObject | None:
        return stored_object(self._place(), relpath)

    def put(
        self, relpath: str, body: SourceFile, *, checksum: str | None, attempt: Attempt | None = None
    ) -> StoredObject:
        attempt = attempt or FreeAttempt()
        origin = origin_of(body)
        if origin is not None and origin.size:  # of nothing no part can be copied
            return self._put_copy(relpath, body, origin, checksum, attempt)
        if body.size > self._single_max:
            return self._parts.store(relpath, body, checksum, attempt)
        self._parts.give_up(relpath, attempt)
        return self._put_whole(relpath, body, checksum, attempt)

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

    def end_uploads(
        self, known: Mapping[str, str], ours: Callable[[str], bool], commit: Callable[[], None] = lambda: None
    ) -> None:
        bucket = self._place()
        left = set(known.items())
        left.update((found.relpath, found.upload_id) for found in open_uploads(bucket) if ours(found.relpath))
        for relpath, upload_id in sorted(left):
            commit()
            end(bucket, relpath, upload_id)

    def channel(self) -> Channel | None:
        """A way to store many small objects at once from one thread, or None if there is none to this bucket."""
        endpoint = None if self._channel is None else self._place().endpoint
        return None if self._channel is None or endpoint is None else self._channel(endpoint)

    # --- one request ------------------------------------------------------------------------------

    def _put_whole(self, relpath: str, body: SourceFile, checksum: str | None, attempt: Attempt) -> StoredObject:
        data = _read_exactly(body, body.size, relpath)
        _must_end(body, relpath)
        actual = crc32_base64(crc32(data))
        must_match(relpath, checksum, actual)
        return self._send_whole(self._place(), relpath, body, data, actual, attempt)

    def _send_whole(
        self, bucket: Bucket, relpath: str, body: SourceFile, data: bytes, checksum: str, attempt: Attempt
    ) -> StoredObject:
        """Store a body that was read: the one request by which a small file gets to S3."""

        def send() -> StoredObject:
            with attempt.slot():
                attempt.spend(len(data))
                body.verify_unchanged()
                answer = self._sender.send_whole(bucket, relpath, data, checksum, attempt.commit)
            return acknowledged(bucket, relpath, len(data), checksum, answer)

        return patiently(send, told=telling(attempt))

    # --- copied by S3 -----------------------------------------------------------------------------

    def _put_copy(
        self, relpath: str, body: SourceFile, origin: CopySource, checksum: str | None, attempt: Attempt
    ) -> StoredObject:
        """Have S3 copy the object, of exactly that etag.

        A copy in one request cannot assert a CRC32: it is made only where S3 knows the CRC32 of the origin, which is
        compared first, or where none is asked for. All others go in parts (one will do), whose completion asserts it.
        """
        if origin.checksum:
            must_match(relpath, checksum, origin.checksum)
            checksum = origin.checksum
        if origin.size > self._copy_single_max or (checksum is not None and not origin.checksum):
            return self._copied_parts.store(relpath, body, checksum, attempt)
        self._copied_parts.give_up(relpath, attempt)
        return self._copy_whole(relpath, origin, checksum, attempt)

    def _copy_whole(self, relpath: str, origin: CopySource, checksum: str | None, attempt: Attempt) -> StoredObject:
        bucket = self._place()

        def send() -> StoredObject:
            with attempt.slot():
                attempt.commit()
                answer = copied_whole(bucket, relpath, origin)
            try:
                return acknowledged(bucket, relpath, origin.size, checksum, answer)
            except ArchiveUnavailableError:
                raise
            except ArchiveError:
                unmake(bucket, relpath, answer["ETag"])
                raise

        return patiently(send, told=telling(attempt))


def _read_exactly(body: SourceFile, size: int, relpath: str) -> bytes:
    """The next `size` bytes; raises `SourceChangedError` if the file ends before."""
    pieces: list[bytes] = []
    missing = size
    while missing:
        piece = body.read(missing)
        if not piece:
            body.verify_unchanged()
            raise AwsSourceChangedError(
                f"{relpath!r} ended {missing} bytes early while it was read; restore it or index it again"
            )
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _must_end(body: SourceFile, relpath: str) -> None:
    """Raises `SourceChangedError` if there is more than the size that the file had."""
    if body.read(1):
        body.verify_unchanged()
        raise AwsSourceChangedError(f"{relpath!r} grew while it was read; restore it or index it again")


if TYPE_CHECKING:
    _archive: type[Archive] = S3Archive
