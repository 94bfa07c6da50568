"""What the pages draw from the code: diagrams of the lifecycles and tables of rows, as Markdown.

Only cog blocks call this; a page whose block is older than the code fails `make check`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Sequence

import msgspec
from transitions import Machine

from upload_core import events as ev
from upload_core.effects import ArchiveHolds, Fault
from upload_core.lifecycle import (
    CLIENT_ROWS,
    CLIENT_STATES,
    FILE_ROWS,
    FILE_STATES,
    ClientState,
    FileState,
    Row,
    client_machine,
    file_machine,
)
from upload_core.outcomes import EXIT_CODES
from upload_core.recovery import FILE_CASES, RUN_CASES, Verdict
from upload_core.retry import FAULT_RULES
from upload_core.verdicts import VERDICTS


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; pipes in cells are escaped.

    >>> print(markdown(["a", "b"], [["1", "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    lines = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(
        "|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |" for line in cells
    )


def code(text: str) -> str:
    """Text as a name in a cell."""
    return f"`{text}`"


# --- lifecycles ----------------------------------------------------------------------------------


def diagram(machine: Machine, *, leave_out: Container[str] = (), loops: bool = True) -> str:
    """The machine's transitions as a mermaid state diagram; triggers between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for name in machine.events:
        if name in leave_out:
            continue
        for transition in machine.get_transitions(name):
            if not loops and transition.dest in (None, transition.source):
                continue
            guards = [f"{'' if c.target else 'no '}{c.func}".replace("_", " ") for c in transition.conditions]
            label = name + "".join(f" [{guard}]" for guard in guards)
            arrows.setdefault((transition.source, transition.dest or transition.source), []).append(label)
    lines = ["```mermaid", "stateDiagram-v2", "    direction TB", f"    [*] --> {machine.initial}"]
    for (source, target), labels in arrows.items():
        lines.append(f"    {source} --> {target}: {'<br/>'.join(labels)}")
    return "\n".join([*lines, "```"])


def file_diagram() -> str:
    """The lifecycle of a file."""
    return diagram(file_machine())


def client_diagram() -> str:
    """The lifecycle of the client, without what may happen in most states or changes none: the table has it."""
    common = {row.trigger.__name__ for row in CLIENT_ROWS if row.target and len(row.sources) > 5}
    return diagram(client_machine(), leave_out=common, loops=False)


def states(of: Iterable[FileState | ClientState]) -> str:
    """Every state and what it means; for files also the word that callers see."""
    rows, head = [], ["state", "meaning"]
    for state in of:
        if isinstance(state, FileState):
            head = ["state", "shown as", "meaning"]
            rows.append([code(state.name), code(state.shown_as), state.meaning])
        else:
            rows.append([code(state.name), state.meaning])
    return markdown(head, rows)


def file_states() -> str:
    """The states of a file."""
    return states(FILE_STATES)


def client_states() -> str:
    """The states of the client."""
    return states(CLIENT_STATES)


def triggers(rows: Iterable[Row]) -> str:
    """Every row: trigger, where it may come, where it leads to."""
    cells = []
    for row in rows:
        guard = "" if row.guard is None else f"{'no ' if row.negated else ''}{row.guard.replace('_', ' ')}"
        target = code(row.target) if row.target else "the same"
        cells.append([code(row.trigger.__name__), ", ".join(map(code, row.sources)), guard, target])
    return markdown(["event", "in", "if", "leads to"], cells)


def file_triggers() -> str:
    """The rows of the file lifecycle."""
    return triggers(FILE_ROWS)


def client_triggers() -> str:
    """The rows of the client lifecycle."""
    return triggers(CLIENT_ROWS)


# --- events --------------------------------------------------------------------------------------


def events() -> str:
    """Every kind of event: its fields, what it means."""
    return markdown(["kind", "fields", "meaning"], [[code(e.__name__), _fields(e), _meaning(e)] for e in ev.EVENTS])


def _fields(kind: type[ev.Event]) -> str:
    return ", ".join(code(field.name) + _default(field) for field in msgspec.structs.fields(kind)) or "–"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f" ({value!r} if absent)" if value != "" else " (empty if absent)"


def _meaning(kind: type[ev.Event]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


# --- decisions -----------------------------------------------------------------------------------


def file_cases() -> str:
    """What becomes of a file whose fate is in doubt."""
    rows = []
    for case in FILE_CASES:
        becomes = code(case.event.__name__) if case.event else "nothing"
        holds = "anything" if case.holds == frozenset(ArchiveHolds) else _words(h.value for h in case.holds)
        said = "anything" if case.verdicts == frozenset(Verdict) else _words(v.value for v in case.verdicts)
        doubtful = "`unresolved`" if len(case.states) == 1 else "any other"
        rows.append([case.label, doubtful, holds, said, becomes, case.why])
    return markdown(["case", "journal", "archive holds", "earlier verdict", "event", "because"], rows)


def _words(words: Iterable[str]) -> str:
    return " or ".join(sorted(words))


def run_cases() -> str:
    """How a session gets its validation run."""
    rows = [[c.run.value, "yes" if c.validator_at_work else "no", c.step.value, c.why] for c in RUN_CASES]
    return markdown(["journal says of the latest run", "validator at work", "step", "because"], rows)


def fault_rules() -> str:
    """What a failed attempt means."""
    rows = []
    for fault in Fault:
        rule = FAULT_RULES[fault]
        spends = "yes" if rule.event is ev.TransferFailed else "no"
        patience = f"then `TransferAbandoned` after {rule.patience} retry" if rule.patience is not None else ""
        rows.append([fault.value, code(rule.event.__name__), spends, "yes" if rule.outage else "no", patience])
    return markdown(["whose fault", "event", "spends a retry", "begins an outage", ""], rows)


def verdict_rules() -> str:
    """What the validator's word means."""
    return markdown(
        ["file is", "`ok` means", "anything else means"],
        [[code(state), meanings[True], meanings[False]] for state, meanings in VERDICTS.items()],
    )


def exit_codes() -> str:
    """How a session's end is told to a shell."""
    rows = sorted((code_, outcome, reason) for (outcome, reason), code_ in EXIT_CODES.items())
    return markdown(["exit code", "outcome", "reason"], [[str(n), code(o), r or "–"] for n, o, r in rows])


def page_parts() -> dict[str, Callable[[], str]]:
    """Every block by its name."""
    return {
        part.__name__: part
        for part in (
            file_diagram,
            client_diagram,
            file_states,
            client_states,
            file_triggers,
            client_triggers,
            events,
            file_cases,
            run_cases,
            fault_rules,
            verdict_rules,
            exit_codes,
        )
    }
