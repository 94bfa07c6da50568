"""Looking on from another terminal: status that follows, many journals at once, and what changed between two moments."""

import contextlib
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.adapters.test_console import in_a_terminal
from tests.command_line import COMMAND, Desk, environment, last_json, wait_for_events
from upload_adapters.cli import main
from upload_adapters.cli.watching import Watch
from upload_adapters.journal_file import DirectoryJournal
from upload_core import events as ev


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, count=40)
    (made.data / "zz bad").write_text("bad")
    made.index()
    return made


def test_whoever_follows_sees_it_grow_and_ends_with_the_session(desk):
    desk.hold()
    delivering = desk.start(*desk.deliver_slowly, "--events", "-q")
    wait_for_events(delivering, "FileValidated")
    following = desk.start("status", str(desk.journal), "--follow", "--json")
    assert following.stdout is not None
    first = following.stdout.readline()
    desk.go_on()
    followed, _ = following.communicate(timeout=60)
    delivering.communicate(timeout=60)
    assert following.returncode == 0
    seen = [json.loads(line) for line in (first + followed).splitlines()]
    assert [status["session"] for status in seen] == ["running"] * (len(seen) - 1) + ["incomplete"]
    valid = [status["counts"]["valid"] for status in seen]
    assert valid == sorted(valid)
    assert len(set(valid)) > 2
    assert seen[-1]["failed"][0]["relpath"] == "zz bad"


def test_a_terminal_that_follows_shows_what_deliver_shows_and_stdout_how_it_ended(desk):
    delivering = desk.start(*desk.deliver_slowly, "--events", "-q")
    wait_for_events(delivering, "FileValidated")
    code, shown = in_a_terminal(["status", str(desk.journal), "--follow"], desk.root)
    delivering.communicate(timeout=60)
    assert code == 0
    assert shown.count("judged") >= 3
    assert " of 41" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") >= 0


def test_following_ends_when_the_process_is_killed(desk):
    desk.hold()
    delivering = desk.start(*desk.deliver_slowly, "--events", "-q")
    wait_for_events(delivering, "FileValidated")
    following = desk.start("status", str(desk.journal), "--follow", "--json")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["session"] == "running"
    delivering.kill()
    delivering.communicate(timeout=60)
    out, _ = following.communicate(timeout=60)
    assert last_json(out)["session"] == "cut off"


def test_a_journal_that_begins_a_new_segment_is_followed_into_it(desk):
    assert desk.run(*desk.deliver_slowly, "-q").returncode == 1
    watch = Watch(str(desk.journal))
    assert watch.look()
    assert not watch.look()
    journal = DirectoryJournal(desk.journal)
    delivery = journal.open()
    assert delivery is not None
    opened = ev.SessionOpened(delivery.facts.session + 1, "a", 1, 2, host=os.uname().nodename, pid=os.getpid())
    for segment in range(3):
        event = opened if not segment else ev.StopRequested(str(segment))
        journal.append([event], time_ms=2_000_000_000_000 + segment)
        delivery.apply(event, 2_000_000_000_000 + segment)
        assert watch.look()
        assert watch.running
        journal.close(delivery)
        segments = sorted(desk.journal.glob("events-*.ndjson"))
        (desk.journal / f"events-{len(segments):06d}.ndjson").touch()
        delivery = journal.open()
        assert delivery is not None
    journal.close()
    assert watch.reader.delivery.facts.stop_requested == "2"


def test_many_journals_are_shown_one_after_the_other_and_added_up(tmp_path, capsys):
    desks = []
    for name, count in (("a", 3), ("b", 5)):
        (tmp_path / name).mkdir()
        desk = Desk(tmp_path / name, count=count)
        desk.index()
        assert desk.run(*desk.deliver).returncode == 0
        desks.append(str(desk.journal))
    assert main(["status", *desks]) == 0
    told = capsys.readouterr().out
    assert "3 files: 3 valid" in told
    assert "in all, 2 journals: 8 files, 80 B: 8 valid" in told
    assert main(["status", *desks, "--json"]) == 0
    assert [json.loads(line)["files"] for line in capsys.readouterr().out.splitlines()] == [3, 5]


# --- diff ---


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A delivery of two sessions: in the first a file is invalid, before the second it is mended and one is added."""
    desk = Desk(tmp_path_factory.mktemp("twice"), count=4)
    (desk.data / "bad [red]name").write_text("bad")
    desk.index()
    assert desk.run(*desk.deliver_slowly, "-q").returncode == 1
    (desk.root / "slow.py").write_text("def check(path, relpath):\n    return []\n")
    (desk.data / "bad [red]name").write_text("mended")
    (desk.data / "new").write_text("new")
    desk.index()
    assert desk.run(*desk.deliver_slowly, "-q").returncode == 0
    return desk


def run(desk: Desk, *moments: str) -> tuple[int, str, str]:
    """`diff`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["diff", str(desk.journal), *moments])
    return code, out.getvalue(), err.getvalue()


def difference(desk: Desk, *moments: str) -> dict[str, tuple[str, str, bool]]:
    found = last_json(run(desk, *moments, "--json")[1])
    assert found["changed"] == len(found["files"])
    return {row["relpath"]: (row["before"], row["after"], row["revised"]) for row in found["files"]}


def test_two_sessions_differ_in_what_was_mended_and_added(twice):
    assert difference(twice, "session:1", "session:2") == {
        "bad [red]name": ("invalid", "valid", True),
        "new": ("not in the index", "valid", False),
    }
    assert difference(twice, "session:1") == difference(twice, "session:1", "end")
    assert difference(twice, "end", "end") == {}


def test_a_difference_is_told_in_words_and_on_request_by_the_exit_code(twice):
    code, told, _ = run(twice, "start", "session:1", "--exit-code")
    assert code == 1
    assert "4 files: ready -> valid\n    file 00.txt\n" in told
    assert "    and 1 more\n" in told
    assert "1 file: ready -> invalid\n    bad [red]name\n" in told
    assert run(twice, "end", "--exit-code")[0] == 0
    _, listed, _ = run(twice, "start", "session:1", "--files")
    assert "bad [red]name\tready -> invalid\t" in listed
    assert listed.replace("\n", "").replace("\t", "").isprintable()


def test_two_journals_are_compared_file_by_file(twice, tmp_path):
    other = Desk(tmp_path, count=3)
    (other.data / "file 02.txt").write_text("another\n")
    other.index()
    assert other.run(*other.deliver).returncode == 0
    assert difference(twice, str(other.journal)) == {
        "file 02.txt": ("valid", "valid", True),
        "file 03.txt": ("valid", "not in the index", False),
        "bad [red]name": ("valid", "not in the index", False),
        "new": ("valid", "not in the index", False),
    }


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        (["session:7"], "there is no session 7"),
        (["nowhere"], "is no moment"),
        (["1", "2", "3"], "too many"),
        (["data"], "is no moment"),
        (["2001-01-01"], "is no moment"),
        (["2001-01-01T00:00"], "begins later"),
    ],
)
def test_what_cannot_be_compared_is_refused(twice, moments, said):
    code, _, told = run(twice, *moments)
    assert code == 2
    assert said in told


def test_a_dump_that_cannot_be_written_is_a_warning(tmp_path):
    desk = Desk(tmp_path, count=2)
    (desk.data / "bad").write_text("bad")
    desk.index()
    (desk.journal / "d-1-staging-state.csv").mkdir(parents=True)  # not even root can remove it as a file
    done = desk.run(*desk.deliver_slowly, "--json")
    assert done.returncode == 1, done.stderr
    assert "states could not be written" in done.stderr
    assert "bad is [bold]bad" in done.stderr
    assert last_json(done.stdout)["outcome"] == "incomplete"


def test_the_end_names_the_command_that_was_typed(tmp_path):
    desk = Desk(tmp_path, count=2)
    (desk.data / "bad file").write_text("bad")
    desk.index()
    done = desk.run(*desk.deliver_slowly)
    *_, all_of_them, table, following, command = done.stderr.splitlines()
    assert all_of_them == "all of them: upload-core status --failed .upload-core/d-1-staging"
    assert table == "every file's state: .upload-core/d-1-staging/d-1-staging-state.csv"
    assert following.startswith("next: mend them")
    to = f"file://{desk.root}/archive"
    assert command == (
        f"    upload-core deliver data index.csv --dataset d --delivery-id 1 --to {to} --check slow:check"
    )
    (desk.root / "slow.py").write_text("def check(path, relpath):\n    return []\n")
    shell = command.strip().replace("upload-core", f"{COMMAND[0]} -m upload_adapters.cli")
    again = subprocess.run(["sh", "-c", shell], cwd=desk.root, env=environment(), capture_output=True, timeout=60)
    assert again.returncode == 0, again.stderr
