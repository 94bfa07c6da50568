"""Attempts for tests of large files: what one leaves, the next one goes on with, as by a journal."""

import threading
import zlib

from tests.contracts.bodies import Body
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.effects import OpenUpload


def crc(data: bytes) -> str:
    return crc32_base64(zlib.crc32(data))


class Attempt(FreeAttempt):
    """One that somebody goes on with: `left` is what a journal would know after it."""

    resumable = True

    def __init__(self, upload: OpenUpload | None = None, commit=None) -> None:
        super().__init__(commit)
        self.known = upload
        self.left = upload
        self.pushes: list[str] = []
        self.ended = 0
        self._mutex = threading.Lock()

    @property
    def upload(self):
        return self.known

    def upload_begun(self, upload):
        assert upload.parts == {}
        self.left = OpenUpload(upload.upload_id, upload.part_size, upload.fingerprint, {})

    def part_stored(self, part):
        assert self.left is not None, "parts belong to an upload"
        with self._mutex:
            self.left.parts[part.number] = part.checksum

    def upload_ended(self):
        self.left = None
        self.ended += 1

    def pushed_back(self, why):
        self.pushes.append(why)


class CountedBody(Body):
    """A source file that remembers which bytes were read, in spans."""

    def __init__(self, data: bytes, *, fingerprint: str = "", at_read=None) -> None:
        super().__init__(data, at_read=at_read)
        self._fingerprint = fingerprint or f"content {zlib.crc32(data)}"
        self.spans: list[tuple[int, int]] = []

    @property
    def fingerprint(self):
        return self._fingerprint

    def read_at(self, offset, size, /):
        data = super().read_at(offset, size)
        if data:
            self.spans.append((offset, offset + len(data)))
        return data

    def read_count(self) -> int:
        """Bytes read, each as often as it was."""
        return sum(end - start for start, end in self.spans)
