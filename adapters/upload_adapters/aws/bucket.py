"""One S3 bucket as the adapters see it: its name and the calls they make, and how patient they are.

Rule: a request that makes something visible is sent once per commit, never repeated below us: its repetition would
come after the moment at which it was allowed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, TypeVar

import attrs

from upload_adapters.aws.errors import AwsError, asks_for_patience, may_retry
from upload_adapters.aws.signing import Keys
from upload_core.ports import Attempt

ATTEMPTS: Final = 4
"""Requests before the outage is the caller's business; the waits between them sum up to a few seconds."""
WAIT_INITIAL_S: Final = 0.1
WAIT_MAX_S: Final = 2.0

T = TypeVar("T")


class S3Calls(Protocol):
    """The calls of boto3's S3 client that are used; arguments and answers as boto3 documents them."""

    def head_object(self, **arguments: Any) -> Any: ...
    def get_object(self, **arguments: Any) -> Any: ...
    def put_object(self, **arguments: Any) -> Any: ...
    def copy_object(self, **arguments: Any) -> Any: ...
    def delete_object(self, **arguments: Any) -> Any: ...
    def list_objects_v2(self, **arguments: Any) -> Any: ...
    def create_multipart_upload(self, **arguments: Any) -> Any: ...
    def upload_part(self, **arguments: Any) -> Any: ...
    def upload_part_copy(self, **arguments: Any) -> Any: ...
    def complete_multipart_upload(self, **arguments: Any) -> Any: ...
    def abort_multipart_upload(self, **arguments: Any) -> Any: ...
    def list_parts(self, **arguments: Any) -> Any: ...
    def list_multipart_uploads(self, **arguments: Any) -> Any: ...
    def close(self) -> None: ...


@attrs.frozen
class Endpoint:
    """Where a bucket's objects are, and as whom they are reached."""

    base: str
    """URL that a quoted key is put behind, with its last slash; virtual-hosted or by path, as boto3 would have it."""
    region: str
    keys: Callable[[], Keys] = attrs.field(repr=False)
    """The keys of this moment; renews them first where it has to."""
    now_ms: Callable[[], int]
    """The archive's time."""
    trusted: str | None = None
    """File of certificate authorities; None for http."""
    proxy: str = attrs.field(default="", repr=False)

    @property
    def host(self) -> str:
        """Host, and port unless it is the scheme's own."""
        return self.base.split("/", 3)[2]

    @property
    def prefix(self) -> str:
        """Path of the base, which ends in a slash."""
        return "/" + self.base.split("/", 3)[3]


@attrs.frozen
class Bucket:
    """A bucket and two clients for it: `calls` repeats failed requests by itself, `once` never does."""

    name: str
    calls: S3Calls
    once: S3Calls
    endpoint: Endpoint | None = None
    """Where a transport other than boto3's finds its objects; None if only boto3 can reach them."""
    session: Any = attrs.field(default=None, repr=False)
    """The boto3 session that the clients were made from, if they were; what another machine needs is asked of it."""


class Place(Protocol):
    """Says which bucket to use; asked at first use, when somebody has signed in."""

    def __call__(self) -> Bucket:
        """Raises what asking the archive for its places may raise."""


def patiently(
    call: Callable[[], T],
    *,
    on: Callable[[AwsError], bool] = may_retry,
    attempts: int = ATTEMPTS,
    told: Callable[[AwsError], None] | None = None,
) -> T:
    """What `call` returns, repeated with growing, jittered waits after errors for which `on` holds.

    `told` hears of each error that it is repeated after.
    """
    for number in range(attempts - 1):
        try:
            return call()
        except AwsError as error:
            if not on(error):
                raise
            if told is not None:
                told(error)
        # Full jitter: of many that were refused together few come back together.
        time.sleep(random.uniform(0, min(WAIT_MAX_S, WAIT_INITIAL_S * 2**number)))  # noqa: S311 - no secret
    return call()


def telling(attempt: Attempt) -> Callable[[AwsError], None]:
    """Tells the attempt of errors by which S3 asks for patience, and of answers that did not come in time."""

    def told(error: AwsError) -> None:
        if asks_for_patience(error):
            attempt.pushed_back(str(error))

    return told


def status_of(error: AwsError) -> int:
    """The HTTP status of the refusal, 0 if nobody answered."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)


def whole_checksum(answer: Mapping[str, Any]) -> str:
    """The CRC32 of the whole object that a HEAD shows, or "".

    A checksum of parts' checksums says nothing that could be compared with an index.
    """
    whole = answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    return str(answer.get("ChecksumCRC32", "")) if whole else ""


def server_time(answer: Mapping[str, Any]) -> float:
    """The server's clock when it answered, in epoch seconds, to the second. Raises `ValueError` if it did not say."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    return parsedate_to_datetime(date).timestamp()
