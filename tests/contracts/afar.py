"""Sources and archives of this process as workers in other processes reach them: each call comes here and is made here.

What an archive asks of its attempt travels back over the same connection, so that an archive of a test behaves on a
worker as it does at home.
"""

import threading
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from upload_adapters.memory import MemorySource

KEY = b"a test's own"


class Home:
    """Serves objects of this process by number, each connection on a thread of its own."""

    def __init__(self) -> None:
        self._objects: list[Any] = []
        self._listener = Listener(("127.0.0.1", 0), authkey=KEY, backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def archive(self, archive: Any) -> "AfarArchive":
        self._objects.append(archive)
        return AfarArchive(self._listener.address, len(self._objects) - 1)

    def source(self, source: Any) -> "AfarSource":
        self._objects.append(source)
        return AfarSource(self._listener.address, len(self._objects) - 1)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept(),), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with suppress(EOFError, OSError), connection:
            while True:
                number, method, arguments = connection.recv()
                try:
                    connection.send(("return", self._call(self._objects[number], method, arguments, connection)))
                except (EOFError, OSError):
                    raise
                except Exception as error:  # noqa: BLE001 - raised where the call came from
                    connection.send(("raise", error))

    def _call(self, thing: Any, method: str, arguments: tuple[Any, ...], connection: Connection) -> Any:
        if method == "bytes":
            with thing.open(*arguments) as file:
                return file.read()
        if method == "put":
            relpath, data, checksum, upload = arguments
            attempt = _AttemptAfar(connection, upload)
            body = MemorySource({relpath: data})
            with body.open(relpath) as file:
                return thing.put(relpath, _BodyAfar(file, attempt), checksum=checksum, attempt=attempt)
        return getattr(thing, method)(*arguments)


class _AttemptAfar:
    """The attempt of a worker, as the archive here sees it."""

    resumable = True

    def __init__(self, connection: Connection, upload: Any) -> None:
        self._connection, self.upload = connection, upload

    def ask(self, method: str, *arguments: Any) -> Any:
        self._connection.send(("call", (method, arguments)))
        kind, answer = self._connection.recv()
        if kind == "raise":
            raise answer
        return answer

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments: self.ask(method, *arguments)

    @contextmanager
    def slot(self) -> Any:
        self.ask("enter")
        try:
            yield
        finally:
            self.ask("leave")


class _BodyAfar:
    def __init__(self, file: Any, attempt: _AttemptAfar) -> None:
        self._file, self._attempt = file, attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def verify_unchanged(self) -> None:
        self._attempt.ask("verify_unchanged")


class _Afar:
    def __init__(self, address: Any, number: int) -> None:
        self._address, self._number = address, number
        self._local = threading.local()

    def __reduce__(self) -> Any:
        return type(self), (self._address, self._number)

    def _call(self, method: str, *arguments: Any, asked: Any = None) -> Any:
        if not hasattr(self._local, "connection"):
            self._local.connection = Client(self._address, authkey=KEY)
        connection = self._local.connection
        connection.send((self._number, method, arguments))
        while True:
            kind, answer = connection.recv()
            if kind == "call":
                try:
                    connection.send(("return", asked(*answer)))
                except Exception as error:  # noqa: BLE001 - raised where it was asked
                    connection.send(("raise", error))
            elif kind == "raise":
                raise answer
            else:
                return answer


class AfarSource(_Afar):
    """A source of another process; files are fetched whole."""

    name = "memory:"

    def problem_with(self, relpath):
        return self._call("problem_with", relpath)

    def size(self, relpath):
        return self._call("size", relpath)

    def ls(self, prefix=""):
        return self._call("ls", prefix)

    def open(self, relpath):
        return MemorySource({relpath: self._call("bytes", relpath)}).open(relpath)


class AfarArchive(_Afar):
    """An archive of another process."""

    def stat(self, relpath):
        return self._call("stat", relpath)

    def put(self, relpath, body, *, checksum, attempt=None):
        data = body.read()
        slot = attempt.slot()

        def asked(method: str, arguments: tuple[Any, ...]) -> Any:
            match method:
                case "enter":
                    return slot.__enter__()
                case "leave":
                    return slot.__exit__(None, None, None)
                case "verify_unchanged":
                    return body.verify_unchanged()
            return getattr(attempt, method)(*arguments)

        return self._call("put", relpath, data, checksum, attempt.upload, asked=asked)

    def list(self):
        return iter(())  # nobody on a worker asks

    def end_uploads(self, known, ours, commit=lambda: None):
        """Nothing: no worker ends what others may go on with."""
