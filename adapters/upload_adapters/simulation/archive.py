"""The transfer bucket as a client's process sees it: small files in one request, large ones in parts that are gone on with.

It keeps the promises of `ports.Archive` in as few requests as the real one, so that a death between any two of them
leaves what it leaves there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from upload_adapters.simulation.life import Life
from upload_adapters.simulation.store import StoreRefusedError
from upload_core.attempt import FreeAttempt
from upload_core.checksum import combine, crc32_base64, crc_of, parse_checksum
from upload_core.effects import Fault, OpenUpload, StoredPart
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ChecksumMismatchError,
    LockLostError,
    SourceChangedError,
    SourceError,
)
from upload_core.ports import Archive, Attempt, SourceFile, StoredObject
from upload_core.worker import fault_of

T = TypeVar("T")

PART_SIZE: Final = 48
ATTEMPTS: Final = 3
WAIT_S: Final = 0.2


class SimulatedArchive:
    """The archive of one process."""

    def __init__(self, life: Life, *, part_size: int = PART_SIZE) -> None:
        self._life = life
        self._store = life.world.store
        self._part_size = part_size

    def stat(self, relpath: str) -> StoredObject | None:
        return self._ask("stat", relpath, lambda: self._store.stat(relpath))

    def list(self) -> Iterator[StoredObject]:
        yield from self._ask("list", "", self._store.list)

    def put(
        self, relpath: str, body: SourceFile, *, checksum: str | None, attempt: Attempt | None = None
    ) -> StoredObject:
        attempt = attempt or FreeAttempt()
        if body.size > self._part_size:
            return self._in_parts(relpath, body, checksum, attempt)
        if attempt.upload is not None:
            self._give_up(relpath, attempt.upload.upload_id, attempt)
        data = _read_exactly(body, 0, body.size, relpath)
        _must_end(body, relpath)
        actual = _crc(data)
        _must_match(relpath, checksum, actual)

        def send() -> StoredObject:
            with attempt.slot():
                attempt.spend(len(data))
                body.verify_unchanged()
                attempt.commit()
                return self._write("put", relpath, lambda: self._store.put(relpath, data, actual), data=data)

        return self._patiently(send, attempt)

    def end_uploads(
        self, known: Mapping[str, str], ours: Callable[[str], bool], commit: Callable[[], None] = lambda: None
    ) -> None:
        found = self._ask("list uploads", "", self._store.open_uploads)
        left = {(relpath, upload_id) for upload_id, relpath in found.items() if ours(relpath)} | set(known.items())
        for relpath, upload_id in sorted(left):
            commit()
            self._abort(relpath, upload_id)

    # --- in parts ---------------------------------------------------------------------------------

    def _in_parts(self, relpath: str, body: SourceFile, checksum: str | None, attempt: Attempt) -> StoredObject:
        upload_id, known = "", dict[int, str]()
        listed: dict[int, tuple[int, str]] | None = None
        if attempt.upload is not None:
            upload = attempt.upload
            if upload.fingerprint != body.fingerprint or upload.part_size != self._part_size:
                self._give_up(relpath, upload.upload_id, attempt)
            elif (listed := self._parts(upload.upload_id)) is not None:
                upload_id, known = upload.upload_id, upload.parts
            else:
                attempt.upload_ended()
                if (stored := self._completed(relpath, body, checksum, upload)) is not None:
                    return stored
        if not upload_id:
            upload_id = self._opened_anew(relpath, body, attempt)
        try:
            if listed is None:
                listed = self._parts(upload_id) or {}
            checksums = self._send_parts(relpath, upload_id, listed, known, body, attempt)
            _must_end(body, relpath)
            whole = self._combined(checksums, body.size)
            _must_match(relpath, checksum, whole)
            stored = self._complete(relpath, upload_id, checksums, whole, body, attempt)
        except StoreRefusedError as error:
            if error.code == "NoSuchUpload":
                attempt.upload_ended()
                raise ArchiveUnavailableError(f"the upload of {relpath!r} is gone; it is begun anew") from error
            self._leave(relpath, upload_id, error, attempt)
            raise ArchiveError(f"the store refuses {relpath!r}: {error.code}") from error
        except BaseException as error:
            self._leave(relpath, upload_id, error, attempt)
            raise
        attempt.upload_ended()
        return stored

    def _completed(
        self, relpath: str, body: SourceFile, checksum: str | None, upload: OpenUpload
    ) -> StoredObject | None:
        """The object, if an upload that is gone was completed by an attempt whose answer was lost."""
        whole = checksum
        if len(upload.parts) == -(-body.size // self._part_size):
            whole = self._combined(upload.parts, body.size)
        stored = self.stat(relpath) if whole else None
        if stored is None or (stored.size, stored.checksum) != (body.size, whole):
            return None
        _must_match(relpath, checksum, stored.checksum)
        return stored

    def _opened_anew(self, relpath: str, body: SourceFile, attempt: Attempt) -> str:
        """An upload that a process left open without living to tell, or a new one; any other under our name is ended."""
        found = self._ask("list uploads", relpath, self._store.open_uploads)
        left = sorted(upload_id for upload_id, name in found.items() if name == relpath)
        if left and attempt.resumable:
            upload_id = left.pop()
        else:

            def begin() -> str:
                attempt.commit()
                return self._write("begin", relpath, lambda: self._store.begin(relpath), may_be_late=False)

            upload_id = self._patiently(begin, attempt)
            found = self._ask("list uploads", relpath, self._store.open_uploads)
            left = sorted(other for other, name in found.items() if name == relpath and other != upload_id)
        attempt.upload_begun(OpenUpload(upload_id, self._part_size, body.fingerprint))
        for other in left:
            attempt.commit()
            self._abort(relpath, other)
        return upload_id

    def _send_parts(
        self,
        relpath: str,
        upload_id: str,
        listed: Mapping[int, tuple[int, str]],
        known: Mapping[int, str],
        body: SourceFile,
        attempt: Attempt,
    ) -> dict[int, str]:
        checksums: dict[int, str] = {}
        for number, offset in enumerate(range(0, body.size, self._part_size), 1):
            size = min(self._part_size, body.size - offset)
            if listed.get(number) == (size, known.get(number)):
                checksums[number] = known[number]  # neither read nor sent again
                continue
            data = _read_exactly(body, offset, size, relpath)
            checksums[number] = checksum = _crc(data)
            if listed.get(number) != (size, checksum):
                self._send_part(relpath, upload_id, number, data, checksum, attempt)
            attempt.part_stored(StoredPart(number, checksum))
        return checksums

    def _send_part(
        self, relpath: str, upload_id: str, number: int, data: bytes, checksum: str, attempt: Attempt
    ) -> None:
        def send() -> None:
            with attempt.slot():
                attempt.spend(len(data))
                attempt.commit()
                self._write(
                    "part",
                    relpath,
                    lambda: self._store.put_part(upload_id, number, data, checksum),
                    upload_id=upload_id,
                    number=number,
                )

        self._patiently(send, attempt)

    def _complete(
        self,
        relpath: str,
        upload_id: str,
        checksums: Mapping[int, str],
        whole: str,
        body: SourceFile,
        attempt: Attempt,
    ) -> StoredObject:
        def send() -> StoredObject:
            body.verify_unchanged()
            attempt.commit()
            return self._write(
                "complete",
                relpath,
                lambda: self._store.complete(upload_id, checksums, whole, body.size),
                upload_id=upload_id,
            )

        try:
            return self._patiently(send, attempt)
        except StoreRefusedError as error:
            if error.code != "NoSuchUpload":
                raise
            stored = self.stat(relpath)  # completed by a request whose answer was lost, unless somebody aborted it
            if stored is None or (stored.size, stored.checksum) != (body.size, whole):
                raise
            return stored

    def _leave(self, relpath: str, upload_id: str, error: BaseException, attempt: Attempt) -> None:
        """Keep what the next attempt can go on with; what is of no use any more is ended."""
        if attempt.resumable:
            blinked = isinstance(error, SourceError) and not isinstance(error, SourceChangedError)
            if blinked or fault_of(error) in (Fault.WORLD, Fault.IDENTITY, Fault.STOPPED):
                return
            try:
                attempt.commit()
            except LockLostError:
                return
        with suppress(ArchiveUnavailableError, ConnectionError, TimeoutError):
            self._abort(relpath, upload_id)
        attempt.upload_ended()

    def _give_up(self, relpath: str, upload_id: str, attempt: Attempt) -> None:
        attempt.commit()
        self._abort(relpath, upload_id)
        attempt.upload_ended()

    def _abort(self, relpath: str, upload_id: str) -> None:
        with suppress(StoreRefusedError):  # gone already
            self._write("abort", relpath, lambda: self._store.abort(upload_id), upload_id=upload_id)

    def _parts(self, upload_id: str) -> dict[int, tuple[int, str]] | None:
        try:
            return self._ask("list parts", upload_id, lambda: self._store.parts(upload_id))
        except StoreRefusedError:
            return None

    def _combined(self, checksums: Mapping[int, str], size: int) -> str:
        """The CRC32 of the whole, from those of its parts."""
        whole = 0
        for number, offset in enumerate(range(0, size, self._part_size), 1):
            whole = combine(whole, parse_checksum(checksums[number]), min(self._part_size, size - offset))
        return crc32_base64(whole)

    # --- requests ---------------------------------------------------------------------------------

    def _ask(self, method: str, about: str, act: Callable[[], T]) -> T:
        return self._life.request("archive", method, act, about=about)

    def _write(
        self,
        method: str,
        relpath: str,
        act: Callable[[], T],
        *,
        may_be_late: bool = True,
        upload_id: str = "",
        number: int = 0,
        data: bytes = b"",
    ) -> T:
        return self._life.request(
            "archive",
            method,
            act,
            about=relpath,
            writes=True,
            may_be_late=may_be_late,
            upload_id=upload_id,
            number=number,
            data=data,
        )

    def _patiently(self, send: Callable[[], T], attempt: Attempt) -> T:
        """A few attempts, as an adapter makes them before it gives a request up."""
        for number in range(ATTEMPTS - 1):
            try:
                return send()
            except (ArchiveUnavailableError, ConnectionError, TimeoutError) as error:
                attempt.pushed_back(str(error))
                self._life.clock.sleep(WAIT_S * 2**number)
        return send()


def _crc(data: bytes) -> str:
    return crc32_base64(crc_of([data]))


def _must_match(relpath: str, checksum: str | None, actual: str) -> None:
    if checksum is not None and actual != checksum:
        raise ChecksumMismatchError(relpath, expected=checksum, actual=actual)


def _read_exactly(body: SourceFile, offset: int, size: int, relpath: str) -> bytes:
    data = body.read_at(offset, size)
    if len(data) != size:
        body.verify_unchanged()
        raise SourceChangedError(f"{relpath!r} ended early while it was read")
    return data


def _must_end(body: SourceFile, relpath: str) -> None:
    if body.read_at(body.size, 1):
        body.verify_unchanged()
        raise SourceChangedError(f"{relpath!r} grew while it was read")


if TYPE_CHECKING:
    _archive: type[Archive] = SimulatedArchive
