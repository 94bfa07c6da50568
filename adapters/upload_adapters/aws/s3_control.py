"""The control bucket in S3: conditional writes and append as S3 itself judges them.

Rule: no write is repeated here unless S3 said that it did not take effect; who asked decides what a lost answer means.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from upload_adapters.aws.bucket import Bucket, Place, patiently, server_time, status_of
from upload_adapters.aws.errors import AwsError, AwsOffsetConflictError, AwsPreconditionFailedError, translated
from upload_adapters.aws.s3_sessions import once_more
from upload_core.checksum import crc32_base64
from upload_core.errors import PreconditionFailedError
from upload_core.ports import ControlBucket, ObjectInfo

UNDONE_CODES: Final = frozenset({"ConditionalRequestConflict", "OperationAborted", "SlowDown"})
COMPACTIONS_MAX: Final = 2
"""Of one append: a second one is needed only if something came between the first and the append."""
"""Refusals after which nothing was written for certain: the same request may go again."""


class S3ControlBucket:
    """A directory bucket (S3 Express One Zone): the only kind that can append."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def head(self, key: str) -> ObjectInfo | None:
        bucket = self._place()
        try:
            with translated(f"looking at {key}"):
                return _described(bucket.calls.head_object(Bucket=bucket.name, Key=key))
        except AwsError as error:
            if status_of(error) == 404 and error.code != "NoSuchBucket":
                return None
            raise

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        try:
            # botocore repeats requests by itself, but not the reading of an answer's body.
            return patiently(lambda: self._read(key, start))
        except AwsError as error:
            if error.code in ("NoSuchKey", "404"):  # the status alone is left where the body was cut short
                return None
            if error.code != "InvalidRange":
                raise
        info = self.head(key)
        # It may have grown since: then there is something to read at the next look.
        return None if info is None else (b"", info)

    def _read(self, key: str, start: int) -> tuple[bytes, ObjectInfo]:
        bucket = self._place()
        span = {"Range": f"bytes={start}-"} if start else {}
        with translated(f"reading {key}"):
            answer = bucket.calls.get_object(Bucket=bucket.name, Key=key, **span)
            body = answer["Body"]
            try:
                data = body.read()
            finally:
                body.close()
        return data, _described(answer, size=start + len(data))

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        condition: dict[str, str] = {}
        if if_match is not None:
            condition["IfMatch"] = if_match
        if if_absent:
            condition["IfNoneMatch"] = "*"
        try:
            return self._write(key, data, condition, size=len(data))
        except AwsError as error:
            # Nothing there is another object than the one named, too.
            if if_match is not None and error.code == "NoSuchKey":
                raise AwsPreconditionFailedError(str(error), error.response, error.operation_name) from error
            raise

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        for _ in range(COMPACTIONS_MAX):
            try:
                return self._write(key, data, {"WriteOffsetBytes": offset}, size=offset + len(data))
            except AwsError as error:
                if error.code == "NoSuchKey":
                    raise AwsOffsetConflictError(str(error), error.response, error.operation_name) from error
                if error.code != "TooManyParts":
                    raise
            once_more(lambda: self._compact(key, offset))
        return self._write(key, data, {"WriteOffsetBytes": offset}, size=offset + len(data))

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        bucket = self._place()
        condition = {} if if_match is None else {"IfMatch": if_match}

        def send() -> None:
            with translated(f"deleting {key}"):
                bucket.once.delete_object(Bucket=bucket.name, Key=key, **condition)

        try:
            once_more(send)
        except PreconditionFailedError:
            # Some stores call it a failed precondition that there is nothing.
            if self.head(key) is not None:
                raise
        except AwsError as error:
            if error.code != "NoSuchKey":
                raise

    def _write(self, key: str, data: bytes, how: Mapping[str, Any], *, size: int) -> ObjectInfo:
        bucket = self._place()
        checksum = crc32_base64(zlib.crc32(data))

        def send() -> ObjectInfo:
            with translated(f"writing {key}"):
                answer = bucket.once.put_object(Bucket=bucket.name, Key=key, Body=data, ChecksumCRC32=checksum, **how)
            now = server_time(answer)
            return ObjectInfo(size, answer["ETag"], modified=now, now=now)

        return once_more(lambda: patiently(send, on=lambda error: error.code in UNDONE_CODES))

    def _compact(self, key: str, size: int) -> None:
        """Make the object one part again by copying it onto itself; raises `OffsetConflictError` if it has another size."""
        bucket = self._place()
        with translated(f"compacting {key}"):
            found = bucket.calls.head_object(Bucket=bucket.name, Key=key)
            if found["ContentLength"] != size:
                raise AwsOffsetConflictError(f"{key} holds {found['ContentLength']} bytes, not {size}")
            try:
                bucket.once.copy_object(
                    Bucket=bucket.name,
                    Key=key,
                    CopySource={"Bucket": bucket.name, "Key": key},
                    CopySourceIfMatch=found["ETag"],
                    ChecksumAlgorithm="CRC32",
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                    raise
                # Replaced since: by a copy of ours that came twice, or by somebody else. The next append will tell.


def _described(answer: Mapping[str, Any], *, size: int | None = None) -> ObjectInfo:
    if size is None:
        size = answer["ContentLength"]
    # A ranged answer names the whole size behind the slash.
    _, slash, whole = str(answer.get("ContentRange", "")).rpartition("/")
    if slash and whole.isdigit():
        size = int(whole)
    return ObjectInfo(size, answer["ETag"], modified=answer["LastModified"].timestamp(), now=server_time(answer))


def fixed(bucket: Bucket) -> Place:
    """A place that is known already."""
    return lambda: bucket


if TYPE_CHECKING:
    _control: type[ControlBucket] = S3ControlBucket
