"""The store behind the simulated archive: objects and uploads in parts, under checksums that it verifies itself.

It keeps what S3 documents: a body under another CRC32 than asserted is refused, an upload is completed from exactly the
parts it has, under the CRC32 and size of the whole, and once it is completed or aborted it is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import attrs

from upload_core.checksum import crc32_base64, crc_of
from upload_core.ports import StoredObject


class StoreRefusedError(Exception):
    """The store refuses the request for good; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@attrs.define
class StoredUpload:
    """An upload in parts that is neither completed nor aborted."""

    relpath: str
    parts: dict[int, bytes] = attrs.field(factory=dict)


class Store:
    """One bucket; who asks is somebody else's business."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, StoredObject]] = {}
        self.uploads: dict[str, StoredUpload] = {}
        self.shown: list[tuple[str, bytes]] = []
        """Every object that was ever visible, with its name."""
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        """Forget everything."""
        self._objects.clear()
        self.uploads.clear()
        self.shown.clear()

    def contents(self) -> dict[str, bytes]:
        """Every stored object's bytes by its name."""
        return {relpath: data for relpath, (data, _) in sorted(self._objects.items())}

    def read(self, relpath: str) -> bytes:
        """One object's bytes; raises `KeyError` if there is none."""
        return self._objects[relpath][0]

    def stat(self, relpath: str) -> StoredObject | None:
        found = self._objects.get(relpath)
        return None if found is None else found[1]

    def list(self) -> list[StoredObject]:
        return [StoredObject(relpath, len(data)) for relpath, (data, _) in self._objects.items()]

    def put(self, relpath: str, data: bytes, checksum: str) -> StoredObject:
        """Store an object whole."""
        actual = crc32_base64(crc_of([data]))
        if actual != checksum:
            raise StoreRefusedError("BadDigest")
        stored = StoredObject(relpath, len(data), actual, f'"{next(self._numbers):08x}"')
        self._objects[relpath] = data, stored
        self.shown.append((relpath, data))
        return stored

    # --- in parts ---------------------------------------------------------------------------------

    def begin(self, relpath: str) -> str:
        """The id of a new upload."""
        upload_id = f"upload-{next(self._numbers)}"
        self.uploads[upload_id] = StoredUpload(relpath)
        return upload_id

    def put_part(self, upload_id: str, number: int, data: bytes, checksum: str) -> None:
        upload = self._upload(upload_id)
        if crc32_base64(crc_of([data])) != checksum:
            raise StoreRefusedError("BadDigest")
        upload.parts[number] = data

    def parts(self, upload_id: str) -> dict[int, tuple[int, str]]:
        """Number -> size and CRC32 of each part."""
        parts = self._upload(upload_id).parts
        return {number: (len(data), crc32_base64(crc_of([data]))) for number, data in sorted(parts.items())}

    def complete(self, upload_id: str, numbers: Iterable[int], checksum: str, size: int) -> StoredObject:
        """Make the object of these parts, which must have that size and CRC32."""
        upload = self._upload(upload_id)
        if set(numbers) != upload.parts.keys():
            raise StoreRefusedError("InvalidPart")
        data = b"".join(part for _, part in sorted(upload.parts.items()))
        if len(data) != size:
            raise StoreRefusedError("InvalidRequest")
        stored = self.put(upload.relpath, data, checksum)
        del self.uploads[upload_id]
        return stored

    def abort(self, upload_id: str) -> None:
        self._upload(upload_id)
        del self.uploads[upload_id]

    def open_uploads(self) -> dict[str, str]:
        """Id -> name of every open upload."""
        return {upload_id: upload.relpath for upload_id, upload in self.uploads.items()}

    def _upload(self, upload_id: str) -> StoredUpload:
        if upload_id not in self.uploads:
            raise StoreRefusedError("NoSuchUpload")
        return self.uploads[upload_id]
