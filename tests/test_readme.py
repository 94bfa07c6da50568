"""The README is true: in a fresh clone, its commands install and deliver, and print what it shows."""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.command_line import ROOT
from tests.pages import Desk, blocks, checkout

README = (ROOT / "README.md").read_text("utf-8")
SCREEN_LINES = 40


def texts(language: str) -> list[str]:
    return [block.text for block in blocks(README) if block.language == language]


def needed(names: Iterable[str]) -> set[str]:
    """These packages and all that they need, by the names of their distributions."""
    found: set[str] = set()
    pending = [Requirement(name) for name in names]
    while pending:
        asked = pending.pop()
        name = canonicalize_name(asked.name)
        if name in found or (asked.marker is not None and not asked.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        pending += map(Requirement, distribution(name).requires or [])
    return found


def offline(root: Path) -> dict[str, str]:
    """What has pip build the clone from here, and find what it needs, and nothing else, as if it had been downloaded."""
    asked = re.search(r"pip install --quiet \. (.*)", README)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = [
        *project["project"]["dependencies"],
        *project["build-system"]["requires"],
        *(asked[1].split() if asked else []),
    ]
    dependencies = root / "dependencies"
    dependencies.mkdir()
    for name in needed(names):
        found = distribution(name)
        for top in {path.parts[0] for path in found.files or []} - {".."}:
            link = dependencies / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
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


def test_only_what_is_asked_for_stands_in_for_a_download():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"boto3", "botocore", "msgspec"} <= needed(project["dependencies"])
    assert {"pandas", "pytest"} & needed(project["dependencies"]) == set()
    assert {"pandas", "numpy"} <= needed(["pandas"])
