"""Requests and answers as values, and the XML and dates that S3 speaks."""

import email.utils
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import attrs

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


class ServiceError(Exception):
    """A request is refused; the services render it in their own error format."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}


@attrs.define
class Request:
    """One request; header names are lower case, the path is not decoded yet."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    service: str = ""
    operation: str = ""
    bucket: str = ""
    key: str = ""
    access_key: str = ""
    deletions_seen: int = 0
    """How often the key had been deleted when the request arrived; more at its end is a conflict."""
    over: threading.Event = attrs.field(factory=threading.Event)
    """Set when nobody waits for this request any more: the emulator was reset or closed."""


@attrs.define
class Response:
    """One answer; `code` is the error code, for the log."""

    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    code: str = ""


Handler = Callable[[Request], Response]


def split_target(target: str) -> tuple[str, dict[str, str]]:
    """Path and query of a request line."""
    path, _, query = target.partition("?")
    return path, dict(urllib.parse.parse_qsl(query, keep_blank_values=True))


def http_date(seconds: float) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


def iso_date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def element(name: str, *content: str) -> str:
    """An element of ready XML; use `text` for data."""
    return f"<{name}>{''.join(content)}</{name}>"


def text(name: str, value: object) -> str:
    said = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name}>{escape(said)}</{name}>"


def texts(pairs: Iterable[tuple[str, object]]) -> str:
    """One element for each pair whose value is neither None nor empty."""
    return "".join(text(name, value) for name, value in pairs if value is not None and value != "")


def xml_response(root: str, *content: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{XMLNS}">{"".join(content)}</{root}>'
    return Response(status, {"content-type": "application/xml", **(headers or {})}, body.encode())


def xml_error(error: ServiceError, *, resource: str = "", with_body: bool = True) -> Response:
    body = '<?xml version="1.0" encoding="UTF-8"?>\n' + element(
        "Error", texts([("Code", error.code), ("Message", error.message), ("Resource", resource)])
    )
    headers = {"content-type": "application/xml", **error.headers}
    return Response(error.status, headers, body.encode() if with_body else b"", error.code)
