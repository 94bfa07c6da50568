"""An index file is read as it stands, and written whole or not at all."""

import os
import stat
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upload_adapters.index_file import read_index, write_index
from upload_core.errors import ConfigurationError, IndexProblemsError
from upload_core.index_check import IndexColumns, check_columns

CHECKSUM = "yH2GHg=="
NAMES = ["NA", "null", "00123", "1e5", "a,b", 'a"b', '"', " a ", "é", "e\u0301", "\u2028", "=1+1", "#x", "a\\b", "'"]


@pytest.fixture
def read(tmp_path):
    def read(data: bytes) -> IndexColumns:
        (tmp_path / "index.csv").write_bytes(data)
        return read_index(tmp_path / "index.csv")

    return read


@pytest.mark.parametrize("name", ["index.csv", "index.parquet", "index.PQ", "index"])
def test_what_was_written_is_read_again(tmp_path, name):
    columns = IndexColumns(NAMES, [CHECKSUM] * len(NAMES), list(range(len(NAMES))))
    write_index(tmp_path / name, columns)
    again = read_index(tmp_path / name)
    assert list(again.paths) == NAMES
    assert list(again.checksums or ()) == [CHECKSUM] * len(NAMES)
    assert [int(size or 0) for size in again.sizes or ()] == list(range(len(NAMES)))
    assert os.listdir(tmp_path) == [name]


@given(
    paths=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1), max_size=20)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_survives_a_csv(tmp_path, paths):
    write_index(tmp_path / "index.csv", IndexColumns(paths))
    assert list(read_index(tmp_path / "index.csv").paths) == paths


def test_columns_are_found_by_name_and_others_ignored(read):
    columns = read(b"size,note,path,checksum\n5,x,a,yH2GHg==\n,,b,\n")
    assert columns == IndexColumns(["a", "b"], [CHECKSUM, ""], ["5", ""])
    assert check_columns(columns) == []


@pytest.mark.parametrize(
    "data",
    [
        b"path\na\nb\n",
        b"\xef\xbb\xbfpath\na\nb\n",
        b"path\r\na\r\nb\r\n",
        b"path\na\nb",
        b"path\n\na\n\nb\n\n",
        b'"path"\n"a"\n"b"\n',
    ],
)
def test_byte_order_marks_line_ends_and_empty_lines_do_not_matter(read, data):
    assert read(data) == IndexColumns(["a", "b"])


def test_a_quoted_empty_cell_is_an_empty_path(read):
    assert [problem.rule for problem in check_columns(read(b'path\n""\n'))] == ["empty"]


@pytest.mark.parametrize("data", [b"", b"\n", b"file\na\n", b"a\nb\n", b"path;size\na;5\n", b"\xff\xfep\0a\0"])
def test_a_file_without_a_path_column_is_no_index(read, data):
    with pytest.raises(ConfigurationError, match=r"index\.csv has no column 'path'"):
        read(data)


@pytest.mark.parametrize(
    ("data", "line"),
    [(b'path\n"a\nb\n', "line 3"), (b'path\n"a"b\n', "line 2"), (b"path\n" + b"a" * 200_000, "line 2")],
)
def test_a_broken_csv_is_refused_with_its_line(read, data, line):
    with pytest.raises(ConfigurationError, match=line):
        read(data)


@pytest.mark.parametrize(
    "header", ["path, size,checksum", "path,size, checksum", "path,Checksum", "Path,size", "path,SIZE "]
)
def test_a_column_that_is_none_by_its_blanks_or_capitals_is_refused(read, header):
    """It would be ignored, and the checksums that somebody gave never looked at."""
    with pytest.raises(ConfigurationError, match=r"has a column '[^']+'; write it as '(path|size|checksum)'"):
        read(f"{header}\na,1,yH2GHg==\n".encode())


def test_a_column_that_stands_twice_is_refused(read):
    with pytest.raises(ConfigurationError, match="two columns 'path'"):
        read(b"path,path\na,b\n")


def test_rows_with_a_wrong_number_of_fields_are_all_named(read):
    with pytest.raises(IndexProblemsError) as caught:
        read(b"path,size\na,1\nb,c,2\nd,1\ne\n")
    assert [(problem.row, problem.rule) for problem in caught.value.problems] == [(2, "fields"), (4, "fields")]
    assert "double quotes" in str(caught.value)


def test_bytes_that_are_not_utf_8_are_a_problem_of_their_row(read):
    columns = read(b"path\na\ncaf\xe9\n")
    assert [(problem.row, problem.rule) for problem in check_columns(columns)] == [(2, "not-utf-8")]


def test_a_nul_in_a_name_is_a_problem_of_its_row(read):
    assert [problem.rule for problem in check_columns(read(b"path\na\0b\n"))] == ["nul"]


@given(data=st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_reading_fail_in_another_way(tmp_path, data):
    (tmp_path / "index.csv").write_bytes(b"path,size\n" + data)
    message = ""
    try:
        check_columns(read_index(tmp_path / "index.csv"))
    except (ConfigurationError, IndexProblemsError) as error:
        message = str(error)
    assert message.replace("\n", "").isprintable()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing\.csv cannot be read: No such file"):
        read_index(tmp_path / "nothing.csv")
    with pytest.raises(ConfigurationError, match="directory"):
        read_index(tmp_path)


# ── Parquet ──────────────────────────────────────────────────────────────────────────────────────


def test_parquet_is_known_by_its_content_whatever_its_name(tmp_path):
    pq.write_table(pa.table({"path": ["a"], "size": [5], "note": [1]}), tmp_path / "index.csv")
    assert read_index(tmp_path / "index.csv") == IndexColumns(["a"], None, [5])


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_texts_of_every_kind_are_read(tmp_path, kind):
    pq.write_table(pa.table({"path": pa.array(["NA", "00123"]).cast(kind)}), tmp_path / "i.parquet")
    assert list(read_index(tmp_path / "i.parquet").paths) == ["NA", "00123"]


@pytest.mark.parametrize(
    "table", [{"path": [123]}, {"path": [b"a"]}, {"path": ["a"], "checksum": [1]}, {"path": ["a"], "size": [True]}]
)
def test_parquet_columns_of_a_wrong_type_are_refused(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "i.parquet")
    with pytest.raises(ConfigurationError, match="of type"):
        read_index(tmp_path / "i.parquet")


def test_a_damaged_parquet_file_is_refused(tmp_path):
    (tmp_path / "i.parquet").write_bytes(b"PAR1 and nothing more of it PAR1")
    with pytest.raises(ConfigurationError, match="no readable Parquet"):
        read_index(tmp_path / "i.parquet")


def test_without_pyarrow_the_error_names_the_extra(tmp_path, monkeypatch):
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "i.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"upload-core\[parquet\]"):
        read_index(tmp_path / "i.parquet")
    with pytest.raises(ConfigurationError, match=r"upload-core\[parquet\]"):
        write_index(tmp_path / "j.parquet", IndexColumns(["a"]))
    assert os.listdir(tmp_path) == ["i.parquet"]


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_write_leaves_the_old_index(tmp_path):
    write_index(tmp_path / "index.csv", IndexColumns(["old"]))
    with pytest.raises(UnicodeEncodeError):
        write_index(tmp_path / "index.csv", IndexColumns(["new", "caf\udce9"]))
    assert read_index(tmp_path / "index.csv") == IndexColumns(["old"])
    assert os.listdir(tmp_path) == ["index.csv"]


def test_an_index_may_be_read_by_whoever_the_umask_lets(tmp_path):
    umask = os.umask(0o027)
    try:
        write_index(tmp_path / "index.csv", IndexColumns(["a"]))
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "index.csv").stat().st_mode) == 0o640


def test_a_name_that_no_csv_can_hold_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="rename"):
        write_index(tmp_path / "index.csv", IndexColumns(["a\rb"]))
    assert os.listdir(tmp_path) == []


def test_the_csv_is_what_a_person_would_write(tmp_path):
    write_index(tmp_path / "index.csv", IndexColumns(["a", "b,c"], [CHECKSUM, CHECKSUM], [1, 2]))
    assert (tmp_path / "index.csv").read_bytes() == b'path,size,checksum\na,1,yH2GHg==\n"b,c",2,yH2GHg==\n'
