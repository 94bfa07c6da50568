"""Control bucket and archive in memory, with the same promises as the real ones: conditions, offsets, checksums."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from upload_core.checksum import crc32_base64, crc_of
from upload_core.errors import (
    ChecksumMismatchError,
    OffsetConflictError,
    PreconditionFailedError,
    SourceChangedError,
)
from upload_core.ports import Archive, Attempt, Clock, ControlBucket, ObjectInfo, SourceFile, StoredObject

_READ_SIZE: Final = 1 << 20


@attrs.define
class _ControlObject:
    data: bytearray
    etag: str
    modified: float


class MemoryControlBucket:
    """Control objects of this process; every write gives an etag that no object ever had before.

    `before_read`, if set, is called with the key before each read or head: here a simulated other side takes its turn.
    """

    def __init__(self, clock: Clock) -> None:
        self.before_read: Callable[[str], None] | None = None
        self._clock = clock
        self._objects: dict[str, _ControlObject] = {}
        self._etags = itertools.count(1)
        self._mutex = threading.Lock()

    def keys(self) -> tuple[str, ...]:
        """The keys of all objects, sorted."""
        return tuple(sorted(self._objects))

    def size(self, key: str) -> int:
        """Bytes under that key, 0 if there is no object; nobody takes a turn for this look."""
        found = self._objects.get(key)
        return 0 if found is None else len(found.data)

    def head(self, key: str) -> ObjectInfo | None:
        if self.before_read is not None:
            self.before_read(key)
        with self._mutex:
            found = self._objects.get(key)
            return None if found is None else self._info(found)

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        if self.before_read is not None:
            self.before_read(key)
        with self._mutex:
            found = self._objects.get(key)
            return None if found is None else (bytes(memoryview(found.data)[start:]), self._info(found))

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        with self._mutex:
            found = self._objects.get(key)
            if if_absent and found is not None:
                raise PreconditionFailedError(f"{key} exists already")
            if if_match is not None:
                self._demand(key, found, if_match)
            written = self._objects[key] = _ControlObject(bytearray(data), self._new_etag(), self._now())
            return self._info(written)

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        with self._mutex:
            found = self._objects.get(key)
            size = 0 if found is None else len(found.data)
            if size != offset:
                raise OffsetConflictError(f"{key} has {size} bytes, the append expected {offset}")
            if found is None:
                found = self._objects[key] = _ControlObject(bytearray(), "", 0.0)
            found.data += data
            found.etag, found.modified = self._new_etag(), self._now()
            return self._info(found)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        with self._mutex:
            found = self._objects.get(key)
            if found is None:
                return
            if if_match is not None:
                self._demand(key, found, if_match)
            del self._objects[key]

    def _demand(self, key: str, found: _ControlObject | None, etag: str) -> None:
        if found is None or found.etag != etag:
            raise PreconditionFailedError(f"{key} is not the object {etag} (any more)")

    def _new_etag(self) -> str:
        return f'"{next(self._etags):032x}"'

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    def _info(self, found: _ControlObject) -> ObjectInfo:
        return ObjectInfo(len(found.data), found.etag, found.modified, self._now())


class MemoryArchive:
    """Stored objects of this process; `contents` shows what was delivered."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, StoredObject]] = {}
        self._etags = itertools.count(1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_etags": next(self._etags)}  # Python 3.12 warns of counters that travel, 3.14 refuses

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _etags=itertools.count(state["_etags"]))

    def contents(self) -> dict[str, bytes]:
        """Every stored object's bytes by its name."""
        return {relpath: data for relpath, (data, _) in sorted(self._objects.items())}

    def read(self, relpath: str) -> bytes:
        """One stored object's bytes; raises `KeyError` if there is none."""
        return self._objects[relpath][0]

    def stat(self, relpath: str) -> StoredObject | None:
        found = self._objects.get(relpath)
        return None if found is None else found[1]

    def put(
        self, relpath: str, body: SourceFile, *, checksum: str | None, attempt: Attempt | None = None
    ) -> StoredObject:
        data = b"".join(iter(lambda: body.read(_READ_SIZE), b""))
        if len(data) != body.size:
            raise SourceChangedError(f"{relpath!r} had {body.size} bytes when it was opened, {len(data)} were read")
        actual = crc32_base64(crc_of([data]))
        if checksum is not None and actual != checksum:
            raise ChecksumMismatchError(relpath, expected=checksum, actual=actual)
        if attempt is not None:
            with attempt.slot():
                attempt.spend(len(data))
        body.verify_unchanged()
        if attempt is not None:
            attempt.commit()
        stored = StoredObject(relpath, len(data), actual, f'"{next(self._etags):032x}"')
        self._objects[relpath] = data, stored
        return stored

    def list(self) -> Iterator[StoredObject]:
        for relpath, (data, _) in tuple(self._objects.items()):
            yield StoredObject(relpath, len(data))

    def end_uploads(
        self, known: Mapping[str, str], ours: Callable[[str], bool], commit: Callable[[], None] = lambda: None
    ) -> None:
        """Nothing: no file is taken in parts."""


if TYPE_CHECKING:
    _control: type[ControlBucket] = MemoryControlBucket
    _archive: type[Archive] = MemoryArchive
