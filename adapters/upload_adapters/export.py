"""A journal's records as one table, for programs that read tables: Parquet, CSV, or lines of JSON.

One row per record: number, time, kind, and every field that any kind of event has, empty where this kind has none.
The path of a file stands beside its number, so nobody needs the file table.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.files import FileTable
from upload_core.journal import Record
from upload_core.text import printable

if TYPE_CHECKING:
    import pyarrow

ROWS_PER_PIECE: Final = 50_000
"""Rows held in memory at a time."""

FIELDS: Final[Mapping[str, type]] = {
    "seq": int,
    "time": str,
    "kind": str,
    "file": int,
    "relpath": str,
    **{
        field.name: field.type if field.type in (int, str) else str
        for kind in ev.EVENTS
        for field in msgspec.structs.fields(kind)
        if field.name != "file"
    },
}
"""Column -> type of its cells. What is neither number nor text (settings, say) is JSON."""

_FORMULA: Final = tuple("=+-@\t\r")


def rows_of(records: Iterable[Record], table: FileTable) -> Iterator[dict[str, Any]]:
    """A row for each record, with the columns that it has."""
    for record in records:
        event = record.event
        row: dict[str, Any] = {"seq": record.seq, "time": record.time, "kind": type(event).__name__}
        for name in event.__struct_fields__:
            value = getattr(event, name)
            row[name] = value if isinstance(value, int | str) else json.dumps(value, sort_keys=True)
        if isinstance(event, ev.FileEvent):
            row["relpath"] = table.path(event.file)
        yield row


def export(journal: Path, destination: Path) -> int:
    """Write the journal's records to a new file of the kind that its suffix names; returns how many there are.

    Raises `ConfigurationError` for another suffix, a file that is there already, or a library that is missing.
    """
    write = WRITERS.get(destination.suffix.lower())
    if write is None:
        raise ConfigurationError(
            f"{printable(str(destination), 300)} must end in one of {', '.join(WRITERS)}: that says what it becomes"
        )
    reader = JournalReader(journal, snapshots=False)
    if not reader.exists():
        raise ConfigurationError(
            f"there is no journal at {printable(str(journal), 300)}; name the one that deliver used"
        )
    reader.advance()  # all revisions of the index: a record may name a file that was added later
    counted = itertools.count()
    rows = (row for row, _ in zip(rows_of(reader.records(), reader.delivery.table), counted, strict=False))
    try:
        with destination.open("xb") as file:
            try:
                write(rows, file)
            except BaseException:
                destination.unlink()
                raise
    except FileExistsError:
        raise ConfigurationError(
            f"{printable(str(destination), 300)} exists; name another file, or take it away first"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{printable(str(destination), 300)} cannot be written: {error.strerror}") from error
    return next(counted)


def _write_lines(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    for row in rows:
        file.write(json.dumps(row).encode() + b"\n")


def _write_csv(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    import io

    text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _safe(value) for name, value in row.items()})
    text.flush()
    text.detach()


def _safe(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _write_parquet(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'upload-core[parquet]', or export as .csv"
        ) from None
    schema = pa.schema(
        [
            (name, pa.timestamp("ms", "UTC") if name == "time" else pa.int64() if cell is int else pa.string())
            for name, cell in FIELDS.items()
        ]
    )
    remaining = iter(rows)
    with parquet.ParquetWriter(file, schema) as writer:
        while piece := list(itertools.islice(remaining, ROWS_PER_PIECE)):
            writer.write_table(_arrow_table(piece, schema))


def _arrow_table(rows: list[dict[str, Any]], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow as pa

    columns = {name: [row.get(name) for row in rows] for name in FIELDS}
    columns["time"] = [datetime.fromisoformat(row["time"]).astimezone(UTC) for row in rows]
    return pa.table({name: pa.array(cells, schema.field(name).type) for name, cells in columns.items()}, schema=schema)


WRITERS: Final[Mapping[str, Callable[[Iterable[dict[str, Any]], IO[bytes]], None]]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".ndjson": _write_lines,
}
"""Suffix of the file -> what writes it."""
