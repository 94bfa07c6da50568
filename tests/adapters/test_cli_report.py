"""`upload-core report` as a person types it: what it writes where, and what it says when it cannot."""

import json
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest

from tests.command_line import Desk, last_json, wait_for_events
from tests.sample_delivery import write_sample
from upload_adapters.cli import main


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "journal"
    write_sample(path, files=60)
    return path


@pytest.fixture
def journal(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(sample, tmp_path / "journal"))


def test_page_and_receipt_are_written_for_their_owner_alone_and_named(journal, capsys):
    assert main(["report", "journal"]) == 0
    assert capsys.readouterr().out == "report.html: 57 of 60 files valid; the receipt is report.receipt.ndjson\n"
    for name in ("report.html", "report.receipt.ndjson"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    assert sorted(path.name for path in Path().iterdir()) == ["journal", "report.html", "report.receipt.ndjson"]


def test_with_json_the_last_line_says_where_they_are(journal, capsys):
    assert main(["report", "journal", "-o", "out.html", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"exit_code": 0, "page": "out.html", "receipt": "out.receipt.ndjson", "files": 60, "valid": 57}


def test_a_journal_that_is_named_twice_is_told_once(journal, capsys):
    assert main(["report", "journal", "./journal/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 60


def test_a_report_replaces_the_one_before_and_changes_nothing_in_the_journal(journal):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in journal.iterdir()}
    for _ in range(2):  # the second time there is an older one
        assert main(["report", "journal"]) == 0
    assert Path("report.html").read_text().startswith("<!doctype html>")
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in journal.iterdir()} == before


@pytest.mark.parametrize("name", ["page.html", "page.receipt.ndjson"])
def test_a_file_that_is_no_report_is_never_replaced_by_one(journal, capsys, name):
    Path(name).write_text("<!doctype html><title>Somebody else's</title>")
    assert main(["report", "journal", "-o", "page.html"]) == 2
    assert f"{name} cannot be written: what is there is no re" in capsys.readouterr().err
    assert Path(name).read_text() == "<!doctype html><title>Somebody else's</title>"
    assert len([path for path in Path().iterdir() if path.name.startswith("page")]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["nowhere"], "no journal at nowhere"),
        (["journal", "-o", "journal"], "journal is a directory"),
        (["journal", "-o", "no/such/place.html"], "no/such/place.html cannot be written"),
    ],
)
def test_what_cannot_work_is_a_usage_error_that_says_why(journal, capsys, arguments, said):
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_journal_is_exit_code_7_and_leaves_the_page_that_was_there(journal):
    assert main(["report", "journal"]) == 0
    before = Path("report.html").read_text()
    segment = journal / "events-000001.ndjson"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 4
    segment.write_bytes(data)
    assert main(["report", "journal"]) == 7
    assert Path("report.html").read_text() == before


def test_an_unfinished_last_batch_is_said_and_no_damage(journal):
    segment = sorted(journal.glob("events-*.ndjson"))[-1]
    segment.write_bytes(segment.read_bytes()[:-7])
    assert main(["report", "journal"]) == 0
    assert "An unfinished last entry follows" in Path("report.html").read_text()


def test_without_jinja2_it_says_what_to_install(journal, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", "journal"]) == 2
    assert "pip install 'upload-core[report]'" in capsys.readouterr().err


def test_a_delivery_is_told_while_it_runs_after_it_was_killed_and_when_it_is_done(tmp_path):
    desk = Desk(tmp_path, count=6)
    desk.index()
    told = []
    with desk.start(*desk.deliver_slowly, "-q", "--events") as process:
        wait_for_events(process, "FileValidated", 2)
        process.send_signal(signal.SIGSTOP)  # it is alive, and six files would be over too soon
        assert last_json(desk.run("report", str(desk.journal), "--json").stdout)["exit_code"] == 0
        told.append((desk.root / "report.html").read_text())
        process.kill()
    for command in ([], ["resume", str(desk.journal)]):
        if command:
            assert desk.run(*command).returncode == 0
        assert desk.run("report", str(desk.journal)).returncode == 0
        told.append((desk.root / "report.html").read_text())
    running, killed, done = told
    assert "Under way: " in running
    assert "Not finished: " in killed
    assert f"upload-core resume {desk.journal}" in killed
    assert "Everything arrived." in done
    assert "The process was cut off once, and the delivery went on from its journal." in done
