"""TLS in front of a server that speaks none, with a certificate of the test's choice; it counts what it could read."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

import trustme


class TlsFront:
    """Listens on a free port of 127.0.0.1 and passes on what it decrypts; a context manager."""

    def __init__(self, certificate: trustme.LeafCert, behind: int = 0) -> None:
        """`behind` is the port of the plain server; without one nothing is answered."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.greeted = 0
        """Connections that were opened."""
        self.decrypted = 0
        """Bytes that clients gave away."""
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for connection in self._open:
            connection.close()

    def _run(self, act: object, *arguments: object) -> None:
        thread = threading.Thread(target=act, args=arguments, daemon=True)  # type: ignore[arg-type]  # both are functions of ours
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.greeted += 1
            self._open.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            secure = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            return  # the client did not like our certificate
        self._open.append(secure)
        plain = socket.create_connection(("127.0.0.1", self._behind)) if self._behind else None
        if plain is not None:
            self._open.append(plain)
            self._run(self._pass_on, plain, secure)
        with contextlib.suppress(OSError):
            while data := secure.recv(65536):
                self.decrypted += len(data)
                if plain is not None:
                    plain.sendall(data)

    def _pass_on(self, plain: socket.socket, secure: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := plain.recv(65536):
                secure.sendall(data)
