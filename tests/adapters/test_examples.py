"""Every program and notebook in `examples/` runs, delivers everything, and may be run again."""

import ast
import json
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


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def shown_by(notebook):
    """Run the cells in order in one namespace, as a kernel does; what the last line of each shows."""
    namespace: dict[str, object] = {}
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert (cell["outputs"], cell["execution_count"]) == ([], None), "outputs are not kept"
        parsed = ast.parse("".join(cell["source"]))
        last = parsed.body[-1]
        if isinstance(last, ast.Expr):
            parsed.body.pop()
        exec(compile(parsed, notebook.name, "exec"), namespace)
        if isinstance(last, ast.Expr):
            yield eval(compile(ast.Expression(last.value), notebook.name, "eval"), namespace)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_a_delivery_and_may_be_run_again(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        index, client, outcome, state, sizes = shown_by(notebook)
        assert len(index) == 5
        assert outcome == "complete"
        assert "the client is" in client._repr_html_()
        assert "valid" in state._repr_html_()
        assert sizes.to_dict() == {"valid": 5 * 2880}
    assert len(contents(tmp_path / "archive" / "notebook-1-staging")) == 5


def test_there_is_an_example_of_each_kind():
    assert len(EXAMPLES) == 3
    assert len(NOTEBOOKS) == 1
