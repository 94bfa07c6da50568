"""Every program in `examples/` runs, delivers everything, and may be run again."""

import subprocess
import sys

import pytest

from tests.command_line import ROOT, contents, environment

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_delivers_everything_and_may_be_run_again(example, tmp_path):
    data, archive = tmp_path / "data", tmp_path / "archive"
    for number in range(5):
        (data / str(number)).mkdir(parents=True)
        (data / str(number) / "file.txt").write_text(f"content {number}\n")
    arguments = [str(data), str(archive)]
    if example.stem == "as_a_task":
        index = tmp_path / "index.csv"
        index.write_text("path\n" + "".join(f"{number}/file.txt\n" for number in range(5)))
        arguments = [str(data), str(index), str(archive), str(tmp_path / "journal")]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(example), *arguments], env=environment(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
    [stored] = archive.glob("example-*-staging")
    assert contents(stored) == contents(data)
