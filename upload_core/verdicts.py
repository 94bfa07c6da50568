"""Decisions about what the validator writes: each log entry becomes an event.

`VERDICTS` says what a verdict means in each state of a file. No entry, however odd, stops the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from upload_core import commands as cmd
from upload_core import events as ev
from upload_core.commands import NOTHING, Decision
from upload_core.lifecycle import FILE_STATES, FILE_TABLE, REPORTED
from upload_core.validation import Entry, MalformedLine

if TYPE_CHECKING:
    from upload_core.delivery import Delivery

Meaning = Literal["accept", "reject", "irregular", "contradiction", "repeat", "defer"]

VERDICTS: Final[dict[str, dict[bool, Meaning]]] = {
    # state           ok           not ok
    "ready": {True: "irregular", False: "reject"},
    "unresolved": {True: "defer", False: "defer"},
    "pending": {True: "irregular", False: "reject"},
    "transferring": {True: "irregular", False: "reject"},
    "failed": {True: "irregular", False: "reject"},
    "abandoned": {True: "irregular", False: "reject"},
    "done": {True: "accept", False: "reject"},
    "reported": {True: "accept", False: "reject"},
    "valid": {True: "repeat", False: "contradiction"},
    "invalid": {True: "contradiction", False: "repeat"},
}
"""File state -> whether the verdict is ok -> what it means while a run is under way."""

NEVER_SENT: Final = frozenset({"ready", "failed", "abandoned"})
CATCHING_UP: Final = frozenset({"connecting", "connected"})
"""Before a session has a run, verdicts belong to earlier ones: of a file never sent by this journal they say
that somebody sent it, which the archive is asked about, not that the validator is irregular."""


def meaning_of(state: str, *, ok: bool, catching_up: bool) -> Meaning:
    """What a verdict means for a file in that state."""
    if catching_up and state in NEVER_SENT:
        return "defer"
    return VERDICTS[state][ok]


_MEANINGS: Final = {
    (catching_up, ok): tuple(meaning_of(state.name, ok=ok, catching_up=catching_up) for state in FILE_STATES)
    for catching_up in (True, False)
    for ok in (True, False)
}
"""The same by the state's code: looked up once for each of a million verdicts."""


def _verdict(file: int, state: str, entry: Entry, meaning: Meaning) -> ev.FileEvent:
    said = entry.message or entry.status
    match meaning:
        case "accept":
            return ev.FileValidated(file)
        case "reject":
            return ev.FileInvalidated(file, said)
        case "irregular":
            return ev.FileInvalidated(file, f"the validator reports it {entry.status}, but it was not sent ({state})")
        case "contradiction":
            return ev.FileInvalidated(
                file, f"the validator contradicts itself: the file was {state}, now it says {entry.status}: {said}"
            )
        case "repeat":
            return ev.VerdictRepeated(file)
        case "defer":
            return ev.VerdictDeferred(file, entry.status, entry.message)


def _session_entry(entry: Entry, *, awaited: bool, agent: str) -> ev.Event:
    """The event of an entry that concerns no file; `awaited` says that the run we asked for has not spoken yet.

    Its first words are an `init` row. What ends before them is an earlier run: the archive's validator gives its lock
    back before it writes its last rows, so the next run may have been asked for by then. `agent` wrote that row, if it
    has been read: what another one says of its own start and end is not the end of this run. Such a one was started
    beside it, and left when it found the lock taken.
    """
    ends = entry.category in ("shutdown", "stop") or (entry.category == "init" and entry.status != ev.OK)
    if ends and agent and entry.agent_id != agent:
        return ev.LogEntryNoted(entry.category, entry.ref, entry.status, entry.message)
    if entry.category == "init" and entry.status != ev.OK:
        # its ref names what it stumbled over: itself, the lock, the label or the index
        return ev.ValidatorStartFailed(entry.message or f"{entry.ref}: {entry.status}")
    if entry.ref == "self":
        match entry.category:
            case "init":
                return ev.ValidatorStarted(entry.message, entry.agent_id)
            case "keepalive":
                return ev.ValidatorKeptAlive(entry.message)
            case "shutdown" if not awaited:
                return ev.ValidatorShutDown(entry.status, entry.message)
            case "stop" if not awaited:
                return ev.ValidatorStopped()
            case _:
                pass
    return ev.LogEntryNoted(entry.category, entry.ref, entry.status, entry.message)


def validator_log_found(d: Delivery, found: cmd.ValidatorLogFound, now_ms: int) -> Decision:
    """One event for each entry, then the new position; together they are one batch, so no entry is consumed twice."""
    events: list[ev.Event] = []
    if found.restarted:
        events.append(ev.ValidatorLogRestarted(found.restarted))
    catching_up = d.client_state in CATCHING_UP
    confirmed = d.facts.run_confirmed or catching_up
    awaited = d.facts.run_open and not d.facts.run_started
    agent = "" if awaited else d.facts.validator_agent
    codes: dict[int, int] = {}  # states as they will be, once the events so far are applied
    states, find = d.states, d.find
    verdicts = 0
    for entry in found.entries:
        if isinstance(entry, MalformedLine):
            events.append(ev.LogLineRejected(entry.offset, entry.reason, entry.text))
            continue
        if entry.category != "validation":
            event = _session_entry(entry, awaited=awaited, agent=agent)
            events.append(event)
            if isinstance(event, ev.ValidatorStarted):
                agent = event.agent
            awaited = awaited and entry.category != "init"
            continue
        verdicts += 1
        file = find(entry.ref)
        if file is None:
            events.append(ev.UnexpectedVerdictFound(entry.ref, entry.status, entry.message))
            continue
        code = codes[file] if file in codes else states[file]
        if code == REPORTED and not confirmed:
            confirmed = True
            events.append(ev.RunConfirmed())
        event = _verdict(file, FILE_STATES[code].name, entry, _MEANINGS[catching_up, entry.status == ev.OK][code])
        codes[file] = FILE_TABLE[type(event).__name__][code]
        events.append(event)
    if not events and found.offset == d.facts.validator_log_offset:
        return NOTHING
    events.append(ev.ValidatorLogRead(found.offset, verdicts, found.mark))
    return Decision(events)
