"""The README is true: in a fresh clone, its commands install and deliver, and print what it shows."""

import re
import site
from pathlib import Path

import pytest

from tests.command_line import ROOT
from tests.pages import Desk, blocks, checkout

README = (ROOT / "README.md").read_text("utf-8")
SCREEN_LINES = 40


def texts(language: str) -> list[str]:
    return [block.text for block in blocks(README) if block.language == language]


def offline(root: Path) -> dict[str, str]:
    """What has pip install the clone and nothing else, and the clone's dependencies be those of this environment."""
    dependencies = root / "dependencies"
    dependencies.mkdir()
    for directory in site.getsitepackages():
        for entry in Path(directory).iterdir():
            if not re.match(r"_?upload_(core|adapters)|.*\.pth$|pip", entry.name):
                (dependencies / entry.name).symlink_to(entry)
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return pip | {"PYTHONPATH": str(dependencies)}


@pytest.mark.slow
def test_in_a_fresh_clone_every_command_prints_what_the_readme_shows(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    checkout(clone)
    desk = Desk(clone, bare=True, env=offline(tmp_path))
    try:
        assert desk.follow((clone / "README.md").read_text("utf-8")) == []
        asked = "command -v upload-core; cd /; python -c 'import upload_core as u; print(u.__file__)'"
        where, _ = desk.shell.run(asked)
        assert [line for line in where.split() if not line.startswith(f"{clone}/venv/")] == []
    finally:
        desk.close()


def test_the_first_screen_shows_what_it_is_and_how_to_install_deliver_and_resume():
    screen = "\n".join(README.splitlines()[:SCREEN_LINES])
    for needed in (
        "Delivers a directory",
        "pip install",
        "upload-core index",
        "upload-core deliver",
        "complete: 4 files valid",
        "kill -9",
        "make demo",
    ):
        assert needed in screen


def test_the_program_is_ten_lines():
    (program,) = texts("python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10


def test_every_page_and_command_it_names_exists():
    from upload_adapters.cli import COMMANDS

    for page in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / page).exists(), page
    for command in re.findall(r"upload-core ([a-z-]+)", README):
        assert command in COMMANDS
