"""Multipart uploads from the outside: beginning, looking into and ending them, and what earlier processes left.

Rule: only uploads under the name that is being stored, or under names that the caller calls his own, are touched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

import attrs

from upload_adapters.aws.bucket import Bucket, patiently, status_of, telling
from upload_adapters.aws.errors import AwsError, translated
from upload_core.effects import StoredPart
from upload_core.ports import Attempt

ABORT_ATTEMPTS: Final = 3
"""A part that was under way while its upload was aborted may be kept, so one abort may not be enough."""


@attrs.frozen
class Found:
    """An open upload that a listing shows."""

    relpath: str
    upload_id: str


@attrs.frozen
class ListedPart:
    """A part as S3 has it; `stored.checksum` is "" if S3 keeps none."""

    stored: StoredPart
    size: int


@attrs.frozen
class Contents:
    """The parts of an open upload; `whole` says whether S3 will give the object a CRC32 of the whole."""

    parts: dict[int, ListedPart]
    whole: bool


def created(bucket: Bucket, relpath: str, attempt: Attempt) -> tuple[str, bool]:
    """The id of a new upload, and whether there may be another one whose id we never heard."""
    attempts = 0

    def ask() -> str:
        nonlocal attempts
        attempt.commit()
        attempts += 1
        with translated(f"beginning to store {relpath!r}"):
            begun = bucket.once.create_multipart_upload(
                Bucket=bucket.name, Key=relpath, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
            )
        return str(begun["UploadId"])

    upload_id = patiently(ask, told=telling(attempt))
    return upload_id, attempts > 1


def contents(bucket: Bucket, relpath: str, upload_id: str) -> Contents | None:
    """What S3 has of an open upload, page by page; None if there is no such upload (any more)."""
    parts: dict[int, ListedPart] = {}
    page: dict[str, int] = {}
    while True:
        try:
            with translated(f"looking for parts of {relpath!r}"):
                answer = bucket.calls.list_parts(Bucket=bucket.name, Key=relpath, UploadId=upload_id, **page)
        except AwsError as error:
            if error.code == "NoSuchUpload":
                return None
            raise
        for found in answer.get("Parts", ()):
            stored = StoredPart(found["PartNumber"], found.get("ChecksumCRC32", ""), found["ETag"])
            parts[stored.number] = ListedPart(stored, found["Size"])
        if not answer.get("IsTruncated"):
            kind = answer.get("ChecksumAlgorithm"), answer.get("ChecksumType")
            return Contents(parts, whole=kind == ("CRC32", "FULL_OBJECT"))
        page = {"PartNumberMarker": answer["NextPartNumberMarker"]}


def end(bucket: Bucket, relpath: str, upload_id: str) -> None:
    """Abort an upload until S3 says that it is gone; one that is gone already is no error. Raises AWS's errors."""
    known = {"Bucket": bucket.name, "Key": relpath, "UploadId": upload_id}
    for _ in range(ABORT_ATTEMPTS):
        try:
            with translated(f"abandoning the parts of {relpath!r}"):
                bucket.calls.abort_multipart_upload(**known)
                bucket.calls.list_parts(**known)
        except AwsError as error:
            if error.code == "NoSuchUpload":
                return
            raise


def open_uploads(bucket: Bucket, prefix: str = "") -> Iterator[Found]:
    """Every open upload under a prefix; none where we may not ask."""
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
            yield Found(unquote_plus(found["Key"]), found["UploadId"])
        if not answer.get("IsTruncated"):
            return
        page = {
            "KeyMarker": unquote_plus(answer["NextKeyMarker"]),
            "UploadIdMarker": answer["NextUploadIdMarker"],
        }


class LeftUploads:
    """Names under which an upload may be open that nobody goes on with."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._asked = False
        """Whether the bucket was asked, once, for what earlier processes left."""
        self._names: set[str] = set()  # adding and taking away is safe in any thread

    def under(self, bucket: Bucket, relpath: str) -> list[str]:
        """The ids of open uploads under this name; asks S3 only if there is doubt."""
        with self._mutex:
            if not self._asked:
                self._names.update([found.relpath for found in open_uploads(bucket)])
                self._asked = True
        if relpath not in self._names:
            return []
        return [found.upload_id for found in open_uploads(bucket, relpath) if found.relpath == relpath]

    def doubt(self, relpath: str) -> None:
        """An upload that we know nothing of may be open under this name from now on."""
        self._names.add(relpath)

    def settle(self, relpath: str) -> None:
        """Nothing is open under this name but what its attempt goes on with."""
        self._names.discard(relpath)

    def end(self, bucket: Bucket, relpath: str, upload_id: str) -> None:
        """End an upload; if that fails, the name is in doubt, and the reason for ending it is the one worth telling."""
        try:
            end(bucket, relpath, upload_id)
        except AwsError:
            self.doubt(relpath)
