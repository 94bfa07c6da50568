"""One part of a large file on its way to S3: read once, its CRC32 computed meanwhile and verified by S3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from upload_adapters.aws.bucket import Bucket, patiently, telling
from upload_adapters.aws.errors import AwsError, AwsRefusedError, AwsSourceChangedError, may_retry, translated
from upload_adapters.crc32 import crc32
from upload_core.checksum import crc32_base64
from upload_core.effects import StoredPart
from upload_core.errors import UploadClientError
from upload_core.ports import Attempt, SourceFile

MIB: Final = 1 << 20
PART_ATTEMPTS: Final = 6
"""Requests for one part before the file's attempt ends; the waits between them sum up to five seconds or so."""
HELD_MAX: Final = 16 * MIB
"""Larger parts, which only files of more than 160 GB have, go through memory in pieces."""
PIECE_SIZE: Final = MIB


@attrs.frozen
class Upload:
    """A multipart upload of ours, and how its file is cut: parts of `part_size`, the last one what is left."""

    bucket: Bucket
    relpath: str
    upload_id: str
    size: int
    part_size: int

    @property
    def known(self) -> dict[str, str]:
        """What names it in a request."""
        return {"Bucket": self.bucket.name, "Key": self.relpath, "UploadId": self.upload_id}

    @property
    def numbers(self) -> range:
        """The numbers of its parts, from 1."""
        return range(1, -(-self.size // self.part_size) + 1)

    def span(self, number: int) -> tuple[int, int]:
        """Offset and size of a part."""
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.size - offset)


class PartSender(Protocol):
    """How a part gets from a source file into an upload. Safe to use by many threads."""

    @property
    def held_max(self) -> int:
        """The most bytes of one part that it holds in memory at a time."""

    def send(
        self, upload: Upload, number: int, body: SourceFile, offset: int, size: int, attempt: Attempt
    ) -> StoredPart:
        """Read those bytes once with `body.read_at` and have S3 store them as that part under their CRC32.

        Each request takes a slot of the attempt, spends its bytes and asks `commit`; one that S3 pushed back is told to
        the attempt before it is made again. Raises `SourceError`, and AWS's errors once patience is at its end.
        """


class WholeSender(Protocol):
    """How a body that was read whole gets to S3, in one request. Safe to use by many threads."""

    def send_whole(
        self, bucket: Bucket, relpath: str, data: bytes, checksum: str, commit: Callable[[], None]
    ) -> Mapping[str, Any]:
        """Make that request once, under that CRC32; returns `ETag` and `ChecksumCRC32` of the answer.

        `commit` is asked as late as can be whether the bytes may still go. Raises AWS's errors, and what it raises.
        """


class S3Sender(PartSender, WholeSender, Protocol):
    """Both."""


class Boto3Sender:
    """By boto3, one request after the other: the reference for every other way."""

    def __init__(self, *, held_max: int = HELD_MAX) -> None:
        self.held_max = held_max

    def send_whole(
        self, bucket: Bucket, relpath: str, data: bytes, checksum: str, commit: Callable[[], None]
    ) -> Mapping[str, Any]:
        commit()
        with translated(f"storing {relpath!r}"):
            answer: Mapping[str, Any] = bucket.once.put_object(
                Bucket=bucket.name, Key=relpath, Body=data, ChecksumCRC32=checksum
            )
        return answer

    def send(
        self, upload: Upload, number: int, body: SourceFile, offset: int, size: int, attempt: Attempt
    ) -> StoredPart:
        if size > self.held_max:
            return self._send_in_pieces(upload, number, body, offset, size, attempt)
        data = read_exactly_at(body, offset, size, upload.relpath)
        checksum = crc32_base64(crc32(data))

        def send() -> StoredPart:
            with attempt.slot():
                attempt.spend(size)
                attempt.commit()  # nothing becomes visible by a part, but whoever lost the lock writes nothing at all
                with translated(f"storing part {number} of {upload.relpath!r}"):
                    answer = upload.bucket.once.upload_part(
                        **upload.known, PartNumber=number, Body=data, ChecksumCRC32=checksum
                    )
            return StoredPart(number, checksum, str(answer["ETag"]))

        return patiently(send, on=may_repeat_part, attempts=PART_ATTEMPTS, told=telling(attempt))

    def _send_in_pieces(
        self, upload: Upload, number: int, body: SourceFile, offset: int, size: int, attempt: Attempt
    ) -> StoredPart:
        """The same for a part that is too large to be held: over TLS its CRC32 follows the bytes, as a trailer.

        Without TLS botocore has it precede them, and so reads the part twice.
        """

        def send() -> StoredPart:
            with attempt.slot():
                attempt.spend(size)
                attempt.commit()
                span = _Span(body, offset, size, upload.relpath)
                try:
                    with translated(f"storing part {number} of {upload.relpath!r}"):
                        answer = upload.bucket.once.upload_part(
                            **upload.known, PartNumber=number, Body=span, ChecksumAlgorithm="CRC32"
                        )
                except AwsError:
                    if span.failure is not None:  # botocore takes whatever a body raises for trouble with the network
                        raise span.failure from None
                    raise
            return StoredPart(number, _confirmed(answer.get("ChecksumCRC32"), upload), str(answer["ETag"]))

        return patiently(send, on=may_repeat_part, attempts=PART_ATTEMPTS, told=telling(attempt))


def _confirmed(checksum: str | None, upload: Upload) -> str:
    if not checksum:
        raise AwsRefusedError(f"the store took a part of {upload.relpath!r} without confirming its CRC32")
    return checksum


def may_repeat_part(error: AwsError) -> bool:
    """Whether the same part of the same upload may succeed soon."""
    return may_retry(error) and error.code != "NoSuchUpload"


class _Span:
    """A part of a source file as a file of its own, which reads what it is asked for and holds nothing."""

    def __init__(self, body: SourceFile, offset: int, size: int, relpath: str) -> None:
        self.failure: UploadClientError | None = None
        self._body = body
        self._offset = offset
        self._size = size
        self._relpath = relpath
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        left = self._size - self._position
        wanted = left if size < 0 else min(size, left)
        try:
            data = read_exactly_at(self._body, self._offset + self._position, wanted, self._relpath)
        except UploadClientError as error:
            self.failure = error
            raise
        self._position += wanted
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def read_exactly_at(body: SourceFile, offset: int, size: int, relpath: str) -> bytes:
    """Those bytes; raises `SourceChangedError` if the file ends before."""
    data = body.read_at(offset, size)
    if len(data) != size:
        body.verify_unchanged()
        raise AwsSourceChangedError(
            f"{relpath!r} ended {size - len(data)} bytes early while it was read; restore it or index it again"
        )
    return data


def must_end_at(body: SourceFile, size: int, relpath: str) -> None:
    """Raises `SourceChangedError` if there is more than the size that the file had."""
    if body.read_at(size, 1):
        body.verify_unchanged()
        raise AwsSourceChangedError(f"{relpath!r} grew while it was read; restore it or index it again")


def checksum_at(body: SourceFile, offset: int, size: int, relpath: str) -> str:
    """The CRC32 of those bytes, read in pieces."""
    value, end = 0, offset + size
    while offset < end:
        data = read_exactly_at(body, offset, min(PIECE_SIZE, end - offset), relpath)
        value = crc32(data, value)
        offset += len(data)
    return crc32_base64(value)


if TYPE_CHECKING:
    _sender: type[PartSender] = Boto3Sender
    _whole: type[WholeSender] = Boto3Sender
