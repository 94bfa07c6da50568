"""Arrow columns as index columns: texts as joined lines and numbers from their buffer, without an object for each cell.

pyarrow is imported by whoever has an Arrow column already.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

from upload_core.columns import CHUNK_ROWS, TextColumn


def is_loaded() -> bool:
    """Whether pyarrow was imported: the figures here do not pay for its import."""
    return "pyarrow" in sys.modules


def texts_of(column: Any) -> Sequence[str | None]:
    """The cells of an Arrow array of text, joined where none is missing and none holds LF, else one by one.

    Raises `UnicodeDecodeError` for bytes that are not UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == 0 and len(column):
        try:
            texts = _in_one(pa, column.cast(pa.string()))
            starts = pa.array([*range(0, len(texts), CHUNK_ROWS), len(texts)], pa.int32())
            chunks = pc.binary_join(pa.ListArray.from_arrays(starts, texts), "\n").to_pylist()
            joined = TextColumn([chunk + "\n" for chunk in chunks])
            if len(joined) == len(texts):
                return joined
        except (pa.ArrowException, UnicodeDecodeError, ValueError):
            pass  # more than 2 GiB, or something that is better said of a single cell
    cells: list[str | None] = column.to_pylist()
    return cells


def numbers_of(column: Any) -> Sequence[int | float | None]:
    """The cells of an Arrow array of numbers."""
    import pyarrow as pa

    if column.null_count == 0 and pa.types.is_integer(column.type) and len(column):
        try:
            numbers = _in_one(pa, column.cast(pa.int64()))
        except pa.ArrowException:
            pass  # beyond what a file's size can be: for the index check to refuse
        else:
            return array(
                "q", memoryview(numbers.buffers()[1])[8 * numbers.offset :][: 8 * len(numbers)].tobytes()
            ).tolist()
    cells: list[int | float | None] = column.to_pylist()
    return cells


def _in_one(pa: Any, column: Any) -> Any:
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
