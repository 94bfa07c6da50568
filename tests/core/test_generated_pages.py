"""The pages draw their diagrams and tables from the code, and this fails when one is older than the code."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from upload_core import events as ev
from upload_core.lifecycle import client_machine, file_machine

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load_tables():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()
PAGES = {
    "lifecycle.md": [
        "file_states",
        "file_diagram",
        "file_triggers",
        "client_states",
        "client_diagram",
        "client_triggers",
    ],
    "events.md": ["events"],
    "recovery.md": ["file_cases", "run_cases", "fault_rules", "verdict_rules", "exit_codes"],
}


@pytest.mark.parametrize(("page", "part"), [(page, part) for page, parts in PAGES.items() for part in parts])
def test_the_page_holds_the_block_as_the_code_says_it_now(page, part):
    text = DOCS.joinpath(page).read_text("utf-8")
    assert f"cog.outl(tables.{part}())" in text
    assert tables.page_parts()[part]() in text, "stale: make fix writes it anew"


def test_every_block_is_on_a_page():
    assert {part for parts in PAGES.values() for part in parts} == set(tables.page_parts())


def test_cog_itself_calls_a_stale_page_stale(tmp_path):
    page = tmp_path / "lifecycle.md"
    text = DOCS.joinpath("lifecycle.md").read_text("utf-8")
    for changed, code in ((text, 0), (text.replace("ready --> pending", "ready --> valid", 1), 5)):
        page.write_text(changed, "utf-8")
        command = [sys.executable, "-m", "cogapp", "-U", "--check", "-I", str(DOCS), str(page)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == code


@pytest.mark.parametrize("machine", [file_machine(), client_machine()], ids=["file", "client"])
def test_a_diagram_has_an_arrow_for_every_transition_of_its_machine(machine):
    drawn = tables.diagram(machine)
    count = 0
    for name in machine.events:
        for transition in machine.get_transitions(name):
            target = transition.dest or transition.source
            [arrow] = [
                line for line in drawn.splitlines() if line.strip().startswith(f"{transition.source} --> {target}:")
            ]
            assert any(label.partition(" [")[0] == name for label in arrow.partition(": ")[2].split("<br/>"))
            count += 1
    assert count > 30


def test_every_event_and_field_says_what_it_is():
    text = DOCS.joinpath("events.md").read_text("utf-8")
    for kind in ev.EVENTS:
        assert f"| `{kind.__name__}` |" in text
        assert kind.__doc__
        assert kind.__doc__.strip().endswith(".")
