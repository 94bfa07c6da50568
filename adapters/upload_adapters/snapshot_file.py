"""Snapshots: the state at one place of the journal. They are derived; a wrong one is ignored and written anew."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from upload_adapters.durable import write_durably
from upload_core.delivery import Delivery
from upload_core.errors import IllegalEventError
from upload_core.files import FileTable
from upload_core.journal import FORMAT_VERSION, Position
from upload_core.timestamps import parse_iso

KEPT: Final = 2
"""The newest may have been written just before the crash that also tore the journal behind it."""

_SEAL_BYTES: Final = 8


class _Head(msgspec.Struct):
    version: int
    nonce: str
    segment: Annotated[int, msgspec.Meta(ge=1)]
    offset: Annotated[int, msgspec.Meta(ge=1)]
    seq: int
    crc: int
    time: str


def write(directory: Path, delivery: Delivery, position: Position, nonce: str) -> None:
    """Write the snapshot of `delivery`, which stands at `position` of the segment with that nonce; drop old ones.

    A snapshot that cannot be written is no failure: the journal holds everything.
    """
    state = delivery.canonical()
    head = _Head(
        FORMAT_VERSION,
        nonce,
        position.segment,
        position.offset,
        position.seq,
        position.crc,
        position.time,
    )
    data = msgspec.json.encode(head) + b"\n" + state
    with contextlib.suppress(OSError):
        write_durably(directory / f"snapshot-{position.seq:012d}", [data, _seal(data)])
        for old in sorted(directory.glob("snapshot-*"))[:-KEPT]:
            old.unlink()


def load(path: Path, table: FileTable) -> tuple[Delivery, Position, str] | None:
    """The delivery, its position and the nonce of its segment; None if the snapshot cannot be trusted."""
    try:
        data = path.read_bytes()
        data, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
        if seal != _seal(data):
            return None
        head_line, _, state = data.partition(b"\n")
        head = msgspec.json.decode(head_line, type=_Head)
        if head.version != FORMAT_VERSION:
            return None
        parse_iso(head.time)
        delivery = Delivery.from_canonical(state, table)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError, IllegalEventError):
        return None
    if delivery.facts.seq != head.seq:
        return None
    return delivery, Position(head.segment, head.offset, head.seq, head.crc, head.time), head.nonce


def _seal(data: bytes) -> bytes:
    """The last bytes of a snapshot: the CRC-32 of all before them, its position in the journal included."""
    return b"%08x" % zlib.crc32(data)


def drop_beyond(directory: Path, seq: int) -> None:
    """Remove snapshots of records that the journal does not hold (any more).

    Called before anything is appended: once the journal has grown past their place again, they would look right.
    """
    for path in directory.glob("snapshot-*"):
        if not path.name.removeprefix("snapshot-").isdecimal() or int(path.name.removeprefix("snapshot-")) > seq:
            path.unlink()


def newest_first(directory: Path) -> list[Path]:
    """The snapshots of a journal."""
    return sorted(directory.glob("snapshot-*"), reverse=True)


def size_of(path: Path) -> int:
    """Bytes of a file, 0 if it is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
