"""Adapters are put together by URL and by journal, and nothing is written for it."""

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import contents
from upload_adapters import wiring
from upload_adapters.local import DirectoryArchive
from upload_adapters.source_directory import DirectorySource
from upload_core import Bucket, DataRoot, UploadClient
from upload_core.errors import ConfigurationError
from upload_core.wiring import GROUP, WiringRequest, default_wiring


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(wiring.TO_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a b.txt").write_text("a")
    return tmp_path / "data"


def request(data: Path, **changes: object) -> WiringRequest:
    values: dict[str, object] = {"to": f"file://{data.parent}/archive"}
    return WiringRequest("d", "1", "staging", data, **(values | changes))  # type: ignore[arg-type]


def test_the_installed_wiring_is_this_module():
    assert default_wiring() is wiring
    assert [entry.value for entry in entry_points(group=GROUP)] == ["upload_adapters.wiring"]


def test_wiring_writes_nothing(data):
    wiring.wire(request(data))
    assert sorted(os.listdir(data.parent)) == ["data"]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_archive_that_cannot_be_is_refused_before_there_is_a_journal(data, place):
    (data.parent / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"no archive can be at '.*': '.*/file' is no directory; name another"):
        wiring.wire(request(data, to=f"file://{data.parent}/{place}"))


@pytest.mark.parametrize("made", ["", "archive", "archive/d-1-staging"])
def test_an_archive_that_may_not_be_written_is_refused_before_there_is_a_journal(data, monkeypatch, made):
    (data.parent / made).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(os, "access", lambda path, _: path != str(data.parent / made))
    with pytest.raises(ConfigurationError, match=r"this user may not write to .*; give this user access, or name"):
        wiring.wire(request(data))


def test_the_archives_name_is_a_url_that_names_the_same_place_again(data):
    odd = data.parent / "a b%20ü"
    ports = wiring.wire(request(data, to=f"file://{data.parent}/x/../a%20b%2520%C3%BC"))
    assert isinstance(ports.archive, DirectoryArchive)
    assert ports.archive.root == f"{odd}/d-1-staging"
    again = wiring.wire(request(data, to=ports.archive_name))
    assert isinstance(again.archive, DirectoryArchive)
    assert again.archive.root == ports.archive.root


def test_agent_ids_say_who_and_where_and_differ(data):
    first, second = (wiring.wire(request(data)).agent_id for _ in range(2))
    assert first != second
    assert first.isprintable()
    user_at_host, _, random = first.rpartition(":")
    assert "@" in user_at_host
    assert len(bytes.fromhex(random)) == 4


def test_sources_and_archives_open_by_path_url_and_bucket(data):
    for source in (data, str(data), f"file://{data}", Bucket(f"file://{data}")):
        assert isinstance(wiring.open_source(source), DirectorySource)
        assert wiring.open_source(source).name == str(data)
    assert isinstance(wiring.open_archive(Bucket(f"file://{data.parent}/x")), DirectoryArchive)
    for unknown in ("gopher://x", "nothing"):
        with pytest.raises(ConfigurationError, match="known"):
            wiring.open_archive(Bucket(unknown))


def test_a_host_may_pass_its_check_as_a_function_or_by_name(data):
    def check(path: str, relpath: str) -> list[str]:
        return ["not today"]

    (data.parent / "host_checks.py").write_text(
        "class Checks:\n    @staticmethod\n    def all(path, relpath): return ['no']\n"
    )
    reasons = []
    givens: list[Any] = [check, "host_checks:Checks.all"]
    for number, given in enumerate(givens):
        client = UploadClient(
            dataset="d",
            delivery_id=str(number),
            file_index={"path": ["a b.txt"]},
            transfer_type="staging",
            source=data,
            to=f"file://{data.parent}/archive",
            check=given,
        )
        assert client.run().outcome == "incomplete"
        reasons.append(client.file("a b.txt").message)
    assert ["not today" in str(reasons[0]), "no" in str(reasons[1])] == [True, True]


def test_a_journal_is_enough_to_go_on_even_if_the_data_moved(data):
    (data.parent / "late_checks.py").write_text("def check(path, relpath): return ['later']\n")
    client = UploadClient(
        dataset="d",
        delivery_id="1",
        file_index={"path": ["a b.txt"]},
        transfer_type="staging",
        source=data,
        to=f"file://{data.parent}/archive",
        journal="j",
        check="late_checks:check",
    )
    assert client.run().exit_code == 1
    moved = data.rename(data.parent / "moved")
    ports = wiring.wire(request(moved, journal="j"))
    again = UploadClient(
        dataset="d",
        delivery_id="1",
        file_index={"path": ["a b.txt"]},
        transfer_type="staging",
        source=moved,
        ports=ports,
    )
    assert again.run().exit_code == 0
    assert wiring.recorded(Path("j"))[1] == str(moved)
    assert wiring.wire_journal("j", {}).source.name == str(moved)
    assert contents(data.parent / "archive" / "d-1-staging") == contents(moved)


@pytest.mark.parametrize("root", [None, "", ".", Path(), Path("."), Path("")])
def test_a_data_root_lists_itself_under_every_name_that_a_path_has_for_it(data, root):
    (data / "deep").mkdir()
    bucket = Bucket(f"file://{data}")
    assert DataRoot(data).ls(root) == DataRoot(bucket).ls(root) == ("a b.txt", "deep")
    assert DataRoot(data).ls(Path("deep")) == ()


def test_a_label_is_read_again_at_resume_and_must_still_be_there(data):
    label = data.parent / "label.yaml"
    label.write_text("dataset: d\ndelivery_id: 1\n")
    client = UploadClient(
        dataset="d",
        delivery_id="1",
        file_index={"path": ["a b.txt"]},
        transfer_type="staging",
        source=data,
        to=f"file://{data.parent}/archive",
        journal="j",
        label="label.yaml",
    )
    assert client.run().exit_code == 0
    assert wiring.wire_journal("j", {}).label == b"dataset: d\ndelivery_id: 1\n"
    label.unlink()
    with pytest.raises(ConfigurationError, match=r"label\.yaml"):
        wiring.wire_journal("j", {})


def test_a_label_that_is_no_label_is_refused(data):
    (data.parent / "big").write_bytes(bytes(2 << 20))
    with pytest.raises(ConfigurationError, match="longer"):
        wiring.wire(request(data, label="big"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        wiring.wire(request(data, label=data))


def test_without_any_archive_the_message_says_what_to_pass(data, monkeypatch):
    with pytest.raises(ConfigurationError, match="file:///DIR"):
        wiring.wire(request(data, to=None))
    monkeypatch.setenv(wiring.TO_VARIABLE, f"file://{data.parent}/archive")
    assert wiring.wire(request(data, to=None)).archive_name == f"file://{data.parent}/archive"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("s3://bucket", "--to mast.toml"),
        ("gs://bucket", "for a directory write file:///DIR, for AWS name its deployment file, mast.toml"),
        ("bucket", f"write file://{os.getcwd()}/bucket, for AWS"),
    ],
)
def test_an_archive_that_is_none_is_told_by_the_ways_to_name_one(to, said):
    with pytest.raises(ConfigurationError) as caught:
        wiring.wire(WiringRequest("d", "1", "staging", ".", to))
    assert said in str(caught.value)
    assert "known: file://, s3://" not in str(caught.value)


def test_of_a_source_all_that_is_known_is_named():
    with pytest.raises(ConfigurationError, match="file://, s3://"):
        wiring.open_source("ftp://host")
