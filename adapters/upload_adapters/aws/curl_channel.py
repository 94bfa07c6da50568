"""Many small objects on their way to S3 at once, from one thread: libcurl's multi interface over a selector.

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
from upload_adapters.aws.curl_handle import Answer, failure, new_handle, refusal
from upload_adapters.aws.signing import UNSIGNED_PAYLOAD, Form, Signer, quoted
from upload_core.ports import Channel, StoredObject

_IN, _OUT = 1, 4
"""`POLLIN` and `POLLOUT`, which epoll and poll have in common."""
_WANTED: Final = {pycurl.POLL_IN: _IN, pycurl.POLL_OUT: _OUT, pycurl.POLL_INOUT: _IN | _OUT}
_READY: Final = {_OUT: pycurl.CSELECT_OUT, _IN | _OUT: pycurl.CSELECT_IN | pycurl.CSELECT_OUT}
_FIXED_HEADERS: Final = ["Expect:", "Accept:", "User-Agent:", "Content-Type: application/octet-stream"]
"""An empty one is not sent. Waiting for "100 Continue" would cost a small file a round trip and save it nothing."""


class _Sockets:
    """The sockets that libcurl watches, by epoll where there is one.

    libcurl lets go of a socket after each request and takes it up again with the next; the system is not told of that,
    which would cost two calls per file. A socket that nobody wants is let go once it is heard of.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll: Any = self._epoll or select.poll()
        self._wanted: dict[int, int] = {}
        self._known: dict[int, int] = {}

    def want(self, fd: int, events: int) -> None:
        """Watch the socket for these from now on; 0 for none, after which the number may become another one's."""
        self._wanted[fd] = events
        if not events:
            self._known[fd] = 0
        elif self._known.get(fd) != events:
            try:
                self._poll.modify(fd, events)
            except OSError:  # it is new, or the one that had its number is closed
                self._poll.register(fd, events)
            self._known[fd] = events

    def ready(self, timeout_s: float) -> list[tuple[int, int]]:
        """The sockets at which something happened that is wanted, and what."""
        found = self._poll.poll(timeout_s if self._epoll is not None else timeout_s * 1000)
        wanted = []
        for fd, events in found:
            if self._wanted.get(fd):
                wanted.append((fd, events))
            else:
                self._known.pop(fd, None)
                self._wanted.pop(fd, None)
                self._poll.unregister(fd)
        return wanted

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


class _Request:
    """A handle and what it is at; used again and again."""

    __slots__ = ("answer", "checksum", "fresh", "handle", "relpath", "size", "tag")

    def __init__(self, endpoint: Endpoint) -> None:
        self.handle: Any = new_handle(endpoint)
        self.handle.setopt(pycurl.CUSTOMREQUEST, "PUT")
        self.answer = Answer()
        self.answer.attach(self.handle)
        self.fresh = False
        self.tag = -1
        self.relpath = ""
        self.size = 0
        self.checksum = ""


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
        self._under_way: dict[Any, _Request] = {}
        self._wakened, self._waker = socket.socketpair()
        self._wakened.setblocking(False)
        self._waker.setblocking(False)
        self._closed = False
        self._open()

    def _open(self) -> None:
        """Begin without any connection."""
        self._multi: Any = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_NOTHING)
        self._sockets = _Sockets()
        self._sockets.want(self._wakened.fileno(), _IN)
        self._due_s: float | None = None

    def _reconnect(self) -> bool:
        """Let go of all connections, as soon as none is in use; whether the next request has to open its own till then."""
        if self._under_way:
            return True
        self._multi.close()
        self._sockets.close()
        self._open()
        self._connected = self._generation()
        return False

    @property
    def under_way(self) -> int:
        """How many requests were begun and not yet handed back."""
        return len(self._under_way)

    def start(self, tag: int, relpath: str, data: bytes, checksum: str) -> None:
        """Begin to store the bytes under their CRC32; raises what getting credentials raises."""
        request = self._free.pop() if self._free else _Request(self._endpoint)
        path = quoted(relpath)
        try:
            headers = self._form.headers(self._prefix + path, "", checksum)
        except BaseException:
            self._free.append(request)
            raise
        handle = request.handle
        fresh = self._connected != self._generation() and self._reconnect()
        if fresh != request.fresh:
            request.fresh = fresh
            handle.setopt(pycurl.FRESH_CONNECT, fresh)
        request.tag, request.relpath, request.size, request.checksum = tag, relpath, len(data), checksum
        handle.setopt(pycurl.URL, self._base + path)
        handle.setopt(pycurl.HTTPHEADER, headers + _FIXED_HEADERS)
        handle.setopt(pycurl.POSTFIELDS, data)
        self._under_way[handle] = request
        self._multi.add_handle(handle)

    def finished(self, timeout_s: float) -> list[tuple[int, StoredObject | Exception | None]]:
        """Move all requests on and return those that ended, each with its object, its error, or None for a store that
        does not confirm the CRC32; waits up to `timeout_s` for the first, or until `wake`.
        """
        self._turn(0.0)
        found = self._ended()
        if found or not timeout_s:
            return found
        self._turn(timeout_s)
        return self._ended()

    def _turn(self, timeout_s: float) -> None:
        """One look at the sockets; libcurl is told of those that are ready, and of the time."""
        act = self._multi.socket_action
        due_s = self._due_s
        if due_s is not None:
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                self._due_s = None
                act(pycurl.SOCKET_TIMEOUT, 0)
            elif left_s < timeout_s:
                timeout_s = left_s
        waker = self._wakened.fileno()
        for fd, events in self._sockets.ready(timeout_s):
            if fd == waker:
                self._drain()
            else:  # an error or a hang-up is for libcurl to find by reading
                act(fd, _READY.get(events & (_IN | _OUT), pycurl.CSELECT_IN))

    def _ended(self) -> list[tuple[int, StoredObject | Exception | None]]:
        found: list[tuple[int, StoredObject | Exception | None]] = []
        more = True
        while more:
            waiting, done, failed = self._multi.info_read()
            more = bool(waiting)
            found.extend([self._judged(self._release(handle)) for handle in done])
            for handle, code, message in failed:
                request = self._release(handle)
                found.append((request.tag, failure(code, message, f"storing {request.relpath!r}", self._base)))
                self._reuse(request)
        return found

    def _release(self, handle: Any) -> _Request:
        self._multi.remove_handle(handle)
        return self._under_way.pop(handle)

    def _judged(self, request: _Request) -> tuple[int, StoredObject | Exception | None]:
        answer = request.answer
        status = request.handle.getinfo(pycurl.RESPONSE_CODE)
        result: StoredObject | Exception | None
        if status != 200:
            result = refusal(status, b"".join(answer.body), f"storing {request.relpath!r}")
        elif answer.header(b"x-amz-checksum-crc32") != request.checksum:
            result = None
        else:
            result = StoredObject(request.relpath, request.size, request.checksum, answer.header(b"etag"))
        self._reuse(request)
        return request.tag, result

    def _reuse(self, request: _Request) -> None:
        request.answer.clear()
        self._free.append(request)

    # --- what libcurl asks for --------------------------------------------------------------------

    def _watch(self, what: int, fd: int, multi: Any, data: Any) -> None:
        self._sockets.want(fd, _WANTED.get(what, 0))

    def _set_timer(self, timeout_ms: int) -> None:
        self._due_s = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    # --- from other threads -----------------------------------------------------------------------

    def wake(self) -> None:
        """Make a waiting `finished` return now; may be called from any thread, and after `close`."""
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # full, so it is awake anyway; or closed

    def _drain(self) -> None:
        try:
            while self._wakened.recv(4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> list[int]:
        """Break off what is under way and give back all connections; returns the tags of what nobody will hear of."""
        if self._closed:
            return []
        self._closed = True
        lost = [request.tag for request in self._under_way.values()]
        for handle in list(self._under_way):
            self._multi.remove_handle(handle)
            handle.close()
        self._under_way.clear()
        for request in self._free:
            request.handle.close()
        self._free.clear()
        self._multi.close()
        self._sockets.close()
        self._wakened.close()
        self._waker.close()
        return lost


if TYPE_CHECKING:
    _channel: type[Channel] = CurlChannel
