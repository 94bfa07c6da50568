"""A small HTTP server for one callback: bounded in time and clients, silent, bound to one address.

Rule: it knows nothing of sign-ins. What a request gets is its responder's answer, and nothing of a request is written
anywhere: the request line holds the code.
"""

from __future__ import annotations

import html
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

import attrs

from upload_adapters.aws.tokens import masked

CONNECTIONS_MAX: Final = 32
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
class Response:
    """One page, or the way to another one."""

    status: HTTPStatus
    title: str
    text: str
    location: str = attrs.field(default="", repr=masked)


class Responder(Protocol):
    """Decides what a request gets."""

    def respond(self, method: str, target: str, host: str) -> Response:
        """The answer to one request; called from several threads."""

    def sent(self, response: Response) -> None:
        """Called once the response is on its way, or its client has gone."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves a responder on one address; a client may take `request_timeout_s` in all."""

    daemon_threads = True
    block_on_close = False
    # Where this means more than "a port just closed is free again", another program could take our port.
    allow_reuse_address = not hasattr(socket, "SO_EXCLUSIVEADDRUSE")
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: str, port: int, responder: Responder, *, request_timeout_s: float) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.responder = responder
        self._request_timeout_s = request_timeout_s
        self._connections = threading.BoundedSemaphore(CONNECTIONS_MAX)
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
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client, and end it when its time is over: a timeout of each read alone could be fed for ever."""

        def cut() -> None:
            with suppress(OSError):  # it may have just ended by itself
                request.shutdown(socket.SHUT_RDWR)

        deadline = threading.Timer(self._request_timeout_s, cut)
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a traceback of a broken connection could quote the request."""


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackServer
    server_version = "upload-core"
    sys_version = ""
    error_content_type = "text/html; charset=utf-8"
    error_message_format = _PAGE.format(
        title="Nothing here", text="This is no request for a page. Nothing was changed."
    )

    def _respond(self) -> None:
        responder = self.server.responder
        response = responder.respond(self.command, self.path, self.headers.get("Host", ""))
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
            responder.sent(response)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """In words of our own: the base class would quote the request, and with it the code."""
        super().send_error(code)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _respond

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the request line holds the code."""
