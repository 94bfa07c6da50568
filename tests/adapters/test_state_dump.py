"""A dump is a private, whole file inside its directory, or no file."""

import os
import stat

import pytest

from upload_adapters.state_dump import DirectoryStateDump

HEADER = ("relpath", "state")


def test_a_dump_is_for_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        place = DirectoryStateDump(tmp_path).write("state", HEADER, [])
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600


def test_what_exists_is_never_written_to(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "state.csv").symlink_to(tmp_path / "victim")
    (tmp_path / "state-2.csv").symlink_to(tmp_path / "nowhere")
    place = DirectoryStateDump(tmp_path).write("state", HEADER, [("a", "ready")])
    assert os.path.basename(place) == "state-3.csv"
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "..", "", "a/b", "-rf", "x" * 500, "nul\x00", ".hidden", "𝒳" * 500]
)
def test_a_name_cannot_leave_the_directory(tmp_path, name):
    root = tmp_path / "dumps"
    root.mkdir()
    place = DirectoryStateDump(root).write(name, HEADER, [])
    assert os.path.dirname(os.path.realpath(place)) == str(root.resolve())
    assert os.listdir(tmp_path) == ["dumps"]
    assert not os.path.basename(place).startswith((".", "-"))


def test_a_dump_that_fails_midway_leaves_nothing(tmp_path):
    def rows():
        yield ("a", "ready")
        raise RuntimeError("the state could not be read")

    with pytest.raises(RuntimeError):
        DirectoryStateDump(tmp_path).write("state", HEADER, rows())
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        DirectoryStateDump(tmp_path / "missing").write("state", HEADER, [])
