"""Many small objects on their way to S3 at once, from one thread: libcurl's multi interface.

Rule: a request is made once. Whatever is not a plain success is handed back as it is, for the ordinary path to repeat and
to judge; nothing is decided here.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pycurl

from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.curl_handle import Answer, Body, failure, give_body, new_handle, refusal
from upload_adapters.aws.signing import UNSIGNED_PAYLOAD, Form, Signer, quoted
from upload_core.ports import Channel, StoredObject

_FIXED_HEADERS: Final = ["Expect:", "Accept:", "User-Agent:", "Content-Type: application/octet-stream"]
"""An empty one is not sent. Waiting for "100 Continue" would cost a small file a round trip and save it nothing."""
LOOK_S: Final = 0.01
"""Longest wait before all requests are looked at again: a wake is heard as late, and so is a socket beyond the number
that `select` can watch. libcurl's other interface, which tells of each socket, costs a third more for each small file."""


class _Request:
    """A handle and what it is at; used again and again."""

    __slots__ = ("answer", "body", "checksum", "handle", "relpath", "size", "tag")

    def __init__(self, endpoint: Endpoint) -> None:
        self.handle: Any = new_handle(endpoint)
        self.answer = Answer()
        self.answer.attach(self.handle)
        self.body: Body | None = None
        self.tag = -1
        self.relpath = ""
        self.size = 0
        self.checksum = ""


class _Connections:
    """libcurl's connections, and the requests under way on them."""

    def __init__(self) -> None:
        self.multi: Any = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_NOTHING)
        self.under_way: dict[Any, _Request] = {}


class CurlChannel:
    """Belongs to one thread, except `wake`."""

    def __init__(self, endpoint: Endpoint, generation: Callable[[], int] = lambda: 0) -> None:
        """Once `generation` answers another number, every later request opens a new connection."""
        self._endpoint = endpoint
        self._generation = generation
        self._connected = generation()
        self._base = endpoint.base
        self._prefix = endpoint.prefix
        signer = Signer(endpoint.host, endpoint.region, endpoint.keys, endpoint.now_ms)
        self._form = Form(signer, "PUT", UNSIGNED_PAYLOAD, ["x-amz-checksum-crc32"])
        self._free: list[_Request] = []
        self._wakened, self._waker = socket.socketpair()
        self._wakened.setblocking(False)
        self._waking = select.poll()
        self._waking.register(self._wakened, select.POLLIN)
        self._waker.setblocking(False)
        self._closed = False
        self._connections = [_Connections()]
        """The last are those of new requests; those before are given back once nothing is under way on them."""

    @property
    def under_way(self) -> int:
        """How many requests were begun and not yet handed back."""
        return sum(len(connections.under_way) for connections in self._connections)

    def start(
        self, tag: int, relpath: str, data: bytes, checksum: str, commit: Callable[[], None] = lambda: None
    ) -> None:
        """Begin to store the bytes under their CRC32; raises what getting credentials raises."""
        request = self._free.pop() if self._free else _Request(self._endpoint)
        path = quoted(relpath)
        try:
            headers = self._form.headers(self._prefix + path, "", checksum)
        except BaseException:
            self._free.append(request)
            raise
        handle = request.handle
        if self._connected != (generation := self._generation()):
            self._connected = generation
            self._connections.append(_Connections())
        request.tag, request.relpath, request.size, request.checksum = tag, relpath, len(data), checksum
        handle.setopt(pycurl.URL, self._base + path)
        handle.setopt(pycurl.HTTPHEADER, headers + _FIXED_HEADERS)
        request.body = give_body(handle, data, commit)
        connections = self._connections[-1]
        connections.under_way[handle] = request
        connections.multi.add_handle(handle)

    def finished(self, timeout_s: float) -> list[tuple[int, StoredObject | Exception | None]]:
        """Move all requests on and return those that ended, each with its object, its error, or None for a store that
        does not confirm the CRC32; waits up to `timeout_s` for the first, or until `wake`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = [ended for connections in self._connections for ended in self._moved(connections)]
            if len(self._connections) > 1:
                self._let_go()
            left_s = deadline - time.monotonic()
            if found or left_s <= 0 or self._wait(left_s):
                return found

    def _wait(self, timeout_s: float) -> bool:
        """Wait until something happens at a socket; True if it was a wake."""
        if busy := next((each for each in reversed(self._connections) if each.under_way), None):
            timeout_s = min(timeout_s, LOOK_S)
            if any(busy.multi.fdset()):  # without a socket to watch it would answer at once
                busy.multi.select(timeout_s)
                timeout_s = 0.0
        return bool(self._waking.poll(timeout_s * 1000)) and self._drain()

    def _moved(self, connections: _Connections) -> list[tuple[int, StoredObject | Exception | None]]:
        """Move these requests on; those that ended."""
        multi, under_way = connections.multi, connections.under_way
        found: list[tuple[int, StoredObject | Exception | None]] = []
        multi.perform()
        more = True
        while more:
            waiting, done, failed = multi.info_read()
            more = bool(waiting)
            for handle in done:
                multi.remove_handle(handle)
                found.append(self._judged(under_way.pop(handle)))
            for handle, code, message in failed:
                multi.remove_handle(handle)
                request = under_way.pop(handle)
                found.append((request.tag, self._refused(request, code, message)))
                self._reuse(request)
        return found

    def _let_go(self) -> None:
        """Give back connections that no new request may use, once nothing is under way on them."""
        for connections in self._connections[:-1]:
            if not connections.under_way:
                connections.multi.close()
                self._connections.remove(connections)

    def _judged(self, request: _Request) -> tuple[int, StoredObject | Exception | None]:
        answer = request.answer
        status = request.handle.getinfo(pycurl.RESPONSE_CODE)
        result: StoredObject | Exception | None
        if status != 200:
            result = refusal(status, b"".join(answer.body), f"storing {request.relpath!r}")
        else:
            checksum, etag = answer.headers(b"x-amz-checksum-crc32", b"etag")
            confirmed = checksum == request.checksum
            result = StoredObject(request.relpath, request.size, checksum, etag) if confirmed else None
        self._reuse(request)
        return request.tag, result

    def _refused(self, request: _Request, code: int, message: str) -> Exception:
        refused = None if request.body is None else request.body.failure
        if isinstance(refused, Exception):
            return refused
        return failure(code, message, f"storing {request.relpath!r}", self._base)

    def _reuse(self, request: _Request) -> None:
        request.answer.clear()
        if request.body is not None:
            request.body.forget()
        request.body = None
        self._free.append(request)

    # --- from other threads -----------------------------------------------------------------------

    def wake(self) -> None:
        """Make a waiting `finished` return now; may be called from any thread, and after `close`."""
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # full, so it is awake anyway; or closed

    def _drain(self) -> bool:
        try:
            while self._wakened.recv(4096):
                pass
        except BlockingIOError:
            pass
        return True

    def close(self) -> list[int]:
        """Break off what is under way and give back all connections; returns the tags of what nobody will hear of."""
        if self._closed:
            return []
        self._closed = True
        lost: list[int] = []
        for connections in self._connections:
            for handle, request in connections.under_way.items():
                connections.multi.remove_handle(handle)
                handle.close()
                lost.append(request.tag)
            connections.under_way.clear()
            connections.multi.close()
        for request in self._free:
            request.handle.close()
        self._free.clear()
        self._wakened.close()
        self._waker.close()
        return lost


if TYPE_CHECKING:
    _channel: type[Channel] = CurlChannel
