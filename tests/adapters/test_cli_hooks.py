"""`--on-finish` and `--metrics`: what other programs are told, and that they cannot change how a delivery ended."""

import json
import shlex
import sys

import pytest

from tests.command_line import Desk


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, count=2)
    desk.index()
    return desk


def program(desk, source):
    path = desk.root / "hook.py"
    path.write_text(source)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def test_the_command_gets_the_summary_and_the_outcome(desk):
    hook = program(
        desk, "import os, sys; open('told', 'w').write(sys.stdin.read() + os.environ['UPLOAD_CORE_OUTCOME'])"
    )
    assert desk.run(*desk.deliver, "--on-finish", hook).returncode == 0
    summary, outcome = (desk.root / "told").read_text().split("\n")
    assert json.loads(summary)["counts"]["valid"] == 2
    assert outcome == "complete"


@pytest.mark.parametrize("command", ["false", "/no/such/program", "'unbalanced", ""])
def test_a_command_that_fails_is_a_warning_and_changes_no_exit_code(desk, command):
    done = desk.run(*desk.deliver, "--on-finish", command)
    assert done.returncode == 0
    assert "--on-finish" in done.stderr


def test_no_shell_reads_it(desk):
    done = desk.run(*desk.deliver, "--on-finish", "echo $(touch harm) ; touch harm")
    assert done.returncode == 0
    assert not (desk.root / "harm").exists()


def test_it_is_told_of_a_delivery_that_failed_and_of_one_that_is_resumed(desk):
    hook = program(desk, "import sys; open('told', 'a').write(sys.stdin.read())")
    (desk.data / "bad").write_text("bad")
    desk.run("index", "data", "-o", "index.csv")
    assert desk.run(*desk.deliver_slowly, "--on-finish", hook).returncode == 1
    assert desk.run("resume", str(desk.journal), "--on-finish", hook).returncode == 1
    told = [json.loads(line) for line in (desk.root / "told").read_text().splitlines()]
    assert [summary["exit_code"] for summary in told] == [1, 1]


def test_the_metrics_file_is_there_and_a_place_that_cannot_be_written_is_a_warning(desk):
    assert desk.run(*desk.deliver, "--metrics", "m.prom").returncode == 0
    assert 'state="valid"} 2' in (desk.root / "m.prom").read_text()
    done = desk.run("resume", str(desk.journal), "--metrics", "no/m.prom")
    assert done.returncode == 0
