"""The promises of reliability, as a table: what each says, how it is shown, and in how many cases at each size.

A test that shows one carries `@pytest.mark.promise("R1")`, asks the fixture `size` how much to do, and tells the fixture
`figure` what it counted. `UPLOAD_CORE_SIZE` chooses between `pr` (part of `make test`), `nightly` and `release`;
`UPLOAD_CORE_PROMISES="R3 R5"` runs the tests of these promises alone. A run of marked tests ends with the table of
figures and leaves it in `build/promises.json`; with `UPLOAD_CORE_RECORD_FIGURES=1` in `tests/promises.json`, too.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
import pytest

SIZES: Final = ("pr", "nightly", "release")
SIZE: Final = os.environ.get("UPLOAD_CORE_SIZE", "pr")
ONLY: Final = frozenset(os.environ.get("UPLOAD_CORE_PROMISES", "").split())
RECORDED: Final = Path(__file__).resolve().parent / "promises.json"
"""What was counted when somebody last set UPLOAD_CORE_RECORD_FIGURES=1: promise -> size -> words -> number; the page shows it."""
WRITTEN: Final = Path(__file__).resolve().parent.parent / "build" / "promises.json"


@attrs.frozen
class Promise:
    """One row: the promise in the words of a user, the test in the words of a developer."""

    says: str
    shown_by: str


PROMISES: Final = {
    "R1": Promise("Any order of faults ends right.", "deterministic simulation of core and client, crashes included"),
    "R2": Promise("The simulation can see.", "seeded bugs, each found"),
    "R3": Promise("The same seed gives the same bytes.", "journals of two runs compared"),
    "R4": Promise("A torn journal is repaired.", "journals cut at every byte, then resumed"),
    "R5": Promise("Damage is never silent.", "a bit flipped in every byte, sectors zeroed"),
    "R6": Promise("It may be killed at any time.", "SIGKILL at every call that writes, and at random"),
    "R7": Promise("A full or failing disk ends a run in order.", "ENOSPC and EIO at every call that writes"),
    "R8": Promise("It survives a power cut.", "real file systems that are shut down under it"),
    "R9": Promise("An outage costs time and nothing else.", "20 s, 5 min and 15 min at every request"),
    "R10": Promise("A request may go wrong in any way.", "kinds of request x faults"),
    "R11": Promise("Resuming a large file is cheap.", "kills at 10 to 90 % of a multipart upload"),
    "R12": Promise("A delivery has one holder.", "races for the lock on conditional writes"),
    "R13": Promise(
        "Nothing is written after the lock is lost.", "a client asleep past its lock, a rival, an awakening"
    ),
    "R14": Promise("Each log line is written once.", "answers lost on appends, crashes between append and journal"),
    "R15": Promise("Validation is started once.", "the start's answer lost, late, or given twice"),
    "R16": Promise("No changed file passes.", "kinds of change x kinds of upload x moments"),
    "R17": Promise("Hostile text harms nobody.", "every mutation of one byte of a validator's log"),
    "R18": Promise("No input breaks a reader.", "fuzzing of each format that comes from outside"),
    "R19": Promise("No secret leaks.", "canaries in every key and token, looked for everywhere"),
    "R20": Promise("No path leaves its root.", "hostile paths, a race of symbolic links"),
    "R21": Promise("It ends.", "faults that stop, and the steps still taken"),
    "R22": Promise("Old journals replay.", "a journal of each format; newer ones refused and untouched"),
    "R23": Promise("The tests reach the code.", "branch coverage, mutants of the core"),
}


def pytest_configure(config: pytest.Config) -> None:
    if SIZE not in SIZES:
        raise pytest.UsageError(f"UPLOAD_CORE_SIZE is {SIZE!r}; it must be one of {', '.join(SIZES)}")
    if unknown := ONLY - PROMISES.keys():
        raise pytest.UsageError(
            f"UPLOAD_CORE_PROMISES names {', '.join(sorted(unknown))}; there are R1 to R{len(PROMISES)}"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    others = []
    for item in items:
        shown: set[object] = set()
        for marker in item.iter_markers("promise"):
            assert marker.args, f"{item.nodeid} names no promise"
            assert set(marker.args) <= PROMISES.keys(), f"{item.nodeid} names a promise that nobody made"
            shown.update(marker.args)
        if ONLY and not shown & ONLY:
            others.append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


@pytest.fixture
def size() -> Callable[..., int]:
    """How much to do: `size(pr=100, nightly=1_000, release=10_000)`; without `release` it does what a night does."""

    def choose(*, pr: int, nightly: int, release: int | None = None) -> int:
        return {"pr": pr, "nightly": nightly, "release": nightly if release is None else release}[SIZE]

    return choose


@pytest.fixture
def figure(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note what was counted, as `figure(2_000, "seeds")`; numbers with the same words add up over a promise's tests."""
    numbers = [number for marker in request.node.iter_markers("promise") for number in marker.args]
    assert numbers, "only the test of a promise has a figure"

    def note(count: int, of_what: str, *, promise: str | None = None) -> None:
        for number in [promise] if promise else numbers:
            record_property("promise", [number, of_what, count])

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    failed = 0
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            told = [value for name, value in report.user_properties if name == "promise"]
            failed += outcome == "failed" and bool(told)
            for number, of_what, count in told:
                counts[number][of_what] += count
    if not counts:
        return
    terminalreporter.section(f"promises, size {SIZE}")
    for number, promise in PROMISES.items():
        figures = ", ".join(f"{count:,} {of_what}" for of_what, count in counts[number].items())
        terminalreporter.write_line(f"{number:<4} {promise.says:<45} {figures or '-'}")
    if failed:
        terminalreporter.write_line(f"{failed} of these tests failed; the figures are those of a broken promise")
        return
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text(json.dumps({"size": SIZE, "figures": counts}, indent=1) + "\n", "utf-8")
    if os.environ.get("UPLOAD_CORE_RECORD_FIGURES"):
        recorded = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
        for number in PROMISES:
            if counts[number] and (not ONLY or number in ONLY):  # of others only the tests that they share were run
                recorded.setdefault(number, {})[SIZE] = counts[number]
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", "utf-8")


def counted() -> list[list[str]]:
    """A row for each promise: what was counted at each size that somebody recorded, for the page."""
    recorded = json.loads(RECORDED.read_text("utf-8"))
    return [
        [number]
        + [
            ", ".join(f"{count:,} {what}" for what, count in recorded.get(number, {}).get(size, {}).items())
            for size in SIZES
        ]
        for number in PROMISES
    ]
