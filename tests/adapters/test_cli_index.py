"""`index` and `plan`: what a delivery would be, without one."""

import csv
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.command_line import COMMAND, Desk, environment, last_json
from upload_adapters.index_file import read_index


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, count=3)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_an_index_goes_to_standard_output_unless_it_is_given_a_place(desk):
    done = desk.run("index", "data")
    assert done.returncode == 0
    assert [row["path"] for row in rows(done.stdout)] == ["file 00.txt", "file 01.txt", "file 02.txt"]
    desk.run("index", "data", "-o", "index.csv")
    assert (desk.root / "index.csv").read_text() == done.stdout


def test_names_are_exact_and_crc32s_those_of_the_bytes(desk):
    odd = ["NA", "00123", "1e5", 'quo"te,comma', "Größe 日本", "=1+1"]
    for name in odd:
        (desk.data / name).write_bytes(b"123456789")
    found = {row["path"]: row for row in rows(desk.run("index", "data", LC_ALL="C").stdout)}
    assert set(odd) <= set(found)
    assert all(found[name]["checksum"] == "y/Q5Jg==" and found[name]["size"] == "9" for name in odd)


def test_without_checksums_nothing_is_read(desk):
    text = desk.run("index", "data", "--no-checksums").stdout
    assert text.splitlines()[0] == "path,size"
    assert desk.run("index", "data", "--checksums").stdout == desk.run("index", "data").stdout


def test_what_was_half_written_is_not_part_of_the_data(desk):
    desk.index()
    (desk.data / ".index.csv.0123abcd.tmp").write_text("path,size\n")
    (desk.data / ".index.csv.tmp").write_text("data of somebody's")
    assert desk.run("index", "data", "-o", "data/index.csv").returncode == 0
    paths = [row["path"] for row in rows((desk.data / "index.csv").read_text())]
    assert paths == [".index.csv.tmp", *(f"file 0{n}.txt" for n in range(3))]


def test_an_index_of_no_files_is_refused_by_plan_as_by_deliver_and_index_warns(desk):
    (desk.root / "empty").mkdir()
    made = desk.run("index", "empty", "-o", "index.csv")
    assert made.returncode == 0
    assert "empty has no file to deliver" in made.stderr
    planned, delivered = desk.run("plan", "empty", "index.csv"), desk.run(*desk.deliver)
    assert planned.returncode == delivered.returncode == 2
    assert planned.stderr == delivered.stderr
    assert "no problems" not in planned.stdout


def test_a_name_that_holds_a_line_break_is_shown_in_one_line(desk):
    (desk.data / "new\nline").touch()
    done = desk.run("index", "data", "-o", "index.csv")
    assert "left out: new\\x0aline: " in done.stderr


def test_an_index_needs_no_place_to_remember_what_it_read(desk):
    (desk.root / ".upload-core").write_text("in the way")
    done = desk.run("index", "data", "-o", "index.csv")
    assert done.returncode == 0
    assert "cannot be remembered" in done.stderr
    assert len(rows((desk.root / "index.csv").read_text())) == 3
    assert (desk.root / ".upload-core").read_text() == "in the way"


def test_nothing_is_remembered_where_there_is_nothing_to_remember(desk):
    desk.run("index", "data")
    desk.run("index", "data", "--no-checksums", "-o", "names.csv")
    assert not (desk.root / ".upload-core").exists()


def test_a_journal_and_an_archive_inside_the_source_are_no_data_whatever_their_names(desk):
    (desk.data / "kept").mkdir()
    desk.run("index", "data", "-o", "index.csv")
    before = rows((desk.root / "index.csv").read_text())
    arguments = ["data", "index.csv", "--dataset", "d", "--delivery-id", "1", "--journal", "data/kept/my journal"]
    done = desk.run("deliver", *arguments, "--to", f"file://{desk.data}/kept/archive")
    assert done.returncode == 0, done.stderr
    (desk.data / "kept" / "journal.lock").touch()  # of somebody else
    (desk.data / "kept" / "new-control").mkdir()
    (desk.data / "kept" / "new-control" / "file").touch()
    again = desk.run("index", "data", "-o", "index.csv")
    assert again.returncode == 0, again.stderr
    for folder in ("my journal", "archive/d-1-control", "archive/d-1-staging"):
        assert f"kept/{folder} was written by upload-core" in again.stderr
    assert "sample" not in again.stderr
    listed = rows((desk.root / "index.csv").read_text())
    assert {row["path"] for row in listed} - {row["path"] for row in before} == {
        "kept/journal.lock",
        "kept/new-control/file",
    }
    assert {row["path"] for row in before} <= {row["path"] for row in listed}


def test_an_index_inside_its_source_does_not_list_itself_nor_the_journals(desk):
    for _ in range(2):
        assert desk.run("index", "data", "-o", "data/index.csv").returncode == 0
        desk.run(*[word.replace("index.csv", "data/index.csv") for word in desk.deliver])
    assert [row["path"] for row in rows((desk.data / "index.csv").read_text())] == [f"file 0{n}.txt" for n in range(3)]


def test_what_cannot_be_delivered_is_left_out_and_named(desk):
    os.mkfifo(desk.data / "pipe")
    (desk.data / "away").symlink_to("/etc/passwd")
    done = desk.run("index", "data", "-o", "index.csv")
    assert done.returncode == 1
    assert "left out: away" in done.stderr
    assert "left out: pipe" in done.stderr
    assert len(rows((desk.root / "index.csv").read_text())) == 3
    assert desk.run("plan", "data", "index.csv").returncode == 0


def test_an_index_that_cannot_be_written_is_a_usage_error(desk):
    assert desk.run("index", "data", "-o", "nowhere/index.csv").returncode == 2
    assert desk.run("index", "nowhere").returncode == 2


def test_parquet_is_as_good_as_csv(desk):
    assert desk.run("index", "data", "-o", "index.parquet").returncode == 0
    done = desk.run("plan", "data", "index.parquet", "--json")
    assert last_json(done.stdout) == {
        "outcome": "ready",
        "exit_code": 0,
        "files": 3,
        "bytes": 30,
        "checksums": 3,
        "problems": [],
    }


def test_a_plan_counts_and_touches_nothing(desk):
    desk.index()
    before = sorted(desk.root.rglob("*"))
    done = desk.run("plan", "data", "index.csv")
    assert done.returncode == 0
    assert done.stdout.startswith("3 files, 30 B")
    assert sorted(desk.root.rglob("*")) == before


def test_a_plan_without_an_index_is_a_usage_error(desk):
    done = desk.run("plan", "data", "nothing.csv", "--json")
    assert done.returncode == 2
    assert last_json(done.stdout)["outcome"] == "refused"


MEASURED = (
    "import os, subprocess, sys; child = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL); "
    "print(os.wait4(child.pid, 0)[2].ru_maxrss)"
)
"""Runs a command and prints its peak memory in KiB. A child of the tests' own process would count what that has used:
Linux hands the peak on through fork and exec."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_rows_are_planned_within_500_mb(tmp_path):
    """Nearly all rows are missing files, which is the dearest case: each is looked up, and each is a problem."""
    (tmp_path / "data").mkdir()
    with open(tmp_path / "index.csv", "w") as index:
        index.write("path,checksum,size\n")
        index.writelines(f"images/{row // 1000:04d}/frame_{row:07d}.fits,yH2GHg==,1\n" for row in range(1_000_000))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *COMMAND, "plan", "data", "index.csv"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.splitlines()[-1]) < 500 * 1024


@pytest.mark.parametrize("place", ["no/such/index.csv", "data", "pipe", "index.py/index.csv", ""])
def test_a_place_where_no_index_can_be_is_refused_before_anything_is_read(desk, place):
    os.mkfifo(desk.root / "pipe")
    (desk.root / "index.py").touch()
    done = desk.run("index", "data", "-o", place)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert not list(desk.root.rglob("*.checksums"))
    assert stat.S_ISFIFO((desk.root / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["data/file 00.txt", "notes.csv", "table.parquet"])
def test_a_file_that_is_no_index_is_never_replaced_by_one(desk, name):
    (desk.root / "notes.csv").write_bytes(b"star,magnitude\nVega,0.03\n")
    pyarrow.parquet.write_table(pyarrow.table({"star": ["Vega"]}), desk.root / "table.parquet")
    before = (desk.root / name).read_bytes()
    done = desk.run("index", "data", "-o", name)
    assert done.returncode == 2, done.stderr
    assert "what is there is no index of ours; move it away, or name another file" in done.stderr
    assert (desk.root / name).read_bytes() == before


@pytest.mark.parametrize("name", ["index.csv", "index.parquet", "empty.csv"])
def test_an_index_that_is_there_is_replaced_and_so_is_an_empty_file(desk, name):
    (desk.root / "empty.csv").touch()
    for _ in range(2):
        assert desk.run("index", "data", "-o", name).returncode == 0
    assert len(read_index(desk.root / name).paths) == len(list(desk.data.rglob("*.*")))


def test_an_index_that_is_a_link_is_written_where_it_leads(desk):
    (desk.root / "shared").mkdir()
    (desk.root / "index.csv").symlink_to("shared/index.csv")
    desk.run("index", "data", "-o", "index.csv")
    assert (desk.root / "index.csv").is_symlink()
    assert rows((desk.root / "shared" / "index.csv").read_text())
