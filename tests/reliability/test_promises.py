"""Every promise is shown by a test that carries its number."""

import ast
from pathlib import Path

from tests.promises import PROMISES

TESTS = Path(__file__).resolve().parent.parent


def marked() -> set[str]:
    """The promises that some test is marked with."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.promise"):
                found.update(argument.value for argument in node.args if isinstance(argument, ast.Constant))  # type: ignore[misc]
    return found


def test_each_promise_is_shown_by_a_test_and_each_marked_test_shows_one():
    assert marked() == PROMISES.keys()


def test_the_promises_are_numbered_without_a_gap():
    assert list(PROMISES) == [f"R{number}" for number in range(1, 24)]
