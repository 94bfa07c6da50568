"""Bytes of a growing log -> entries: the validator's rows, and our own (`backslash_escapes=False`).

Rule: feeding never raises, and what comes out depends on the bytes only, not on how they were cut into feeds.
A row that cannot be understood becomes a `MalformedLine` that reaches to the next place where a row starts,
so that it never takes its neighbours along.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
import msgspec

from upload_core.timestamps import parse_iso

ROW_LIMIT: Final = 1 << 20
"""Bytes a row may have. A validator's message is the YAML of one file's problems, a few kB; a megabyte bounds what an
opening quote that is never closed can hold back, and the memory it costs."""

SUSPECT_LIMIT: Final = 1 << 16
"""Bytes a row may have that seems to hold other rows inside a quoted field: most likely its opening quote is an
accident, and the rows inside are waited for by somebody."""

RUN_LIMIT: Final = 1 << 14
"""Bytes of plain rows that are taken at a time; a row that looks plain and is not costs another look at so many."""

TEXT_LIMIT: Final = 1_000
"""Characters of a malformed line that are kept: enough to recognise it, little enough to write down."""

FIELDS: Final = ("time", "category", "ref", "status", "message", "agent_id")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A well-formed row; `offset` is the position of its first byte in the log, `time` is known to be a time."""

    offset: int
    time: str
    category: str
    ref: str
    status: str
    message: str
    agent_id: str

    @property
    def time_ms(self) -> int:
        """Milliseconds since the epoch, by the writer's clock."""
        return parse_iso(self.time)


class MalformedLine(msgspec.Struct, frozen=True, gc=False):
    """A stretch of the log that is no row, from byte `offset` on; `text` is its beginning, made printable."""

    offset: int
    reason: str
    text: str


class _Malformed(Exception):
    """The bytes are no row, whatever may follow them."""


class _Incomplete(Exception):
    """The bytes may be the beginning of a row; `wanted` is what has to come before another look is worth it."""

    def __init__(self, wanted: bytes) -> None:
        self.wanted = wanted


_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|\+00:00)"
_TIME_FIELD = rb"(?:" + _TIME + rb'|"' + _TIME + rb'")'
_BEGINS_ROW = re.compile(_TIME_FIELD + rb"\t")
# Inside other text a time is not enough: messages are full of them.
_ROW_START = re.compile(_TIME_FIELD + rb'\t(?:[a-z_]{1,32}|"[a-z_]{1,32}")\t')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DOUBLED = re.compile(rb'(")"')
_DOUBLED_OR_ESCAPED = re.compile(rb'(")"|\\(.)', re.DOTALL)


@attrs.frozen
class _Dialect:
    """The patterns of a log with or without an escape character."""

    plain_rows: re.Pattern[bytes]
    """Whole rows without anything quoted or escaped: nearly all of them."""
    quoted: re.Pattern[bytes]
    unquoted: re.Pattern[bytes]
    escapes: bool


def _dialect(*, escapes: bool) -> _Dialect:
    special = rb'"\\' if escapes else rb'"'
    escaped = rb"|\\." if escapes else rb""
    word = rb"[^\x00-\x1f\x7f" + special + rb"]++"
    return _Dialect(
        plain_rows=re.compile(
            rb"(?:"
            + _TIME
            + rb"\t"
            + word
            + rb"\t[^\t\n"
            + special
            + rb"]++\t"
            + word
            + rb"\t[^\t\n"
            + special
            + rb"]*+\t"
            + word
            + rb"\n)+"
        ),
        # Possessive groups are innocent even where Python has them wrong: see `test_no_pattern_repeats_a_group_possessively`.
        quoted=re.compile(rb'"((?:[^' + special + rb']++|""' + escaped + rb')*+)"', re.DOTALL),
        unquoted=re.compile(rb"((?:[^\t\n" + special + rb"]++" + escaped + rb")*+)", re.DOTALL),
        escapes=escapes,
    )


_ESCAPING = _dialect(escapes=True)
_RAW = _dialect(escapes=False)


def _plain_entries(rows: bytes, offset: int, found: list[Entry | MalformedLine]) -> int:
    """Append the entries of these plain rows up to the first that is none after all; returns how many bytes they were."""
    try:
        text = rows.decode("utf-8")
    except UnicodeDecodeError as error:
        rows = rows[: rows.rfind(b"\n", 0, error.start) + 1]
        text = rows.decode("utf-8")
    first, ascii_only, second = offset, len(text) == len(rows), ""
    for line in text.split("\n")[:-1]:
        fields = line.split("\t")
        # Neighbours mostly share their second, and the pattern has seen the rest of the time.
        if not (second and line.startswith(second)):
            try:
                parse_iso(fields[0])
            except ValueError:  # the 30th of February
                break
            second = line[:19]
        found.append(Entry(offset, *fields))
        offset += (len(line) if ascii_only else len(line.encode())) + 1
    return offset - first


class LogParser:
    """Turns the bytes of a log into entries as they come; a new parser at byte `consumed` goes on where this one is.

    `start` is the log's byte at which feeding begins; it must be the first of a row.
    """

    def __init__(self, start: int = 0, *, backslash_escapes: bool = True) -> None:
        self.consumed = start
        """Every byte of the log before this one has been turned into entries."""
        self._dialect = _ESCAPING if backslash_escapes else _RAW
        self._buffer = b""
        self._wanted = b""

    @property
    def pending(self) -> int:
        """How many bytes were fed that may be the beginning of a row."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Entry | MalformedLine]:
        """The entries that these bytes complete; never raises."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._wanted not in data and len(self._buffer) <= SUSPECT_LIMIT:
            return []
        return self._parse(final=False)

    def finish(self) -> list[Entry | MalformedLine]:
        """The entries of all bytes still pending, judged as if nothing followed; feeding may go on behind them.

        A stray opening quote loses its claim on the rows behind it; a last row without its line feed is malformed.
        """
        return self._parse(final=True)

    def _parse(self, *, final: bool) -> list[Entry | MalformedLine]:
        buffer, base, position = self._buffer, self.consumed, 0
        found: list[Entry | MalformedLine] = []
        plain_rows = self._dialect.plain_rows.match
        self._wanted = b""
        while position < len(buffer):
            if plain := plain_rows(buffer, position, position + RUN_LIMIT):
                taken = _plain_entries(plain[0], base + position, found)
                if taken:
                    position += taken
                    continue
            try:
                entry, position = self._next(buffer, position, final=final)
            except _Incomplete as incomplete:
                self._wanted = incomplete.wanted
                break
            found.append(entry)
        self._buffer = buffer[position:]
        self.consumed = base + position
        return found

    def _next(self, buffer: bytes, start: int, *, final: bool) -> tuple[Entry | MalformedLine, int]:
        """The entry that begins at `start`, and where the next one begins; raises `_Incomplete`."""
        line_end = buffer.find(b"\n", start, start + ROW_LIMIT) + 1
        if not line_end:
            if len(buffer) - start >= ROW_LIMIT:
                return self._malformed(buffer, start, start + ROW_LIMIT, "a line longer than a row may be")
            if final:
                return self._malformed(buffer, start, len(buffer), "the log ends before the row does")
            raise _Incomplete(b"\n")
        if not _BEGINS_ROW.match(buffer, start, line_end):
            return self._malformed(buffer, start, line_end, "does not begin with a time")
        try:
            fields, end = self._row(buffer, start, final=final)
            return self._entry(start, fields), end
        except _Malformed as malformed:
            loose = self._with_loose_quotes(buffer, start, line_end)
            if loose is not None:
                return loose, line_end
            return self._malformed(buffer, start, line_end, str(malformed))

    def _malformed(self, buffer: bytes, start: int, end: int, reason: str) -> tuple[MalformedLine, int]:
        # A row whose line feed was lost has the next row in the middle of its line.
        inner = _ROW_START.search(buffer, start + 1, end)
        if inner:
            end = inner.start()
        text = buffer[start : min(end, start + TEXT_LIMIT)].decode("utf-8", "backslashreplace")
        return MalformedLine(self.consumed + start, reason, text.removesuffix("\n")[:TEXT_LIMIT]), end

    def _row(self, buffer: bytes, start: int, *, final: bool) -> tuple[list[bytes], int]:
        """The fields of the row at `start` and its end; raises `_Malformed` and `_Incomplete`."""
        stop = start + SUSPECT_LIMIT
        try:
            fields, end = self._scan(buffer, start, min(len(buffer), stop))
        except _Incomplete:
            if len(buffer) > stop:
                return self._long_row(buffer, start, final=final)
            if final:
                raise _Malformed("the log ends before the row does") from None
            raise
        inner = _ROW_START.search(buffer, start + 1, end)
        if inner and self._rows_cross(buffer, inner.start(), end, final=final):
            raise _Malformed("a quoted field that swallows the next row")
        return fields, end

    def _long_row(self, buffer: bytes, start: int, *, final: bool) -> tuple[list[bytes], int]:
        """`_row` for a row of more than `SUSPECT_LIMIT` bytes, which may hold no other rows."""
        stop = min(len(buffer), start + ROW_LIMIT)
        # One reason for all that can be wrong: which of them is seen first depends on how the bytes came.
        malformed = _Malformed("a long quoted field that does not end as one")
        try:
            fields, end = self._scan(buffer, start, stop)
        except _Malformed:
            raise malformed from None
        except _Incomplete:
            if final or stop == start + ROW_LIMIT or _ROW_START.search(buffer, start + 1):
                raise malformed from None
            raise
        if _ROW_START.search(buffer, start + 1, end):
            raise malformed
        return fields, end

    def _rows_cross(self, buffer: bytes, position: int, end: int, *, final: bool) -> bool:
        """Whether good rows lead from `position`, inside a quoted field, across the `end` of that field's row.

        Then an opening quote is an accident, and the row's end was found in a message of one of those rows.
        If the field is what it seems, they break at its closing quote at the latest: a quote means the opposite
        to them.
        """
        while position < end:
            if not _BEGINS_ROW.match(buffer, position):
                return False
            try:
                fields, position = self._scan(buffer, position, min(len(buffer), position + ROW_LIMIT))
                self._entry(0, fields)
            except _Malformed:
                return False
            except _Incomplete:
                if final or len(buffer) - position >= ROW_LIMIT:
                    return False
                raise _Incomplete(b"") from None
        # Two such messages in a row could still look like that, but then they are followed by a row in turn.
        return position > end and not _BEGINS_ROW.match(buffer, end)

    def _scan(self, buffer: bytes, position: int, stop: int) -> tuple[list[bytes], int]:
        """The raw fields from `position` to the line feed that ends the row; raises `_Malformed` and `_Incomplete`."""
        fields: list[bytes] = []
        while True:
            if buffer[position : position + 1] == b'"':
                quoted = self._dialect.quoted.match(buffer, position, stop)
                if quoted is None:
                    raise _Incomplete(b'"')
                fields.append(self._unescaped(quoted[1]))
                position = quoted.end()
            else:
                unquoted = self._dialect.unquoted.match(buffer, position, stop)
                assert unquoted is not None, "it matches nothing at all, too"
                position = unquoted.end()
                if position < stop and buffer[position : position + 1] == b'"':
                    raise _Malformed("a quote inside an unquoted field")
                fields.append(self._unescaped(unquoted[1]))
            if position >= stop:
                raise _Incomplete(b"")
            mark = buffer[position : position + 1]
            position += 1
            if mark == b"\n":
                break
            if mark == b"\\":  # with nothing behind it yet
                raise _Incomplete(b"")
            if mark != b"\t":
                raise _Malformed("text after a closing quote")
            if len(fields) == len(FIELDS):
                raise _Malformed(f"more than {len(FIELDS)} fields")
        if len(fields) != len(FIELDS):
            raise _Malformed(f"{len(fields)} fields instead of {len(FIELDS)}")
        return fields, position

    def _unescaped(self, raw: bytes) -> bytes:
        if self._dialect.escapes:
            return _DOUBLED_OR_ESCAPED.sub(rb"\1\2", raw) if b"\\" in raw or b'"' in raw else raw
        return _DOUBLED.sub(rb"\1", raw) if b'"' in raw else raw

    def _entry(self, start: int, fields: list[bytes]) -> Entry:
        """The entry of these fields; raises `_Malformed`."""
        values: dict[str, str] = {}
        for name, raw in zip(FIELDS, fields, strict=True):
            try:
                # A verdict counts, whatever encoding its explanation has; a path in doubt is no path.
                values[name] = text = raw.decode("utf-8", "backslashreplace" if name == "message" else "strict")
            except UnicodeDecodeError:
                raise _Malformed(f"{name} is not UTF-8") from None
            if not text and name != "message":
                raise _Malformed(f"{name} is empty")
            if name in ("category", "status", "agent_id") and _CONTROL.search(text):
                raise _Malformed(f"{name} holds a control character")
        try:
            parse_iso(values["time"])
        except ValueError:
            raise _Malformed("its time is none") from None
        return Entry(self.consumed + start, **values)

    def _with_loose_quotes(self, buffer: bytes, start: int, line_end: int) -> Entry | None:
        """The entry of one line in which quotes stand inside unquoted fields only, or None.

        Such a quote cannot be meant as one, and a line of its own can swallow nothing.
        """
        line = buffer[start : line_end - 1]
        fields = line.split(b"\t")
        if len(fields) != len(FIELDS) or b'"' not in line or _ROW_START.search(line, 1):
            return None
        if any(field.startswith(b'"') for field in fields) or (self._dialect.escapes and b"\\" in line):
            return None
        try:
            return self._entry(start, fields)
        except _Malformed:
            return None
