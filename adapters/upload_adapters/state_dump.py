"""Dumps of a client's state as CSV files in a directory."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upload_core.ports import StateDump
from upload_core.text import spreadsheet_cell

_NUMBERS_MAX: Final = 10_000
_NAME_MAX: Final = 120


class DirectoryStateDump:
    """Writes each dump to a new file of its own; what exists already, links included, is never touched."""

    def __init__(self, directory: str | os.PathLike[str] = ".") -> None:
        self._directory = Path(directory)

    def write(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        descriptor, path = self._create(name)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                writer.writerows(map(spreadsheet_cell, row) for row in rows)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)  # half a dump would be taken for the whole state
            raise
        return str(path)

    def _create(self, name: str) -> tuple[int, Path]:
        # A name is text from outside as well: only what cannot leave the directory stays.
        stem = re.sub(r"[^\w.+-]+", "_", name.removesuffix(".csv"))
        # A disk counts bytes, so a name of wide characters is cut earlier.
        stem = stem.encode()[:_NAME_MAX].decode("utf-8", "ignore").lstrip(".-") or "state"
        for number in range(1, _NUMBERS_MAX):
            path = self._directory / (f"{stem}.csv" if number == 1 else f"{stem}-{number}.csv")
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
                return os.open(path, flags, 0o600), path
            except FileExistsError:
                continue
        raise FileExistsError(f"{self._directory} holds {_NUMBERS_MAX} dumps called {stem}; remove some")


if TYPE_CHECKING:
    _dump: type[StateDump] = DirectoryStateDump
