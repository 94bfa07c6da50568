"""The journal's records: how events become bytes, how bytes are verified, and how they are replayed.

A segment is lines of JSON: a header, then one line per event. The last line of each batch ends in the CRC-32 of every
byte of the segment before that field, so a batch is whole or it is nothing. `docs/journal-format.md` is the
specification; this module is its codec and touches no file.
"""

from __future__ import annotations

import functools
import operator
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, Self

import msgspec

from upload_core import events as ev
from upload_core.delivery import PLAIN_TABLE, Delivery
from upload_core.errors import IllegalEventError, JournalDamagedError, JournalVersionError
from upload_core.text import printable
from upload_core.timestamps import iso, parse_iso

FORMAT_VERSION: Final = 1
CHUNK_BYTES: Final = 256 * 1024
"""Decoding much more at once only moves memory; much less pays the call overhead again and again."""

_CRC_FIELD: Final = b',"crc":"'
"""Cannot occur inside a JSON string, where each quote is escaped."""
_SUFFIX_BYTES: Final = len(b',"crc":"01234567"}\n')
_RECORD_START: Final = b'{"seq":'
_COMMIT: Final = re.compile(rb'"seq":(\d{1,18}),[^\n]*,"batch":(\d{1,18}),"crc":"')

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""How the decoder says no: to what is no JSON of this form, to text that is no UTF-8, to values without a bottom."""

_encoder = msgspec.json.Encoder()


class Header(msgspec.Struct, frozen=True):
    """First line of a segment; it ties the segment to its delivery and to the segment before it."""

    journal: Literal["upload-core"]
    version: int
    dataset: str
    delivery_id: str
    transfer_type: str
    agent_id: str
    index_digest: str
    segment: int
    first_seq: int
    nonce: str
    previous_crc: str

    @classmethod
    def first(cls, created: ev.DeliveryCreated, nonce: str) -> Self:
        """The header of a journal's first segment."""
        return cls(
            "upload-core",
            FORMAT_VERSION,
            created.dataset,
            created.delivery_id,
            created.transfer_type,
            created.agent_id,
            created.index_digest,
            segment=1,
            first_seq=1,
            nonce=nonce,
            previous_crc="00000000",
        )


class Record(msgspec.Struct, frozen=True):
    """An event as it was recorded."""

    seq: int
    """Its number in the journal, from 1."""
    time: str
    """When it was recorded: UTC, with milliseconds."""
    event: ev.Event
    """What happened."""

    @property
    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        return parse_iso(self.time)


class Position(msgspec.Struct, frozen=True):
    """A place between two batches: everything before it is verified."""

    segment: int
    offset: int
    seq: int
    """Number of the last record before it."""
    crc: int
    """CRC-32 of every byte of the segment before it."""
    time: str = ""


# --- writing -------------------------------------------------------------------------------------


def _seal(body: bytes, crc: int) -> tuple[bytes, int]:
    """`body` (a last line without its closing brace) with the CRC field, and the CRC of all of it."""
    crc = zlib.crc32(body, crc)
    suffix = b',"crc":"%08x"}\n' % crc
    return body + suffix, zlib.crc32(suffix, crc)


def encode_header(header: Header) -> tuple[bytes, Position]:
    """The first line of a segment and the position after it."""
    line, crc = _seal(_encoder.encode(header)[:-1], 0)
    return line, Position(header.segment, len(line), header.first_seq - 1, crc)


def encode_batch(events: Sequence[ev.Event], time_ms: int, position: Position) -> tuple[bytes, Position]:
    """The lines of a batch (at least one event) that follows `position`, and the position after it."""
    return encode_together([(events, time_ms)], position)


def encode_together(parts: Iterable[tuple[Sequence[ev.Event], int]], position: Position) -> tuple[bytes, Position]:
    """The lines of one batch of several parts, each with its own time in ms, and the position after it.

    What shares a write and a sync must be one batch: a torn journal lacks at most one.
    """
    time, seq = position.time, position.seq
    lines: list[str] = []
    for events, time_ms in parts:
        if not events:
            continue
        time = iso(time_ms)
        # In one piece and cut up again, which is quicker than one by one; inside a JSON string LF is escaped.
        bodies = _encoder.encode_lines(events).decode()[1:-1].split("\n{")
        stamp = f',"time":"{time}",'
        lines += [f'{{"seq":{number}{stamp}{body}' for number, body in enumerate(bodies, seq + 1)]
        seq += len(bodies)
    lines[-1] = f'{lines[-1][:-1]},"batch":{len(lines)}'
    data, crc = _seal("\n".join(lines).encode(), position.crc)
    return data, Position(position.segment, position.offset + len(data), seq, crc, time)


# --- reading: verified pieces --------------------------------------------------------------------


class _Tail(Exception):
    """Internal: the bytes from `position` on are not whole, verified batches."""

    def __init__(self, position: Position) -> None:
        self.position = position


def decode_header(line: bytes, *, segment: int, after: Position | None) -> tuple[Header, Position]:
    """The header and the position after it; `after` is the end of the segment before.

    Raises `JournalVersionError` for a newer format and `JournalDamagedError` for anything that is not that header.
    """
    where = f"segment {segment}"
    try:
        version = msgspec.json.decode(line, type=_VersionOnly).version
    except UNREADABLE as error:
        raise _unreadable_header(where, error) from error
    if version > FORMAT_VERSION:
        raise JournalVersionError(
            f"the journal has format {version}, this release reads up to {FORMAT_VERSION}: upgrade upload-core"
        )
    body, found, rest = line[:-_SUFFIX_BYTES], line[-_SUFFIX_BYTES:], line[-1:]
    sealed, crc = _seal(body, 0)
    if rest != b"\n" or sealed[-_SUFFIX_BYTES:] != found:
        raise JournalDamagedError(f"the header of {where} fails its CRC; restore the segment from a copy")
    try:
        header = msgspec.json.decode(line, type=Header)
    except UNREADABLE as error:
        raise _unreadable_header(where, error) from error
    if header.segment != segment or (
        after is not None and (header.first_seq != after.seq + 1 or header.previous_crc != f"{after.crc:08x}")
    ):
        raise JournalDamagedError(
            f"segment {segment} does not continue the one before it; a segment is missing or from another journal"
        )
    return header, Position(segment, len(line), header.first_seq - 1, crc, after.time if after else "")


def _unreadable_header(where: str, error: Exception) -> JournalDamagedError:
    return JournalDamagedError(
        f"the header of {where} cannot be read ({printable(str(error), 200)}); restore it from a copy"
    )


class _VersionOnly(msgspec.Struct):
    journal: Literal["upload-core"]
    version: int


def _pieces(chunks: Iterable[bytes], start: Position) -> Iterator[tuple[bytes, Position, Position]]:
    """Verified runs of whole batches, each between its two positions; raises `_Tail` where they end early."""
    position, buffer, searched = start, bytearray(), 0
    for chunk in chunks:
        buffer += chunk
        # only whole lines count: the last one may be cut after its mark, with whole batches before it
        newline = buffer.rfind(b"\n")
        mark = buffer.rfind(_CRC_FIELD, searched, max(newline, searched))
        if mark < 0:
            # a batch may be far longer than a chunk: no line of it is searched twice
            searched = newline + 1
            continue
        end = buffer.find(b"\n", mark) + 1
        piece = bytes(memoryview(buffer)[:end])
        del buffer[:end]
        searched = 0
        for part, after in _verified(piece, position):
            yield part, position, after
            position = after
    if buffer:
        raise _Tail(position)


def _verified(piece: bytes, position: Position) -> Iterator[tuple[bytes, Position]]:
    """`piece` whole if its last CRC holds (it covers all before it), else its good batches and then `_Tail`."""
    whole = _crc_if_it_holds(piece, position.crc)
    if whole is not None:
        yield piece, _after(piece, position, whole)
        return
    good, start, crc = 0, 0, position.crc
    while (mark := piece.find(_CRC_FIELD, start)) >= 0:
        end = piece.find(b"\n", mark) + 1
        found = _crc_if_it_holds(piece[good:end], crc) if end > 0 else None
        if found is None:
            break
        crc, good, start = found, end, end
    if good:
        position = _after(piece[:good], position, crc)
        yield piece[:good], position
    raise _Tail(position)


def _crc_if_it_holds(data: bytes, crc: int) -> int | None:
    """The CRC of all bytes up to the end of `data`, or None if its last line does not carry the right one."""
    body = len(data) - _SUFFIX_BYTES
    if body <= 0:
        return None
    crc = zlib.crc32(memoryview(data)[:body], crc)
    suffix = b',"crc":"%08x"}\n' % crc
    return zlib.crc32(suffix, crc) if data.endswith(suffix) else None


def _after(part: bytes, before: Position, crc: int) -> Position:
    try:
        last = _stamp.decode(part[part.rfind(_RECORD_START) :])
    except UNREADABLE as error:
        raise _of_another_format(before, error) from error
    recorded_ms(last.time)
    return Position(before.segment, before.offset + len(part), last.seq, crc, last.time)


def _of_another_format(before: Position, error: Exception) -> JournalDamagedError:
    return JournalDamagedError(
        f"a record after number {before.seq} is not of this format: {printable(str(error), 200)}"
    )


def is_torn(tail: bytes, last_seq: int) -> bool:
    """Whether damaged bytes after record `last_seq` at the end of a journal are at most one unfinished batch.

    At most one batch can lack its sync, so more than one in the damage means that acknowledged records are damaged.
    """
    marks = tail.count(_CRC_FIELD)
    if marks != 1:
        return marks == 0
    commit = _COMMIT.search(tail)
    if commit is None:
        return False
    seq, size = int(commit[1]), int(commit[2])
    return tail.count(_RECORD_START) <= size and seq - size == last_seq


# --- reading: events -----------------------------------------------------------------------------


_NO_FILE: Final = 1 << 62
"""No column has such a row: a plain event that names no file must not be taken for one of the last file."""


class _Narrow(msgspec.Struct, gc=False):
    """All that most records say to a replay."""

    kind: Literal[tuple(ev.KINDS)]  # type: ignore[valid-type]  # a literal of all kinds decodes to the same few strings
    file: ev.FileNumber = _NO_FILE


class _Stamp(msgspec.Struct, gc=False):
    seq: int
    time: str


_narrow = msgspec.json.Decoder(_Narrow)
_stamp = msgspec.json.Decoder(_Stamp)
_event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(functools.reduce(operator.or_, ev.EVENTS))
_PLAIN_BY_NAME: Final = {kind.__name__: tuple(row) for kind, row in PLAIN_TABLE.items()}
"""As tuples, which are indexed faster than bytes."""


def decode_record(line: bytes) -> Record:
    """The record of one line; raises `JournalDamagedError` if it is none."""
    try:
        stamp = _stamp.decode(line)
        record = Record(stamp.seq, stamp.time, _event.decode(line))
    except UNREADABLE as error:
        raise JournalDamagedError(f"not a journal record: {printable(str(error), 200)}") from error
    recorded_ms(stamp.time)
    return record


def recorded_ms(time: str) -> int:
    """The milliseconds of a record's time; raises `JournalDamagedError` if it is none."""
    try:
        return parse_iso(time)
    except ValueError as error:
        raise JournalDamagedError(f"a record was written at no time: {printable(str(error), 200)}") from error


def read_records(chunks: Iterable[bytes], start: Position) -> Generator[Record, None, tuple[Position, bool]]:
    """Every record of a segment after `start`, verified; returns where they end, and if that is the end, as `replay` does."""
    position = start
    try:
        for piece, before, after in _pieces(chunks, start):
            for number, line in enumerate(piece.split(b"\n")[:-1], before.seq + 1):
                record = decode_record(line)
                if record.seq != number:
                    raise _misnumbered(number)
                yield record
            position = after
    except _Tail:
        return position, False
    return position, True


def read_pieces(chunks: Iterable[bytes], start: Position) -> Iterator[tuple[bytes, Position]]:
    """The lines of a segment after `start` in verified pieces of whole batches, each with the place after it.

    Ends quietly before a tail that is not whole. For whoever folds all of a journal: nothing is decoded.
    """
    try:
        for piece, _, after in _pieces(chunks, start):
            yield piece, after
    except _Tail:
        return


def record_at(piece: bytes, seq: int, start: int = 0, line: int | None = None) -> tuple[Record, int]:
    """The record of that number, whose line begins at or after `start`, and where its line ends.

    `line`, if given, is the number of the record whose line begins at `start`: those between must all be there.
    Raises `JournalDamagedError` if the piece does not hold it, or not there.
    """
    begin = piece.find(b"%b%d," % (_RECORD_START, seq), start)
    end = piece.find(b"\n", begin) + 1
    if begin < 0 or (line is not None and piece.count(b"\n", start, begin) != seq - line):
        raise _misnumbered(seq)
    return decode_record(piece[begin:end]), end


def first_record(chunks: Iterable[bytes], start: Position) -> Record | None:
    """The first record after `start`, or None if there is no whole batch."""
    return next(read_records(chunks, start), None)


def replay(
    chunks: Iterable[bytes], start: Position, delivery: Delivery, check: Callable[[Record], None] | None = None
) -> tuple[Position, bool]:
    """Apply every whole, verified batch of a segment after `start`; returns where they end, and if that is the end.

    False means that a tail follows which is damaged or being written. What is more than a step of one file may be
    refused by `check` before. The caller refreshes derived state. Raises `JournalDamagedError` where records make no sense.
    """
    position = start
    try:
        for piece, before, after in _pieces(chunks, start):
            _apply_piece(piece, before, after, delivery, check)
            position = after
    except _Tail:
        return position, False
    return position, True


def _apply_piece(
    piece: bytes, before: Position, after: Position, delivery: Delivery, check: Callable[[Record], None] | None
) -> None:
    """The fast path of replay: plain events by table, everything else in full."""
    states, plain = delivery.states, _PLAIN_BY_NAME
    try:
        records = _narrow.decode_lines(piece)
    except UNREADABLE as error:
        raise _of_another_format(before, error) from error
    last_seq, start, line = before.seq + len(records), 0, before.seq + 1
    # The decoder minds neither two records on a line nor a blank one; other readers do.
    if last_seq != after.seq or piece.count(b"\n") != len(records):
        raise _misnumbered(last_seq)
    remaining = iter(records)
    while True:
        try:
            for record in remaining:
                file = record.file
                states[file] = plain[record.kind][states[file]]
            break
        except KeyError:
            # the iterator knows how far it came: counting as well would make every record dearer
            seq = last_seq - operator.length_hint(remaining)
            entry, start = record_at(piece, seq, start, line)
            line = seq + 1
            if check is not None:
                check(entry)
            _apply_in_full(entry, delivery)
        except IndexError:
            seq = last_seq - operator.length_hint(remaining)
            raise JournalDamagedError(f"record {seq} names a file in a way that nothing before it allows") from None
    delivery.facts.seq = last_seq


def _misnumbered(seq: int) -> JournalDamagedError:
    return JournalDamagedError(f"record {seq} is not where its number should stand")


def _apply_in_full(record: Record, delivery: Delivery) -> None:
    delivery.facts.seq = record.seq - 1
    try:
        delivery.apply(record.event, record.time_ms)
    except (IllegalEventError, IndexError, ValueError, MemoryError, OverflowError) as error:
        raise JournalDamagedError(f"record {record.seq} cannot follow what is before it: {error}") from error
