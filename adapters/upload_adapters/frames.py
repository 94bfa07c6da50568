"""Data frames as index columns: pandas, polars, pyarrow and plain Python, without importing any the caller has not.

Names arrive exactly as they stand in the frame. A frame whose paths are not text has lost them already (`00123` read
as the number 123), so it is refused rather than guessed at.
"""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from numbers import Number
from typing import TYPE_CHECKING, Any, Final

from upload_adapters import arrow_columns
from upload_core.columns import joined
from upload_core.errors import ConfigurationError
from upload_core.index_check import IndexColumns
from upload_core.index_header import COLUMNS, refuse_near_miss

if TYPE_CHECKING:
    import narwhals as nw

READ_AS_TEXT: Final = (
    "read the index with every cell as text, so that names such as NA, 00123 and 1e5 stay what they are: in pandas "
    "read_csv(..., dtype=str, keep_default_na=False), in polars read_csv(..., infer_schema=False)"
)


def columns_of(file_index: object) -> IndexColumns:
    """The columns `path` and, where they exist, `checksum` and `size` of any data frame; other columns are ignored.

    A frame is what narwhals reads (pandas, polars, pyarrow, ...), a mapping of columns, or a sequence of mappings.
    Raises `ConfigurationError` if there is no `path` column, or one that does not hold text.
    """
    if isinstance(file_index, IndexColumns):
        return file_index
    if isinstance(file_index, Mapping):
        return _of_columns(file_index)
    if isinstance(file_index, Sequence) and not isinstance(file_index, str | bytes):
        return _of_rows(file_index)
    return _of_frame(file_index)


LIBRARIES: Final = ("pandas", "polars", "pyarrow")


def frame_of(columns: Mapping[str, Sequence[Any]], library: str | None = None) -> Any:
    """A data frame of these columns, of that library; if None, of one that is imported already, or else installed.

    Raises `ConfigurationError` if it is none of `LIBRARIES`, or not installed.
    """
    if library is None:
        there = [name for name in LIBRARIES if name in sys.modules] or [
            n for n in LIBRARIES if find_spec(n) is not None
        ]
        if not there:
            raise ConfigurationError(
                "there is no library for data frames here: pip install pandas (or polars, pyarrow)"
            )
        library = there[0]
    if library not in LIBRARIES:
        raise ConfigurationError(f"{library!r} is no library for data frames known here; name {', '.join(LIBRARIES)}")
    try:
        module = importlib.import_module(library)
    except ImportError as error:
        raise ConfigurationError(f"{library} is not installed: pip install {library}") from error
    return module.table(dict(columns)) if library == "pyarrow" else module.DataFrame(dict(columns))


def _of_frame(file_index: object) -> IndexColumns:
    import narwhals as nw

    try:
        frame: Any = nw.from_native(file_index)
    except TypeError as error:
        kind = type(file_index).__qualname__
        raise ConfigurationError(f"a {kind} is not a data frame with the columns of an index") from error
    except Exception as error:  # each library has its own error for, say, two columns of one name
        raise ConfigurationError(f"the index cannot be read: {error}") from error
    names = frame.collect_schema().names()
    _refuse_wrong_names(names)
    frame = frame.select([name for name in COLUMNS if name in names])
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    return IndexColumns(
        paths=_texts(frame["path"], "path"),
        checksums=_texts(frame["checksum"], "checksum") if "checksum" in names else None,
        sizes=_sizes(frame["size"]) if "size" in names else None,
    )


def _texts(series: nw.Series[Any], name: str) -> Sequence[str | None]:
    import narwhals as nw

    if len(series) == series.null_count():  # an empty or all-empty column has whatever type its library likes
        return [None] * len(series)
    dtype = series.dtype
    if dtype not in (nw.String, nw.Object, nw.Categorical, nw.Enum):
        raise _not_text(name, str(dtype))
    if dtype == nw.String and arrow_columns.is_loaded():
        # Python's strings can hold what is no Unicode (names on disk that are not UTF-8); Arrow's cannot.
        with contextlib.suppress(UnicodeEncodeError):
            return arrow_columns.texts_of(series.to_arrow())
    cells = series.to_list()
    if series.null_count():
        empty = series.is_null().to_list()
        cells = [None if missing else cell for cell, missing in zip(cells, empty, strict=True)]
    return _texts_of(cells, name)


def _sizes(series: nw.Series[Any]) -> Sequence[int | float | str | None]:
    if series.dtype.is_integer() and arrow_columns.is_loaded():
        return arrow_columns.numbers_of(series.to_arrow())
    cells = series.to_list()
    if series.null_count():
        empty = series.is_null().to_list()
        cells = [None if missing else cell for cell, missing in zip(cells, empty, strict=True)]
    return _numbers_of(cells)


def _of_columns(columns: Mapping[Any, Any]) -> IndexColumns:
    _refuse_wrong_names(list(columns))
    checksums, sizes = columns.get("checksum"), columns.get("size")
    return IndexColumns(
        paths=_texts_of(list(columns["path"]), "path"),
        checksums=None if checksums is None else _texts_of(list(checksums), "checksum"),
        sizes=None if sizes is None else _numbers_of(list(sizes)),
    )


def _of_rows(rows: Sequence[Any]) -> IndexColumns:
    if not all(isinstance(row, Mapping) for row in rows):
        raise ConfigurationError("an index given as a sequence must hold a mapping with a 'path' for each file")
    names = {name for row in rows for name in row}
    if rows:
        _refuse_wrong_names(list(names))
    return IndexColumns(
        paths=_texts_of([row.get("path") for row in rows], "path"),
        checksums=_texts_of([row.get("checksum") for row in rows], "checksum") if "checksum" in names else None,
        sizes=_numbers_of([row.get("size") for row in rows]) if "size" in names else None,
    )


def _texts_of(cells: list[Any], name: str) -> Sequence[str | None]:
    """The cells, if they are texts and empty cells; a float NaN is an empty cell."""
    kinds = set(map(type, cells))
    if kinds == {str}:
        return joined(cells)
    if kinds <= {str, type(None)}:
        return cells
    exact: list[str | None] = []
    for row, cell in enumerate(cells, 1):
        if isinstance(cell, str):
            exact.append(str(cell))  # a str of a library's own, such as numpy's
        elif _is_missing(cell):
            exact.append(None)
        else:
            raise _not_text(name, f"{type(cell).__name__} in row {row}")
    return exact


def _is_missing(cell: Any) -> bool:
    """True for None, a NaN, and what pandas puts in place of them; its NA is neither equal to itself nor unequal."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, Number) and bool(cell != cell)


def _numbers_of(cells: list[Any]) -> Sequence[int | float | str | None]:
    """The cells with every kind of whole number as an int; what is none is left for the index check to refuse."""
    if set(map(type, cells)) <= {int, type(None)}:
        return cells
    return [
        cell
        if cell is None or isinstance(cell, bool | int | float | str)
        else operator.index(cell)
        if hasattr(cell, "__index__")
        else str(cell)
        for cell in cells
    ]


def _refuse_wrong_names(names: Sequence[Any]) -> None:
    refuse_near_miss(names, "the index")
    if "path" not in names:
        shown = ", ".join(sorted(map(repr, names))) or "none"
        raise ConfigurationError(f"the index has no column 'path'; it has {shown}")


def _not_text(name: str, kind: str) -> ConfigurationError:
    return ConfigurationError(f"the index's column '{name}' does not hold text ({kind}); {READ_AS_TEXT}")
