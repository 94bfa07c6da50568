"""One order on one file, carried out: `execute` is what every worker runs, wherever it lives.

It answers with a plain outcome and never raises an `Exception`: what went wrong is sorted by one table, `FAULTS`.
It touches neither the journal nor a file's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from upload_core import errors
from upload_core.checksum import crc32_base64, crc_of
from upload_core.effects import (
    ArchiveHolds,
    Fault,
    FileInspected,
    FileNotStored,
    FileOrder,
    FileOutcome,
    FileStored,
    InspectFile,
    TransferFile,
)
from upload_core.ports import Archive, Attempt, CopySource, Source, SourceFile, StoredObject, origin_of
from upload_core.text import printable

READ_SIZE: Final = 1 << 20
"""Bytes per read of a source that is inspected: large enough that zlib, not Python, does the work."""

MESSAGE_MAX: Final = 1_000
"""Characters of a fault's message: it goes into the journal, once per failed attempt."""

FAULTS: Final[dict[type[BaseException], Fault]] = {
    errors.LockLostError: Fault.STOPPED,
    errors.IdentityError: Fault.IDENTITY,
    errors.ArchiveUnavailableError: Fault.WORLD,
    # A bucket or certificate that is wrong is wrong for every file.
    errors.ConfigurationError: Fault.WORLD,
    errors.ChecksumMismatchError: Fault.CHECKSUM,
    errors.ArchiveError: Fault.FILE_FOR_GOOD,
    errors.SourceError: Fault.FILE,
    # The network spoke where an adapter did not translate it: never the file's fault.
    ConnectionError: Fault.WORLD,
    TimeoutError: Fault.WORLD,
    # Anything else may be a bug; the file's retries put a bound on it.
    BaseException: Fault.FILE,
}
"""Whose fault an exception is; the nearest class in its method resolution order decides."""


def execute(order: FileOrder, source: Source, archive: Archive, attempt: Attempt) -> FileOutcome:
    """Carry out the order and say what came of it.

    `attempt.commit` raises (`LockLostError`, as a rule) once nothing more may be made visible. It is called at the
    commit point of the archive and before every read, so that a long file ends soon after a cut.
    """
    try:
        match order:
            case TransferFile():
                return _transfer(order, source, archive, attempt)
            case InspectFile():
                return _inspect(order, source, archive, attempt.commit)
    except Exception as error:  # noqa: BLE001 - the table says what it means; nothing is swallowed
        return failed(order, error)


def fault_of(error: BaseException) -> Fault:
    """Whose fault it was, by `FAULTS`."""
    return next(FAULTS[kind] for kind in type(error).__mro__ if kind in FAULTS)


def failed(order: FileOrder, error: BaseException) -> FileOutcome:
    """The outcome of an order that ended in `error`.

    An inspection that the world prevented leaves `UNKNOWN`, and is repeated. Where nothing but the file or its object
    stands in the way the answer is `DIFFERENT`: the transfer that follows meets the same fault and reports it.
    """
    fault = fault_of(error)
    message = explain(error)
    if isinstance(order, TransferFile):
        return FileNotStored(order.file, fault, message)
    if fault in (Fault.WORLD, Fault.IDENTITY, Fault.STOPPED):
        return FileInspected(order.file, ArchiveHolds.UNKNOWN, message=message, fault=fault)
    return FileInspected(order.file, ArchiveHolds.DIFFERENT, message=message)


def stopped(order: FileOrder, message: str = "stopped before it began") -> FileOutcome:
    """The outcome of an order that nobody carried out."""
    return failed(order, errors.LockLostError(message))


def explain(error: BaseException) -> str:
    """What happened, in one printable line; an error that is not ours is named by its type.

    >>> explain(ValueError("odd"))
    'unexpected ValueError: odd'
    """
    text = str(error).strip()
    if not isinstance(error, errors.UploadClientError):
        text = f"unexpected {type(error).__name__}: {text}" if text else f"unexpected {type(error).__name__}"
    elif not text:
        text = (type(error).__doc__ or type(error).__name__).partition("\n")[0]
    return printable(text, MESSAGE_MAX)


class _StoppableFile:
    """A source file whose reads end when `commit` says so."""

    __slots__ = ("_commit", "_file")

    def __init__(self, file: SourceFile, commit: Callable[[], None]) -> None:
        self._file = file
        self._commit = commit

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def origin(self) -> CopySource | None:
        return origin_of(self._file)

    def read(self, size: int = -1, /) -> bytes:
        self._commit()
        return self._file.read(size)

    def read_at(self, offset: int, size: int, /) -> bytes:
        self._commit()
        return self._file.read_at(offset, size)

    def rewind(self) -> None:
        self._file.rewind()

    @property
    def fingerprint(self) -> str:
        return self._file.fingerprint

    def verify_unchanged(self) -> None:
        self._file.verify_unchanged()


def _transfer(order: TransferFile, source: Source, archive: Archive, attempt: Attempt) -> FileStored:
    with source.open(order.relpath) as file:
        _must_have_indexed_size(order, file)
        body = _StoppableFile(file, attempt.commit)
        stored = archive.put(order.relpath, body, checksum=order.checksum, attempt=attempt)
    # An archive that acknowledges something else than the indexed file must not make it count as delivered.
    if stored.size != order.size or (order.checksum is not None and stored.checksum != order.checksum):
        raise errors.ArchiveError(
            f"the archive acknowledged {order.relpath!r} as {stored.size} bytes with CRC32 {stored.checksum!r}, but "
            f"{order.size} bytes with {order.checksum or 'any'!r} were sent; this is a fault of the archive or its adapter"
        )
    return FileStored(order.file, stored.size, stored.checksum, stored.etag)


def read_whole(order: TransferFile, source: Source) -> bytes | None:
    """All bytes of the file as it was indexed, read once and unchanged meanwhile; None if its store may copy it itself.

    Raises what `Source.open` and reading raise, `SourceChangedError` for another size.
    """
    with source.open(order.relpath) as file:
        if origin_of(file) is not None:
            return None
        _must_have_indexed_size(order, file)
        data = file.read(order.size)
        while len(data) < order.size:
            more = file.read(order.size - len(data))
            if not more:
                break
            data += more
        if len(data) != order.size or file.read(1):
            file.verify_unchanged()
            raise errors.SourceChangedError(f"{order.relpath!r} changed its size while it was read; run again")
        file.verify_unchanged()
    return data


def _inspect(order: InspectFile, source: Source, archive: Archive, commit: Callable[[], None]) -> FileInspected:
    stored = archive.stat(order.relpath)
    if stored is None:
        return FileInspected(order.file, ArchiveHolds.NOTHING)
    difference = _difference(order, stored, source, commit)
    holds = ArchiveHolds.DIFFERENT if difference else ArchiveHolds.EQUAL
    return FileInspected(order.file, holds, stored.size, stored.checksum, stored.etag, difference)


def _difference(order: InspectFile, stored: StoredObject, source: Source, commit: Callable[[], None]) -> str:
    """In what the stored object differs from the file as it was indexed, or "": cheap questions first."""
    if stored.size != order.size:
        return f"the archive holds {stored.size} bytes, the index says {order.size}"
    if not stored.checksum:
        return "the archive holds no CRC32 to compare with"
    expected = order.checksum if order.checksum is not None else _checksum_now(order, source, commit)
    if stored.checksum != expected:
        return f"the archive holds CRC32 {stored.checksum}, the file should have {expected}"
    return ""


def _checksum_now(order: InspectFile, source: Source, commit: Callable[[], None]) -> str:
    """The CRC32 of the source, which must be the file of the indexed size from its first byte to its last."""

    def chunks(file: SourceFile) -> Iterator[bytes]:
        while chunk := file.read(READ_SIZE):
            yield chunk

    with source.open(order.relpath) as file:
        _must_have_indexed_size(order, file)
        origin = origin_of(file)
        if origin is not None and origin.checksum:
            return origin.checksum  # its store has computed it of exactly these bytes
        crc = crc_of(chunks(_StoppableFile(file, commit)))
        file.verify_unchanged()
    return crc32_base64(crc)


def _must_have_indexed_size(order: FileOrder, file: SourceFile) -> None:
    if file.size != order.size:
        raise errors.SourceChangedError(
            f"{order.relpath!r} has {file.size} bytes, the index says {order.size}: it changed since it was indexed; "
            "restore it, or index it again"
        )
