"""Receipts: every file of a delivery with size, CRC32, etag and verdict, as a file that stands for itself.

A receipt is lines of JSON in ASCII: a head, a line per file, and a seal with the SHA-256 of everything before it. It
needs no journal, and the same journal gives the same bytes. `docs/how-to/report.md` specifies it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from upload_adapters.report.reading import Reading
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.text import printable

VERSION: Final = 1
DEPLOYMENT_FILE: Final = "deployment_file"
"""The setting of a journal that names the archive's deployment file."""
ELEMENT: Final = "receipt"
"""The id of the element that holds a receipt in a page."""


class Delivered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A delivery of a receipt: enough to find its archive again, and to know its journal."""

    dataset: str
    delivery_id: str
    transfer_type: str
    archive: str
    files: int
    bytes: int
    counts: dict[str, int]
    index_digest: str
    records: int
    until: str
    """When the journal's last record was written: what came later the receipt does not know."""
    journal_sha256: str
    deployment_file: str = ""
    """Where the archive's deployment file was. Nothing else that was set: a receipt is passed on, and whoever compares it
    must not be led by it to another sign-in than their own."""

    @classmethod
    def of(cls, reading: Reading) -> Delivered:
        """What a receipt says of that delivery."""
        story = reading.story
        created = story.created
        return cls(
            created.dataset,
            created.delivery_id,
            created.transfer_type,
            created.archive,
            len(story.table),
            story.table.total_bytes,
            {str(state): count for state, count in story.delivery.public_counts().items()},
            story.delivery.facts.index_digest,
            reading.records,
            reading.last_time,
            reading.sha256,
            str(created.settings.get(DEPLOYMENT_FILE, "")),
        )


class Head(msgspec.Struct, frozen=True):
    """The first line."""

    receipt: Literal["upload-core"]
    version: int
    deliveries: list[Delivered]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file; `verdict` is its state in the seven words, `delivery` its place among the head's deliveries."""

    path: str
    size: int
    crc32: str
    etag: str
    verdict: str
    message: str = ""
    delivery: int = 0


class Seal(msgspec.Struct, frozen=True):
    """The last line."""

    files: int
    sha256: str


_encoder = msgspec.json.Encoder()
_lines = msgspec.json.Decoder(Line)


def ascii_json(value: msgspec.Struct) -> bytes:
    r"""The value as a line of JSON that no terminal and no editor acts on.

    >>> ascii_json(Seal(1, "naïve \u202e"))
    b'{"files":1,"sha256":"na\\u00efve \\u202e"}\n'
    """
    line = _encoder.encode(value)
    if not line.isascii():
        line = json.dumps(msgspec.json.decode(line), separators=(",", ":")).encode()
    return line + b"\n"


def receipt(readings: Sequence[Reading]) -> Iterator[bytes]:
    """The lines of a receipt for these deliveries, a few hundred KiB at a time."""
    digest = hashlib.sha256()
    files = 0
    pending = [ascii_json(Head("upload-core", VERSION, [Delivered.of(reading) for reading in readings]))]
    for number, reading in enumerate(readings):
        for row in reading.story.rows():
            files += 1
            pending.append(ascii_json(Line(row.path, row.size, row.checksum, row.etag, row.state, row.message, number)))
            if len(pending) == 2_000:
                yield _hashed(pending, digest)
                pending = []
    yield _hashed(pending, digest)
    yield ascii_json(Seal(files, digest.hexdigest()))


def _hashed(lines: Iterable[bytes], digest: Any) -> bytes:
    data = b"".join(lines)
    digest.update(data)
    return data


# --- reading one again ---------------------------------------------------------------------------


class Receipt:
    """A receipt in a file, or in a report's page. Its seal is checked before anything of it is believed."""

    head: Head

    def __init__(self, path: str) -> None:
        """Raises `ConfigurationError` if there is none, or if it is not as it was written."""
        self.path = path
        self._inside = _from_page(path)
        self.head = self._checked()

    def lines(self) -> Iterator[Line]:
        """Every file, in the order of the index."""
        for number, line in enumerate(self._raw()):
            if number and not line.startswith(b'{"files":'):
                yield _lines.decode(line)

    def created(self, delivery: int) -> ev.DeliveryCreated:
        """What that delivery was begun for, as far as it matters to find its archive."""
        of = self.head.deliveries[delivery]
        settings = {DEPLOYMENT_FILE: of.deployment_file} if of.deployment_file else {}
        return ev.DeliveryCreated(
            of.dataset, of.delivery_id, of.transfer_type, "", "", of.archive, of.index_digest, of.files, settings
        )

    def _raw(self) -> Iterator[bytes]:
        if self._inside is not None:
            yield from self._inside.encode().splitlines(keepends=True)
            return
        with open(self.path, "rb") as file:
            yield from file

    def _checked(self) -> Head:
        head: Head | None = None
        seal: Seal | None = None
        digest, files = hashlib.sha256(), 0
        try:
            for line in self._raw():
                if seal is not None:
                    raise self._refused("lines follow its seal")
                if head is None:
                    head = msgspec.json.decode(line, type=Head)
                    if head.version > VERSION:
                        raise self._refused(f"it has version {head.version}, and this release reads {VERSION}")
                elif line.startswith(b'{"files":'):
                    seal = msgspec.json.decode(line, type=Seal)
                    continue
                else:
                    told = _lines.decode(line)
                    files += 1
                    if not 0 <= told.delivery < len(head.deliveries):
                        raise self._refused(f"line {files + 1} belongs to no delivery of it")
                digest.update(line)
        except OSError as error:
            raise ConfigurationError(f"the receipt {self._name} cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._refused(f"line {files + 1 + (head is not None)} is none of a receipt ({error})") from error
        if head is None or seal is None:
            raise self._refused("it ends before its seal")
        if seal != Seal(files, digest.hexdigest()):
            raise self._refused("its seal does not fit: it was changed after it was written")
        return head

    @property
    def _name(self) -> str:
        return printable(self.path, 300)

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._name} is no whole receipt: {why}. Take it from a copy, or make it anew from the journal "
            "(upload-core report JOURNAL)"
        )


class _Page(HTMLParser):
    """Finds the text of the element that holds a receipt."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if ("id", ELEMENT) in attrs and tag == "pre":
            self._inside, self.found = True, []

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and self.found is not None:
            self.found.append(data)


def _from_page(path: str) -> str | None:
    """The receipt inside a page, or None if the file is no page."""
    try:
        with open(path, "rb") as file:
            if not file.read(64).lstrip().lower().startswith(b"<!doctype html"):
                return None
        text = Path(path).read_text("utf-8", "replace")
    except OSError:
        return None  # whoever reads it as a file says what is wrong
    page = _Page()
    page.feed(text)
    if page.found is None:
        raise ConfigurationError(
            f"{printable(path, 300)} is a page without a receipt in it: name the file beside it that it speaks of"
        )
    return "".join(page.found)
