"""libcurl handles set up for one bucket: where it is, whom to trust, how long to wait; and what its answers mean.

Rule: whatever does not succeed becomes the same error, by the same table, as if boto3 had met it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from io import BytesIO
from typing import Any, Final

import botocore.exceptions as boto
import pycurl
from botocore.exceptions import ClientError

from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.errors import AwsError, translate

CONNECT_TIMEOUT_S: Final = 10
SILENCE_S: Final = 60
"""A request during which not a byte came or went for so long has failed."""
PIECE_SIZE: Final = 256 * 1024
"""Bytes of a body that are handed over at a time: a small file whole, and what stays in the processor's cache."""
ANSWER_MAX: Final = 64 * 1024
"""Bytes of an answer that are kept; S3's errors have a few hundred."""

_FIELD: Final = re.compile(rb"<(Code|Message|BucketName|Key|Resource|Condition|ArgumentName)>([^<]*)</\1>")
_FAILURES: Final[dict[int, type[boto.BotoCoreError]]] = {
    pycurl.E_OPERATION_TIMEDOUT: boto.ReadTimeoutError,
    pycurl.E_COULDNT_CONNECT: boto.EndpointConnectionError,
    pycurl.E_COULDNT_RESOLVE_HOST: boto.EndpointConnectionError,
    pycurl.E_COULDNT_RESOLVE_PROXY: boto.ProxyConnectionError,
    pycurl.E_PEER_FAILED_VERIFICATION: boto.SSLError,
    pycurl.E_SSL_CACERT_BADFILE: boto.SSLError,
    pycurl.E_SSL_CONNECT_ERROR: boto.SSLError,
}
"""libcurl's code -> what boto3 would have raised; all others are a connection that broke."""
_UNTRUSTED: Final = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE})


def new_handle(endpoint: Endpoint) -> Any:
    """A handle with everything that all requests to the endpoint share."""
    handle = pycurl.Curl()
    set_option = handle.setopt
    set_option(pycurl.NOSIGNAL, 1)
    set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)  # what S3 speaks
    set_option(pycurl.UPLOAD, 1)  # all that is sent is a PUT
    set_option(pycurl.UPLOAD_BUFFERSIZE, PIECE_SIZE)
    set_option(pycurl.PATH_AS_IS, 1)  # a key is no path: nothing in it may be folded
    set_option(pycurl.TCP_NODELAY, 1)
    set_option(pycurl.TCP_KEEPALIVE, 1)
    set_option(pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_S)
    set_option(pycurl.LOW_SPEED_LIMIT, 1)
    set_option(pycurl.LOW_SPEED_TIME, SILENCE_S)
    set_option(pycurl.FOLLOWLOCATION, 0)
    set_option(pycurl.PROXY, endpoint.proxy)  # "" keeps libcurl from asking the environment by rules of its own
    set_option(pycurl.SSL_VERIFYPEER, 1)
    set_option(pycurl.SSL_VERIFYHOST, 2)
    if endpoint.trusted is not None:
        set_option(pycurl.CAINFO, endpoint.trusted)
    return handle


class Body:
    """Bytes as libcurl reads them, for as long as `commit` lets them go: nothing is stored of a body that breaks off."""

    __slots__ = ("_commit", "_read", "failure")

    def __init__(self, data: bytes, commit: Callable[[], None]) -> None:
        self.failure: BaseException | None = None
        self._commit = commit
        self._read = BytesIO(data).read

    def read(self, size: int) -> bytes | int:
        """The next bytes, b"" at the end."""
        try:
            self._commit()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever sends it; it cannot pass through libcurl
            self.failure = error
            return int(pycurl.READFUNC_ABORT)
        return self._read(size)

    def forget(self) -> None:
        """Hold the bytes no longer: the handle keeps what it reads from until its next request, which may be never."""
        self._read = BytesIO().read


def give_body(handle: Any, data: bytes, commit: Callable[[], None]) -> Body:
    """Let the handle's next request be a PUT of these bytes, which libcurl cannot make twice.

    `commit` is asked when libcurl is about to send them: on a new connection that is long after the request was begun.

    A connection that is used again and ends before a byte of the answer came has libcurl repeat the request by itself,
    though the first may have taken effect. It has to ask for the body again then, which a body that is read but cannot
    be sought denies: E_SEND_FAIL_REWIND ("CURLOPT_SEEKFUNCTION", curl.se/libcurl/c). An empty body is never asked for,
    so a request without one gets a connection of its own, after which nothing is repeated ("CURLOPT_FRESH_CONNECT").
    """
    set_option = handle.setopt
    set_option(pycurl.INFILESIZE_LARGE, len(data))
    body = Body(data, commit)
    set_option(pycurl.READFUNCTION, body.read)
    set_option(pycurl.FRESH_CONNECT, not data)
    return body


def refusal(status: int, body: bytes, doing: str) -> AwsError:
    """Our error for an answer that is no success."""
    details = {name.decode(): unescape(value.decode("utf-8", "replace")) for name, value in _FIELD.findall(body)}
    details.setdefault("Code", str(status))
    details.setdefault("Message", "")
    response = {"Error": details, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate(ClientError(response, ""), doing)


def failure(code: int, message: str, doing: str, base: str) -> AwsError:
    """Our error for a request that was not answered, by libcurl's code."""
    kind = _FAILURES.get(code, boto.ConnectionClosedError)
    if code in _UNTRUSTED:
        message = f"CERTIFICATE_VERIFY_FAILED: {message}"
    return translate(kind(endpoint_url=base, proxy_url=base, error=message), doing)


class Answer:
    """What came back of one request: filled by libcurl, read once it is done."""

    __slots__ = ("body", "kept", "lines")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        self.kept = 0

    def attach(self, handle: Any) -> None:
        """Let the handle fill this answer from now on."""
        handle.setopt(pycurl.HEADERFUNCTION, self.lines.append)
        handle.setopt(pycurl.WRITEFUNCTION, self._write)

    def clear(self) -> None:
        """Forget it: the handle's next request begins."""
        self.lines.clear()
        self.body.clear()
        self.kept = 0

    def _write(self, data: bytes) -> None:
        if self.kept < ANSWER_MAX:
            self.kept += len(data)
            self.body.append(data)

    def headers(self, *names: bytes) -> list[str]:
        """The values of these headers, named in lower case; "" for one that is not there."""
        raw = b"".join(self.lines)
        folded = raw.lower()
        found: list[str] = []
        for name in names:
            start = folded.find(b"\n%b:" % name) + len(name) + 2  # a header is never the first line
            if start == len(name) + 1:
                found.append("")
            else:
                found.append(raw[start : folded.find(b"\n", start)].strip().decode("latin-1"))
        return found
