"""Whatever kind of data frame an index comes in, its names arrive exactly as they stand there."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_adapters.frames import columns_of
from upload_adapters.indexing import build_table
from upload_adapters.source_directory import DirectorySource
from upload_core.errors import ConfigurationError, IndexProblemsError
from upload_core.files import FileTable
from upload_core.index_check import IndexColumns, check_columns

ODD_NAMES = ["NA", "null", "nan", "00123", "1e5", "True", "", " a ", "é", "e\u0301", "2026-01-01", "a,b", "-", "1_0"]
CHECKSUM = "yH2GHg=="


def rows_of(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


KINDS = {
    "pandas": pd.DataFrame,
    "pandas objects": lambda columns: pd.DataFrame(columns, dtype=object),
    "pandas strings": lambda columns: pd.DataFrame({"path": pd.array(columns["path"], dtype="string")} | columns),
    "pandas arrow": lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "pandas categories": lambda columns: pd.DataFrame(columns).astype({"path": "category"}),
    "polars": pl.DataFrame,
    "polars lazy": pl.LazyFrame,
    "polars categories": lambda columns: pl.DataFrame(columns).with_columns(pl.col("path").cast(pl.Categorical)),
    "pyarrow": pa.table,
    "a mapping of columns": dict,
    "a list of rows": rows_of,
}


@pytest.fixture(params=list(KINDS))
def make(request):
    return KINDS[request.param]


def test_names_arrive_byte_exact(make):
    assert list(columns_of(make({"path": ODD_NAMES})).paths) == ODD_NAMES


def test_checksums_and_sizes_arrive_and_other_columns_do_not(make):
    columns = columns_of(
        make({"note": ["x", "y"], "path": ["a", "b"], "checksum": [CHECKSUM, None], "size": [4096, 2**53 + 1]})
    )
    assert columns == IndexColumns(["a", "b"], [CHECKSUM, None], [4096, 2**53 + 1])
    assert all(type(size) is int for size in columns.sizes or ())


def test_absent_columns_are_none(make):
    assert columns_of(make({"path": ["a"]})) == IndexColumns(["a"], None, None)


def test_an_empty_cell_of_sizes_stays_empty(make):
    columns = columns_of(make({"path": ["a", "b"], "size": [4096, None]}))
    assert check_columns(columns) == []
    assert columns.sizes is not None
    assert columns.sizes[0] == 4096
    assert columns.sizes[1] is None or columns.sizes[1] != columns.sizes[1]


def test_an_empty_cell_of_paths_is_left_to_the_index_check(make):
    columns = columns_of(make({"path": ["a", None]}))
    assert [(problem.row, problem.rule) for problem in check_columns(columns)] == [(2, "no-path")]


def test_an_index_without_rows_is_read(make):
    assert len(columns_of(make({"path": []})).paths) == 0


def test_paths_that_were_read_as_numbers_are_refused_with_the_remedy(make):
    if make is KINDS["polars categories"] or make is KINDS["pandas strings"]:
        pytest.skip("this library turns the numbers into text before we see them")
    with pytest.raises(ConfigurationError, match=r"does not hold text.*keep_default_na=False"):
        columns_of(make({"path": [123, 5]}))


@pytest.mark.parametrize("name", ["Size", " checksum"])
def test_a_column_that_is_none_by_its_blanks_or_capitals_is_refused(make, name):
    with pytest.raises(ConfigurationError, match=f"column '{name}'; write it as"):
        columns_of(make({"path": ["a"], name: ["7"]}))


def test_what_pandas_puts_for_a_missing_cell_is_one_in_any_container():
    sums = pd.Series([CHECKSUM, None], dtype="string")
    for cells in (sums, list(sums), [CHECKSUM, pd.NaT], [CHECKSUM, float("nan")], [CHECKSUM, np.float32("nan")]):
        columns = columns_of({"path": ["a", "b"], "checksum": cells})
        assert columns.checksums is not None
        assert list(columns.checksums) == [CHECKSUM, None]


def test_an_index_without_a_path_column_names_the_columns_it_has(make):
    if make in (KINDS["pandas strings"], KINDS["pandas categories"], KINDS["polars categories"]):
        pytest.skip("this kind of frame is made by its path column")
    with pytest.raises(ConfigurationError, match="no column 'path'; it has 'file'"):
        columns_of(make({"file": ["a"]}))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=10))
def test_any_text_survives_every_kind_of_frame(names):
    for frame in (pl.DataFrame({"path": names}), pa.table({"path": names}), pd.DataFrame({"path": names})):
        assert list(columns_of(frame).paths) == names


def test_a_csv_that_pandas_reads_with_its_defaults_is_refused_and_read_as_text_is_taken():
    text = "path,size\n00123,1\n456,2\n"
    with pytest.raises(ConfigurationError, match="dtype=str"):
        columns_of(pd.read_csv(io.StringIO(text)))
    columns = columns_of(pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False))
    assert list(columns.paths) == ["00123", "456"]
    assert check_columns(columns) == []


def test_a_name_that_pandas_took_for_missing_is_noticed():
    columns = columns_of(pd.read_csv(io.StringIO("path\na\nNA\n")))
    assert "NA" in str(check_columns(columns)[0])


def test_one_number_among_texts_is_refused_with_its_row():
    with pytest.raises(ConfigurationError, match="int in row 2"):
        columns_of(pd.DataFrame({"path": ["a", 5]}, dtype=object))


@pytest.mark.parametrize("wrong", [5, "a,b", None, b"path", object(), [1, 2], ["a"], pd.Series(["a"])])
def test_what_is_no_frame_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        columns_of(wrong)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(ConfigurationError):
        columns_of(pd.DataFrame([["a", "b"]], columns=["path", "path"]))


def test_columns_that_were_read_already_pass_through():
    columns = IndexColumns(["a"])
    assert columns_of(columns) is columns


def test_sizes_of_every_numeric_type_are_whole_numbers():
    for dtype in ("int8", "uint64", "Int64", "float64", "int64[pyarrow]", object, str):
        columns = columns_of(pd.DataFrame({"path": ["a"], "size": pd.Series([100]).astype(dtype)}))
        assert check_columns(columns) == [], dtype


def test_reading_a_frame_imports_no_library_that_the_caller_has_not():
    code = (
        "import sys, polars as pl; from upload_adapters.frames import columns_of;"
        "columns_of(pl.DataFrame({'path': ['a']})); columns_of([{'path': 'a'}]);"
        "print(*sorted({'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=path_env())
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def path_env():
    import os

    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# ── to a table ───────────────────────────────────────────────────────────────────────────────────


def test_a_frame_and_a_directory_become_a_table(tmp_path, make):
    (tmp_path / "NA").write_bytes(b"1234")
    (tmp_path / "00123").write_bytes(b"")
    frame = make({"path": ["NA", "00123"], "checksum": [CHECKSUM, None]})
    with DirectorySource(tmp_path) as source:
        assert build_table(frame, source) == FileTable.from_columns(["NA", "00123"], [4, 0], [CHECKSUM, None])


def test_every_problem_of_rules_and_disk_comes_in_row_order(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    frame = pl.DataFrame(
        {
            "path": ["gone", "a", "../a", "out", "A", "folder", "b\n"],
            "size": [1, 5, 1, 1, 1, 1, 1],
        }
    )
    with DirectorySource(tmp_path) as source, pytest.raises(IndexProblemsError) as caught:
        build_table(frame, source)
    assert [(problem.row, problem.rule) for problem in caught.value.problems] == [
        (1, "missing"),
        (2, "size-differs"),
        (3, "traversal"),
        (4, "source"),
        (5, "duplicate-by-form"),
        (6, "source"),
        (7, "control-character"),
    ]
