"""File names and a validator's words that act on terminals, spreadsheets and markup: shown everywhere, acting nowhere."""

import csv
import json
import os
import pty
import select
import subprocess
import unicodedata

import pytest

from tests.command_line import COMMAND, Desk, environment
from upload_adapters.console import TerminalConsole
from upload_adapters.state_dump import DirectoryStateDump

NAMES = [
    "[bold red]x[bold red]",
    "[link=evil.example]y[reverse]",
    ":bomb: {x} %s $HOME `id` <b>&amp;",
    "\u202egnp.exe",
    "a\u2028b\u2029c\u200b",
    "=HYPERLINK(1)",
    "-rf",
    "@SUM(1)",
    "e\u0301",
]
CHECK = r"""
WORDS = ["\x1b]0;owned\x07", "\x1b[2J\x1b[1;1H", "\x9b31m", "\rall valid", "[blink]x[/blink]", "\u202e", "=cmd|'/c calc'!A0", "\x00\x08"]

def check(path, relpath):
    return WORDS if relpath != "fine" else []
"""
ACTING = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def acting(text):
    """Every character that is no character to be read; line ends and tabs of our own are those."""
    return {char for char in text if char not in "\n\t" and unicodedata.category(char) in ACTING}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("desk"), count=0)
    for name in [*NAMES, "fine"]:
        (made.data / name).write_text(name)
    (made.root / "words.py").write_text(CHECK)
    made.index()
    return made


@pytest.fixture(scope="module")
def delivered(desk):
    done = desk.run(*desk.deliver, "--check", "words:check")
    assert done.returncode == 1, done.stderr
    return done


@pytest.mark.promise("R17")
def test_no_command_lets_text_from_outside_act(desk, delivered, figure):
    outputs = [delivered.stdout, delivered.stderr]
    journal = str(desk.journal)
    commands = [
        ["status", journal],
        ["replay", journal, "--files"],
        ["verify", journal],
        ["plan", "data", "index.csv"],
        *(["history", journal, "--", name] for name in NAMES[::3]),
    ]
    for command in commands:
        done = desk.run(*command)
        assert done.returncode in (0, 1), (command, done.stderr)
        outputs += [done.stdout, done.stderr]
    assert [(text[:60], acting(text)) for text in outputs if acting(text)] == []
    shown = "".join(outputs)
    assert "[bold red]x[bold red]" in shown, "markup is text"
    assert "\\u202egnp.exe" in shown
    assert "owned" in shown, "what was said is shown"
    figure(len(outputs), "outputs in which no text from outside acts")


@pytest.mark.promise("R17")
def test_json_for_programs_says_exactly_what_was_meant(desk, delivered, figure):
    """It is for machines: escaped as JSON escapes, and exact."""
    for command in (["status", str(desk.journal), "--json"], ["replay", str(desk.journal), "--files", "--json"]):
        out = desk.run(*command).stdout
        assert all(json.loads(line) for line in out.splitlines())
        assert {char for char in acting(out) if unicodedata.category(char) == "Cc"} == set()
    figure(2, "outputs for programs")


@pytest.mark.promise("R17")
def test_a_terminal_is_sent_only_what_we_mean(desk, figure):
    """On a terminal of its own, where colours and a live line are drawn: no sequence but ours."""
    parent, child = pty.openpty()
    to = f"file://{desk.root}/other"
    command = [*COMMAND, *desk.deliver[:-1], to, "--check", "words:check", "--journal", "other-journal"]
    process = subprocess.Popen(command, cwd=desk.root, env=environment(), stdin=child, stdout=child, stderr=child)
    os.close(child)
    seen = b""
    while True:
        if select.select([parent], [], [], 30)[0]:
            try:
                data = os.read(parent, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
    assert process.wait(30) == 1, seen
    os.close(parent)
    assert b"\x1b]0;owned" not in seen, "no title is set"
    assert b"\x1b[2J" not in seen, "no screen is cleared"
    assert "\x9b".encode() not in seen
    assert "\u202e".encode() not in seen
    assert b"\x1b[5m" not in seen, "nothing blinks"
    assert b"\x00" not in seen
    assert b"owned" in seen, "what was said is shown"
    figure(1, "terminals that were sent only what we mean")


@pytest.mark.promise("R17")
def test_a_dump_computes_nothing(tmp_path, figure):
    rows = [(name, "invalid", name) for name in [*NAMES, "\t=1", "\r=1", "+1", "\x1b[2J"]]
    place = DirectoryStateDump(tmp_path).write("state", ("relpath", "state", "message"), rows)
    with open(place, newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))[1:]
    assert len(found) == len(rows)
    for cell in (cell for row in found for cell in row):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert not acting(cell)
    figure(3 * len(rows), "cells of a dump")


def test_a_console_shows_markup_as_text(capsys):
    console = TerminalConsole()
    for name in NAMES:
        console.message(name, "error")
    shown = "".join(capsys.readouterr())
    assert "[bold red]x[bold red]" in shown
    assert not acting(shown)
