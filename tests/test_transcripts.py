"""Stories told at the shell: each transcript is typed again, line by line, and prints what it shows.

`UPLOAD_CORE_RECORD_ANSWERS=1 pytest tests/test_transcripts.py` writes the answers anew; read them before they are committed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import ROOT, environment

TRANSCRIPTS = sorted((ROOT / "tests" / "transcripts").glob("*.txt"))
RECORD = bool(os.environ.get("UPLOAD_CORE_RECORD_ANSWERS"))

CHECKS = """
def header(path, relpath):
    if relpath.endswith(("03.fits", "05.fits", "07.fits")) and b"SIMPLE" not in open(path, "rb").read():
        return ["SIMPLE is missing from the header"]
"""


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Each command, lines that go on with `> ` included, and what it printed."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        more = 1
        while more < len(lines) and lines[more].startswith("> "):
            more += 1
        command = lines[0] + "".join(line[2:] for line in lines[1:more])
        yield command, "".join(lines[more:])


def constant(text: str, root: Path) -> str:
    """Without what differs from run to run: places, times, amounts of the journal, names of the machine."""
    text = text.replace(str(root), "/data")
    text = re.sub(r"2\d{3}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3}(Z?)", r"2026-11-22T07:24:36.959\1", text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "0.1 s", text)
    text = re.sub(r'"seconds": [\d.]+', '"seconds": 0.1', text)
    text = re.sub(r"process \d+ on [\w.-]+", "process 4711 on vega", text)
    text = re.sub(r"digest [0-9a-f]{64}", f"digest {'0' * 64}", text)  # a later release may know more of a state
    text = re.sub(r"\brecord [\d,]+", "record 42", text)
    return re.sub(r"\b[\d,]+ records", "42 records", text)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(1, 9):
        (tmp_path / "images" / f"night_{number:02d}.fits").write_text(f"image {number}\n" * 100)
    (tmp_path / "checks.py").write_text(CHECKS)
    shutil.copytree(ROOT / "tests" / "data" / "journal-v1", tmp_path / "old")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "upload-core"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upload_adapters.cli "$@"\n')
    script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_typed_again_it_prints_the_same(transcript, desk):
    env = environment(PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
    env["PATH"] = f"{desk / 'bin'}:{env['PATH']}"
    told = transcript.read_text("utf-8")
    seen = []
    for command, _ in entries(told):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=desk,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        shown = constant(done.stdout.decode("utf-8"), desk)
        assert re.fullmatch(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]*", shown), "nothing may obey to what is printed"
        code = f"[exit code {done.returncode}]\n" if done.returncode else ""
        first, *more = command.splitlines(keepends=True)
        seen.append("$ " + first + "".join(f"> {line}" for line in more) + shown + code)
    if RECORD:
        transcript.write_text("".join(seen), "utf-8")
    assert "".join(seen) == told


def test_the_stories_are_there():
    assert [path.name[:2] for path in TRANSCRIPTS] == ["04", "05", "13", "14", "18"]
