"""A journal as a table: every record, in order, whatever kind of file it is written to."""

import csv
import json

import pyarrow.parquet
import pytest

from tests.command_line import Desk
from upload_adapters.export import FIELDS, WRITERS, export
from upload_adapters.journal_reader import JournalReader
from upload_core.errors import ConfigurationError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    desk = Desk(tmp_path_factory.mktemp("finished"), count=3)
    (desk.data / "bad =1+1").write_text("bad")
    desk.index()
    assert desk.run(*desk.deliver_slowly).returncode == 1
    return desk


@pytest.fixture(scope="module")
def records(finished):
    return list(JournalReader(finished.journal).records())


def read(path):
    match path.suffix:
        case ".parquet":
            return pyarrow.parquet.read_table(path).to_pylist()
        case ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                return [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
        case _:
            return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_record_is_a_row_with_the_path_of_its_file(finished, records, tmp_path, suffix):
    written = tmp_path / f"events{suffix}"
    assert export(finished.journal, written) == len(records)
    rows = read(written)
    assert [int(row["seq"]) for row in rows] == [record.seq for record in records]
    assert [row["kind"] for row in rows] == [type(record.event).__name__ for record in records]
    valid = {row["relpath"] for row in rows if row["kind"] == "FileValidated"}
    assert valid == {"file 00.txt", "file 01.txt", "file 02.txt"}
    [invalid] = [row for row in rows if row["kind"] == "FileInvalidated"]
    assert invalid["relpath"] == "bad =1+1"
    assert "bad" in invalid["message"]


def test_parquet_has_times_and_numbers(finished, tmp_path):
    export(finished.journal, tmp_path / "e.parquet")
    schema = pyarrow.parquet.read_schema(tmp_path / "e.parquet")
    assert schema.names == list(FIELDS)
    assert (str(schema.field("time").type), str(schema.field("size").type)) == ("timestamp[ms, tz=UTC]", "int64")


def test_no_cell_of_a_csv_is_a_formula(finished, tmp_path):
    export(finished.journal, tmp_path / "e.csv")
    for row in read(tmp_path / "e.csv"):
        assert not any(cell and cell[0] in "=+-@" for cell in row.values())


def test_what_exists_is_never_overwritten(finished, tmp_path):
    (tmp_path / "e.csv").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists"):
        export(finished.journal, tmp_path / "e.csv")
    assert (tmp_path / "e.csv").read_text() == "mine"


def test_another_suffix_is_refused_and_those_that_are_known_are_named(finished, tmp_path):
    with pytest.raises(ConfigurationError, match=r"\.parquet, \.csv, \.ndjson"):
        export(finished.journal, tmp_path / "e.xlsx")


def test_a_failure_leaves_no_half_a_file(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(WRITERS, ".csv", lambda _, file: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(finished.journal, tmp_path / "e.csv")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_how_many_and_refuses_clearly(finished, tmp_path):
    done = finished.run("export", str(finished.journal), "-o", str(tmp_path / "e.ndjson"))
    assert done.returncode == 0
    assert "records written" in done.stdout
    again = finished.run("export", str(finished.journal), "-o", str(tmp_path / "e.ndjson"))
    assert again.returncode == 2
    assert "exists" in again.stderr
    nothing = finished.run("export", str(tmp_path), "-o", str(tmp_path / "n.csv"))
    assert nothing.returncode == 2
    assert "there is no journal" in nothing.stderr


def test_the_command_prints_the_schema(finished):
    done = finished.run("export", "--schema")
    assert json.loads(done.stdout)["$defs"]["TransferStarted"]
