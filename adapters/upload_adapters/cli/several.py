"""Several journals seen as one: what parts of a split delivery must not have in common."""

from __future__ import annotations

from collections.abc import Sequence

from upload_adapters.cli.output import files
from upload_core.files import FileTable
from upload_core.text import printable


def said_of_shared(tables: Sequence[FileTable]) -> str | None:
    """A line about files that are in more than one of these indexes; None if they are disjoint.

    Each path of a table is looked up in those after it.
    """
    count, example = 0, ""
    for number, table in enumerate(tables):
        earlier, later = tables[:number], tables[number + 1 :]
        for path in table.paths() if later else ():
            if _is_in(path, later) and not _is_in(path, earlier):
                count += 1
                example = example or path
    if not count:
        return None
    are = "file is" if count == 1 else "files are"
    return (
        f"{files(count).rpartition(' ')[0]} {are} in more than one of these indexes, such as {printable(example, 300)}"
    )


def _is_in(path: str, tables: Sequence[FileTable]) -> bool:
    return any(table.find(path) is not None for table in tables)
