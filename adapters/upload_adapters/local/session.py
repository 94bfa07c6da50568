"""What a validator has to know of one session, and the rules by which the archive's own ends it.

Touches nothing: rows of the client's log go in, paths to judge and counts come out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from upload_core.checksum import parse_checksum
from upload_core.events import OK
from upload_core.validation import Entry, MalformedLine
from upload_core.wire import IndexRow

FAILURE: Final = "failure"
ERROR: Final = "error"


class SessionBrokenError(Exception):
    """The client broke a rule that the archive's validator does not survive."""


class Session:
    """The expected files of one run and what has become of them."""

    def __init__(self, index: Iterable[IndexRow]) -> None:
        """Raises `ValueError` for an index that the archive's validator could not work with."""
        # One dict for everything: a path's CRC32 (-1: unknown), then `None` once it was reported.
        self._expected: dict[str, int | None] = {}
        for row in index:
            if row.path in self._expected:
                raise ValueError(f"the index names {row.path!r} twice")
            if row.will_transfer:
                self._expected[row.path] = -1 if row.checksum is None else parse_checksum(row.checksum)
        self.verdicts: Counter[str] = Counter()
        self.stopping = False

    @property
    def done(self) -> int:
        """Files judged so far."""
        return self.verdicts.total()

    @property
    def progress(self) -> str:
        """The message of a keepalive row."""
        return f"{self.done} / {len(self._expected)}"

    def take(self, entries: Iterable[Entry | MalformedLine]) -> list[tuple[str, int]]:
        """The files that these rows of the client's log give us to judge, each with its CRC32 (-1: unknown).

        Raises `SessionBrokenError` at the first row that ends the session.
        """
        to_judge: list[tuple[str, int]] = []
        stops = 0
        for entry in entries:
            if isinstance(entry, MalformedLine):
                raise SessionBrokenError(f"byte {entry.offset} of the client's log: {entry.reason}: {entry.text!r}")
            if entry.category == "stop":
                stops += 1
                if stops > 1 or self.stopping:
                    raise SessionBrokenError("more than one stop row")
            elif entry.category == "transfer":
                to_judge += self._transfer(entry)
        self.stopping = self.stopping or stops > 0
        return to_judge

    def _transfer(self, entry: Entry) -> list[tuple[str, int]]:
        path = entry.ref
        if path not in self._expected:
            raise SessionBrokenError(f"a transfer row for {path!r}, which this session does not expect")
        if self.done == len(self._expected):
            raise SessionBrokenError(f"a transfer row for {path!r} after all expected files are done")
        if entry.status != OK:
            return []  # a failed try; another may follow
        crc = self._expected[path]
        if crc is None:
            raise SessionBrokenError(f"{path!r} was reported twice")
        self._expected[path] = None
        return [(path, crc)]

    def settle(self, verdict: str) -> None:
        """Count one verdict."""
        self.verdicts[verdict] += 1

    def status(self) -> str:
        """The status of the shutdown row."""
        if self.verdicts[ERROR]:
            return ERROR
        return OK if self.verdicts[OK] == len(self._expected) else FAILURE

    def summary(self, reason: str = "") -> str:
        """The message of the shutdown row."""
        counts = {name: self.verdicts[name] for name in (OK, FAILURE, ERROR)}
        return as_yaml({**({"reason": reason} if reason else {}), "expected": len(self._expected), **counts})


def problems_text(problems: Sequence[str]) -> str:
    """The message of a file that is not as it should be."""
    return as_yaml({"problems": problems})


def as_yaml(values: dict[str, object]) -> str:
    """A flat YAML mapping of scalars and lists of them; JSON's quoting is YAML's."""
    lines = []
    for name, value in values.items():
        if isinstance(value, (list, tuple)):
            lines += [f"{name}:", *(f"- {json.dumps(item, ensure_ascii=False)}" for item in value)]
        else:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)
