"""Small faults put into the core, one at a time, and whether its tests notice: `python -m tests.reliability.mutation`.

A mutant is one change to a module's syntax tree. Each is tried in a process of its own, forked from one that has loaded
everything but the core, so that a try costs what its tests cost. What lives on is printed with its place; such a line is
either a missing test or a change that changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]

_TORTURE: Final = "tests/adapters/test_journal_torture.py"
_SESSIONS: Final = (
    "tests/core/test_engine.py",
    "tests/core/test_pauses.py",
    "tests/core/test_client.py",
    "tests/reliability/test_found_by_simulation.py",
    "tests/crash/test_faults.py",
    "tests/crash/test_suspensions.py",
)
TESTS: Final[dict[str, tuple[str, ...]]] = {
    "lifecycle": ("tests/core/test_lifecycle.py", "tests/core/test_replay.py", "tests/reliability/test_model.py"),
    "verdicts": (
        "tests/core/test_verdicts.py",
        "tests/reliability/test_model.py",
        "tests/reliability/test_hostile_log.py",
    ),
    "recovery": ("tests/core/test_recovery.py", "tests/reliability/test_model.py"),
    "retry": ("tests/core/test_retry.py", "tests/reliability/test_model.py"),
    "owner_lock": ("tests/core/test_owner_lock.py",),
    "logs": ("tests/core/test_logs.py",),
    "journal": (
        "tests/core/test_journal_codec.py",
        "tests/adapters/test_journal_format.py",
        "tests/adapters/test_journal_cuts.py",
        "tests/core/test_replay.py",
        f"{_TORTURE}::test_a_sealed_record_whose_number_cannot_be_read_is_damage",
        f"{_TORTURE}::test_each_record_has_a_line_of_its_own_though_the_decoder_would_not_mind",
        f"{_TORTURE}::test_every_forged_but_sealed_record_gives_a_typed_error",
    ),
    "delivery": (
        "tests/core/test_delivery.py",
        "tests/reliability/test_model.py",
        "tests/core/test_replay.py",
        "tests/adapters/test_journal_format.py",
    ),
    "transfers": (
        "tests/core/test_delivery.py",
        "tests/core/test_uploads.py",
        "tests/core/test_failure_rows.py",
        "tests/reliability/test_model.py",
    ),
    "validation": ("tests/core/test_validation.py",),
    "engine": _SESSIONS,
    "closing": ("tests/core/test_closing.py", *_SESSIONS),
}
"""Module of the core → the quick tests that ought to notice a fault in it, the quickest first."""

TIMEOUT_S: Final = 60
SLOWEST: Final = 10
"""A mutant that runs for ever is noticed, too: for this long, and as many times as long as the tests take without it."""

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.FloorDiv: ast.Mult,
}


class Mutant(NamedTuple):
    """One change: where, what, and the tree that it makes."""

    module: str
    line: int
    what: str
    tree: ast.Module


# --- making them ----------------------------------------------------------------------------------


def _places(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node whose change could matter: no types, no texts of messages, nothing that only a type checker sees."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            continue
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            if isinstance(node, ast.Assert) and name == "msg":
                continue
            if isinstance(node, ast.ClassDef) and name == "keywords":
                continue  # frozen, gc and their like: promises to readers and to the allocator
            if isinstance(node, ast.Raise):
                continue  # what an error says is for people to judge
            children = value if isinstance(value, list) else [value]
            pending.extend(child for child in children if isinstance(child, ast.AST))


Change = tuple[str, Callable[[], None], Callable[[], None]]
"""Its name, how to make it, how to take it back."""


def _set(holder: Any, name: str, value: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    old = getattr(holder, name)
    return lambda: setattr(holder, name, value), lambda: setattr(holder, name, old)


def _put(items: list[Any], at: int, value: list[Any]) -> tuple[Callable[[], None], Callable[[], None]]:
    old = list(items)
    return lambda: items.__setitem__(slice(at, at + 1), value), lambda: items.__setitem__(slice(None), old)


def _changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                other = _COMPARED[type(op)]
                yield (f"{type(op).__name__} -> {other.__name__}", *_put(ops, at, [other()]))
        case ast.BoolOp(op=op):
            made: ast.boolop = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield (f"{type(op).__name__} -> {type(made).__name__}", *_set(node, "op", made))
        case ast.BinOp(op=op) if type(op) in _COMPUTED:
            yield (f"{type(op).__name__} -> {_COMPUTED[type(op)].__name__}", *_set(node, "op", _COMPUTED[type(op)]()))
        case ast.Constant(value=bool() as value):
            yield (f"{value} -> {not value}", *_set(node, "value", not value))
        case ast.Constant(value=int() as value):
            yield (f"{value} -> {value + 1}", *_set(node, "value", value + 1))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare):  # its operator is changed anyway
                yield ("the condition negated", *_set(node, "test", ast.UnaryOp(ast.Not(), test)))
        case ast.comprehension(ifs=ifs):
            for at in range(len(ifs)):
                yield ("a filter dropped", *_put(ifs, at, []))
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ("nothing returned", *_set(node, "value", ast.Constant(None)))
        case ast.Tuple(elts=elts) | ast.List(elts=elts) if len(elts) > 2 and all(isinstance(e, ast.Call) for e in elts):
            for at in range(len(elts)):
                yield (f"row {at + 1} dropped", *_put(elts, at, []))
        case _:
            pass
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(node, name, None)
        if isinstance(statements, list):
            for at, statement in enumerate(statements):
                if _may_go(statement):
                    gone = ast.copy_location(ast.Pass(), statement)
                    yield (f"without `{ast.unparse(statement)[:60]}`", *_put(statements, at, [gone]))


def _may_go(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.Assign):
        return any(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    return isinstance(statement, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module of the core, in the order of its lines."""
    tree = ast.parse((ROOT / "upload_core" / f"{module}.py").read_text("utf-8"))
    for node in _places(tree):
        for what, make, undo in _changes(node):
            make()
            changed = ast.fix_missing_locations(copy.deepcopy(tree))
            undo()
            yield Mutant(module, getattr(node, "lineno", 0), what, changed)


# --- trying them ----------------------------------------------------------------------------------


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = f"upload_core.{mutant.module}"
        self._file = str(ROOT / "upload_core" / f"{mutant.module}.py")
        self._tree = mutant.tree

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, self._file, "exec"), module.__dict__)


def _try(mutant: Mutant | None, tests: tuple[str, ...]) -> int:
    """pytest's exit code; runs in the child."""
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, _Changed(mutant))
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    # Without the plugins that spread, time or cache: a fork has no use for them.
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout"]
    options += ["-o", "filterwarnings=ignore", "-o", "addopts=--import-mode=importlib"]
    return int(pytest.main([*options, *tests]))


def noticed(mutant: Mutant | None, tests: tuple[str, ...], patience_s: float = 3_600.0) -> bool:
    """Whether these tests fail with the mutant, or are not through in time; with None, whether they fail at all."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)  # what the tests start goes with it
            code = _try(mutant, tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _preload() -> None:
    """Everything that is slow to import and no part of the core; and the small size, whatever the size of our own run."""
    os.environ["HYPOTHESIS_PROFILE"] = "quick"
    for name in ("UPLOAD_CORE_SIZE", "UPLOAD_CORE_PROMISES", "UPLOAD_CORE_RECORD_FIGURES"):
        os.environ.pop(name, None)
    for name in (
        "hypothesis",
        "hypothesis.stateful",
        "pytest",
        "msgspec",
        "attrs",
        "transitions",
        "yaml",
        "filelock",
        "boto3",
        "pycurl",
        "pandas",
    ):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def run(modules: list[str], sample: int, seed: int) -> dict[str, Any]:
    """Try the mutants of these modules, or a sample of them; the survivors and the counts."""
    _preload()
    assert "upload_core" not in sys.modules, "a fork could not change what is loaded already"
    counts: dict[str, list[int]] = {}
    survivors: list[str] = []
    for module in modules:
        began = time.monotonic()
        assert not noticed(None, TESTS[module]), f"the tests of {module} fail without a mutant"
        patience_s = max(TIMEOUT_S, SLOWEST * (time.monotonic() - began))
        made = list(mutants(module))
        if sample and sample < len(made):
            made = Random(seed).sample(made, sample)
        killed = 0
        for mutant in made:
            if noticed(mutant, TESTS[module], patience_s):
                killed += 1
            else:
                survivors.append(f"{module}.py:{mutant.line}: {mutant.what}")
                print(survivors[-1], file=sys.stderr, flush=True)
        counts[module] = [killed, len(made)]
        print(f"{module}: {killed} of {len(made)}", file=sys.stderr, flush=True)
    return {"counts": counts, "survivors": survivors}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[*TESTS])
    parser.add_argument("--sample", type=int, default=0, help="so many of each module; 0 tries all")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.chdir(ROOT)
    print(json.dumps(run(given.modules or [*TESTS], given.sample, given.seed)))
