"""The two lifecycles, of a file and of the client, each declared once as a table of rows.

The rows are the program: `transitions` machines are built from them, the fast tables are derived from those machines,
the docs draw their diagrams from the machines, and tests walk every state x trigger x guard.
A trigger is the name of an event. What has no row is illegal: it raises and leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final, Literal, NamedTuple

from transitions import Machine

from upload_core import events as ev
from upload_core.errors import IllegalEventError

PublicFileState = Literal["ready", "pending", "failed", "transferring", "done", "valid", "invalid"]
Guard = Literal["retries_left"]
ILLEGAL: Final = 255
"""Code that the derived tables hold where no row exists; no state has it, so the next lookup fails as well."""


class FileState(NamedTuple):
    """A state of the file lifecycle; `shown_as` is the word that callers see."""

    name: str
    shown_as: PublicFileState
    meaning: str


FILE_STATES: Final = (
    FileState("ready", "ready", "to be sent; nothing of it is known to be in the archive"),
    FileState("unresolved", "ready", "may be in the archive already: the archive is asked before it is sent"),
    FileState("pending", "pending", "in line for a worker"),
    FileState("transferring", "transferring", "a worker is sending it"),
    FileState("failed", "failed", "the last attempt failed; it will be tried again"),
    FileState("abandoned", "failed", "all attempts failed, or no further one can help"),
    FileState("done", "done", "stored, not yet announced to the current validation run"),
    FileState("reported", "done", "stored and announced, not yet judged"),
    FileState("valid", "valid", "accepted by the validator"),
    FileState("invalid", "invalid", "rejected by the validator, or judged in an irregular way"),
)
READY, UNRESOLVED, PENDING, TRANSFERRING, FAILED, ABANDONED, DONE, REPORTED, VALID, INVALID = range(len(FILE_STATES))
PUBLIC_STATES: Final[tuple[PublicFileState, ...]] = (
    "ready",
    "pending",
    "failed",
    "transferring",
    "done",
    "valid",
    "invalid",
)


class Row(NamedTuple):
    """One line of a lifecycle: in any of `sources`, `trigger` leads to `target` if `guard` (or its negation) holds.

    `target` None stays in the same state.
    """

    trigger: type[ev.Event]
    sources: tuple[str, ...]
    target: str | None
    guard: Guard | None = None
    negated: bool = False


FILE_ROWS: Final = (
    Row(ev.TransferQueued, ("ready",), "pending"),
    Row(ev.TransferRetried, ("failed",), "pending"),
    Row(ev.TransferStarted, ("pending",), "transferring"),
    Row(ev.TransferCompleted, ("transferring",), "done"),
    Row(ev.TransferFailed, ("transferring",), "failed", "retries_left"),
    Row(ev.TransferFailed, ("transferring",), "abandoned", "retries_left", negated=True),
    Row(ev.TransferAbandoned, ("transferring",), "abandoned"),
    Row(ev.TransferInterrupted, ("pending",), "ready"),
    Row(ev.TransferInterrupted, ("transferring",), "unresolved"),
    Row(ev.UploadBegun, ("transferring",), None),
    Row(ev.PartStored, ("transferring",), None),
    Row(ev.UploadEnded, tuple(state.name for state in FILE_STATES), None),
    Row(ev.FileSighted, ("ready",), "unresolved"),
    Row(ev.FileFoundStored, ("unresolved",), "done"),
    Row(ev.FileFoundMissing, ("unresolved",), "ready"),
    Row(ev.FileFoundValid, ("unresolved",), "valid"),
    Row(ev.FileRequeued, ("failed", "abandoned"), "ready"),
    Row(ev.FileRequeued, ("invalid",), "unresolved"),
    Row(
        ev.FileRevised,
        ("ready", "unresolved", "failed", "abandoned", "done", "reported", "valid", "invalid"),
        "ready",
    ),
    Row(ev.FileReported, ("done",), "reported"),
    Row(ev.ReportLapsed, ("reported",), "done"),
    Row(ev.FileValidated, ("done", "reported"), "valid"),
    Row(ev.FileInvalidated, tuple(state.name for state in FILE_STATES if state.name != "unresolved"), "invalid"),
    Row(ev.VerdictDeferred, ("ready", "failed", "abandoned"), "unresolved"),
    Row(ev.VerdictDeferred, ("unresolved",), None),
    Row(ev.VerdictRepeated, ("valid", "invalid"), None),
)


class ClientState(NamedTuple):
    """A state of the client lifecycle; `live` states hold resources that a quit must give back."""

    name: str
    live: bool
    meaning: str


CLIENT_STATES: Final = (
    ClientState("unconnected", False, "nothing was asked of the archive yet"),
    ClientState("connecting", True, "signing in, taking the lock, learning what the archive knows"),
    ClientState("connected", True, "the delivery is ours; no validation run is at work for this session"),
    ClientState("starting", True, "the pipeline was asked to start a validation run"),
    ClientState("running", True, "files are sent, announced and judged"),
    ClientState("stopping", True, "our stop row is out; the validator drains its queue"),
    ClientState("stopped", True, "the validation run is over"),
    ClientState("lock_lost", True, "another agent owns the delivery; nothing more is written"),
    ClientState("crashed", True, "an error that the client cannot go on from"),
    ClientState("quit", False, "the session is closed"),
)
_ANY = tuple(state.name for state in CLIENT_STATES)
_LIVE = tuple(state.name for state in CLIENT_STATES if state.live)
_CATCHING_UP = ("connecting", "connected")

CLIENT_ROWS: Final = (
    Row(ev.SessionOpened, _ANY, "connecting"),
    Row(ev.LockAcquired, ("connecting",), "connected"),
    Row(ev.LockAcquired, ("connected", "starting", "running", "stopping", "stopped"), None),
    Row(ev.PipelineRequested, ("connected", "stopped"), "starting"),
    Row(ev.PipelineAttached, ("connected", "starting"), "running"),
    Row(ev.PipelineRefused, ("starting",), "stopped"),
    Row(ev.ValidatorStarted, ("starting",), "running"),
    Row(ev.ValidatorStarted, (*_CATCHING_UP, "running", "stopping", "stopped"), None),
    Row(ev.ValidatorStartFailed, ("starting",), "stopped"),
    Row(ev.ValidatorStartFailed, (*_CATCHING_UP, "running", "stopping", "stopped"), None),
    Row(ev.ValidatorStopped, ("starting", "running", "stopping"), "stopped"),
    Row(ev.ValidatorStopped, (*_CATCHING_UP, "stopped"), None),
    Row(ev.ValidatorLost, ("starting", "running", "stopping"), "stopped"),
    Row(ev.StopReported, ("starting", "running"), "stopping"),
    Row(ev.StopReported, ("connected", "stopping", "stopped", "crashed"), None),
    Row(ev.LockLost, ("connecting", "connected", "starting", "running", "stopping", "stopped"), "lock_lost"),
    Row(ev.LockLost, ("lock_lost", "crashed"), None),
    Row(ev.ClientCrashed, _LIVE, "crashed"),
    Row(ev.SessionClosed, _LIVE, "quit"),
)


def build_machine(
    rows: Iterable[Row], states: Iterable[str], initial: str, model: object | str | None = None
) -> Machine:
    """The `transitions` machine of `rows`; with a `model`, its triggers drive that model.

    A model must offer every guard as an attribute or method.
    """
    machine = Machine(
        model=model, states=list(states), initial=initial, auto_transitions=False, send_event=False, name="lifecycle"
    )
    for row in rows:
        conditions, unless = (None, row.guard) if row.negated else (row.guard, None)
        machine.add_transition(
            row.trigger.__name__, list(row.sources), row.target or "=", conditions=conditions, unless=unless
        )
    return machine


@cache
def file_machine() -> Machine:
    """The one machine of the file lifecycle; it is never bound to a file."""
    return build_machine(FILE_ROWS, [state.name for state in FILE_STATES], "ready")


@cache
def client_machine() -> Machine:
    """The one machine of the client lifecycle."""
    return build_machine(CLIENT_ROWS, [state.name for state in CLIENT_STATES], "unconnected")


def derive_table(machine: Machine, trigger: str, *, retries_left: bool) -> bytes:
    """The row of `trigger` as bytes: at a state's code stands the next state's code, or `ILLEGAL`."""
    codes = {name: code for code, name in enumerate(machine.states)}
    row = bytearray([ILLEGAL] * len(codes))
    for transition in machine.get_transitions(trigger):
        wanted = {condition.func: condition.target for condition in transition.conditions}
        if wanted.get("retries_left", retries_left) == retries_left:
            source = codes[transition.source]
            row[source] = source if transition.dest is None else codes[transition.dest]
    return bytes(row)


def _derive_all(machine: Machine, *, retries_left: bool) -> dict[str, bytes]:
    return {name: derive_table(machine, name, retries_left=retries_left) for name in machine.events}


FILE_TABLE: Final[dict[str, bytes]] = _derive_all(file_machine(), retries_left=True)
"""Trigger -> state code -> next state code, for a file that has retries left."""

FILE_TABLE_SPENT: Final[dict[str, bytes]] = _derive_all(file_machine(), retries_left=False)
"""The same for a file that has none left."""


@cache
def _client_target(kind: str, state: str) -> str | None:
    """Where the client's machine goes by an event of that kind; None where it has no row."""
    transitions = client_machine().get_transitions(kind, state)
    return (transitions[0].dest or state) if transitions else None


class ClientLifecycle:
    """The client's lifecycle: its one machine is asked for every move, and built once, not for every client."""

    def __init__(self) -> None:
        self.state = "unconnected"

    def after(self, kind: str, state: str) -> str:
        """The state that an event of that kind leads to from `state`; raises `IllegalEventError` where no row exists."""
        if kind not in client_machine().events:
            return state
        if (target := _client_target(kind, state)) is None:
            raise IllegalEventError(f"{kind} cannot happen while the client is {state}")
        return target

    def trigger_by(self, kind: str) -> None:
        """Move by an event of that kind, if it is a trigger at all; raises `IllegalEventError` where no row exists."""
        self.state = self.after(kind, self.state)

    def restore(self, state: str) -> None:
        """Put the client into a state that a snapshot recorded; raises `ValueError` if there is none of that name."""
        client_machine().get_state(state)
        self.state = state
