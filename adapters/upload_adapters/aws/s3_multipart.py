"""Large files in S3, part by part: begun once, gone on with by whichever attempt or session comes next.

Rule: a part counts once S3 lists it with the checksum that it was sent under. What the journal knows of is neither read
nor sent again; what only S3 knows of is read, and sent again only if its checksum is another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import attrs

from upload_adapters.aws.bucket import Bucket, Place, patiently, telling
from upload_adapters.aws.errors import AwsChecksumMismatchError, AwsError, AwsRefusedError, may_retry, translated
from upload_adapters.aws.part_pool import Job, PartPool
from upload_adapters.aws.s3_part import MIB, PartSender, Upload, checksum_at, must_end_at
from upload_adapters.aws.s3_stored import acknowledged, must_match, stored_object
from upload_adapters.aws.s3_uploads import Contents, LeftUploads, contents, created
from upload_core.checksum import combine, crc32_base64, parse_checksum
from upload_core.effects import Fault, OpenUpload, StoredPart
from upload_core.errors import (
    ArchiveError,
    LockLostError,
    SourceChangedError,
    SourceError,
    SourceMissingError,
)
from upload_core.ports import Attempt, SourceFile, StoredObject
from upload_core.worker import fault_of

PART_SIZE: Final = 8 * MIB
PART_SIZE_MAX: Final = 5 << 30
"""What S3 takes as one part, and as one request."""
PARTS_MAX: Final = 10_000


@attrs.frozen
class _Opened:
    """An upload to go on with, and what S3 has of it."""

    upload: Upload
    parts: dict[int, StoredPart] = attrs.field(factory=dict)
    """Parts that are as they shall be, by number."""
    unsure: dict[int, StoredPart] = attrs.field(factory=dict)
    """Parts whose checksum the journal does not know."""


class Multipart:
    """One way to store files in parts. Safe to use by many threads, each of which stores another file."""

    def __init__(
        self,
        place: Place,
        sender: PartSender,
        pool: PartPool,
        left: LeftUploads,
        *,
        part_size: int = PART_SIZE,
        pinned: bool = False,
    ) -> None:
        """`pinned`: the store itself takes each part from a source of that fingerprint, so whatever is there is right."""
        self._place = place
        self._sender = sender
        self._pool = pool
        self._left = left
        self._part_size = part_size
        self._pinned = pinned

    def store(self, relpath: str, body: SourceFile, checksum: str | None, attempt: Attempt) -> StoredObject:
        """Store the body, of one byte at least, as `Archive.put` promises."""
        bucket = self._place()
        opened = self._reopened(bucket, relpath, body, checksum, attempt)
        if isinstance(opened, StoredObject):
            return opened
        if opened is None:
            opened = self._opened_anew(bucket, relpath, body, attempt)
        upload, parts = opened.upload, opened.parts
        try:
            self._pool.run(self._jobs(opened, body, attempt))
            must_end_at(body, upload.size, relpath)
            whole = whole_checksum(upload, parts) or checksum
            if whole is not None:
                must_match(relpath, checksum, whole)
            stored = self._complete(upload, parts, body, whole, attempt)
        except BaseException as error:
            self._leave(upload, error, attempt)
            raise
        attempt.upload_ended()
        return stored

    def give_up(self, relpath: str, attempt: Attempt) -> None:
        """End what an earlier attempt left open of a file that is not sent in parts any more."""
        if attempt.upload is not None:
            attempt.commit()
            self._left.end(self._place(), relpath, attempt.upload.upload_id)
            attempt.upload_ended()

    # --- opening ----------------------------------------------------------------------------------

    def _reopened(
        self, bucket: Bucket, relpath: str, body: SourceFile, checksum: str | None, attempt: Attempt
    ) -> _Opened | StoredObject | None:
        """The upload that an earlier attempt left open; the object, if it was completed; None if there is neither."""
        known = attempt.upload
        if known is None:
            return None
        upload = Upload(bucket, relpath, known.upload_id, body.size, known.part_size)
        if known.fingerprint != body.fingerprint or not part_size_fits(known.part_size, body.size):
            self.give_up(relpath, attempt)
            return None
        found = contents(bucket, relpath, known.upload_id)
        if found is not None:
            return self._sorted(upload, found, known.parts)
        # Completed by an attempt whose answer was lost, unless somebody aborted it.
        attempt.upload_ended()
        journaled = {number: StoredPart(number, crc) for number, crc in known.parts.items()}
        expected = whole_checksum(upload, journaled) or checksum
        stored = stored_object(bucket, relpath) if expected else None
        if stored is not None and (stored.size, stored.checksum) == (body.size, expected):
            must_match(relpath, checksum, stored.checksum)
            return stored
        return None

    def _sorted(self, upload: Upload, found: Contents, journaled: dict[int, str]) -> _Opened:
        """What S3 has, by what is known of it; parts of another size than they shall have are as good as missing."""
        opened = _Opened(upload)
        for number in upload.numbers:
            listed = found.parts.get(number)
            if listed is None or listed.size != upload.span(number)[1]:
                continue
            stored = listed.stored
            sure = stored.checksum and journaled.get(number) == stored.checksum
            (opened.parts if sure else opened.unsure)[number] = stored
        return opened

    def _opened_anew(self, bucket: Bucket, relpath: str, body: SourceFile, attempt: Attempt) -> _Opened:
        """An upload that the journal does not know: one that was left open by a process that did not live to tell, or new.

        Others of the same name, with which nobody goes on, are ended.
        """
        part_size = part_size_for(body.size, self._part_size)
        left = self._left.under(bucket, relpath)
        opened = self._adopted(bucket, relpath, body, part_size, left, attempt)
        if opened is None:
            try:
                upload_id, unheard = created(bucket, relpath, attempt)
            except BaseException:
                self._left.doubt(relpath)
                raise
            opened = _Opened(Upload(bucket, relpath, upload_id, body.size, part_size))
            if unheard:
                self._left.doubt(relpath)
                left = self._left.under(bucket, relpath)
        upload_id = opened.upload.upload_id
        attempt.upload_begun(OpenUpload(upload_id, part_size, body.fingerprint))
        self._left.settle(relpath)
        for other in left:
            if other != upload_id:
                self._left.end(bucket, relpath, other)
        return opened

    def _adopted(
        self, bucket: Bucket, relpath: str, body: SourceFile, part_size: int, left: list[str], attempt: Attempt
    ) -> _Opened | None:
        """The one with most parts of the uploads that were left under our name, if there is any.

        Whose bytes they are is not known: each part is compared before it counts, which a copy made by S3 cannot be.
        Where nobody holds a lock on the name, an upload may be at work in other hands.
        """
        best: _Opened | None = None
        if self._pinned or not attempt.resumable:
            return None
        for upload_id in left:
            found = contents(bucket, relpath, upload_id)
            if found is not None and found.whole:
                opened = self._sorted(Upload(bucket, relpath, upload_id, body.size, part_size), found, {})
                if best is None or len(opened.unsure) > len(best.unsure):
                    best = opened
        return best

    # --- parts ------------------------------------------------------------------------------------

    def _jobs(self, opened: _Opened, body: SourceFile, attempt: Attempt) -> Iterator[Job]:
        upload = opened.upload
        for number in upload.numbers:
            if number not in opened.parts:
                held = min(upload.span(number)[1], self._sender.held_max)
                yield held, partial(self._settle, opened, number, body, attempt)

    def _settle(self, opened: _Opened, number: int, body: SourceFile, attempt: Attempt) -> None:
        """Have the part in the upload as it shall be, sent only if it is not there."""
        upload = opened.upload
        offset, size = upload.span(number)
        part = opened.unsure.get(number)
        if part is None or not (
            self._pinned or (part.checksum and part.checksum == checksum_at(body, offset, size, upload.relpath))
        ):
            part = self._sender.send(upload, number, body, offset, size, attempt)
        opened.parts[number] = part  # of different keys, which is safe in any thread
        attempt.part_stored(part)

    # --- ending -----------------------------------------------------------------------------------

    def _complete(
        self, upload: Upload, parts: dict[int, StoredPart], body: SourceFile, whole: str | None, attempt: Attempt
    ) -> StoredObject:
        """Make the object, of exactly these parts, size and CRC32; source and permission are asked before each request."""
        bucket, relpath = upload.bucket, upload.relpath
        named = [_named(parts[number]) for number in upload.numbers]
        asserted = {} if whole is None else {"ChecksumCRC32": whole}

        def send() -> StoredObject:
            if not self._pinned:
                body.verify_unchanged()
            attempt.commit()
            with translated(f"completing {relpath!r}"):
                answer = bucket.once.complete_multipart_upload(
                    **upload.known,
                    MultipartUpload={"Parts": named},
                    **asserted,
                    ChecksumType="FULL_OBJECT",
                    MpuObjectSize=upload.size,
                )
            return acknowledged(bucket, relpath, upload.size, whole, answer)

        try:
            return patiently(send, on=_may_complete_again, told=telling(attempt))
        except AwsError as error:
            if error.code == "BadDigest":
                raise self._refused(upload, whole, known=all(part.checksum for part in parts.values())) from error
            if error.code != "NoSuchUpload":
                raise
            # Completed by a request whose answer was lost, unless somebody aborted it.
            stored = stored_object(bucket, relpath)
            if stored is None or (stored.size, stored.checksum) != (upload.size, whole):
                raise
            return stored

    def _refused(self, upload: Upload, whole: str | None, *, known: bool) -> ArchiveError:
        if known or whole is None:
            return AwsRefusedError(
                f"the store has parts of {upload.relpath!r} that are not what it confirmed: together they do not have the "
                f"CRC32 {whole}; run again to send it anew"
            )
        # No byte came from us, so what differs is the object from the index.
        return AwsChecksumMismatchError.of(upload.relpath, expected=whole, actual="another one")

    def _leave(self, upload: Upload, error: BaseException, attempt: Attempt) -> None:
        """After a failure: keep what the next attempt can go on with, and end what is of no use any more."""
        if attempt.resumable:
            if _is_worth_keeping(error):
                return
            try:
                attempt.commit()
            except LockLostError:
                return  # somebody else may be going on with it
        self._left.end(upload.bucket, upload.relpath, upload.upload_id)
        attempt.upload_ended()


def part_size_for(size: int, least: int = PART_SIZE) -> int:
    """The part size for a file: `least`, or more in whole MiB where that would make too many parts.

    Raises `ArchiveError` for a file that does not fit into as many of the largest.

    >>> part_size_for(5 << 40) // MIB
    525
    """
    needed = -(-size // PARTS_MAX)
    part_size = max(least, -(-needed // MIB) * MIB if needed > least else least)
    if part_size > PART_SIZE_MAX:
        raise AwsRefusedError(f"a file of {size} bytes is larger than an object in S3 can be")
    return part_size


def part_size_fits(part_size: int, size: int) -> bool:
    """Whether a file can be sent in parts of this size."""
    return 0 < part_size <= PART_SIZE_MAX and part_size * PARTS_MAX >= size


def whole_checksum(upload: Upload, parts: dict[int, StoredPart]) -> str | None:
    """The CRC32 of the whole file, combined from those of its parts; None unless all of them are known."""
    whole = 0
    for number in upload.numbers:
        part = parts.get(number)
        if part is None or not part.checksum:
            return None
        whole = combine(whole, parse_checksum(part.checksum), upload.span(number)[1])
    return crc32_base64(whole)


def _named(part: StoredPart) -> dict[str, object]:
    """A part as a completion names it."""
    named: dict[str, object] = {"PartNumber": part.number, "ETag": part.etag}
    return {**named, "ChecksumCRC32": part.checksum} if part.checksum else named


def _may_complete_again(error: AwsError) -> bool:
    return may_retry(error) and error.code not in ("NoSuchUpload", "BadDigest", "InvalidPart")


def _is_worth_keeping(error: BaseException) -> bool:
    """Whether the parts that S3 has are still those of the file, as far as this error tells."""
    if isinstance(error, AwsError) and error.code == "NoSuchUpload":
        return False
    if isinstance(error, SourceError):
        return not isinstance(error, SourceChangedError | SourceMissingError)  # a disk that blinks changes no byte
    return fault_of(error) in (Fault.WORLD, Fault.IDENTITY, Fault.STOPPED)
