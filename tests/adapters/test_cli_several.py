"""Parts of a split delivery: what is in more than one of their indexes is said, once."""

import pytest

from upload_adapters.cli.several import said_of_shared
from upload_core.files import FileTable


def table(*paths):
    return FileTable.from_columns(list(paths), [1] * len(paths))


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([], None),
        ([table("a", "b")], None),
        ([table("a", "b"), table("c"), table()], None),
        (
            [table("a", "b"), table("b", "c")],
            "1 file is in more than one of these indexes, such as b",
        ),
        (
            [table("a", "b"), table("b", "c"), table("c", "b", "d")],
            "2 files are in more than one of these indexes, such as b",
        ),
        ([table("x\x1b[31m"), table("x\x1b[31m")], "1 file is in more than one of these indexes, such as x\\x1b[31m"),
    ],
)
def test_a_file_in_more_than_one_index_is_counted_once_and_named(tables, said):
    assert said_of_shared(tables) == said
