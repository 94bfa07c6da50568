"""Bodies on threads by libcurl: whole ones of some size, and parts of large files, whose CRC32 follows the bytes.

Rule: a part is never held whole. It goes in one chunk of the aws-chunked coding, with its CRC32 as the trailer ("Signature
calculations: transferring a payload in multiple chunks", docs.aws.amazon.com), so each byte is read once and hashed once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import pycurl

from upload_adapters.aws.bucket import Bucket, Endpoint, patiently, telling
from upload_adapters.aws.curl_handle import PIECE_SIZE, Answer, failure, give_body, new_handle, refusal
from upload_adapters.aws.errors import AwsError, AwsRefusedError
from upload_adapters.aws.s3_part import (
    PART_ATTEMPTS,
    Boto3Sender,
    PartSender,
    Upload,
    WholeSender,
    may_repeat_part,
    read_exactly_at,
)
from upload_adapters.aws.signing import UNSIGNED_PAYLOAD, UNSIGNED_TRAILER, Form, Signer, quoted
from upload_adapters.crc32 import crc32
from upload_core.checksum import crc32_base64
from upload_core.effects import StoredPart
from upload_core.ports import Attempt, SourceFile

_TRAILER_BYTES: Final = len(b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n")
_FIXED_HEADERS: Final = ["Expect:", "Accept:", "User-Agent:", "Content-Type: application/octet-stream"]


class _Line:
    """One thread's connection to one bucket: a handle, and the forms of what is signed for it."""

    def __init__(self, endpoint: Endpoint, generation: int) -> None:
        self.endpoint = endpoint
        self.generation = generation
        self.answer = Answer()
        signer = Signer(endpoint.host, endpoint.region, endpoint.keys, endpoint.now_ms)
        self.whole = Form(signer, "PUT", UNSIGNED_PAYLOAD, ["x-amz-checksum-crc32"])
        self.part = Form(
            signer,
            "PUT",
            UNSIGNED_TRAILER,
            ["x-amz-decoded-content-length"],
            x_amz_trailer="x-amz-checksum-crc32",
        )
        self.handle: Any = new_handle(endpoint)

    def put(self, path: str, query: str, headers: list[str], doing: str) -> Answer:
        """Make the request that the handle is set up for; raises our error for anything but a 200."""
        endpoint, handle, answer = self.endpoint, self.handle, self.answer
        answer.clear()
        answer.attach(handle)
        handle.setopt(pycurl.URL, f"{endpoint.base}{path}?{query}" if query else endpoint.base + path)
        handle.setopt(pycurl.HTTPHEADER, headers + _FIXED_HEADERS)
        try:
            handle.perform()
        except pycurl.error as error:
            raise failure(error.args[0], str(error.args[1]), doing, endpoint.base) from None
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        if status != 200:
            raise refusal(status, b"".join(answer.body), doing)
        return answer


class _ChunkedPart:
    """A part as libcurl reads it: its length, its bytes, its CRC32."""

    def __init__(self, body: SourceFile, offset: int, size: int, relpath: str, commit: Callable[[], None]) -> None:
        self.failure: BaseException | None = None
        self.checksum = ""
        self._body = body
        self._commit = commit
        self._offset = offset
        self._end = offset + size
        self._relpath = relpath
        self._crc = 0
        self._pending = b"%x\r\n" % size
        self.length = len(self._pending) + size + _TRAILER_BYTES

    def read(self, size: int) -> bytes | int:
        """The next bytes of the coding, b"" at its end."""
        pending = self._pending
        if pending:
            self._pending = pending[size:]
            return pending[:size]
        left = self._end - self._offset
        if not left:
            return b""
        try:
            self._commit()
            data = read_exactly_at(self._body, self._offset, min(size, left, PIECE_SIZE), self._relpath)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever sends it; it cannot pass through libcurl
            self.failure = error
            return int(pycurl.READFUNC_ABORT)
        self._crc = crc32(data, self._crc)
        self._offset += len(data)
        if self._offset == self._end:
            self.checksum = crc32_base64(self._crc)
            self._pending = b"\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % self.checksum.encode()
        return data


class CurlSender:
    """Sends by libcurl, one connection for each thread; a bucket that it cannot reach is left to boto3."""

    held_max = PIECE_SIZE

    def __init__(self, reference: Boto3Sender | None = None) -> None:
        self._reference = reference or Boto3Sender()
        self._local = threading.local()
        self._generation = 0

    def reconnect(self) -> None:
        """Let every thread open a new connection for its next request; may be called from any thread."""
        self._generation += 1

    def _line(self, bucket: Bucket) -> _Line | None:
        endpoint = bucket.endpoint
        if endpoint is None:
            return None
        line: _Line | None = getattr(self._local, "line", None)
        if line is None or line.endpoint is not endpoint or line.generation != self._generation:
            line = self._local.line = _Line(endpoint, self._generation)
        return line

    def send_whole(
        self, bucket: Bucket, relpath: str, data: bytes, checksum: str, commit: Callable[[], None]
    ) -> Mapping[str, Any]:
        line = self._line(bucket)
        if line is None:
            return self._reference.send_whole(bucket, relpath, data, checksum, commit)
        commit()  # an empty body is never asked for
        path = quoted(relpath)
        headers = line.whole.headers(line.endpoint.prefix + path, "", checksum)
        body = give_body(line.handle, data, commit)
        try:
            return _seen(line.put(path, "", headers, f"storing {relpath!r}"))
        except AwsError:
            if body.failure is not None:
                self._local.line = None  # as a part's
                raise body.failure from None
            raise
        finally:
            body.forget()

    def send(
        self, upload: Upload, number: int, body: SourceFile, offset: int, size: int, attempt: Attempt
    ) -> StoredPart:
        line = self._line(upload.bucket)
        if line is None:
            return self._reference.send(upload, number, body, offset, size, attempt)

        def send() -> StoredPart:
            with attempt.slot():
                attempt.spend(size)
                attempt.commit()  # nothing becomes visible by a part, but whoever lost the lock writes nothing at all
                return self._send_once(upload, number, body, offset, size, attempt.commit)

        return patiently(send, on=may_repeat_part, attempts=PART_ATTEMPTS, told=telling(attempt))

    def _send_once(
        self, upload: Upload, number: int, body: SourceFile, offset: int, size: int, commit: Callable[[], None]
    ) -> StoredPart:
        line = self._line(upload.bucket)
        assert line is not None, "send has asked"
        part = _ChunkedPart(body, offset, size, upload.relpath, commit)
        path = quoted(upload.relpath)
        query = f"partNumber={number}&uploadId={quoted(upload.upload_id).replace('/', '%2F')}"
        headers = line.part.headers(line.endpoint.prefix + path, query, str(size))
        headers.append("Content-Encoding: aws-chunked")
        handle = line.handle
        handle.setopt(pycurl.FRESH_CONNECT, 0)
        handle.setopt(pycurl.INFILESIZE_LARGE, part.length)
        handle.setopt(pycurl.READFUNCTION, part.read)
        try:
            answer = line.put(path, query, headers, f"storing part {number} of {upload.relpath!r}")
        except AwsError:
            self._local.line = None  # a request that was cut in its middle must not share a connection with the next
            if part.failure is not None:
                raise part.failure from None
            raise
        checksum, etag = answer.headers(b"x-amz-checksum-crc32", b"etag")
        if checksum != part.checksum:
            raise AwsRefusedError(f"the store took a part of {upload.relpath!r} without confirming its CRC32")
        return StoredPart(number, checksum, etag)


def _seen(answer: Answer) -> dict[str, str]:
    """The fields of an answer that count, under boto3's names."""
    checksum, etag = answer.headers(b"x-amz-checksum-crc32", b"etag")
    return {"ETag": etag, "ChecksumCRC32": checksum} if checksum else {"ETag": etag}


if TYPE_CHECKING:
    _parts: type[PartSender] = CurlSender
    _whole: type[WholeSender] = CurlSender
