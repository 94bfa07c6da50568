"""Texts that are kept and judged as joined lines: whatever they hold, the answer is that of each text by itself."""

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upload_adapters.frames import columns_of
from upload_core import columns as columns_module
from upload_core import files, index_check
from upload_core.columns import TextColumn
from upload_core.files import FileTable
from upload_core.index_check import IndexColumns, check_columns, fold, parse_size, path_problems


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Three rows to a chunk, so that a few rows are several."""
    for module in (columns_module, files, index_check):
        monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    monkeypatch.setattr("upload_adapters.arrow_columns.CHUNK_ROWS", 3)


ALPHABET = st.sampled_from(
    [*"aAbB/\\.:~%=- \t\r\n\0\x7f\x85", "\u00e9", "\u0301", "\u0130", "\u2028", "\U0001f600", "\ud800"]
)
AWKWARD = st.sampled_from(
    [
        ".",
        "..",
        "a/..",
        "../a",
        "a//b",
        "a/",
        "/a",
        "C:a",
        "c:/a",
        ".a",
        "a/.b",
        "a.",
        "NA",
        "//u",
        "\\\\u",
        "a\\..\\b",
        "Ab",
        "aB",
        "~",
    ]
) | st.sampled_from(["", "x" * 256, "x" * 257, "\u00e9" * 512, "\u00e9" * 513, "a\nb", "a\r\nb", "a\0b", "\x1f"])
TEXTS = AWKWARD | st.text(ALPHABET, max_size=8) | st.from_regex(r"[a-c]{1,3}(/[a-c]{1,2}){0,2}", fullmatch=True)
CHECKSUMS = st.sampled_from(["yH2GHg==", "AAAAAA==", "AAAAAB==", "", "yH2GHg", "yH2GHg==\nyH2GHg==", "\u00e9H2GHg=="])
SIZES = st.sampled_from([0, 1, 4096, 2**63 - 1, 2**63, -1])
ROWS = st.lists(st.tuples(TEXTS, CHECKSUMS, SIZES), max_size=11)
CLEAN_ROWS = st.lists(
    st.tuples(
        st.from_regex(r"[a-z\u00e9]{1,4}(/[a-z.]{1,3}[a-z]){0,2}", fullmatch=True),
        st.just("yH2GHg=="),
        st.integers(0, 2**40),
    ),
    max_size=11,
    unique_by=lambda row: fold(row[0]),
)


def columns(rows) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]


def one_by_one(paths, checksums, sizes) -> list[tuple[int, str]]:
    """Row and rule of each problem, found without ever looking at two cells at once."""
    found, exact, folded = [], set(), set()
    for row, (path, checksum, size) in enumerate(zip(paths, checksums, sizes, strict=True), 1):
        found += [(row, rule.name) for rule in path_problems(path)]
        if path in exact:
            found.append((row, "duplicate"))
        elif path and fold(path) in folded:
            found.append((row, "duplicate-by-form"))
        if path:
            exact.add(path)
            folded.add(fold(path))
        if checksum not in ("", "yH2GHg==", "AAAAAA=="):
            found.append((row, "checksum"))
        try:
            parse_size(size)
        except ValueError:
            found.append((row, "size"))
    return found


def judged(index: IndexColumns) -> list[tuple[int, str]]:
    return [(problem.row, problem.rule) for problem in check_columns(index)]


@given(ROWS)
@example([("a\nb", "yH2GHg==", 1), ("c", "yH2GHg==", 1)])
def test_rows_in_company_are_judged_as_each_alone(rows):
    paths, checksums, sizes = columns(rows)
    assert judged(IndexColumns(paths, checksums, sizes)) == one_by_one(paths, checksums, sizes)


@given(ROWS)
def test_joined_texts_have_the_problems_of_single_ones_word_for_word(rows):
    paths, checksums, sizes = columns(rows)
    single = check_columns(IndexColumns(paths, checksums, sizes), strict_wire=True)
    try:
        joined = IndexColumns(TextColumn.of(paths), TextColumn.of(checksums), sizes)
    except ValueError:
        assert any("\n" in text for text in paths + checksums)
        return
    assert check_columns(joined, strict_wire=True) == single
    assert check_columns(joined, allow_case_duplicates=True) == check_columns(
        IndexColumns(paths, checksums, sizes), allow_case_duplicates=True
    )


FRAMES = {
    "pandas": pd.DataFrame,
    "pandas objects": lambda cells: pd.DataFrame(cells, dtype=object),
    "pandas arrow": lambda cells: pa.table(cells).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "pyarrow in chunks": lambda cells: pa.concat_tables([pa.table(cells).slice(0, 2), pa.table(cells).slice(2)]),
    "a mapping of columns": dict,
}


@pytest.mark.parametrize("kind", FRAMES)
@given(rows=ROWS)
def test_every_kind_of_frame_has_the_problems_of_its_single_cells(kind, rows):
    if kind != "pandas objects":
        rows = [row for row in rows if row[0].isprintable() or "\ud800" not in row[0]]
    if kind not in ("pandas objects", "a mapping of columns"):  # these hold whole numbers of any size
        rows = [row for row in rows if row[2] < 2**63]
    paths, checksums, sizes = columns(rows)
    found = columns_of(FRAMES[kind]({"path": paths, "checksum": checksums, "size": sizes}))
    assert list(found.paths) == paths
    assert judged(found) == one_by_one(paths, checksums, sizes)


@given(CLEAN_ROWS, st.booleans())
def test_joined_and_single_texts_make_the_same_table(rows, with_checksums):
    paths, checksums, sizes = columns(rows)
    single = FileTable.from_columns(paths, sizes, checksums if with_checksums else None)
    joined = FileTable.from_columns(TextColumn.of(paths), sizes, TextColumn.of(checksums) if with_checksums else None)
    assert joined == single
    assert joined.digest == single.digest
    assert list(joined.paths()) == paths


@given(st.lists(st.text(ALPHABET.filter(lambda c: c != "\ud800"), max_size=5), max_size=9))
def test_a_table_of_joined_texts_refuses_what_one_of_single_texts_refuses(paths):
    if any("\n" in path for path in paths):
        return
    sizes = [1] * len(paths)
    try:
        single = FileTable.from_columns(paths, sizes)
    except ValueError:
        with pytest.raises(ValueError, match="NUL"):
            FileTable.from_columns(TextColumn.of(paths), sizes)
    else:
        joined = FileTable.from_columns(TextColumn.of(paths), sizes)
        assert joined == single
        assert [joined.path(row) for row in range(len(paths))] == paths


@pytest.mark.parametrize(
    ("sizes", "checksums"),
    [
        ([1], None),
        ([1, 2, 3, 4, 5], None),
        ([1, 2, 3, -4], None),
        ([1] * 4, ["yH2GHg=="] * 3),
        ([1] * 4, ["yH2GHg=="] * 3 + ["x"]),
    ],
)
def test_columns_that_do_not_fit_or_hold_a_wrong_cell_are_refused(sizes, checksums):
    with pytest.raises(ValueError, match=r"length|negative|base64"):
        FileTable.from_columns(TextColumn.of(["a", "b", "c", "d"]), sizes, checksums and TextColumn.of(checksums))


@given(st.lists(st.text(ALPHABET.filter(lambda c: c != "\n"), max_size=4), max_size=10), st.data())
def test_it_is_a_sequence_like_any_other(texts, data):
    column = TextColumn.of(texts)
    assert (len(column), list(column), column == texts) == (len(texts), texts, True)
    assert column.holds_empty == ("" in texts)
    place = data.draw(st.slices(len(texts)))
    assert list(column[place]) == texts[place]
    for row in range(-len(texts), len(texts)):
        assert column[row] == texts[row]
    with pytest.raises(IndexError):
        column[len(texts)]


@pytest.mark.parametrize("chunks", [["a"], ["a\n", "b\n"], ["a\nb\nc\nd\n"], ["a\nb\nc\n", "d"]])
def test_chunks_of_another_form_are_refused(chunks):
    with pytest.raises(ValueError, match="chunks"):
        TextColumn(chunks)
