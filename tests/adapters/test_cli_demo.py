"""The demo happens as it says."""

from pathlib import Path

import pytest

from tests.command_line import Desk
from upload_adapters.cli import demo_data


@pytest.mark.crash
def test_the_demo_is_killed_resumes_and_ends_as_told(tmp_path):
    done = Desk(tmp_path).run("demo", "--files", "40", "--into", "kept")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "cut off: process" in done.stdout
    assert "Sent again of these: 0." in done.stdout
    assert "not a whole FITS file" in done.stdout
    assert "40 files compared with the archive: all agree" in done.stdout
    assert (tmp_path / "kept" / "data" / "empty.dat").stat().st_size == 0
    assert done.stdout.count("\n") < 80, "a screenful or two"


def test_the_demo_keeps_out_of_a_directory_that_exists(tmp_path):
    assert Desk(tmp_path).run("demo", "--into", "data").returncode == 2


def test_the_data_set_has_what_it_promises(tmp_path):
    assert demo_data.build(tmp_path, 40)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(names) == 40
    assert {*demo_data.ODD_NAMES, demo_data.BAD_FILE, "empty.dat", "catalogue.parquet"} <= names


def test_its_fits_files_are_whole_but_for_one_until_that_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_data, "CHECK_S", 0)
    demo_data.build(tmp_path, 40)

    def bad() -> list[str]:
        images = sorted(path.relative_to(tmp_path).as_posix() for path in Path(tmp_path).rglob("*.fits"))
        return [name for name in images if list(demo_data.check(str(tmp_path / name), name))]

    assert bad() == [demo_data.BAD_FILE]
    demo_data.mend(tmp_path)
    assert bad() == []
