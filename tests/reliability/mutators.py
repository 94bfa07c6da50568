"""Damage that knows the format: fields swapped, numbers at their limits, keys repeated, lines joined, encodings mixed.

A byte flipped at random mostly breaks the outermost layer, and what lies behind it is never reached. So these take a
document apart as its reader does, change a piece, and put it together again, with seals that hold.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final


class Raw(str):
    """JSON as it shall stand."""

    __slots__ = ()


DEEP: Final = Raw("[" * 3_000 + "]" * 3_000)
LONG: Final = Raw("9" * 5_000)
"""A number of more digits than Python takes ("Integer string conversion length limitation", docs.python.org)."""
Mutate = Callable[[Random, bytes], bytes]

NUMBERS: Final = (
    *(0, 1, -1, 2, 7, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(10**12, 10**30, 1.5, -0.0, 1e308, 1e-308),
)
TEXTS: Final = (
    *(
        "",
        " ",
        "\0",
        "\t",
        "\n",
        "\r",
        "\r\n",
        '"',
        '""',
        "\\",
        "'",
        ",",
        ";",
        "=1+1",
        "@x",
        "-",
        "..",
        "../x",
        "/etc/x",
    ),
    *("C:\\x", "ok", "failure", "self", "init", "stop", "shutdown", "keepalive", "validation", "null", "true", "NaN"),
    *("é", "e\u0301", "日本", "\u202egnp", "\u2028", "\ufeff", "\ud800", "\x1b[2J", "\x9b", "\x7f", "[red]", "{x}"),
    *(
        "2026-02-30T00:00:00.000Z",
        "9999-12-31T23:59:59.999999999Z",
        "0000-01-01T00:00:00Z",
        "1e5",
        "007",
        "a" * 2_000,
        "9" * 5_000,
    ),
    *("&a", "*a", "!!x", "---", "- a", "? a", "%", "%00", "%zz", "[", "]", "{", "}", "|", ">", "#", ": ", "<<"),
)
PIECES: Final = (
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    *(str(number).encode() for number in NUMBERS),
    *(b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\0" * 16),
)


# --- any bytes ------------------------------------------------------------------------------------


def any_bytes(random: Random, data: bytes) -> bytes:
    """A bit flipped, a piece removed, repeated, moved or inserted, an end cut off, an encoding mistaken."""
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice((1, 2, 8, 40)))
    match random.randrange(9):
        case 0 if data:
            at %= len(data)
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:end] + data[at:end] * random.choice((1, 1, 3)) + data[end:]
        case 3:
            return data[:at] + random.choice(PIECES) + data[at:]
        case 4:
            return data[:at] + random.choice(PIECES) + data[end:]
        case 5:
            return data[:at]
        case 6:
            return data[at:] + data[:at]
        case 7:
            return data[:at] + random.randbytes(end - at) + data[end:]
        case _:
            return _recoded(random, data)


def _recoded(random: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    coding = random.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1", "cp1252", "utf-7"))
    return text.encode(coding, "replace")


# --- rows of fields -------------------------------------------------------------------------------


def fields(row_end: bytes, field_end: bytes) -> Mutate:
    """Damage to lines of fields: each is a piece that may go, come twice, change places or be something else."""

    def mutate(random: Random, data: bytes) -> bytes:
        rows = [row.split(field_end) for row in data.split(row_end)]
        row = rows[at := random.randrange(len(rows))]
        column = random.randrange(len(row))
        other_row = rows[random.randrange(len(rows))]
        other = random.randrange(len(other_row))
        ends = [row_end] * (len(rows) - 1) + [b""]
        match random.randrange(13):
            case 0:
                row[column], other_row[other] = other_row[other], row[column]
            case 1:
                row[column] = random.choice(PIECES)
            case 2:
                row.insert(column, random.choice((row[column], other_row[other], random.choice(PIECES))))
            case 3:
                del row[column]
            case 4:
                rows.insert(at, list(row))
                ends.insert(0, row_end)
            case 5:
                del rows[at], ends[0]
            case 6:
                ends[at] = random.choice((b"", field_end, b"\r", b"\r\n", b"\n\n", b"\0", b" "))
            case 7:
                rows[at] = other_row
            case 8:
                row[column] = b'"' + row[column].replace(b'"', random.choice((b'"', b'""', b'\\"'))) + b'"'
            case 9:
                row[column] = random.choice((b'"', b"'", b"\\")) + row[column]
            case 10:
                row[column] += random.choice((b'"', b"'", b"\\", b"\0", b"\r"))
            case 11:
                row[column] = row[column] + random.choice(PIECES) + row[column]
            case _:
                row[column] = _recoded(random, row[column])
        return b"".join(field_end.join(row) + end for row, end in zip(rows, ends, strict=False))

    return mutate


# --- JSON -----------------------------------------------------------------------------------------


class Pairs(list[tuple[Any, Any]]):
    """A JSON object that may say the same thing twice."""


def json_value(random: Random, text: bytes) -> bytes:
    """Damage to one JSON value, which stays JSON: keys repeated, moved or renamed, values of another type or size."""
    try:
        value = json.loads(text, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return any_bytes(random, text)
    holders = list(_holders(value))
    if not holders:
        return _written(_other(random, value)).encode("utf-8", "surrogatepass")
    holder = random.choice(holders)
    if isinstance(holder, Pairs):
        _mutate_pairs(random, holder)
    elif holder:
        at = random.randrange(len(holder))
        holder[at] = _other(random, holder[at])
    else:
        holder.append(_other(random, None))
    return _written(value).encode("utf-8", "surrogatepass")


def _holders(value: Any) -> Any:
    if isinstance(value, Pairs):
        yield value
        for _, inner in value:
            yield from _holders(inner)
    elif isinstance(value, list):
        yield value
        for inner in value:
            yield from _holders(inner)


def _mutate_pairs(random: Random, pairs: Pairs) -> None:
    if not pairs:
        pairs.append((random.choice(TEXTS), _other(random, None)))
        return
    at, other = random.randrange(len(pairs)), random.randrange(len(pairs))
    key, value = pairs[at]
    match random.randrange(8):
        case 0 | 1 | 2:
            pairs[at] = (key, _other(random, value))
        case 3:
            del pairs[at]
        case 4:
            pairs.insert(other, (key, _other(random, value)))
        case 5:
            pairs[at], pairs[other] = (pairs[other][0], value), (key, pairs[other][1])
        case 6:
            pairs[at] = (random.choice(TEXTS), value)
        case _:
            pairs.append((random.choice(TEXTS), _other(random, value)))


def _other(random: Random, value: Any) -> Any:
    match random.randrange(8):
        case 0:
            return random.choice((*NUMBERS, LONG))
        case 1 | 2:
            return random.choice(TEXTS)
        case 3 if isinstance(value, int | float):
            return value + random.choice((-1, 1))
        case 3 | 4 if isinstance(value, int | str):
            return str(value)
        case 5:
            # Seldom what is nested deep: it costs a parser of YAML as much as a hundred others.
            return random.choice((None, True, False, [], Pairs(), [] if random.randrange(16) else DEEP))
        case 6:
            return [value]
        case _:
            return Pairs([("file", value)])


def _written(value: Any) -> str:
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{_written(str(key))}:{_written(inner)}" for key, inner in value) + "}"

    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def json_lines(random: Random, data: bytes) -> bytes:
    """Damage to one of many lines of JSON, or to their order."""
    lines = data.split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            lines[at], lines[other] = lines[other], lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            del lines[at]
        case 3:
            lines[at : at + 2] = [b"".join(lines[at : at + 2])]
        case _:
            lines[at] = json_value(random, lines[at])
    return b"\n".join(lines)


# --- journals: seals that hold --------------------------------------------------------------------

_SEAL = re.compile(rb',"crc":"?[^\n]*')


def resealed(data: bytes) -> bytes:
    """The segment with the CRCs that its lines would have, had a writer meant them."""
    crc, lines = 0, []
    for number, line in enumerate(data.split(b"\n")):
        body, found = _SEAL.subn(b"", line, count=1)
        if not found and number:
            crc = zlib.crc32(line + b"\n", crc)
            lines.append(line)
            continue
        body = body.removesuffix(b"}") if not found else body
        crc = zlib.crc32(body, crc)
        suffix = b',"crc":"%08x"}' % crc
        crc = zlib.crc32(suffix + b"\n", crc)
        lines.append(body + suffix)
    return b"\n".join(lines)


def segment(random: Random, data: bytes) -> bytes:
    """Damage to a segment's lines, mostly with seals that hold: what only the reader's own rules can find."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    match random.randrange(6):
        case 0:
            return json_lines(random, data)
        case 1:  # a batch ends earlier, or later, than it said
            sealed = _SEAL.sub(b"}", lines[at])
            lines[at] = sealed if sealed != lines[at] else lines[at][:-1] + b',"batch":1,"crc":"00000000"}'
            data = b"\n".join(lines)
        case 2:
            data = json_lines(random, data)
        case _:
            body = _SEAL.sub(b"}", lines[at])
            damaged = json_value(random, body)
            lines[at] = damaged if body == lines[at] else damaged.removesuffix(b"}") + b',"crc":"00000000"}'
            data = b"\n".join(lines)
    return resealed(data) if random.randrange(8) else data


def sealed_end(inner: Mutate) -> Mutate:
    """Damage to what is in front of a seal of eight digits at the end, which holds again afterwards."""

    def mutate(random: Random, data: bytes) -> bytes:
        damaged = inner(random, data[:-8])
        return damaged + (b"%08x" % zlib.crc32(damaged) if random.randrange(8) else data[-8:])

    return mutate


def sealed_lines(random: Random, data: bytes) -> bytes:
    """Damage to one of many lines that begin with their own CRC32, which holds again afterwards."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    damaged = json_value(random, lines[at][9:])
    lines[at] = b"%08x %b" % (zlib.crc32(damaged), damaged)
    return b"\n".join(lines)


# --- together -------------------------------------------------------------------------------------


def some_of(mutators: Sequence[Mutate]) -> Mutate:
    """One to four of these, one after the other: most faults need one, the interesting ones two."""

    def mutate(random: Random, data: bytes) -> bytes:
        for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
            data = random.choice(mutators)(random, data)
        return data

    return mutate
