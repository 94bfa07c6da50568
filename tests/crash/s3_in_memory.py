"""S3 without a wire: the emulator's store behind the calls that our adapters make, each of which a test may watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.emulator import Settings
from tests.emulator.objects import Condition, ObjectStore
from tests.emulator.wire import ServiceError

BUCKET = "transfer"


class StoredFiles:
    """A bucket that outlives its clients, and what was ever sent to it."""

    def __init__(self) -> None:
        self.store = ObjectStore(Settings(part_size_min=1, list_page_max=3))
        self.bucket = self.store.create_bucket(BUCKET)
        self.parts_sent: list[tuple[str, int, int]] = []
        """Name, number and size of each part, as often as it came."""

    def contents(self) -> dict[str, bytes]:
        return {key: found.data for key, found in sorted(self.bucket.objects.items())}

    def read(self, relpath: str) -> bytes:
        return self.bucket.objects[relpath].data

    def open_uploads(self) -> list[str]:
        return sorted(upload.key for upload in self.bucket.uploads.values())

    def parts_of(self, relpath: str) -> set[int]:
        """Numbers of the parts that are there and no object yet."""
        return {n for upload in self.bucket.uploads.values() if upload.key == relpath for n in upload.parts}


class StoreCalls:
    """The calls of one process; once it is dead none of them has any effect."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files
        self._store = files.store

    def head_object(self, **a: Any) -> Any:
        found = self._try("HeadObject", lambda: self._files.bucket.object(a["Key"]))
        sums = {"ChecksumCRC32": found.checksum.value, "ChecksumType": found.checksum.kind} if found.checksum else {}
        return {"ContentLength": len(found.data), "ETag": found.etag, **sums}

    def put_object(self, **a: Any) -> Any:
        made = self._store.put(
            BUCKET, a["Key"], a["Body"], Condition(), checksums={"CRC32": a["ChecksumCRC32"]}, metadata={}
        )
        return {"ETag": made.etag, "ChecksumCRC32": a["ChecksumCRC32"]}

    def list_objects_v2(self, **a: Any) -> Any:
        found = self._files.bucket.objects.items()
        return {"Contents": [{"Key": key, "Size": len(o.data), "ETag": o.etag} for key, o in found]}

    def create_multipart_upload(self, **a: Any) -> Any:
        made = self._store.create_upload(
            BUCKET, a["Key"], algorithm=a["ChecksumAlgorithm"], kind=a["ChecksumType"], metadata={}
        )
        return {"UploadId": made.id}

    def upload_part(self, **a: Any) -> Any:
        self._files.parts_sent.append((a["Key"], a["PartNumber"], len(a["Body"])))
        sums = {"CRC32": a["ChecksumCRC32"]}
        made = self._try(
            "UploadPart",
            lambda: self._store.put_part(BUCKET, a["Key"], a["UploadId"], a["PartNumber"], a["Body"], sums),
        )
        return {"ETag": made.etag, "ChecksumCRC32": made.checksums["CRC32"]}

    def complete_multipart_upload(self, **a: Any) -> Any:
        named = [(p["PartNumber"], p["ETag"], {"CRC32": p["ChecksumCRC32"]}) for p in a["MultipartUpload"]["Parts"]]
        made = self._try(
            "CompleteMultipartUpload",
            lambda: self._store.complete(
                BUCKET,
                a["Key"],
                a["UploadId"],
                named,
                Condition(),
                asserted={"CRC32": a["ChecksumCRC32"]},
                kind=a["ChecksumType"],
                size=a["MpuObjectSize"],
            ),
        )
        return {"ETag": made.etag, "ChecksumCRC32": made.checksum.value}

    def abort_multipart_upload(self, **a: Any) -> Any:
        upload = self._try("AbortMultipartUpload", lambda: self._files.bucket.upload(a["Key"], a["UploadId"]))
        del self._files.bucket.uploads[upload.id]
        return {}

    def list_parts(self, **a: Any) -> Any:
        upload = self._try("ListParts", lambda: self._files.bucket.upload(a["Key"], a["UploadId"]))
        numbers = sorted(number for number in upload.parts if number > a.get("PartNumberMarker", 0))
        page = numbers[: self._store.settings.list_page_max]
        parts = [
            {
                "PartNumber": n,
                "ETag": upload.parts[n].etag,
                "Size": len(upload.parts[n].data),
                "ChecksumCRC32": upload.parts[n].checksums["CRC32"],
            }
            for n in page
        ]
        more = {"IsTruncated": True, "NextPartNumberMarker": page[-1]} if len(page) < len(numbers) else {}
        return {"Parts": parts, "ChecksumAlgorithm": upload.algorithm, "ChecksumType": upload.kind, **more}

    def list_multipart_uploads(self, **a: Any) -> Any:
        found = [u for u in self._files.bucket.uploads.values() if u.key.startswith(a["Prefix"])]
        return {"Uploads": [{"Key": u.key, "UploadId": u.id} for u in found]}

    def get_object(self, **a: Any) -> Any:
        raise NotImplementedError("no test here reads an object")

    copy_object = delete_object = upload_part_copy = get_object

    def close(self) -> None:
        """Nothing is held."""

    def _try(self, operation: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except ServiceError as error:
            said = {"Code": error.code, "Message": error.message}
            response = {"Error": said, "ResponseMetadata": {"HTTPStatusCode": error.status}}
            raise ClientError(response, operation) from error


if TYPE_CHECKING:
    from upload_adapters.aws.bucket import S3Calls

    _calls: S3Calls = StoreCalls(StoredFiles())
