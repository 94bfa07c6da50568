"""From a data frame to a file table: the default `Ports.index`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from upload_adapters.frames import columns_of
from upload_core.files import FileTable
from upload_core.index_check import checked_table
from upload_core.ports import Source

ONE_BY_ONE_MAX: Final = 10
"""Of more files a remote source is asked by listing them."""


@runtime_checkable
class ListedSource(Protocol):
    """A source that tells of many files at once more cheaply than of each by itself."""

    def listed(self, relpaths: Sequence[str | None]) -> Source:
        """A view of the source whose sizes are those of now."""


def build_table(
    file_index: object, source: Source, *, allow_case_duplicates: bool = False, strict_wire: bool = False
) -> FileTable:
    """The file table of any data frame; every row obeys the rules and names a file of `source`, of the size indexed.

    Raises `ConfigurationError` for a frame that is no index, `IndexProblemsError` with every problem of its rows.
    """
    columns = columns_of(file_index)
    if len(columns.paths) > ONE_BY_ONE_MAX and isinstance(source, ListedSource):
        source = source.listed(columns.paths)
    return checked_table(columns, source, allow_case_duplicates=allow_case_duplicates, strict_wire=strict_wire)
