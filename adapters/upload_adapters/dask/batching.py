"""How many orders one task carries: so many that the scheduler is not the limit, so few that a death costs little."""

from __future__ import annotations

from collections import deque
from typing import Final

from upload_core.effects import FileOrder, TransferFile
from upload_core.ports import Load

BATCH_FILES: Final = 200
BATCH_BYTES: Final = 64 << 20
LARGE: Final = 8 << 20
"""A larger file is a batch by itself: its parts are gone on with if its worker dies."""
BACKLOG_PER_LEVEL: Final = 64
BACKLOG_MIN: Final = 256
BACKLOG_MAX: Final = 20_000


def backlog(level: int) -> int:
    """How many orders to keep waiting at that level: whole batches of small ones."""
    return min(BACKLOG_MAX, max(BACKLOG_MIN, BACKLOG_PER_LEVEL * level))


def is_large(order: FileOrder) -> bool:
    """Whether this order stands alone, and may tell of parts.

    >>> is_large(TransferFile(1, "a", LARGE, None)), is_large(TransferFile(1, "a", LARGE + 1, None))
    (False, True)
    """
    return isinstance(order, TransferFile) and order.size > LARGE


def take_batch(line: deque[FileOrder], files: int) -> tuple[FileOrder, ...]:
    """Take the next orders off the line, one at least: up to `files`, `BATCH_FILES` and `BATCH_BYTES`, a large one alone."""
    taken: list[FileOrder] = []
    size = 0
    while line and len(taken) < max(1, min(files, BATCH_FILES)):
        order = line[0]
        size += order.size
        if taken and (size > BATCH_BYTES or is_large(order)):
            break
        taken.append(line.popleft())
        if is_large(order):
            break
    return tuple(taken)


def added(one: Load, other: Load) -> Load:
    """Both together."""
    return Load(
        one.files + other.files,
        one.bytes + other.bytes,
        one.pushbacks + other.pushbacks,
        one.saturated or other.saturated,
    )
