"""A proxy on loopback between a client and a server, by which one request of many goes wrong in any way that one can.

It knows HTTP as far as it must to tell where requests and answers end. It shares no code with the emulator behind it.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Literal, Self
from urllib.parse import urlsplit

import attrs

Fault = Literal[
    "answer lost",  # it takes effect, the connection closes without an answer
    "reset",  # no effect: a TCP reset after the head
    "cut mid-body",  # the server sees half of it, and then its end
    "500",
    "503 SlowDown",
    "expired token",
    "clock skew",  # refused for its time, by a server whose clock is twenty minutes ahead
    "truncated",  # it takes effect; half of the answer comes
    "hang",  # no effect, and no answer either
    "duplicate",  # it takes effect twice; the second answer comes
]
FAULTS: tuple[Fault, ...] = (
    *("answer lost", "reset", "cut mid-body", "500", "503 SlowDown"),
    *("expired token", "clock skew", "truncated", "hang", "duplicate"),
)
_REFUSALS = {
    "500": (500, "InternalError", "InternalError", 0.0),
    "503 SlowDown": (503, "SlowDown", "ThrottlingException", 0.0),
    "expired token": (400, "ExpiredToken", "ExpiredTokenException", 0.0),
    "clock skew": (403, "RequestTimeTooSkewed", "InvalidSignatureException", 1_200.0),
}


@attrs.frozen
class Seen:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    raw_head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def is_json(self) -> bool:
        """Whether it is for a service that speaks JSON, not S3."""
        return "x-amz-target" in self.headers or self.path.startswith("/2015-03-31/")


@attrs.define
class Order:
    """The first `times` requests that fit meet the fault."""

    fault: Fault
    fits: Callable[[Seen], bool]
    times: int = 1
    met: int = 0
    came: int = 0


class _OverError(Exception):
    """This connection is over."""


class Proxy:
    """Passes everything on to `url`, except for what meets its order."""

    def __init__(self, url: str) -> None:
        found = urlsplit(url)
        self._server = (found.hostname or "", found.port or 80)
        self.order: Order | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._mutex:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._mutex:
            self._open.add(client)
        upstream: socket.socket | None = None
        try:
            with client, client.makefile("rb") as incoming:
                upstream = socket.create_connection(self._server)
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with upstream, upstream.makefile("rb") as answers:
                    while True:
                        self._one(client, incoming, upstream, answers)
        except (_OverError, OSError, ValueError):
            return  # one end or the other has gone
        finally:
            with self._mutex:
                self._open.discard(client)

    def _one(self, client, incoming, upstream, answers) -> None:
        request = _read_request(client, incoming)
        fault = self._met(request)
        whole = request.raw_head + request.body
        if fault == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _OverError
        if fault == "hang":
            self._ended.wait(60)
            raise _OverError
        if fault == "cut mid-body":
            keep = len(request.raw_head) + len(request.body) // 2 if request.body else len(request.raw_head) // 2
            upstream.sendall(whole[:keep])
            upstream.shutdown(socket.SHUT_WR)
            answers.read()  # whatever the server says to that
            raise _OverError
        if fault in _REFUSALS:
            client.sendall(_refusal(request, fault))
            return
        if fault == "duplicate":
            upstream.sendall(whole)
            _read_answer(request.method, answers)
        upstream.sendall(whole)
        head, body = _read_answer(request.method, answers)
        if fault == "answer lost":
            raise _OverError
        if fault == "truncated":
            client.sendall(head + body[: len(body) // 2] if len(body) > 1 else head[: len(head) // 2])
            raise _OverError
        client.sendall(head + body)

    def _met(self, request: Seen) -> str:
        with self._mutex:
            order = self.order
            if order is None or not order.fits(request):
                return ""
            order.came += 1
            if order.met >= order.times:
                return ""
            order.met += 1
            return order.fault


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was closed already


def _read_head(file) -> bytes:
    lines = [file.readline()]
    while lines[-1] not in (b"\r\n", b"\n"):
        if not lines[-1].endswith(b"\n"):
            raise _OverError
        lines.append(file.readline())
    return b"".join(lines)


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def _read_request(client: socket.socket, incoming) -> Seen:
    head = _read_head(incoming)
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    headers = _headers(head)
    if headers.get("expect", "").lower() == "100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
    return Seen(method, target, headers, head, _read_body(headers, incoming))


def _read_body(headers: dict[str, str], file) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        size = int(headers.get("content-length") or 0)
        body: bytes = file.read(size)
        if len(body) < size:
            raise _OverError
        return body
    parts = []
    while True:
        line = file.readline()
        size = int(line.partition(b";")[0], 16)
        parts += [line, file.read(size), file.readline()]
        if not size:
            return b"".join(parts)


def _read_answer(method: str, answers) -> tuple[bytes, bytes]:
    head = _read_head(answers)
    status = int(head.split(b" ", 2)[1])
    if status == 100:
        return _read_answer(method, answers)
    without_body = method == "HEAD" or status in (204, 304)
    return head, b"" if without_body else _read_body(_headers(head), answers)


def _refusal(request: Seen, fault: str) -> bytes:
    status, code, json_code, ahead_s = _REFUSALS[fault]
    if request.is_json:
        status = status if status == 500 else 400
        body = f'{{"__type":"{json_code}","message":"ordered by a test: Signature expired"}}'.encode()
        kind = f"Content-Type: application/x-amz-json-1.1\r\nx-amzn-errortype: {json_code}\r\n"
    else:
        body = f"<Error><Code>{code}</Code><Message>ordered by a test</Message></Error>".encode()
        kind = "Content-Type: application/xml\r\n"
    date = formatdate(time.time() + ahead_s, usegmt=True)
    head = f"HTTP/1.1 {status} Refused\r\nDate: {date}\r\n{kind}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if request.method == "HEAD" else body)
