"""`DataRoot`: the place that source files come from, local or in a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from upload_core.files import ClientFile
from upload_core.wiring import default_wiring

if TYPE_CHECKING:
    from pathlib import Path

    from upload_core.ports import Source


@attrs.frozen
class Bucket:
    """A bucket named by its URL: `s3://NAME`, or `file:///DIR` for a directory that plays one."""

    url: str

    @property
    def name(self) -> str:
        """The bucket's own name: what follows the scheme."""
        return self.url.partition("://")[2].rstrip("/")


class DataRoot:
    """One interface to sources on disk and in a bucket, so that S3 -> S3 and local -> S3 read the same."""

    source: Path | Bucket
    name: str
    is_local: bool

    def __init__(self, source: Path | Bucket) -> None:
        """Raises `TypeError` for anything but a path or a bucket."""
        is_path = hasattr(source, "__fspath__")
        if not is_path and not isinstance(source, Bucket):
            raise TypeError(f"a data root is a pathlib.Path or a Bucket, not {type(source).__name__}")
        self.source = source
        self.is_local = is_path
        self.name = source.name if isinstance(source, Bucket) else str(source)
        self._opened: Source | None = None

    def _open(self) -> Source:
        if self._opened is None:
            self._opened = default_wiring().open_source(self.source)
        return self._opened

    def cp(self, source: ClientFile, destination_bucket: Bucket) -> str | None:
        """Store the file under its relpath in the bucket, whole and under its CRC32; returns the ETag if there is one.

        Raises `SourceError`, `ChecksumMismatchError`, `ArchiveError`.
        """
        archive = default_wiring().open_archive(destination_bucket)
        with self._open().open(source.relpath) as body:
            return archive.put(source.relpath, body, checksum=source.checksum).etag or None

    def ls(self, key: str | Path | None = None) -> tuple[str, ...]:
        """The names in a directory or under a prefix, sorted; raises `SourceMissingError` if there is no such place.

        The root itself is None, "" or ".".
        """
        # A path has no other text for the place it starts from, not even Path("").
        return self._open().ls("" if key is None or str(key) == "." else str(key))
