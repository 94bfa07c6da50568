"""The columns that a file table is made of, and the rows that they are written down as.

A row is valid or refused, never mended: whoever extends columns by a wrong cell gets an error and unchanged columns.
CRC32s are numbers here and base64 text outside; whole chunks are converted at once, because a call per row would
cost more than everything else about it.
"""

from __future__ import annotations

import re
import sys
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec

from upload_core.errors import JournalDamagedError


class TableRow(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the encoded table; the order of the fields is part of the canonical encoding."""

    file: int
    path: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    checksum: str | None = None


CHUNK_BYTES: Final = 256 * 1024  # of encoded rows; larger pieces decode no faster and hold more memory
CHUNK_ROWS: Final = 4096
ROW_BYTES_BESIDES_PATH: Final = 64
_REMEDY: Final = "restore the journal from a copy, or begin a new one with the index"

ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(TableRow)

_CHECKSUM_LINES: Final = re.compile(r"(?:[A-Za-z0-9+/]{5}[AQgw]==\n)*+")
"""Base64 of four bytes per line; the sixth character carries two bits of data, the other four must be zero."""

_NO_CHECKSUM: Final = "AAAAAA=="

assert array("I").itemsize == 4, "the columns count on 32-bit array('I')"


def are_checksums(texts: Sequence[str]) -> bool:
    """True if every text is the base64 of exactly four bytes, in its one canonical spelling."""
    return _CHECKSUM_LINES.fullmatch("\n".join([*texts, ""])) is not None


class Columns:
    """A table in the making: columns that grow."""

    __slots__ = ("blob", "crcs", "known", "sizes", "starts")

    def __init__(
        self,
        blob: bytes = b"",
        starts: Iterable[int] = (0,),
        sizes: Iterable[int] = (),
        crcs: Iterable[int] = (),
        known: bytes = b"",
    ) -> None:
        self.blob = bytearray(blob)
        """Every path in UTF-8, each followed by NUL, which no path holds."""
        self.starts = array("Q", starts)
        """Where each path begins in the blob, and at last the blob's length."""
        self.sizes = array("q", sizes)
        self.crcs = array("I", crcs)
        self.known = bytearray(known)
        """1 where there is a checksum, else 0."""

    def __len__(self) -> int:
        return len(self.sizes)

    def extend(self, paths: list[str], sizes: list[int], checksums: Sequence[str | None]) -> None:
        """Append rows; raises `ValueError` (or its child `UnicodeEncodeError`) and changes nothing if a cell is wrong."""
        text = "\0".join([*paths, ""])
        encoded = text.encode()
        lengths = map(len, paths) if len(encoded) == len(text) else (len(path.encode()) for path in paths)
        if encoded.count(b"\0") != len(paths):
            raise ValueError("a path holds NUL")
        if min(sizes) < 0:
            raise ValueError("a size is negative")
        crcs, known = _to_crcs(checksums)
        end = len(self.blob)
        starts = []
        for length in lengths:
            end += length + 1
            starts.append(end)
        self.sizes.extend(sizes)
        self.blob += encoded
        self.starts.extend(starts)
        self.crcs.extend(crcs)
        self.known += known

    def extend_decoded(self, rows: list[TableRow], first: int | None = None) -> None:
        """Append decoded rows; raises `JournalDamagedError` naming the wrong one (`first` is the number of the first)."""
        first = len(self.sizes) if first is None else first
        try:
            self.extend([row.path for row in rows], [row.size for row in rows], [row.checksum for row in rows])
        except ValueError as error:
            if len(rows) == 1:
                raise damaged(first, str(error)) from None
            for number, row in enumerate(rows, first):
                self.extend_decoded([row], number)

    def replace(self, row: TableRow, number: int) -> None:
        """Give a known row another size and checksum."""
        try:
            crcs, known = _to_crcs([row.checksum])
        except ValueError as error:
            raise damaged(number, str(error)) from None
        self.sizes[row.file], self.crcs[row.file], self.known[row.file] = row.size, crcs[0], known[0]

    def narrow_starts(self) -> array[int]:
        """The starts in 4 bytes each, as long as all paths together stay under 4 GiB."""
        return array("I", self.starts) if len(self.blob) < 2**32 else self.starts


def _to_crcs(texts: Sequence[str | None]) -> tuple[array[int], bytes]:
    """Texts as numbers, and a flag for each whether there was one; raises `ValueError` if one is no checksum."""
    count = len(texts)
    missing = texts.count(None)
    if missing == count:
        return array("I", bytes(4 * count)), bytes(count)
    known = bytes([text is not None for text in texts]) if missing else b"\1" * count
    lines = "\n".join([_NO_CHECKSUM if text is None else text for text in texts]) + "\n"
    if len(lines) != 9 * count or not _CHECKSUM_LINES.fullmatch(lines):
        raise ValueError("a checksum is not the base64 of four bytes")
    # Six digits and two of padding: with "A" (zero) for padding all rows decode at once, six bytes each.
    six = a2b_base64(lines.replace("==\n", "AA"))
    four = bytearray(4 * count)
    for place in range(4):
        four[place::4] = six[place::6]
    crcs = array("I", bytes(four))
    if sys.byteorder == "little":
        crcs.byteswap()
    return crcs, known


def to_texts(crcs: array[int], known: bytes) -> list[str | None]:
    """The inverse of `_to_crcs`."""
    count = len(crcs)
    if not any(known):
        return [None] * count
    if sys.byteorder == "little":
        crcs.byteswap()
    four, six = crcs.tobytes(), bytearray(6 * count)
    for place in range(4):
        six[place::6] = four[place::4]
    text = bytearray(b2a_base64(six, newline=False))
    text[6::8] = text[7::8] = b"=" * count
    joined = text.decode("ascii")
    texts = [joined[start : start + 8] for start in range(0, 8 * count, 8)]
    return [text if there else None for text, there in zip(texts, known, strict=True)]


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of whole lines, none much larger than a chunk or a line."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        start = 0
        while (end := data.rfind(b"\n", start, start + CHUNK_BYTES) + 1) > 0 or (
            end := data.find(b"\n", start) + 1
        ) > 0:
            yield data[start:end]
            start = end
        rest = data[start:]
    if rest:
        yield rest


def decoded(chunks: Iterable[bytes]) -> Iterator[list[TableRow]]:
    """The rows that those bytes hold, in whatever pieces they come; raises `JournalDamagedError` naming a wrong row."""
    number = 0
    for lines in _whole_lines(chunks):
        try:
            rows = _DECODER.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise _first_damage(lines, number) from None
        if not lines.endswith(b"\n"):
            raise damaged(number + len(rows) - 1, "its line was cut off")
        if len(rows) != lines.count(b"\n"):
            raise damaged(number, "there are empty lines at or after it")
        number += len(rows)
        yield rows


def _first_damage(lines: bytes, number: int) -> JournalDamagedError:
    for row, line in enumerate(lines.split(b"\n"), number):
        try:
            _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return damaged(row, str(error))
    return damaged(number, "it cannot be decoded")


def damaged(row: int, reason: str) -> JournalDamagedError:
    """The error for a row that a file table cannot hold."""
    return JournalDamagedError(f"row {row} of the file table is wrong: {reason}; {_REMEDY}")
