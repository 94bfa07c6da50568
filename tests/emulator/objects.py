"""The objects, uploads and buckets, and the rules that bind their data.

Rule: every change happens under the store's one lock, conditions included; an object is never changed, only replaced.
"""

import base64
import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from zlib import crc32

import attrs

from tests.emulator import payload
from tests.emulator.settings import Settings
from tests.emulator.wire import ServiceError

PART_NUMBER_MAX = 10_000


@attrs.frozen
class Checksum:
    """An object's checksum as HEAD shows it."""

    algorithm: str
    value: str
    kind: str = "FULL_OBJECT"


@attrs.frozen
class StoredObject:
    """One object; `parts` is how many writes it was made of."""

    data: bytes
    etag: str
    modified: float
    parts: int = 1
    checksum: Checksum | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Part:
    data: bytes
    etag: str
    modified: float
    checksums: Mapping[str, str]


@attrs.define
class Upload:
    """An open multipart upload."""

    id: str
    key: str
    started: float
    algorithm: str
    kind: str
    metadata: Mapping[str, str]
    parts: dict[int, Part] = attrs.field(factory=dict)


@attrs.define
class Bucket:
    name: str
    created: float
    objects: dict[str, StoredObject] = attrs.field(factory=dict)
    uploads: dict[str, Upload] = attrs.field(factory=dict)
    deletions: dict[str, int] = attrs.field(factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory bucket, with append and sessions and without order."""
        return self.name.endswith("--x-s3")

    def object(self, key: str) -> StoredObject:
        """The object; raises NoSuchKey."""
        found = self.objects.get(key)
        if found is None:
            raise ServiceError(404, "NoSuchKey", "The specified key does not exist.")
        return found

    def upload(self, key: str, upload_id: str) -> Upload:
        """The open upload; raises NoSuchUpload, also after it was completed or aborted."""
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise ServiceError(404, "NoSuchUpload", "The specified upload does not exist.")
        return found

    def remove(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self.deletions[key] = self.deletions.get(key, 0) + 1

    def etag(self, data: bytes) -> str:
        """Directory buckets' ETags are not digests of the content; those of general purpose buckets are its MD5."""
        return quoted(
            secrets.token_hex(16) if self.is_directory else hashlib.md5(data, usedforsecurity=False).hexdigest()
        )


def quoted(tag: str) -> str:
    return '"' + tag.strip('"') + '"'


@attrs.frozen
class Condition:
    """What a write, copy or delete demands of the object it replaces."""

    if_match: str | None = None
    if_none_match: str | None = None
    deletions_seen: int = 0

    def check(self, bucket: Bucket, key: str) -> None:
        """Raises 412, 404 or 409 as the conditional-write rules say."""
        if self.if_match is None and self.if_none_match is None:
            return
        if self.if_none_match not in (None, "*"):
            raise ServiceError(501, "NotImplemented", "If-None-Match accepts only * here")
        if self.if_match is not None and self.if_none_match is not None:
            raise ServiceError(501, "NotImplemented", "If-Match and If-None-Match exclude each other")
        if bucket.deletions.get(key, 0) > self.deletions_seen:
            raise ServiceError(409, "ConditionalRequestConflict", "A conflicting operation occurred during the upload.")
        current = bucket.objects.get(key)
        if self.if_none_match is not None:
            if current is not None:
                raise precondition_failed()
        else:
            assert self.if_match is not None
            if current is None:
                raise ServiceError(404, "NoSuchKey", "The specified key does not exist.")
            if self.if_match != "*" and quoted(self.if_match) != current.etag:
                raise precondition_failed()


def precondition_failed() -> ServiceError:
    return ServiceError(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")


def invalid(code: str, message: str) -> ServiceError:
    return ServiceError(400, code, message)


@attrs.define
class ObjectStore:
    """All buckets."""

    settings: Settings
    buckets: dict[str, Bucket] = attrs.field(factory=dict)
    lock: threading.RLock = attrs.field(factory=threading.RLock)

    def bucket(self, name: str) -> Bucket:
        """The bucket; raises NoSuchBucket."""
        found = self.buckets.get(name)
        if found is None:
            raise ServiceError(404, "NoSuchBucket", "The specified bucket does not exist")
        return found

    def create_bucket(self, name: str) -> Bucket:
        with self.lock:
            if name in self.buckets:
                raise ServiceError(409, "BucketAlreadyOwnedByYou", "You already own this bucket.")
            self.buckets[name] = Bucket(name, self.settings.now())
            return self.buckets[name]

    def put(
        self,
        bucket_name: str,
        key: str,
        data: bytes,
        condition: Condition,
        *,
        checksums: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> StoredObject:
        with self.lock:
            bucket = self.bucket(bucket_name)
            condition.check(bucket, key)
            checksum = next((Checksum(name, value) for name, value in checksums.items()), None)
            made = StoredObject(data, bucket.etag(data), self.settings.now(), checksum=checksum, metadata=metadata)
            bucket.objects[key] = made
            return made

    def append(
        self,
        bucket_name: str,
        key: str,
        data: bytes,
        offset: int,
        condition: Condition,
        *,
        checksums: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> StoredObject:
        """Add to the end of an object of exactly `offset` bytes; 0 creates it."""
        with self.lock:
            bucket = self.bucket(bucket_name)
            if not bucket.is_directory:
                raise ServiceError(501, "NotImplemented", "A header you provided implies functionality not implemented")
            condition.check(bucket, key)
            current = bucket.objects.get(key)
            if offset != (0 if current is None else len(current.data)):
                message = "The write offset value that you specified does not match the current object size."
                raise invalid("InvalidWriteOffset", message)
            if current is None:
                return self.put(bucket_name, key, data, Condition(), checksums=checksums, metadata=metadata)
            if current.parts >= self.settings.parts_max:
                raise invalid(
                    "TooManyParts",
                    f"You have attempted to add more parts than the maximum of {self.settings.parts_max} "
                    "that are allowed for this object.",
                )
            whole = current.data + data
            checksum = current.checksum
            if checksum is not None:
                checksum = Checksum(checksum.algorithm, payload.checksum(checksum.algorithm, whole))
            made = StoredObject(
                whole, bucket.etag(whole), self.settings.now(), current.parts + 1, checksum, current.metadata
            )
            bucket.objects[key] = made
            return made

    def copy(
        self,
        source: StoredObject,
        bucket_name: str,
        key: str,
        condition: Condition,
        *,
        algorithm: str | None,
        metadata: Mapping[str, str] | None,
    ) -> StoredObject:
        """The copy is one part, whatever the source was made of; without `algorithm` it keeps the source's checksum."""
        with self.lock:
            bucket = self.bucket(bucket_name)
            condition.check(bucket, key)
            # A composite checksum cannot be kept: the copy is not made of those parts any more.
            if algorithm is None and source.checksum is not None:
                algorithm = source.checksum.algorithm
            checksum = Checksum(algorithm, payload.checksum(algorithm, source.data)) if algorithm else None
            kept = source.metadata if metadata is None else metadata
            made = StoredObject(source.data, bucket.etag(source.data), self.settings.now(), 1, checksum, kept)
            bucket.objects[key] = made
            return made

    def delete(self, bucket_name: str, key: str, if_match: str | None) -> None:
        with self.lock:
            bucket = self.bucket(bucket_name)
            current = bucket.objects.get(key)
            if if_match is not None:
                # What a conditional delete of nothing answers is documented for directory buckets only.
                if current is None and not bucket.is_directory:
                    raise precondition_failed()
                if current is not None and if_match != "*" and quoted(if_match) != current.etag:
                    raise precondition_failed()
            bucket.remove(key)

    # --- multipart uploads ------------------------------------------------------------------------

    def create_upload(
        self, bucket_name: str, key: str, *, algorithm: str, kind: str, metadata: Mapping[str, str]
    ) -> Upload:
        with self.lock:
            upload = Upload(secrets.token_urlsafe(24), key, self.settings.now(), algorithm, kind, metadata)
            self.bucket(bucket_name).uploads[upload.id] = upload
            return upload

    def put_part(
        self, bucket_name: str, key: str, upload_id: str, number: int, data: bytes, checksums: Mapping[str, str]
    ) -> Part:
        with self.lock:
            bucket = self.bucket(bucket_name)
            upload = bucket.upload(key, upload_id)
            if not 1 <= number <= PART_NUMBER_MAX:
                raise invalid("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
            if upload.algorithm:
                if checksums and upload.algorithm not in checksums:
                    raise invalid("InvalidRequest", f"Checksum Type mismatch occurred, expected {upload.algorithm}")
                if not checksums and upload.kind == "COMPOSITE":
                    raise invalid("InvalidRequest", f"The upload demands a {upload.algorithm} checksum of each part")
                checksums = {upload.algorithm: payload.checksum(upload.algorithm, data)}
            etag = quoted(hashlib.md5(data, usedforsecurity=False).hexdigest())
            part = Part(data, etag, self.settings.now(), checksums)
            upload.parts[number] = part
            return part

    def complete(
        self,
        bucket_name: str,
        key: str,
        upload_id: str,
        named: Sequence[tuple[int, str, Mapping[str, str]]],
        condition: Condition,
        *,
        asserted: Mapping[str, str],
        kind: str | None,
        size: int | None,
    ) -> StoredObject:
        """Make the object of the named parts (number, ETag, checksums), or refuse and leave the upload open."""
        with self.lock:
            bucket = self.bucket(bucket_name)
            upload = bucket.upload(key, upload_id)
            parts = self._named_parts(bucket, upload, named)
            data = b"".join(part.data for part in parts)
            if size is not None and size != len(data):
                raise invalid("InvalidRequest", f"The object has {len(data)} bytes, {size} were specified")
            if kind is not None and kind != upload.kind:
                raise invalid("BadDigest", "The checksum type is not that of the upload")
            checksum = self._whole_checksum(upload, parts)
            for algorithm, value in asserted.items():
                bare = value.partition("-")[0]
                if checksum is None or checksum.algorithm != algorithm:
                    raise invalid("InvalidRequest", f"The upload was not created with {algorithm}")
                if checksum.value.partition("-")[0] != bare:
                    raise invalid("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
            condition.check(bucket, key)
            digest = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts), usedforsecurity=False)
            etag = bucket.etag(data) if bucket.is_directory else quoted(f"{digest.hexdigest()}-{len(parts)}")
            made = StoredObject(data, etag, self.settings.now(), len(parts), checksum, upload.metadata)
            bucket.objects[key] = made
            del bucket.uploads[upload_id]
            return made

    def _named_parts(
        self, bucket: Bucket, upload: Upload, named: Sequence[tuple[int, str, Mapping[str, str]]]
    ) -> list[Part]:
        if not named:
            raise invalid("MalformedXML", "You must specify at least one part")
        numbers = [number for number, _, _ in named]
        if numbers != sorted(set(numbers)):
            raise invalid("InvalidPartOrder", "The list of parts was not in ascending order.")
        if bucket.is_directory and numbers != list(range(1, len(numbers) + 1)):
            raise invalid("InvalidPart", "Part numbers of a directory bucket must be consecutive")
        parts: list[Part] = []
        for number, etag, checksums in named:
            part = upload.parts.get(number)
            if part is None or part.etag != quoted(etag):
                raise invalid("InvalidPart", "One or more of the specified parts could not be found.")
            if any(part.checksums.get(algorithm) != value for algorithm, value in checksums.items()):
                raise invalid("InvalidPart", "One or more of the specified parts has another checksum.")
            if upload.algorithm and upload.kind == "COMPOSITE" and not checksums:
                raise invalid("InvalidRequest", "The complete request must include the checksum for each part.")
            parts.append(part)
        if any(len(part.data) < self.settings.part_size_min for part in parts[:-1]):
            raise invalid("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        return parts

    def _whole_checksum(self, upload: Upload, parts: list[Part]) -> Checksum | None:
        if not upload.algorithm:
            return None
        if upload.kind == "COMPOSITE":
            raw = b"".join(payload.ALGORITHMS[upload.algorithm](part.data) for part in parts)
            return Checksum(upload.algorithm, f"{payload.checksum(upload.algorithm, raw)}-{len(parts)}", "COMPOSITE")
        running = 0
        for part in parts:
            running = crc32(part.data, running)
        return Checksum("CRC32", base64.b64encode(running.to_bytes(4, "big")).decode())
