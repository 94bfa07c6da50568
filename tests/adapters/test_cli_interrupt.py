"""Deliveries that end before their time: by Ctrl-C, by a scheduler, by SIGKILL, or because somebody else is at work."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.command_line import Desk, last_json, wait_for_events

pytestmark = pytest.mark.crash


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, count=30)
    made.index()
    return made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_in_order_and_resume_goes_on(desk, number):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events", "--json")
    wait_for_events(process, "FileValidated", 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    summary = last_json(out)
    assert (summary["outcome"], summary["exit_code"]) == ("interrupted", 130)
    assert 3 <= summary["counts"]["valid"] < 30
    assert not (desk.control / "lock" / "client").exists()
    assert "next: upload-core resume .upload-core/d-1-staging" in err
    (desk.root / "slow.py").write_text("def check(path, relpath):\n    return None\n")
    resumed = desk.run("resume", ".upload-core/d-1-staging", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert last_json(resumed.stdout)["counts"]["valid"] == 30
    assert desk.equal()


def test_two_signals_end_at_once_and_resume_goes_on(desk):
    # in order, it would end after this check
    (desk.root / "slow.py").write_text("import time\ndef check(path, relpath):\n    time.sleep(300)\n")
    process = desk.start(*desk.deliver_slowly, "--events", "--json")
    wait_for_events(process, "FileReported")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert last_json(out)["outcome"] == "interrupted"
    assert "once more ends at once" in err
    (desk.root / "slow.py").write_text("def check(path, relpath):\n    return []\n")
    assert desk.run("resume", str(desk.journal)).returncode == 0
    assert desk.equal()


def test_an_interrupt_before_anything_began_is_130_and_leaves_nothing(desk):
    os.mkfifo(desk.root / "endless.csv")
    command = [word.replace("index.csv", "endless.csv") for word in desk.deliver]
    process = desk.start(*command, "--json")
    with open(desk.root / "endless.csv", "w") as index:
        index.write("path\n")
        index.flush()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert last_json(out)["outcome"] == "interrupted"
    assert not desk.journal.exists()


def test_a_killed_delivery_is_cut_off_and_the_same_command_goes_on_with_it(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events")
    wait_for_events(process, "FileValidated", 5)
    process.kill()
    process.communicate()
    desk.go_on()
    status = desk.run("status", str(desk.journal), "--json")
    assert last_json(status.stdout)["session"] == "cut off"
    valid = last_json(status.stdout)["counts"]["valid"]
    assert valid >= 5
    again = desk.run(*desk.deliver_slowly, "--json")
    assert again.returncode == 0, again.stderr
    assert last_json(again.stdout)["counts"]["valid"] == 30
    assert desk.equal()
    text = (desk.journal / "events-000001.ndjson").read_text()
    assert text.count('"kind":"FileValidated"') == 30


def test_a_second_process_on_the_same_journal_learns_at_once_who_has_it(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events")
    wait_for_events(process, "FileValidated")
    for command in (desk.deliver_slowly, ["resume", str(desk.journal)]):
        second = desk.run(*command, "--json")
        assert second.returncode == 4
        assert f"process {process.pid} on " in second.stderr
        assert last_json(second.stdout)["outcome"] == "refused"
    assert process.poll() is None, "it was not waited for"
    desk.go_on()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_second_client_with_a_journal_of_its_own_learns_who_holds_the_lock_and_since_when(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events")
    wait_for_events(process, "FileValidated")
    holder = (desk.control / "lock" / "client").read_text()
    second = desk.run(*desk.deliver_slowly, "--journal", "another", "--json")
    assert second.returncode == 4, second.stderr
    assert holder in second.stderr
    assert "at 20" in second.stderr, "since when"
    assert last_json(second.stdout)["outcome"] == "refused"
    desk.go_on()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert desk.equal()


def test_a_running_delivery_can_be_looked_at_without_disturbing_it(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events")
    wait_for_events(process, "FileValidated", 3)
    follower = desk.start("status", str(desk.journal), "--follow", "--json")
    status = desk.run("status", str(desk.journal))
    assert f"running, by process {process.pid}" in status.stdout
    replayed = desk.run("replay", str(desk.journal), "--json")
    assert last_json(replayed.stdout)["counts"]["valid"] >= 3
    history = desk.run("history", str(desk.journal), "file 00.txt")
    assert "it was accepted by the validator" in history.stdout
    desk.go_on()
    followed, _ = follower.communicate(timeout=60)
    assert last_json(followed)["session"] == "complete"
    assert followed.count("\n") >= 2
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_validator_of_its_own_process_serves_the_delivery(desk):
    (desk.root / "archive").mkdir()
    places = [str(desk.root / "archive"), "--dataset", "d", "--delivery-id", "1"]
    validator = desk.start("validate-local", *places, "--check", "slow:check")
    assert validator.stderr is not None
    assert "waiting for a session" in validator.stderr.readline()
    (desk.data / "bad").write_text("bad")
    desk.index()
    done = desk.run(*desk.deliver, "--json")  # names no check of its own
    assert done.returncode == 1, done.stderr
    assert [file["relpath"] for file in last_json(done.stdout)["failed"]] == ["bad"]
    _, err = validator.communicate(timeout=30)
    assert validator.returncode == 0, err


def test_a_validator_does_not_wait_for_ever_at_a_place_that_was_mistyped(desk):
    done = desk.run("validate-local", "nowhere", "--dataset", "d", "--delivery-id", "1")
    assert done.returncode == 2
    assert "there is no directory nowhere" in done.stderr
    assert not (desk.root / "nowhere").exists()


def test_a_waiting_validator_ends_by_a_signal(desk):
    (desk.root / "archive").mkdir()
    validator = desk.start("validate-local", str(desk.root / "archive"), "--dataset", "d", "--delivery-id", "1")
    assert validator.stderr is not None
    validator.stderr.readline()
    validator.send_signal(signal.SIGTERM)
    validator.communicate(timeout=30)
    assert validator.returncode == 130
