"""Deliveries by the command line, with real processes: what arrives, what is printed where, and the exit code."""

import csv
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.command_line import COMMAND, Desk, contents, environment, last_json
from upload_adapters.journal_file import DirectoryJournal

KEYS = ["outcome", "exit_code", "counts", "files", "retries", "bytes", "seconds", "journal", "failed"]
STATES = ["ready", "pending", "failed", "transferring", "done", "valid", "invalid"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.index()
    return made


def files_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_delivery_stores_every_file_and_says_so_once(desk):
    done = desk.run(*desk.deliver, "--json")
    assert done.returncode == 0
    assert desk.equal()
    summary = last_json(done.stdout)
    assert list(summary) == KEYS
    assert list(summary["counts"]) == STATES
    assert summary["outcome"] == "complete"
    assert summary["counts"]["valid"] == summary["files"] == 12
    assert summary["bytes"] == sum(len(data) for data in contents(desk.data).values())
    assert summary["failed"] == []
    assert Path(summary["journal"]) == desk.journal
    assert done.stdout.count("\n") == 1
    assert done.stderr.splitlines()[-1].startswith("complete: 12 files valid")


def test_the_same_command_again_sends_nothing_and_is_complete(desk):
    desk.run(*desk.deliver)
    before = {path: path.stat().st_mtime_ns for path in desk.archive.rglob("*")}
    again = desk.run(*desk.deliver, "--json")
    assert again.returncode == 0
    assert last_json(again.stdout) | {"seconds": 0} == {
        "outcome": "complete",
        "exit_code": 0,
        "counts": dict.fromkeys(STATES, 0) | {"valid": 12},
        "files": 12,
        "retries": 0,
        "bytes": 0,
        "seconds": 0,
        "journal": str(desk.journal),
        "failed": [],
    }
    assert {path: path.stat().st_mtime_ns for path in desk.archive.rglob("*")} == before
    assert desk.run("resume", str(desk.journal)).returncode == 0


def test_without_a_terminal_there_are_few_lines_and_no_control_characters(desk):
    done = desk.run(*desk.deliver)
    assert done.stdout == ""
    assert done.stderr.count("\n") <= 2
    assert done.stderr.replace("\n", "").isprintable()


def test_quiet_says_nothing_when_all_is_well(desk):
    done = desk.run(*desk.deliver, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_events_are_the_journals_own_lines_and_a_summary_may_follow(desk):
    done = desk.run(*desk.deliver, "--events", "--json")
    *events, summary = done.stdout.splitlines(keepends=True)
    segment = (desk.journal / "events-000001.ndjson").read_text()
    assert "".join(events) == segment.split("\n", 1)[1]
    assert json.loads(events[0])["kind"] == "DeliveryCreated"
    assert json.loads(summary)["outcome"] == "complete"


def test_whoever_stops_reading_the_events_does_not_stop_the_delivery(desk):
    process = desk.start(*desk.deliver_slowly, "--events")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
    assert desk.equal()


def test_a_missing_file_is_named_and_nothing_is_written_anywhere(desk):
    (desk.data / "file 03.txt").unlink()
    before = files_below(desk.root)
    for command in (desk.deliver, ["plan", "data", "index.csv"]):
        done = desk.run(*command, "--json")
        assert done.returncode == 2
        assert "file 03.txt" in done.stderr
        refusal = last_json(done.stdout)
        assert (refusal["outcome"], refusal["exit_code"]) == ("refused", 2)
        assert [(problem["row"], problem["path"]) for problem in refusal["problems"]] == [(4, "file 03.txt")]
    assert files_below(desk.root) == before


def test_twenty_problems_are_shown_and_all_are_in_the_json(desk):
    rows = "".join(f"missing {number}\n" for number in range(50))
    (desk.root / "index.csv").write_text(f"path\n{rows}")
    done = desk.run(*desk.deliver, "--json")
    assert done.returncode == 2
    assert done.stderr.count("missing ") == 20
    assert "30 more" in done.stderr
    assert len(last_json(done.stdout)["problems"]) == 50


def test_three_bad_apples_are_named_and_after_the_fix_exactly_they_are_sent(desk):
    for number in (1, 2, 3):
        (desk.data / f"bad {number}").write_text("bad")
    desk.index()
    done = desk.run(*desk.deliver_slowly, "--json")
    assert done.returncode == 1
    failed = last_json(done.stdout)["failed"]
    assert [(file["relpath"], file["state"]) for file in failed] == [(f"bad {n}", "invalid") for n in (1, 2, 3)]
    assert "3 files invalid: … is [bold]bad\\x1b[31m" in done.stderr
    status = desk.run("status", str(desk.journal), "--failed", "--json")
    assert status.returncode == 0
    assert last_json(status.stdout)["failed"] == failed
    assert failed[0]["message"] == "bad 1 is [bold]bad\\x1b[31m"
    (states,) = desk.journal.glob("*-state.csv")
    assert [row["message"] for row in csv.DictReader(states.read_text().splitlines()) if row["message"]] == [
        f["message"] for f in failed
    ]
    assert f"\t{failed[0]['message']}\n" in desk.run("replay", str(desk.journal), "--files").stdout
    (desk.root / "slow.py").write_text("def check(path, relpath):\n    return []\n")
    for number in (1, 2, 3):
        (desk.data / f"bad {number}").write_text("mended")
    desk.index()
    again = desk.run(*desk.deliver_slowly, "--json")
    assert again.returncode == 0, again.stderr
    assert last_json(again.stdout)["bytes"] == 3 * len("mended")
    assert desk.equal()
    assert list(desk.journal.glob("*-state.csv")) == []


def test_a_directory_that_becomes_the_archive_is_told_once(desk):
    said = f"the archive {desk.root}/archive did not exist and was made\n"
    assert said in desk.run(*desk.deliver).stderr
    assert "did not exist" not in desk.run(*desk.deliver, "--delivery-id", "2").stderr


def test_quiet_names_what_failed(desk):
    (desk.data / "bad 1").write_text("bad")
    desk.index()
    done = desk.run(*desk.deliver_slowly, "-q")
    assert done.returncode == 1
    assert "bad 1" in done.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--to", "s3://bucket"], "s3://bucket"),
        (["--to", "archive"], "file:///"),
        (["--to", "file://archive"], "file:///absolute/path"),
        (["--check", "nowhere:check"], "nowhere"),
        (["--check", "slow"], "package.module:function"),
        (["--check", "slow:nothing"], "nothing"),
        (["--label", "nothing.yaml"], "nothing.yaml"),
        (["--dataset", "../x"], "../x"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(desk, options, named):
    before = files_below(desk.root)
    done = desk.run(*desk.deliver, *options, "--json")
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert last_json(done.stdout)["outcome"] == "refused"
    new = {name for name in files_below(desk.root) - before if "__pycache__" not in name}
    assert new == set()


def test_without_to_the_environment_names_the_archive(desk):
    command = desk.deliver[:-2]
    refused = desk.run(*command)
    assert refused.returncode == 2
    assert "UPLOAD_CORE_TO" in refused.stderr
    assert desk.run(*command, UPLOAD_CORE_TO=f"file://{desk.root}/archive").returncode == 0
    assert desk.equal()


def test_label_and_sample_arrive_where_the_protocol_says(desk):
    (desk.root / "label.yaml").write_text("dataset: d\ndelivery_id: 1\n")
    assert desk.run(*desk.deliver, "--label", "label.yaml", "--sample").returncode == 0
    assert (desk.control / "d-1-label.yaml").read_text() == "dataset: d\ndelivery_id: 1\n"
    assert (desk.control / "log" / "client_sample").exists()
    assert contents(desk.root / "archive" / "d-1-sample") == contents(desk.data)
    assert (desk.root / ".upload-core" / "d-1-sample").is_dir()


def test_a_label_names_a_delivery_as_in_aws_and_a_directory_takes_its_id_as_written_too(desk):
    (desk.root / "label.yaml").write_text("dataset: d\ndelivery_id: 2025_10\n")
    labelled = ["deliver", "data", "index.csv", "--label", "label.yaml", "--to", f"file://{desk.root}/archive"]
    assert desk.run(*labelled).returncode == 0
    assert (desk.root / "archive" / "d-202510-control" / "d-202510-label.yaml").exists()
    for written in ("202510", "2025_10"):
        assert desk.run(*labelled, "--delivery-id", written).returncode == 0
    assert contents(desk.root / "archive" / "d-2025_10-staging") == contents(desk.data)
    assert desk.run(*labelled, "--delivery-id", "2025-10").returncode == 2


def test_a_journal_of_another_delivery_is_refused(desk):
    assert desk.run(*desk.deliver, "--journal", "j").returncode == 0
    done = desk.run(*desk.deliver, "--journal", "j", "--delivery-id", "2", "--json")
    assert done.returncode == 2
    assert "another delivery" in done.stderr
    assert last_json(done.stdout)["outcome"] == "refused"


NO_PLACES = {
    "file": "there is a file of that name",
    "file/below": "a part of its path is a file",
    "/proc/nowhere": "nothing can be made there",
}


@pytest.mark.parametrize("place", NO_PLACES)
def test_where_no_journal_can_be_another_place_is_asked_for_and_no_resume(desk, place):
    (desk.root / "file").touch()
    done = desk.run(*desk.deliver, "--journal", place, "--json")
    assert done.returncode == 2, done.stderr
    assert NO_PLACES[place] in done.stderr
    assert "name another place with --journal DIR" in done.stderr
    assert "resume" not in done.stderr
    assert last_json(done.stdout)["counts"] is None


def test_what_an_unopened_journal_says_of_the_files_is_not_made_up(desk):
    assert desk.run(*desk.deliver).returncode == 0
    (desk.data / "new").write_text("new")
    desk.index()
    journal = DirectoryJournal(desk.journal)
    journal.open()
    try:
        for command in (desk.deliver, ["resume", str(desk.journal)]):
            done = desk.run(*command, "--json")
            assert done.returncode == 4
            refused = last_json(done.stdout)
            assert (refused["counts"], refused["retries"]) == (None, None)
            assert refused["files"] in (13, None)
    finally:
        journal.close()
    (desk.data / "new").unlink()
    assert [last_json(desk.run(*desk.deliver, "--json").stdout)[key] for key in ("counts", "files")] == [None, None]


def test_a_damaged_journal_is_exit_code_7_and_left_alone(desk):
    desk.run(*desk.deliver)
    segment = desk.journal / "events-000001.ndjson"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    for snapshot in desk.journal.glob("snapshot-*"):
        snapshot.unlink()
    for command in (desk.deliver, ["resume", str(desk.journal)], ["verify", str(desk.journal)]):
        done = desk.run(*command)
        assert done.returncode == 7, done.stderr
        assert "damaged" in done.stderr
    assert segment.read_bytes() == data


def test_resume_without_a_journal_is_a_usage_error(desk):
    done = desk.run("resume", "nowhere", "--json")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert last_json(done.stdout)["outcome"] == "refused"


def test_an_archive_that_can_never_be_is_exit_code_2_and_leaves_no_journal(desk):
    (desk.root / "archive").write_text("a file, no directory")
    done = desk.run(*desk.deliver, "--json")
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert last_json(done.stdout)["exit_code"] == 2
    assert "is no directory; name another directory with --to" in done.stderr
    assert not desk.journal.exists()


def test_an_archive_that_was_replaced_by_a_file_is_exit_code_2_and_told_once(desk):
    damaged = next(path for path in desk.data.rglob("*") if path.is_file())
    right = damaged.read_bytes()
    damaged.write_bytes(bytes(len(right)))
    assert desk.run(*desk.deliver).returncode == 1
    damaged.write_bytes(right)
    (desk.root / "archive").rename(desk.root / "archive before")
    (desk.root / "archive").write_text("a file, no directory")
    done = desk.run("resume", str(desk.journal))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.count("a part of its path is a file; move that away") == 1, done.stderr
    assert "crashed" not in done.stdout + done.stderr
    (desk.root / "archive").unlink()
    (desk.root / "archive before").rename(desk.root / "archive")
    assert desk.run("resume", str(desk.journal)).returncode == 0
    assert desk.equal()


def test_duplicates_by_case_need_permission(desk):
    (desk.data / "FILE 00.txt").write_text("another")
    if len(list(desk.data.iterdir())) == 12:
        return  # this disk takes both names for one
    desk.index()
    assert desk.run(*desk.deliver).returncode == 2
    assert desk.run(*desk.deliver, "--allow-case-duplicates").returncode == 0
    assert desk.equal()


def advised(desk: Desk, said: str) -> list[str]:
    """The arguments of the command that stands on the last line."""
    words = shlex.split(said.splitlines()[-1])
    assert words[0] == "upload-core", said
    return words[1:]


def test_what_resume_says_to_type_next_delivers_what_was_mended(desk):
    (desk.data / "bad 1").write_text("bad")
    desk.index()
    assert desk.run(*desk.deliver_slowly, "--sample").returncode == 1
    done = desk.run("resume", ".upload-core/d-1-sample")
    assert done.returncode == 1
    again = advised(desk, done.stderr)
    assert again[:3] == ["deliver", "data", "index.csv"]
    assert {"--sample", "--check"} <= set(again)
    assert "--journal" not in again
    (desk.root / "slow.py").write_text("def check(path, relpath):\n    return []\n")
    (desk.data / "bad 1").write_text("mended")
    desk.index()
    mended = desk.run(*again, "--json")
    assert mended.returncode == 0, mended.stderr
    assert last_json(mended.stdout)["bytes"] == len("mended")


def test_the_advice_of_resume_goes_to_where_the_check_is_found_and_to_the_journal_that_was_named(desk):
    (desk.data / "bad 1").write_text("bad")
    desk.index()
    assert desk.run(*desk.deliver_slowly, "--journal", "j").returncode == 1
    (desk.root / "elsewhere").mkdir()
    done = subprocess.run(
        [*COMMAND, "resume", "../j"], cwd=desk.root / "elsewhere", env=environment(), capture_output=True, text=True
    )
    line = done.stderr.splitlines()[-1]
    assert line.strip().startswith(f"cd {desk.root} && upload-core deliver {desk.data} {desk.root}/index.csv ")
    assert f"--journal {desk.root}/j " in line


def in_bash(desk, arguments, then):
    """A command with what a shell does to its output, and after that the command's exit code on standard error."""
    return subprocess.run(
        ["bash", "-c", f"{shlex.join([*COMMAND, *arguments])} {then}; echo ${{PIPESTATUS[0]}} >&2"],
        cwd=desk.root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
def test_a_summary_that_nobody_can_take_changes_neither_the_exit_code_nor_what_follows(desk, redirection):
    done = in_bash(desk, [*desk.deliver, "--json", "--on-finish", "touch ran"], redirection)
    assert done.stderr.splitlines()[-1] == "0", done.stderr
    assert "bug" not in done.stderr
    assert ("could not be written to standard output" in done.stderr) == (redirection != "| true")
    assert (desk.root / "ran").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize(
    "command", ["--help", "--version", "status journal", "replay journal --files", "history journal", "index data"]
)
def test_output_that_finds_no_room_is_said_and_no_bug(desk, command):
    assert desk.run(*desk.deliver).returncode == 0
    words = [str(desk.journal) if word == "journal" else word for word in command.split()]
    if "history" in words:
        words.append("file 00.txt")
    done = in_bash(desk, words, ">/dev/full")
    assert "standard output cannot be written: No space left on device; make room" in done.stderr
    assert "bug" not in done.stderr
    assert done.stderr.splitlines()[-1] == "8"
    assert len(done.stderr.splitlines()) <= 3, done.stderr


def test_whoever_has_read_enough_makes_no_command_fail(desk):
    (desk.data / "more").mkdir()
    for number in range(3_000):
        (desk.data / "more" / f"{number:050}").touch()
    done = in_bash(desk, ["index", desk.data.name, "--no-checksums"], "| head -1")
    assert done.stderr.splitlines()[-1] == "0"
    assert "Error" not in done.stderr


def test_a_check_that_exits_as_it_is_imported_is_no_success(desk):
    (desk.root / "leaves.py").write_text("raise SystemExit(3)\n")
    done = desk.run(*desk.deliver, "--check", "leaves:check", PYTHONPATH=f"{desk.root}:{environment()['PYTHONPATH']}")
    assert done.returncode not in (0, 1), done.stderr
