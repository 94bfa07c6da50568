"""The README is true: its commands print what it shows, and its program delivers."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import ROOT, environment
from upload_adapters.cli.demo_data import fits

README = (ROOT / "README.md").read_text("utf-8")
SCREEN_LINES = 48


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with what it prints."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def without_figures_of_the_day(text: str) -> str:
    text = re.sub(r"\d+\.\d s\b", "0.0 s", text)
    return re.sub(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", re.sub(r"\b(record )?\d+(?= (records|of TIME|of 20))", r"\1N", text)
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that a reader of the README works in: four images, `upload-core` on the path."""
    root = tmp_path_factory.mktemp("readme")
    (root / "images").mkdir()
    for number in range(1, 5):
        (root / "images" / f"m31_{number:04d}.fits").write_bytes(fits("M31", number))
    (root / "bin").mkdir()
    script = root / "bin" / "upload-core"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upload_adapters.cli "$@"\n')
    script.chmod(0o755)
    return root


def run(desk: Path, *arguments: str) -> str:
    env = environment()
    env["PATH"] = f"{desk / 'bin'}:{env['PATH']}"
    done = subprocess.run(
        arguments, cwd=desk, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    return done.stdout


def test_the_commands_print_what_the_readme_shows_and_the_program_delivers_the_same(desk):
    first, second = blocks("console")
    (program,) = blocks("python")
    (printed,) = blocks("text")
    for command, output in commands(first):
        assert without_figures_of_the_day(run(desk, "sh", "-c", command)) == without_figures_of_the_day(output), command
    assert run(desk, sys.executable, "-W", "error", "-c", program) == printed
    for command, output in commands(second):
        assert without_figures_of_the_day(run(desk, "sh", "-c", command)) == without_figures_of_the_day(output), command


def test_the_first_screen_shows_what_it_is_the_commands_and_the_program():
    screen = "\n".join(README.splitlines()[:SCREEN_LINES])
    for needed in (
        "Delivers a directory",
        "make demo",
        "make test",
        "upload-core index",
        "upload-core deliver",
        "UploadClient",
        "complete 4 of 4",
    ):
        assert needed in screen


def test_the_program_is_ten_lines():
    (program,) = blocks("python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10


def test_every_page_and_command_it_names_exists():
    from upload_adapters.cli import COMMANDS

    for page in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / page).exists(), page
    for command in re.findall(r"upload-core ([a-z-]+)", README):
        assert command in COMMANDS
