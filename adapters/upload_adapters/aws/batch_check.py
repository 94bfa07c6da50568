"""What the copy of one object by a job is worth: both sides are looked at before it counts as stored.

A job cannot pin the etag of what it copies, only a time after which it must not have been written; and what it made is
compared here with the index, or, where that has no checksum, with the source.
"""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError

from upload_adapters.aws.batch_report import TaskResult
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.errors import AwsChecksumMismatchError, AwsRefusedError, AwsSourceChangedError, translate
from upload_adapters.aws.s3_copy import origin_pinned, unmake
from upload_core.effects import Fault, FileNotStored, FileOutcome, FileStored, TransferFile
from upload_core.errors import (
    ArchiveError,
    ChecksumMismatchError,
    SourceError,
    UploadClientError,
)
from upload_core.ports import Archive, Source, origin_of
from upload_core.text import printable
from upload_core.worker import explain, failed, fault_of


def checked_copy(
    order: TransferFile, source: Source, archive: Archive, unmodified_since: int, commit: Callable[[], None]
) -> FileOutcome:
    """`FileStored` if the archive holds the file as it was indexed; a copy that is not that is taken away again."""
    try:
        stored = archive.stat(order.relpath)
        if stored is None:
            return FileNotStored(order.file, Fault.STOPPED, "the job says that it was copied, and it is not there")
        try:
            expected = order.checksum or _source_checksum(order, source, unmodified_since)
            if stored.size != order.size:
                raise AwsSourceChangedError(
                    f"{order.relpath!r} was copied with {stored.size} bytes, the index says {order.size}: it changed "
                    "since it was indexed; restore it, or index it again"
                )
            if not stored.checksum:
                raise AwsRefusedError(f"the store copied {order.relpath!r} without a CRC32; nothing can be compared")
            if expected and expected != stored.checksum:
                raise AwsChecksumMismatchError.of(order.relpath, expected=expected, actual=stored.checksum)
        except (SourceError, ArchiveError, ChecksumMismatchError) as error:
            if fault_of(error) not in (Fault.WORLD, Fault.IDENTITY):
                commit()
                unmake(_bucket(archive), order.relpath, stored.etag)
            raise
    except Exception as error:  # noqa: BLE001 - the table says what it means; nothing is swallowed
        return failed(order, error)
    return FileStored(order.file, stored.size, stored.checksum, stored.etag)


def _bucket(archive: Archive) -> Bucket:
    bucket: Bucket = archive.bucket  # type: ignore[attr-defined]  # what a job copies to is an `S3Archive`
    return bucket


def _source_checksum(order: TransferFile, source: Source, unmodified_since: int) -> str:
    """The CRC32 that the source's store keeps, "" if none; raises `SourceChangedError` unless it is what was copied."""
    with source.open(order.relpath) as file:
        origin = origin_of(file)
        if origin is None or file.size != order.size or origin.modified > unmodified_since:
            raise AwsSourceChangedError(
                f'"{printable(order.relpath, 300)}" was replaced since it was copied; let it come to rest'
            )
        return origin.checksum


def failed_task(order: TransferFile, result: TaskResult) -> FileNotStored:
    """A task that failed, as an attempt: what the file is to blame for spends a retry, all else does not.

    The job's role, and how busy S3 was, say nothing about the file: it goes again by itself, as ourselves.
    """
    details = {"Code": result.code or str(result.status), "Message": result.message}
    refused = ClientError({"Error": details, "ResponseMetadata": {"HTTPStatusCode": result.status}}, "CopyObject")
    doing = f"copying {order.relpath!r} in a job"
    try:
        with origin_pinned(order.relpath):
            raise translate(refused, doing)
    except UploadClientError as error:
        mine = fault_of(error) in (Fault.FILE, Fault.FILE_FOR_GOOD, Fault.CHECKSUM)
        return FileNotStored(order.file, Fault.FILE if mine else Fault.STOPPED, explain(error))
