"""The loopback server that a browser comes back to after a sign-in.

Rule: exactly one request ends the wait, the first that names our state. Anything else (a stray request, a wrong
state, a second callback, a client that never finishes its sentence) changes nothing and gets a page that says so.
It listens on this machine's loopback addresses only, and only while it is waited for.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import threading
from contextlib import ExitStack
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import attrs

from upload_adapters.aws.callback_http import LoopbackServer, Response
from upload_adapters.aws.errors import AwsConfigurationError, AwsIdentityError
from upload_adapters.aws.tokens import masked, without

REQUEST_TIMEOUT_S: Final = 10.0
"""How long one client may take in all: no browser needs a second."""
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


@attrs.frozen
class Answer:
    """What the issuer sent through the browser: a code, or its own word why there is none."""

    code: str | None = attrs.field(repr=masked)
    error: str = ""

    def demand_code(self) -> str:
        """The code. Raises `IdentityError` if the issuer refused."""
        if self.code is None:
            raise AwsIdentityError(f"the sign-in was refused ({self.error}); sign in again")
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
        raise AwsConfigurationError(
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
        self._request_timeout_s = request_timeout_s
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
            raise AwsIdentityError(
                f"nobody completed the sign-in within {timeout_s:.0f} s; run it again, "
                "with --no-browser if no browser opened here"
            )
        self._last_page_sent.wait(self._last_page_grace_s)
        assert self._answer is not None  # set before the event
        return self._answer

    def _listen(self, host: str, port: int, redirect_uri: str) -> list[LoopbackServer]:
        servers: list[LoopbackServer] = []
        with ExitStack() as undo:
            for address, needed in _ADDRESSES[host]:
                try:
                    server = LoopbackServer(address, port, self, request_timeout_s=self._request_timeout_s)
                except OSError as error:
                    # Without IPv6 there is no ::1 to hold; a port that is taken there is another matter.
                    if needed or error.errno not in _NO_SUCH_ADDRESS:
                        raise AwsConfigurationError(
                            f"cannot listen on {redirect_uri} ({error.strerror or error}): end the program that uses "
                            "this port, or sign in with --no-browser"
                        ) from error
                    continue
                undo.callback(server.server_close)
                servers.append(server)
            undo.pop_all()
        return servers

    def respond(self, method: str, target: str, host: str) -> Response:
        """What one request gets; the only place that changes anything."""
        try:
            parts = urlsplit(target)
        except ValueError:  # it is no address at all
            return _STRAY
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
                return Response(HTTPStatus.FOUND, "Sign in", "You are being sent on to the sign-in page.", url)
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
        return Response(HTTPStatus.SEE_OTHER, "Sign-in received", "Go back to the terminal.", self._last_page)

    def sent(self, response: Response) -> None:
        """Called once the response is on its way: only then may the server go."""
        if response in (_RECEIVED, _REFUSED):
            self._last_page_sent.set()
        if response.location == self._last_page:
            self._answered.set()


_RECEIVED: Final = Response(
    HTTPStatus.OK, "Sign-in received", "Go back to the program that asked for it. This window can be closed."
)
_REFUSED: Final = Response(
    HTTPStatus.OK, "Sign-in refused", "You are not signed in. The program that asked for it says more."
)
_STRAY: Final = Response(
    HTTPStatus.NOT_FOUND, "Nothing here", "This address only waits for the end of a sign-in. Nothing was changed."
)
_WRONG: Final = Response(
    HTTPStatus.BAD_REQUEST,
    "Not this sign-in",
    "This is no answer to the sign-in that is waited for. Nothing was changed. "
    "Use the window that the program opened, or run it again.",
)
_SECOND: Final = Response(
    HTTPStatus.CONFLICT, "Already received", "This sign-in was received before. Nothing was changed."
)
_USED: Final = Response(
    HTTPStatus.GONE,
    "Already started",
    "This sign-in was started before. Go on in the window where it was, or run the program again.",
)
