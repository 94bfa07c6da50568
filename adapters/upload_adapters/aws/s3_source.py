"""A bucket, or what lies under a prefix of it, as the source of a delivery.

An object is opened by one HEAD, whose etag pins every later request: bytes of two states are never mixed. Nothing is
asked, and nobody to sign in, before the first use. An index is checked against a listing (`S3Source.listed`), since
one request tells of a thousand objects there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, Final

from upload_adapters.aws.bucket import Bucket, Place, patiently, status_of, whole_checksum
from upload_adapters.aws.errors import (
    AwsConfigurationError,
    AwsError,
    AwsSourceChangedError,
    AwsSourceError,
    AwsSourceMissingError,
    translated,
)
from upload_adapters.aws.s3_copy import origin_pinned
from upload_core.columns import Columns
from upload_core.errors import SourceError
from upload_core.files import FileTable
from upload_core.index_check import PATH_BYTES_MAX, path_problems
from upload_core.ports import CopySource
from upload_core.text import printable

READ_SIZE: Final = 8 << 20
"""The least that one request for bytes asks for; each open file holds one such answer."""
_MISSING: Final = "does not exist in the source; correct the index or restore the object"


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Bucket and prefix ("" or ending in "/") of `s3://NAME[/PREFIX]`; raises `ConfigurationError` for another URL.

    >>> bucket_and_prefix("s3://mine/some/place")
    ('mine', 'some/place/')
    """
    scheme, _, rest = url.partition("://")
    name, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if scheme != "s3" or not name or not name.isprintable() or (prefix and path_problems(prefix)):
        raise AwsConfigurationError(f"{printable(url, 300)!r} names no source; write s3://BUCKET or s3://BUCKET/PREFIX")
    return name, f"{prefix}/" if prefix else ""


class S3Source:
    """The objects under a URL `s3://BUCKET[/PREFIX]`; safe to use by many threads."""

    def __init__(self, url: str, place: Place) -> None:
        """`place` gives the bucket of the URL. Raises `ConfigurationError` for another URL."""
        self._bucket_name, self._prefix = bucket_and_prefix(url)
        self._place = place

    @property
    def name(self) -> str:
        """The URL, without a slash at its end."""
        return f"s3://{self._bucket_name}/{self._prefix}".rstrip("/")

    @property
    def bucket(self) -> Bucket:
        """The bucket that is read; asking for it may sign in."""
        return self._place()

    def portable(self) -> tuple[Any, Callable[[], Any]]:
        """What another machine makes this source from, and what says the keys that it needs for it at any time."""
        from upload_adapters.aws.portable import portable_source

        return portable_source(self)

    def problem_with(self, relpath: str) -> str | None:
        """Why this object cannot be delivered, or None; its bytes are not asked for."""
        try:
            self._head(relpath)
        except SourceError as error:
            return str(error)
        return None

    def size(self, relpath: str) -> int:
        """The object's size in bytes as it is now; raises `SourceMissingError` or `SourceError`."""
        with _naming(relpath):
            return int(self._head(relpath)["ContentLength"])

    @contextmanager
    def open(self, relpath: str) -> Iterator[S3SourceFile]:
        """The object as it is now; raises `SourceMissingError` or `SourceError`."""
        with _naming(relpath):
            answer = self._head(relpath)
        bucket, key = self._place(), self._prefix + relpath
        modified = answer["LastModified"].timestamp()
        origin = CopySource(bucket.name, key, answer["ETag"], answer["ContentLength"], whole_checksum(answer), modified)
        yield S3SourceFile(bucket, relpath, origin)

    def ls(self, prefix: str = "") -> tuple[str, ...]:
        """Names directly under `prefix`, sorted; raises `SourceMissingError` if no object lies there."""
        folder = prefix.removesuffix("/")
        if folder and path_problems(folder):
            raise AwsSourceError(f'"{printable(prefix, 300)}" {path_problems(folder)[0].message}')
        start = self._prefix + (f"{folder}/" if folder else "")
        names: set[str] = set()
        for page in self._pages(start, Delimiter="/"):
            names.update(found["Key"][len(start) :] for found in page.get("Contents", ()))
            names.update(found["Prefix"][len(start) : -1] for found in page.get("CommonPrefixes", ()))
        names.discard("")  # the object that some tools make to stand for a folder
        if not names and folder:
            raise AwsSourceMissingError(f'there is nothing under "{printable(prefix, 300)}" in {self.name}')
        return tuple(sorted(names))

    def listed(self, relpaths: Sequence[str | None]) -> S3Listing:
        """The state of these objects as one listing shows it: a request per thousand objects, not one for each.

        What the paths begin with in common is all that is listed, and the listing ends early when it has taken as many
        requests as there are paths: then few of many objects are meant, and those not seen yet are asked for singly.
        """

        def deliverable() -> Iterator[str]:
            return (path for path in relpaths if path is not None and not path_problems(path))

        # What the first and the last begin with, all between them do.
        ends = [min(deliverable(), default=""), max(deliverable(), default="")]
        common = commonprefix(ends)  # noqa: RUF071 - part of a name is cut off below
        start = self._prefix + common[: common.rfind("/") + 1]
        columns = Columns()
        complete = True
        for number, page in enumerate(self._pages(start), 1):
            paths: list[str] = []
            sizes: list[int] = []
            for found in page.get("Contents", ()):
                path = found["Key"][len(self._prefix) :]
                if not path_problems(path):
                    paths.append(path)
                    sizes.append(found["Size"])
            columns.extend(paths, sizes, [None] * len(paths))
            if number >= len(relpaths) and page.get("IsTruncated"):
                complete = False
                break
        return S3Listing(self, FileTable(columns), complete=complete)

    def _pages(self, prefix: str, **more: str) -> Iterator[Any]:
        bucket = self._place()
        while True:
            with translated(f"listing {self.name}"):
                answer = bucket.calls.list_objects_v2(Bucket=bucket.name, Prefix=prefix, **more)
            yield answer
            if not answer.get("IsTruncated"):
                return
            more["ContinuationToken"] = answer["NextContinuationToken"]

    def _head(self, relpath: str) -> Any:
        broken = path_problems(relpath)
        if broken:
            raise AwsSourceError(broken[0].message)
        key = self._prefix + relpath
        if len(key.encode()) > PATH_BYTES_MAX:
            raise AwsSourceMissingError(_MISSING)  # no such key can be
        bucket = self._place()
        try:
            with translated(f"looking at {printable(f'{self.name}/{relpath}', 300)}"):
                return bucket.calls.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
        except AwsError as error:
            if status_of(error) == 404 and error.code != "NoSuchBucket":
                raise AwsSourceMissingError(_MISSING) from error
            raise


class S3Listing:
    """A source whose sizes are those of one moment; everything else is asked anew."""

    def __init__(self, source: S3Source, table: FileTable, *, complete: bool) -> None:
        self._source = source
        self._table = table
        self._complete = complete
        self.name = source.name
        self.open, self.ls = source.open, source.ls

    def problem_with(self, relpath: str) -> str | None:
        """Why this object cannot be delivered, or None."""
        if self._table.find(relpath) is not None:
            return None
        if self._complete and not path_problems(relpath):
            return _MISSING
        return self._source.problem_with(relpath)

    def size(self, relpath: str) -> int:
        """The object's size when it was listed; raises `SourceMissingError` or `SourceError`."""
        row = self._table.find(relpath)
        if row is not None:
            return self._table.size(row)
        if self._complete and not path_problems(relpath):
            with _naming(relpath):
                raise AwsSourceMissingError(_MISSING)
        return self._source.size(relpath)


class S3SourceFile:
    """An open object; `origin` lets S3 itself copy it, and `read` is for whoever cannot use that."""

    def __init__(self, bucket: Bucket, relpath: str, origin: CopySource) -> None:
        self.origin = origin
        self._bucket = bucket
        self._relpath = relpath
        self._asked = 0
        """Up to where bytes were asked for."""
        self._ready = memoryview(b"")

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self.origin.size

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, b"" at the end; raises `SourceChangedError` if the object is another one by now."""
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_SIZE), b""))
        if not self._ready and size and self._asked < self.size:
            end = min(self._asked + max(size, READ_SIZE), self.size)
            self._ready = memoryview(patiently(lambda: self._bytes(self._asked, end)))
            self._asked = end
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken.tobytes()

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Those bytes, fewer only where the object ends; raises `SourceChangedError` if it is another one by now."""
        end = min(offset + size, self.size)
        return patiently(lambda: self._bytes(offset, end)) if offset < end else b""

    def _bytes(self, start: int, end: int) -> bytes:
        with origin_pinned(self._relpath), translated(f"reading {self._relpath!r}"):
            answer = self._bucket.calls.get_object(
                Bucket=self.origin.bucket,
                Key=self.origin.key,
                IfMatch=self.origin.etag,
                Range=f"bytes={start}-{end - 1}",
            )
            data: bytes = answer["Body"].read()
        if len(data) != end - start:
            raise AwsSourceError(f"{self._relpath!r}: {end - start} bytes were asked for, and {len(data)} came")
        return data

    @property
    def fingerprint(self) -> str:
        """The etag."""
        return self.origin.etag

    def rewind(self) -> None:
        """Go back to the first byte."""
        self._asked = 0
        self._ready = memoryview(b"")

    def verify_unchanged(self) -> None:
        """Raises `SourceChangedError` unless the object still has the etag that it was opened with."""
        with origin_pinned(self._relpath), translated(f"looking at {self._relpath!r}"):
            answer = self._bucket.calls.head_object(Bucket=self.origin.bucket, Key=self.origin.key)
        if answer["ETag"] != self.origin.etag:
            raise AwsSourceChangedError(
                f'"{printable(self._relpath, 300)}" was replaced while it was read; let it come to rest, then run again'
            )


@contextmanager
def _naming(relpath: str) -> Iterator[None]:
    """Puts the object's name before the message of a `SourceError`."""
    try:
        yield
    except SourceError as error:
        raise type(error)(f'"{printable(relpath, 300)}" {error}') from error.__cause__


if TYPE_CHECKING:
    from upload_core import ports

    _source: type[ports.Source] = S3Source
    _listing: type[ports.Source] = S3Listing
    _file: type[ports.SourceFile] = S3SourceFile
