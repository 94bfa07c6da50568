"""An index as a file, CSV or Parquet: read byte-exact and in a stream, written whole or not at all.

Reading judges only the form (a header with `path`, the same number of fields in every row); what the cells say is for
the index check. No cell is ever taken for a number, a date or a missing value.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from upload_adapters.arrow_columns import numbers_of, texts_of
from upload_adapters.durable import write_durably
from upload_core.columns import CHUNK_ROWS, TextColumn, lines_of
from upload_core.errors import ConfigurationError, IndexProblemsError
from upload_core.index_check import IndexColumns, Problem
from upload_core.index_header import COLUMNS, refuse_near_miss
from upload_core.text import printable

_ROWS: Final = 10_000  # a batch: large enough that per-batch work does not count, a few MB at most
_HEADER_MAX: Final = 64 * 1024
"""Characters in which a header ends."""
_SUFFIXES_OF_PARQUET: Final = (".parquet", ".pq")


def read_index(path: str | os.PathLike[str]) -> IndexColumns:
    """The columns of an index file; whether it is Parquet or CSV is seen from its first bytes.

    Raises `ConfigurationError` for a file that is no index at all, `IndexProblemsError` for CSV rows with a wrong
    number of fields (such as an unquoted name with a comma).
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        return _read_parquet(path) if start == b"PAR1" else _read_csv(path)
    except OSError as error:
        raise ConfigurationError(f"the index {_shown(path)} cannot be read: {error.strerror or error}") from error


def write_index(path: str | os.PathLike[str], columns: IndexColumns) -> None:
    """Write the index, Parquet if the name ends in `.parquet`, else CSV; a reader sees the old file or the whole new one.

    Raises `OSError`, and `ConfigurationError` if pyarrow is needed and missing or a name holds CR, which readers of CSV
    take for the end of a line.
    """
    for path_cell in columns.paths:
        if path_cell is not None and "\r" in path_cell:
            raise ConfigurationError(f"an index cannot hold the name {printable(path_cell, 300)}; rename the file")
    cells: dict[str, Sequence[Any]] = {"path": columns.paths}
    if columns.sizes is not None:
        cells["size"] = columns.sizes
    if columns.checksums is not None:
        cells["checksum"] = columns.checksums
    if Path(path).suffix.lower() in _SUFFIXES_OF_PARQUET:
        pyarrow, parquet = _pyarrow()
        types = {"path": pyarrow.string(), "size": pyarrow.int64(), "checksum": pyarrow.string()}
        table = pyarrow.table({name: pyarrow.array(column, types[name]) for name, column in cells.items()})
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(table, sink)
        chunks: Iterable[bytes] = [sink.getvalue().to_pybytes()]
    else:
        chunks = _csv_lines(cells)
    write_durably(Path(path), chunks, mode=0o666)  # less the umask: an index is no secret


def is_index(path: str) -> bool:
    """Whether the file has the one column that an index must have; raises `OSError`."""
    if Path(path).suffix.lower() in _SUFFIXES_OF_PARQUET:
        pyarrow, parquet = _pyarrow()
        try:
            return "path" in parquet.read_schema(path).names
        except pyarrow.ArrowException:
            return False
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        line = file.readline(_HEADER_MAX)
    try:
        return "path" in next(csv.reader([line]), [])
    except csv.Error:
        return False


# --- CSV -----------------------------------------------------------------------------------------


def _read_csv(path: str | os.PathLike[str]) -> IndexColumns:
    # Bytes that are not UTF-8 become lone surrogates, which the index check names row by row.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            wanted = _places(header, path)
            columns = {name: _Growing() for name in wanted}
            uneven: list[Problem] = []
            first = 1
            while rows := list(islice(reader, _ROWS)):
                rows = [row for row in rows if row]  # an empty line is no row
                if set(map(len, rows)) - {len(header)}:
                    uneven.extend(_uneven(rows, first, header))
                for name, place in wanted.items():
                    columns[name].extend([row[place] if place < len(row) else "" for row in rows])
                first += len(rows)
        except csv.Error as error:
            raise ConfigurationError(f"the index {_shown(path)} is no CSV: line {reader.line_num}: {error}") from error
    if uneven:
        raise IndexProblemsError(uneven)
    whole = {name: column.whole() for name, column in columns.items()}
    return IndexColumns(whole["path"], whole.get("checksum"), whole.get("size"))


class _Growing:
    """A column of texts that grows; it is kept as joined lines, which take a fifth of the room, until a text holds LF."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._rest: list[str] = []
        self._joins = True

    def extend(self, texts: list[str]) -> None:
        """Append texts."""
        self._rest += texts
        while self._joins and len(self._rest) >= CHUNK_ROWS:
            chunk = lines_of(self._rest[:CHUNK_ROWS])
            if chunk.count("\n") != CHUNK_ROWS:
                self._joins = False
                break
            self._chunks.append(chunk)
            del self._rest[:CHUNK_ROWS]

    def whole(self) -> Sequence[str]:
        """All of them."""
        rest = lines_of(self._rest) if self._rest else ""
        if self._joins and rest.count("\n") == len(self._rest):
            return TextColumn([*self._chunks, rest] if rest else self._chunks)
        return [*TextColumn(self._chunks), *self._rest]


def _places(header: list[str], path: str | os.PathLike[str]) -> dict[str, int]:
    refuse_near_miss(header, f"the index {_shown(path)}")
    if "path" not in header:
        shown = printable(", ".join(map(repr, header)) or "nothing", 200)
        raise ConfigurationError(
            f"the index {_shown(path)} has no column 'path' in its first line, which holds {shown}; "
            "it must be comma-separated, with a header"
        )
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise ConfigurationError(f"the index {_shown(path)} has two columns '{twice[0]}'; remove one")
    return {name: header.index(name) for name in COLUMNS if name in header}


def _uneven(rows: list[list[str]], first: int, header: list[str]) -> Iterator[Problem]:
    for number, row in enumerate(rows, first):
        if len(row) != len(header):
            message = f"has {len(row)} fields, the header {len(header)}; put cells that hold commas in double quotes"
            yield Problem(number, ",".join(row), "fields", message)


class _Lines:
    """A file for `csv.writer` that keeps what it is given."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.write = self.pieces.append


def _csv_lines(cells: dict[str, Sequence[Any]]) -> Iterator[bytes]:
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(cells)
    rows = zip(*cells.values(), strict=True)
    while lines.pieces:
        yield "".join(lines.pieces).encode()
        lines.pieces.clear()
        writer.writerows(islice(rows, _ROWS))


# --- Parquet -------------------------------------------------------------------------------------


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigurationError(
            "an index in Parquet needs pyarrow: pip install 'upload-core[parquet]', or use CSV"
        ) from error
    return pyarrow, pyarrow.parquet


def _read_parquet(path: str | os.PathLike[str]) -> IndexColumns:
    pyarrow, parquet = _pyarrow()
    columns: dict[str, Sequence[Any]] = {}
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            wanted = _places(schema.names, path)
            for name in wanted:
                _refuse_wrong_type(pyarrow.types, name, schema.field(name).type, path)
            table = file.read(columns=list(wanted))
            for name in wanted:
                take = numbers_of if name == "size" else texts_of
                columns[name] = take(table.column(name))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the index {_shown(path)} is no readable Parquet file: {error}") from error
    return IndexColumns(columns["path"], columns.get("checksum"), columns.get("size"))


def _refuse_wrong_type(types: Any, name: str, kind: Any, path: str | os.PathLike[str]) -> None:
    while types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_number = types.is_integer(kind) or types.is_floating(kind)
    if not (is_text or types.is_null(kind) or (name == "size" and is_number)):
        raise ConfigurationError(
            f"the index {_shown(path)} has a column '{name}' of type {kind}; write it as "
            + ("a number" if name == "size" else "text, so that names such as 00123 and 1e5 stay what they are")
        )


def _shown(path: str | os.PathLike[str]) -> str:
    return printable(os.fspath(path), 300)
