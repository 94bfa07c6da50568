"""The loopback server that a browser comes back to after a sign-in.

Rule: exactly one request ends the wait, the first that names our state. Anything else (a stray request, a wrong
state, a second callback, a client that never finishes its sentence) changes nothing and gets a page that says so.
It listens on this machine's loopback addresses only, and only while it is waited for.
"""

from __future__ import annotations

import errno
import hmac
import html
import secrets
import socket
import threading
from contextlib import ExitStack, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import attrs

from upload_adapters.aws.tokens import masked, without
from upload_core.errors import ConfigurationError, IdentityError

REQUEST_TIMEOUT_S: Final = 10.0
"""How long one client may take in all: no browser needs a second."""
CONNECTIONS_MAX: Final = 32
LAST_PAGE_GRACE_S: Final = 3.0
"""How long the server stays for the browser to fetch the closing page."""
_ADDRESSES: Final = {
    # A browser tries either address for `localhost`; holding both keeps another program from listening on one.
    "localhost": (("127.0.0.1", True), ("::1", False)),
    "127.0.0.1": (("127.0.0.1", True),),
    "::1": (("::1", True),),
}
_NO_SUCH_ADDRESS: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
_HTTP_PORT: Final = 80
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""
_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}


@attrs.frozen
class Answer:
    """What the issuer sent through the browser: a code, or its own word why there is none."""

    code: str | None = attrs.field(repr=masked)
    error: str = ""

    def demand_code(self) -> str:
        """The code. Raises `IdentityError` if the issuer refused."""
        if self.code is None:
            raise IdentityError(f"the sign-in was refused ({self.error}); sign in again")
        return self.code


def parse_answer(query: str, state: str) -> Answer | None:
    """The answer in a redirect's query, or None if it is none to the sign-in with this state."""
    try:
        fields = parse_qs(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    except ValueError:
        return None
    # A field given twice is somebody's trick: the issuer gives each once.
    if any(len(values) > 1 for values in fields.values()):
        return None
    given = {name: values[0] for name, values in fields.items()}
    if not hmac.compare_digest(given.get("state", "").encode("utf-8", "replace"), state.encode()):
        return None
    if given.get("code") and "error" not in given:
        return Answer(code=given["code"])
    if given.get("error") and "code" not in given:
        words = given.get("error_description", "")
        return Answer(code=None, error=without(f"{given['error']}{': ' if words else ''}{words}", [state]))
    return None


def _loopback_place(redirect_uri: str) -> tuple[str, int, str]:
    """Host, port and path of a redirect URI that we can listen on."""
    try:
        parts = urlsplit(redirect_uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme != "http" or host not in _ADDRESSES or port == 0 or parts.query or parts.fragment:
        raise ConfigurationError(
            f"redirect_uri {redirect_uri!r} is not on this machine (like http://localhost:3000): set one that is, "
            "or sign in with --no-browser"
        )
    return host, port or _HTTP_PORT, parts.path or "/"


class CallbackServer:
    """Waits on the redirect URI for the answer to one sign-in; a context manager.

    `start_url` is where to send the browser: the issuer's address, which holds state and challenge, does not appear
    on the browser's command line that way. It works once.
    """

    def __init__(
        self,
        *,
        redirect_uri: str,
        state: str,
        authorize_url: str,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        last_page_grace_s: float = LAST_PAGE_GRACE_S,
    ) -> None:
        """Raises `ConfigurationError` if the redirect URI is not on this machine's loopback or its port is taken."""
        host, port, self._path = _loopback_place(redirect_uri)
        self._state = state
        self._authorize_url = authorize_url
        self.request_timeout_s = request_timeout_s
        self._last_page_grace_s = last_page_grace_s
        self._ticket = f"/start-{secrets.token_urlsafe(16)}"
        self._last_page = f"/received-{secrets.token_urlsafe(16)}"
        shown = f"[{host}]" if ":" in host else host
        self._hosts = {f"{shown}:{port}"} | ({shown} if port == _HTTP_PORT else set())
        self.start_url = f"http://{shown}:{port}{self._ticket}"
        self._lock = threading.Lock()
        self._answer: Answer | None = None
        self._answered = threading.Event()
        self._last_page_sent = threading.Event()
        self._connections = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._servers = self._listen(host, port, redirect_uri)
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in self._servers
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def wait(self, timeout_s: float) -> Answer:
        """The answer, once the browser brought it. Raises `IdentityError` if none came in time."""
        if not self._answered.wait(timeout_s):
            raise IdentityError(
                f"nobody completed the sign-in within {timeout_s:.0f} s; run it again, "
                "with --no-browser if no browser opened here"
            )
        self._last_page_sent.wait(self._last_page_grace_s)
        assert self._answer is not None  # set before the event
        return self._answer

    def _listen(self, host: str, port: int, redirect_uri: str) -> list[_Server]:
        servers: list[_Server] = []
        with ExitStack() as undo:
            for address, needed in _ADDRESSES[host]:
                try:
                    server = _Server(address, port, self)
                except OSError as error:
                    # Without IPv6 there is no ::1 to hold; a port that is taken there is another matter.
                    if needed or error.errno not in _NO_SUCH_ADDRESS:
                        raise ConfigurationError(
                            f"cannot listen on {redirect_uri} ({error.strerror or error}): end the program that uses "
                            "this port, or sign in with --no-browser"
                        ) from error
                    continue
                undo.callback(server.server_close)
                servers.append(server)
            undo.pop_all()
        return servers

    def respond(self, method: str, target: str, host: str) -> _Response:
        """What one request gets; the only place that changes anything."""
        parts = urlsplit(target)
        if method != "GET":
            return _STRAY
        # Another name for this address is how a web page would reach a server on its visitor's machine.
        if host.lower() not in self._hosts:
            return _STRAY
        with self._lock:
            if parts.path == self._last_page and self._answer is not None:
                return _REFUSED if self._answer.code is None else _RECEIVED
            if parts.path == self._ticket and self._authorize_url and self._answer is None:
                url, self._authorize_url = self._authorize_url, ""
                return _Response(HTTPStatus.FOUND, "Sign in", "You are being sent on to the sign-in page.", url)
            if parts.path == self._ticket:
                return _USED
            if parts.path != self._path:
                return _STRAY
            answer = parse_answer(parts.query, self._state)
            if answer is None:
                return _WRONG
            if self._answer is not None:
                return _SECOND
            self._answer = answer
        # The closing page has an address of its own, so that no code stays in the browser's history.
        return _Response(HTTPStatus.SEE_OTHER, "Sign-in received", "Go back to the terminal.", self._last_page)

    def sent(self, response: _Response) -> None:
        """Called once the response is on its way: only then may the server go."""
        if response in (_RECEIVED, _REFUSED):
            self._last_page_sent.set()
        if response.location == self._last_page:
            self._answered.set()


@attrs.frozen
class _Response:
    status: HTTPStatus
    title: str
    text: str
    location: str = attrs.field(default="", repr=masked)


_RECEIVED: Final = _Response(
    HTTPStatus.OK, "Sign-in received", "Go back to the program that asked for it. This window can be closed."
)
_REFUSED: Final = _Response(
    HTTPStatus.OK, "Sign-in refused", "You are not signed in. The program that asked for it says more."
)
_STRAY: Final = _Response(
    HTTPStatus.NOT_FOUND, "Nothing here", "This address only waits for the end of a sign-in. Nothing was changed."
)
_WRONG: Final = _Response(
    HTTPStatus.BAD_REQUEST,
    "Not this sign-in",
    "This is no answer to the sign-in that is waited for. Nothing was changed. "
    "Use the window that the program opened, or run it again.",
)
_SECOND: Final = _Response(
    HTTPStatus.CONFLICT, "Already received", "This sign-in was received before. Nothing was changed."
)
_USED: Final = _Response(
    HTTPStatus.GONE,
    "Already started",
    "This sign-in was started before. Go on in the window where it was, or run the program again.",
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # Where this means more than "a port just closed is free again", another program could take our port.
    allow_reuse_address = not hasattr(socket, "SO_EXCLUSIVEADDRUSE")
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: str, port: int, callback: CallbackServer) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.callback = callback
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server for our name, which can take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own, within a limit: beyond it clients are turned away at once."""
        if not self.callback._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.callback._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client, and end it when its time is over: a timeout of each read alone could be fed for ever."""

        def cut() -> None:
            with suppress(OSError):  # it may have just ended by itself
                request.shutdown(socket.SHUT_RDWR)

        deadline = threading.Timer(self.callback.request_timeout_s, cut)
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self.callback._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a traceback of a broken connection could quote the request."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "upload-core"
    sys_version = ""
    error_content_type = "text/html; charset=utf-8"
    error_message_format = _PAGE.format(
        title="Nothing here", text="This is no request for a page. Nothing was changed."
    )

    def _respond(self) -> None:
        callback = self.server.callback
        response = callback.respond(self.command, self.path, self.headers.get("Host", ""))
        body = _PAGE.format(title=html.escape(response.title), text=html.escape(response.text)).encode()
        self.send_response(response.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if response.location:
            self.send_header("Location", response.location)
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        finally:
            # Also when the browser has gone meanwhile: its answer counts.
            callback.sent(response)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _respond

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the request line holds the code."""
