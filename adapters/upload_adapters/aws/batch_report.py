"""The completion report of an S3 Batch Operations job: what became of each task.

It is a list of files (`manifest.json`), each with one row per task (S3 User Guide, "Examples: S3 Batch Operations
completion reports"). The examples there do not agree on the order of error code and HTTP status: the one that is a number
is the status.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import attrs
import msgspec

SUCCEEDED: Final = "succeeded"
COLUMNS: Final = 7
LISTING_MAX: Final = 16 << 20

Read = Callable[[str, str], Iterator[str] | None]
"""Bucket and key -> the lines of that object, None if there is none."""


@attrs.frozen
class TaskResult:
    """One task; `key` as the manifest named it."""

    key: str
    succeeded: bool
    code: str = ""
    status: int = 0
    message: str = ""


class _Part(msgspec.Struct, rename="pascal"):
    bucket: str
    key: str
    task_execution_status: str = ""


class _Listing(msgspec.Struct, rename="pascal"):
    results: list[_Part] = []


def read_report(bucket: str, key: str, read: Read) -> Iterator[TaskResult] | None:
    """Every task of the report whose list is that object; None if there is no report (yet), or none to be understood.

    Tasks in a file that is gone or cannot be understood are left out: of their copies the archive itself is asked.
    """
    lines = read(bucket, key)
    if lines is None:
        return None
    try:
        listing = msgspec.json.decode("".join(lines)[:LISTING_MAX], type=_Listing)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return _rows(listing, read)


def _rows(listing: _Listing, read: Read) -> Iterator[TaskResult]:
    for part in listing.results:
        with suppress(csv.Error, ValueError):
            for row in csv.reader(read(part.bucket, part.key) or (), strict=True):
                yield _result(row)


def _result(row: list[str]) -> TaskResult:
    if len(row) < COLUMNS:
        raise ValueError(f"a row has {len(row)} columns, not {COLUMNS}")
    _, key, _, outcome, first, second, message = row[:COLUMNS]
    status, code = (first, second) if first.isdecimal() else (second, first)
    number = int(status) if status.isdecimal() and len(status) <= 3 else 0
    return TaskResult(key, outcome == SUCCEEDED, code, number, message)
