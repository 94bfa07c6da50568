"""A proxy as an institution has it: it opens TLS with certificates of a private authority, and leads everything to one place."""

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme


class OpeningProxy:
    """Takes CONNECT on a loopback port, presents a certificate for `host`, and hands what it reads to `target`.

    `host` need not exist: whoever reaches it came through here. `asked` holds the places that were asked for.
    """

    def __init__(self, host: str, target: int, root: Path) -> None:
        authority = trustme.CA()
        self.trust = root / "ca.pem"
        authority.cert_pem.write_to_path(str(self.trust))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(self._context)
        self._target = target
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(connection,), daemon=True).start()

    def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(1)
            self.asked.append(asked.split()[1].decode())
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with (
                self._context.wrap_socket(connection, server_side=True) as opened,
                socket.create_connection(("127.0.0.1", self._target)) as onward,
            ):
                self._carry(opened, onward)

    def _carry(self, opened: ssl.SSLSocket, onward: socket.socket) -> None:
        while True:
            ready = [opened] if opened.pending() else select.select([opened, onward], [], [])[0]
            for side in ready:
                data = side.recv(1 << 16)
                if not data:
                    return
                (onward if side is opened else opened).sendall(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
