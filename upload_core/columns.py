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
from itertools import accumulate, chain, islice
from typing import Annotated, Final, overload

import msgspec

from upload_core.errors import JournalDamagedError
from upload_core.text import printable


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

_CHECKSUM_LINES: Final = re.compile(r"(?:[A-Za-z0-9+/]{5}[AQgw]==\n)*")
"""Base64 of four bytes per line; the sixth character carries two bits of data, the other four must be zero."""

_PADDING_AS_ZERO: Final = bytes.maketrans(b"=", b"A")
_NO_CHECKSUM: Final = "AAAAAA=="

assert array("I").itemsize == 4, "the columns count on 32-bit array('I')"


def are_checksum_lines(lines: str) -> bool:
    """True if every line is the base64 of exactly four bytes, in its one canonical spelling."""
    return _CHECKSUM_LINES.fullmatch(lines) is not None


class TextColumn(Sequence[str]):
    """Texts without LF, kept as joined lines: whole chunks are examined at once, and no object exists per text."""

    __slots__ = ("_latest", "_rows", "chunks")

    def __init__(self, chunks: Sequence[str]) -> None:
        """Each chunk is `CHUNK_ROWS` texts, the last one fewer, every text ended by LF; else raises `ValueError`."""
        counts = [chunk.count("\n") for chunk in chunks]
        wanted = [CHUNK_ROWS] * (len(counts) - 1)
        if (
            counts[:-1] != wanted
            or not all(chunk.endswith("\n") for chunk in chunks)
            or max(counts, default=0) > CHUNK_ROWS
        ):
            raise ValueError("the chunks are not of so many lines")
        self.chunks = tuple(chunks)
        self._rows = sum(counts)
        self._latest: tuple[int, list[str]] = (-1, [])

    @classmethod
    def of(cls, texts: Sequence[str]) -> TextColumn:
        """The column of these texts; raises `ValueError` if one holds LF."""
        column = cls([lines_of(texts[first : first + CHUNK_ROWS]) for first in range(0, len(texts), CHUNK_ROWS)])
        if len(column) != len(texts):
            raise ValueError("a text holds LF")
        return column

    @property
    def holds_empty(self) -> bool:
        """Whether one of the texts is empty."""
        return any(chunk.startswith("\n") or "\n\n" in chunk for chunk in self.chunks)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(_split, self.chunks))

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[str]: ...
    def __getitem__(self, key: int | slice) -> str | Sequence[str]:
        rows = range(self._rows)[key]
        if isinstance(rows, int):
            number, latest = rows // CHUNK_ROWS, self._latest
            if latest[0] != number:  # who asks for one row asks for its neighbours
                latest = self._latest = number, _split(self.chunks[number])
            return latest[1][rows % CHUNK_ROWS]
        if not rows:
            return []
        first = min(rows[0], rows[-1]) // CHUNK_ROWS
        last = max(rows[0], rows[-1]) // CHUNK_ROWS
        texts = list(chain.from_iterable(map(_split, self.chunks[first : last + 1])))
        return [texts[row - first * CHUNK_ROWS] for row in rows]

    def __eq__(self, other: object) -> bool:
        """True for any sequence of the same texts."""
        if isinstance(other, TextColumn):
            return self.chunks == other.chunks
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"TextColumn.of({list(self)!r})"


def joined(texts: Sequence[str]) -> Sequence[str]:
    """The same texts, as a column of lines unless one holds LF: they take less room and are checked quicker."""
    try:
        return TextColumn.of(texts)
    except ValueError:
        return texts


def lines_of(texts: Iterable[str]) -> str:
    """The texts, each ended by LF."""
    return "\n".join([*texts, ""])


def _split(chunk: str) -> list[str]:
    return chunk[:-1].split("\n")


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

    def extend_lines(self, paths: str, sizes: Sequence[int], checksums: str | None) -> None:
        """Append rows whose texts are lines, each ended by LF; raises `ValueError` and changes nothing if a cell is wrong."""
        encoded = paths.encode()
        count = encoded.count(b"\n")
        lines = encoded.splitlines(keepends=True)
        if len(lines) != count:  # CR ends a line for Python
            lines = [line + b"\n" for line in encoded.split(b"\n")[:-1]]
        if b"\0" in encoded:
            raise ValueError("a path holds NUL")
        if len(sizes) != count or (checksums is not None and len(checksums) != 9 * count):
            raise ValueError("the columns differ in length")
        if min(sizes) < 0:
            raise ValueError("a size is negative")
        crcs = array("I", bytes(4 * count)) if checksums is None else _crcs_of_lines(checksums, count)
        starts = accumulate(map(len, lines), initial=len(self.blob))
        self.sizes.extend(sizes)
        self.starts.extend(islice(starts, 1, None))
        self.blob += encoded.replace(b"\n", b"\0")
        self.crcs.extend(crcs)
        self.known += bytes(count) if checksums is None else b"\1" * count

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
    lines = lines_of([_NO_CHECKSUM if text is None else text for text in texts])
    return _crcs_of_lines(lines, count), known


def _crcs_of_lines(lines: str, count: int) -> array[int]:
    """That many lines as numbers; raises `ValueError` if one is no checksum."""
    if len(lines) != 9 * count or not are_checksum_lines(lines):
        raise ValueError("a checksum is not the base64 of four bytes")
    # Six digits and two of padding: with "A" (zero) for padding all rows decode at once, six bytes each.
    six = a2b_base64(lines.encode().translate(_PADDING_AS_ZERO, b"\n"))
    four = bytearray(4 * count)
    for place in range(4):
        four[place::4] = six[place::6]
    crcs = array("I", bytes(four))
    if sys.byteorder == "little":
        crcs.byteswap()
    return crcs


def to_texts(crcs: array[int], known: bytes) -> Sequence[str | None]:
    """The inverse of `_to_crcs`."""
    count = len(crcs)
    if not any(known):
        return [None] * count
    if sys.byteorder == "little":
        crcs.byteswap()
    four, six = crcs.tobytes(), bytearray(6 * count)
    for place in range(4):
        six[place::6] = four[place::4]
    digits = b2a_base64(six, newline=False)
    lines = bytearray(b"??????==\n" * count)
    for place in range(6):
        lines[place::9] = digits[place::8]
    texts = _split(lines.decode("ascii"))
    if 0 not in known:
        return texts
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
            return damaged(row, printable(str(error), 200))
    return damaged(number, "it cannot be decoded")


def damaged(row: int, reason: str) -> JournalDamagedError:
    """The error for a row that a file table cannot hold."""
    return JournalDamagedError(f"row {row} of the file table is wrong: {reason}; {_REMEDY}")
