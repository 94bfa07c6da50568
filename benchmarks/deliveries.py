"""Deliveries to measure with: an index, the events of its files' lives, and their records as bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.journal import CHUNK_BYTES, Position, encode_batch

TIME_MS: Final = 1_795_332_276_959
START: Final = Position(1, 0, 0, 0)
CHECKSUM: Final = "yH2GHg=="
ETAG: Final = '"0123456789abcdef0123456789abcdef"'
SIZE: Final = 4096
EVENTS_PER_FILE: Final = 5
WORKERS: Final = 64


def paths(files: int) -> list[str]:
    """Names as data sets have them: 38 bytes, a thousand to a directory."""
    return [f"survey/field_{i // 1000:04}/image_{i:08}.fits" for i in range(files)]


def table(files: int) -> FileTable:
    """An index of that many files, with checksums."""
    return FileTable.from_columns(paths(files), [SIZE] * files, [CHECKSUM] * files)


def created(index: FileTable) -> ev.DeliveryCreated:
    """The first event of a delivery of that index."""
    return ev.DeliveryCreated("demo", "1", "staging", "agent-1", "/data", "file:///archive", index.digest, len(index))


def lives(files: int) -> Iterator[ev.Event]:
    """Five events for each file from `ready` to `valid`, in the order in which 64 workers bring them about."""
    for first in range(0, files, WORKERS):
        some = range(first, min(files, first + WORKERS))
        yield from map(ev.TransferQueued, some)
        yield from map(ev.TransferStarted, some)
        yield from (ev.TransferCompleted(file, SIZE, CHECKSUM, ETAG) for file in some)
        yield from map(ev.FileReported, some)
        yield from map(ev.FileValidated, some)


def batches(events: Iterator[ev.Event], size: int) -> Iterator[Sequence[ev.Event]]:
    """The events in batches of that many."""
    while batch := list(islice(events, size)):
        yield batch


def records(files: int, batch: int) -> bytes:
    """The records of `lives`, in batches of that many, as they stand in a segment behind its header."""
    position, parts = START, []
    for number, events in enumerate(batches(lives(files), batch)):
        data, position = encode_batch(events, TIME_MS + number, position)
        parts.append(data)
    return b"".join(parts)


def chunks(data: bytes) -> list[bytes]:
    """The bytes in pieces as a file is read."""
    return [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]


def pieces(data: bytes) -> list[bytes]:
    """The bytes in pieces of whole lines, for a contender that takes nothing else."""
    found, start = [], 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + CHUNK_BYTES) + 1
        found.append(data[start:end])
        start = end
    return found


def running(index: FileTable) -> Delivery:
    """A delivery whose validation run is at work, before its first file."""
    first = created(index)
    delivery = Delivery.begin(first, index)
    for event in (
        first,
        ev.SessionOpened(1, "agent-1", WORKERS, 2),
        ev.LockAcquired("etag"),
        ev.PipelineRequested("agent-1:1", 0),
        ev.PipelineAccepted(),
        ev.ValidatorStarted("validation pipeline started"),
        ev.RunConfirmed(),
    ):
        delivery.apply(event, TIME_MS)
    return delivery
