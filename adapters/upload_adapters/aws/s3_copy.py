"""The requests by which S3 copies an object from bucket to bucket without its bytes passing through this machine.

Rule: every one names the etag that the origin must have; an origin that is another one by now is a changed source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from upload_adapters.aws.bucket import Bucket, patiently, status_of, telling
from upload_adapters.aws.errors import AwsError, AwsSourceChangedError, AwsSourceError, translated
from upload_adapters.aws.s3_part import MIB, PART_ATTEMPTS, PartSender, Upload, may_repeat_part
from upload_core.effects import StoredPart
from upload_core.ports import Attempt, CopySource, SourceFile, origin_of
from upload_core.text import printable

COPY_SINGLE_MAX: Final = 256 * MIB
"""Larger objects are copied in parts. S3 would take 5 GiB at once, and work on it for minutes: the object would become
visible long after the moment at which that was allowed."""
COPY_PART_SIZE: Final = 256 * MIB
"""Also what 10,000 parts of the largest object need (525 MiB) is far below the 5 GiB that S3 copies as one part."""


def copied_whole(bucket: Bucket, relpath: str, origin: CopySource) -> Mapping[str, Any]:
    """Copy in one request, sent once; returns etag and CRC32 of what is now visible.

    The bytes alone are copied: metadata and tags of the origin would need further permissions, and mean nothing here.
    Raises `SourceChangedError`.
    """
    with origin_pinned(relpath), translated(f"copying {relpath!r}"):
        answer = bucket.once.copy_object(
            Bucket=bucket.name,
            Key=relpath,
            ChecksumAlgorithm="CRC32",
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            **_pinned(origin),
        )
    made: Mapping[str, Any] = answer["CopyObjectResult"]
    return made


class PartCopier:
    """Has S3 take parts from the object that the source file is; of another etag it takes none."""

    held_max = 0

    def send(
        self, upload: Upload, number: int, body: SourceFile, offset: int, size: int, attempt: Attempt
    ) -> StoredPart:
        """Copy those bytes as that part. Raises `SourceChangedError`."""
        origin = origin_of(body)
        assert origin is not None, "only what lies in a bucket is copied"

        def send() -> Any:
            with attempt.slot():
                attempt.commit()  # nothing becomes visible by a part, but a long file shall end soon after a cut
                with origin_pinned(upload.relpath), translated(f"copying part {number} of {upload.relpath!r}"):
                    return upload.bucket.once.upload_part_copy(
                        **upload.known,
                        PartNumber=number,
                        CopySourceRange=f"bytes={offset}-{offset + size - 1}",
                        **_pinned(origin),
                    )

        made = patiently(send, on=may_repeat_part, attempts=PART_ATTEMPTS, told=telling(attempt))["CopyPartResult"]
        return StoredPart(number, made.get("ChecksumCRC32", ""), made["ETag"])


def unmake(bucket: Bucket, relpath: str, etag: str) -> None:
    """Take away a copy that is not what it should be; if that fails too, the reason for it is the one worth telling."""
    with suppress(AwsError), translated(f"removing {relpath!r}"):
        bucket.calls.delete_object(Bucket=bucket.name, Key=relpath, IfMatch=etag)


@contextmanager
def origin_pinned(relpath: str) -> Iterator[None]:
    """What S3 says of an object that is not the pinned one, or not readable now, comes out as a `SourceError`."""
    try:
        yield
    except AwsError as error:
        shown = f'"{printable(relpath, 300)}"'
        if status_of(error) == 412:
            raise AwsSourceChangedError(f"{shown} was replaced since it was opened; let it come to rest") from error
        if error.code in ("NoSuchKey", "404"):
            raise AwsSourceChangedError(f"{shown} was taken away since it was opened") from error
        if error.code == "InvalidObjectState":
            raise AwsSourceError(f"{shown} lies in an archive tier of S3; restore it first") from error
        raise


def _pinned(origin: CopySource) -> dict[str, Any]:
    return {"CopySource": {"Bucket": origin.bucket, "Key": origin.key}, "CopySourceIfMatch": origin.etag}


if TYPE_CHECKING:
    _copier: type[PartSender] = PartCopier
