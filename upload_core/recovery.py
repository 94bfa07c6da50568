"""What to do about the past: two tables, each with exactly one row for every combination.

`FILE_CASES`: what the journal says of a file x what the archive holds x an earlier verdict -> event.
`RUN_CASES`: what the journal says of the validation run x whether a validator is at work -> next step.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from upload_core import events as ev
from upload_core.effects import ArchiveHolds
from upload_core.lifecycle import FILE_STATES, UNRESOLVED


class Verdict(Enum):
    """The last word of an earlier validation run on a file."""

    NONE = "none"
    OK = "ok"
    NOT_OK = "not ok"


ALL_STATES: Final = frozenset(state.name for state in FILE_STATES)
OPEN_STATE: Final = frozenset({FILE_STATES[UNRESOLVED].name})


class FileCase(NamedTuple):
    """One row: `event` None leaves the file as it is."""

    label: str
    states: frozenset[str]
    holds: frozenset[ArchiveHolds]
    verdicts: frozenset[Verdict]
    event: type[ev.FileEvent] | None
    why: str


_H, _V = ArchiveHolds, Verdict
FILE_CASES: Final = (
    FileCase("settled", ALL_STATES - OPEN_STATE, frozenset(_H), frozenset(_V), None, "the journal knows better"),
    FileCase("no answer", OPEN_STATE, frozenset({_H.UNKNOWN}), frozenset(_V), None, "it is asked again"),
    FileCase(
        "accepted",
        OPEN_STATE,
        frozenset({_H.EQUAL}),
        frozenset({_V.OK}),
        ev.FileFoundValid,
        "what the validator accepted is what is stored: never sent again",
    ),
    FileCase(
        "stored",
        OPEN_STATE,
        frozenset({_H.EQUAL}),
        frozenset({_V.NONE, _V.NOT_OK}),
        ev.FileFoundStored,
        "the bytes are there: announced without being sent",
    ),
    FileCase(
        "not stored",
        OPEN_STATE,
        frozenset({_H.NOTHING, _H.DIFFERENT}),
        frozenset(_V),
        ev.FileFoundMissing,
        "the archive does not hold the file as indexed: it is sent",
    ),
)


def file_case(state: str, holds: ArchiveHolds, verdict: Verdict) -> FileCase:
    """The one row that matches; raises `AssertionError` if the table were not total and unambiguous."""
    found = [c for c in FILE_CASES if state in c.states and holds in c.holds and verdict in c.verdicts]
    assert len(found) == 1, f"{len(found)} rows of FILE_CASES match {state}, {holds}, {verdict}"
    return found[0]


class Run(Enum):
    """What the journal says of the latest validation run."""

    NONE = "never asked for"
    REQUESTED = "asked for, not known to have started"
    REQUEST_OUTDATED = "asked for, not known to have started, and a file that it does not expect is open again"
    STARTED = "started"
    OUTDATED = "started, and a file that it judged or does not expect is open again"
    ENDING = "told to stop, not known to have ended"
    REFUSED = "asked for more than once, and refused at last"
    OVER = "over"
    DISMISSED = "over, and our stop row is out"


class RunStep(Enum):
    """How a session gets its validation run."""

    START = "start a new run"
    START_AGAIN = "ask for the same run again, under the same key"
    ATTACH = "go on in the run at work"
    AWAIT_END = "wait for the run's end, then start a new one"
    END_ORPHAN = "end the run that nobody drives, then start a new one"
    AWAIT_BEGIN = "wait until the run can no longer begin, or end it if it does; then start a new one"


class RunCase(NamedTuple):
    """One row of the attach decision."""

    run: Run
    validator_at_work: bool
    step: RunStep
    why: str


RUN_CASES: Final = (
    RunCase(Run.NONE, False, RunStep.START, "the ordinary beginning"),
    RunCase(Run.NONE, True, RunStep.END_ORPHAN, "it was told of files by a journal that is gone"),
    RunCase(Run.REQUESTED, False, RunStep.START_AGAIN, "the request or its answer was lost"),
    RunCase(
        Run.REQUESTED,
        True,
        RunStep.START_AGAIN,
        "it has not begun since it was asked for, and so may be an earlier one: its first word decides",
    ),
    RunCase(
        Run.REQUEST_OUTDATED,
        False,
        RunStep.AWAIT_BEGIN,
        "it may come up yet, read the index before it is written anew, and would die of that file",
    ),
    RunCase(Run.REQUEST_OUTDATED, True, RunStep.END_ORPHAN, "it has read the index before, and would die of that file"),
    RunCase(Run.STARTED, False, RunStep.START, "the validator ended with the process that drove it, or died"),
    RunCase(Run.STARTED, True, RunStep.ATTACH, "what it was told is in our log: nothing is told twice"),
    RunCase(Run.OUTDATED, False, RunStep.START, "it ended with the process that drove it, or died"),
    RunCase(Run.OUTDATED, True, RunStep.END_ORPHAN, "it would die of being told of that file"),
    RunCase(Run.ENDING, False, RunStep.START, "it has ended, or died, after our stop row"),
    RunCase(Run.ENDING, True, RunStep.AWAIT_END, "it judges nothing new, and a second stop row could kill it"),
    RunCase(
        Run.REFUSED,
        False,
        RunStep.AWAIT_BEGIN,
        "an earlier request may have taken effect, and a second run would come up beside it",
    ),
    RunCase(Run.REFUSED, True, RunStep.END_ORPHAN, "an earlier request had taken effect; it was given up since"),
    RunCase(Run.OVER, False, RunStep.START, "the last run ended in order"),
    RunCase(Run.OVER, True, RunStep.END_ORPHAN, "it outlived the run that the journal knows"),
    RunCase(Run.DISMISSED, False, RunStep.START, "the last run ended in order"),
    RunCase(
        Run.DISMISSED,
        True,
        RunStep.AWAIT_END,
        "it has yet to read our stop row, and two would kill it; one that came up after that row loses its patience",
    ),
)


def run_step(run: Run, *, validator_at_work: bool) -> RunStep:
    """The one row that matches; raises `AssertionError` if the table were not total and unambiguous."""
    found = [c for c in RUN_CASES if c.run is run and c.validator_at_work == validator_at_work]
    assert len(found) == 1, f"{len(found)} rows of RUN_CASES match {run}, {validator_at_work}"
    return found[0].step
