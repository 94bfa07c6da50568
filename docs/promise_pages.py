"""Blocks of the page of promises: which tests hold one, by the marks that the tests themselves carry."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the table of promises stands among the tests

from tests.promises import PROMISES  # noqa: E402 - after the line that makes it importable


def marked(source: str) -> dict[str, str]:
    """Promise -> the first test of a module that carries its mark; on a class or module it counts, too.

    >>> marked("@pytest.mark.promise('R1')\\ndef test_it(): ...")
    {'R1': 'test_it'}
    """
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        marks = getattr(node, "decorator_list", [])
        for mark in marks:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
                for number in mark.args:
                    if isinstance(number, ast.Constant):
                        found.setdefault(str(number.value), node.name)  # type: ignore[attr-defined]
    return found


def holders() -> dict[str, list[Path]]:
    """Promise -> the files with tests that hold it."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for number in marked(path.read_text("utf-8")):
            found.setdefault(number, []).append(path)
    return found


def held_by(*numbers: str) -> str:
    """A list of these promises with links to the files that hold them."""
    files = holders()
    lines = []
    for number in numbers:
        links = [f"[{path.stem}](../../{path.relative_to(ROOT).as_posix()})" for path in files.get(number, [])]
        lines.append(f"- {number}: {PROMISES[number].says.rstrip('.')}" + (f" ({', '.join(links)})" if links else ""))
    return "\n".join(lines)
