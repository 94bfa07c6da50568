"""Parts of a split delivery: what is in more than one of their indexes is said, once."""

from pathlib import Path

import pytest

from tests.command_line import Desk
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


@pytest.fixture
def two(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path, count=2)
    desk.index()
    for delivery in ("1", "2"):
        assert desk.run(*desk.deliver, "--delivery-id", delivery, "-q").returncode == 0
    return desk


def test_all_that_lies_beside_an_index_may_be_named_and_the_journals_are_shown(two):
    (two.root / ".upload-core" / "notes.txt").touch()
    inside = sorted(str(path.relative_to(two.root)) for path in (two.root / ".upload-core").iterdir())
    assert ".upload-core/index.csv.checksums" in inside
    for command in (["status"], ["report"]):
        done = two.run(*command, *inside)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ".upload-core/notes.txt is no journal and is left out\n"
    assert "in all, 2 journals" in two.run("status", *inside).stdout


def test_a_directory_of_journals_stands_for_them(two):
    assert "in all, 2 journals" in two.run("status", ".upload-core").stdout


def test_a_place_that_does_not_exist_is_refused_also_beside_journals(two):
    for places in ([".upload-core", "nowhere"], ["data"], ["nowhere"]):
        done = two.run("status", *places)
        assert done.returncode == 2
        assert f"there is no journal at {places[-1]}" in done.stderr
