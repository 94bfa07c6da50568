"""What S3 says of an object that it keeps: by HEAD, and in its answer to whoever just wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upload_adapters.aws.bucket import Bucket, status_of, whole_checksum
from upload_adapters.aws.errors import AwsChecksumMismatchError, AwsError, AwsRefusedError, translated
from upload_core.ports import StoredObject


def stored_object(bucket: Bucket, relpath: str) -> StoredObject | None:
    """The object under that key with its full-object CRC32 ("" if it has none), or None."""
    try:
        with translated(f"looking at {relpath!r}"):
            answer = bucket.calls.head_object(Bucket=bucket.name, Key=relpath, ChecksumMode="ENABLED")
    except AwsError as error:
        if status_of(error) == 404 and error.code != "NoSuchBucket":
            return None
        raise
    return StoredObject(relpath, answer["ContentLength"], whole_checksum(answer), answer["ETag"])


def acknowledged(
    bucket: Bucket, relpath: str, size: int, checksum: str | None, answer: Mapping[str, Any]
) -> StoredObject:
    """The object as S3 confirmed it; raises `ArchiveError` if S3 does not say that it has our checksum.

    None stands for whichever it has, but it must have one.
    """
    confirmed = answer.get("ChecksumCRC32")
    if confirmed is None:
        stored = stored_object(bucket, relpath)
        confirmed = stored.checksum if stored is not None and stored.size == size else ""
    if not confirmed or checksum not in (None, confirmed):
        raise AwsRefusedError(
            f"the store took {relpath!r} without confirming its CRC32 {checksum or ''}; this store does not verify what it "
            "is sent, so nothing can be delivered to it safely"
        )
    return StoredObject(relpath, size, confirmed, answer["ETag"])


def must_match(relpath: str, expected: str | None, actual: str) -> None:
    """Raises `ChecksumMismatchError` if the index expects another CRC32 than the bytes have."""
    if expected is not None and expected != actual:
        raise AwsChecksumMismatchError.of(relpath, expected=expected, actual=actual)
