"""A control bucket whose answers get lost: the request takes effect or not, the caller hears of it in neither case."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from upload_core.errors import ArchiveUnavailableError
from upload_core.ports import ControlBucket, ObjectInfo

T = TypeVar("T")
Fate = Literal["answered", "request lost", "answer lost", "answer lost and repeated"]
"""The last one is a client library that repeats a request by itself: the caller hears only the second answer."""


class FlakyControlBucket:
    """Passes requests on; each one's fate is the next of `fates`, and "answered" after the last."""

    def __init__(self, control: ControlBucket, fates: Iterable[Fate] = ()) -> None:
        self.control = control
        self.fates = iter(fates)
        self.requests: list[str] = []

    def head(self, key: str) -> ObjectInfo | None:
        return self._send("head", lambda: self.control.head(key))

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        return self._send("read", lambda: self.control.read(key, start))

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        return self._send("put", lambda: self.control.put(key, data, if_match=if_match, if_absent=if_absent))

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        return self._send("append", lambda: self.control.append(key, data, offset=offset))

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        return self._send("delete", lambda: self.control.delete(key, if_match=if_match))

    def _send(self, name: str, request: Callable[[], T]) -> T:
        self.requests.append(name)
        fate = next(self.fates, "answered")
        if fate == "request lost":
            raise ArchiveUnavailableError(f"{name}: connection refused")
        answer = request()
        if fate == "answer lost":
            raise ArchiveUnavailableError(f"{name}: connection reset")
        if fate == "answer lost and repeated":
            return request()
        return answer
