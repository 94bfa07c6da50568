"""Both logs as a stranger reads them: rows by their bytes, with no help of the code that wrote or reads them in earnest."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

_ROW_START = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t[a-z]+\t")


class SeenRow(NamedTuple):
    """A row that has all its fields, and where it stands."""

    start: int
    end: int
    time_ms: int
    category: str
    ref: str
    status: str
    agent: str


def seen_rows(log: bytes) -> list[SeenRow]:
    """Every whole row; what is torn, or no row at all, is left out."""
    starts = [found.start() for found in _ROW_START.finditer(log)]
    return [row for start, stop in pairwise([*starts, len(log)]) for row in _row_at(log, start, stop)]


def _row_at(log: bytes, start: int, stop: int) -> Iterator[SeenRow]:
    end, quoted = start, False
    while end < stop:
        if log[end] == 0x22:
            quoted = not quoted
        elif log[end] == 0x0A and not quoted:
            break
        end += 1
    else:
        return
    try:
        text = log[start : end + 1].decode()
    except UnicodeDecodeError:
        return
    fields = next(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    if len(fields) == 6 and all(fields[:4]) and fields[5]:
        time_ms = round(datetime.fromisoformat(fields[0]).timestamp() * 1000)
        yield SeenRow(start, end + 1, time_ms, fields[1], fields[2], fields[3], fields[5])
