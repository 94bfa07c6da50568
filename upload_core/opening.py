"""How a session begins: its delivery is opened or created, and what earlier sessions left in doubt is settled.

Resuming is this with a longer journal; there is no second mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from upload_core import commands as cmd
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.engine import Engine
from upload_core.errors import ArchiveUnavailableError, ConfigurationError, NothingToDoError, ValidatorStoppedError
from upload_core.files import FileTable
from upload_core.lifecycle import PENDING, TRANSFERRING, UNRESOLVED
from upload_core.ports import Ports
from upload_core.recovery import Run, RunStep, run_step
from upload_core.sessions import follows, outlasted

SETTLE_TURN_S = 0.2
"""Longest wait for answers before more questions are handed over."""


def open_delivery(ports: Ports, created: ev.DeliveryCreated, table: FileTable) -> Delivery:
    """The delivery of the journal, brought up to this index; a journal is begun if there is none.

    Raises `ConfigurationError` if the journal belongs to another delivery or knows files that the index lacks.
    """
    journal = ports.journal
    delivery = journal.open()
    if delivery is None:
        return journal.create(created, table, time_ms=ports.clock.now_ms())
    try:
        _check_same(journal.name, delivery.created, created)
        if table.digest != delivery.facts.index_digest:
            _revise(ports, delivery, table)
    except BaseException:
        journal.close()
        raise
    return delivery


def _check_same(journal: str, old: ev.DeliveryCreated, new: ev.DeliveryCreated) -> None:
    for what in ("dataset", "delivery_id", "transfer_type", "archive"):
        if getattr(old, what) != getattr(new, what):
            raise ConfigurationError(
                f"the journal {journal} belongs to another delivery: its {what} is {getattr(old, what)!r}, "
                f"not {getattr(new, what)!r}; name another journal"
            )


def _revise(ports: Ports, delivery: Delivery, table: FileTable) -> None:
    """Take over an index that changed since the journal was begun."""
    removed = delivery.table.diff(table).removed
    if removed:
        names = ", ".join(repr(delivery.table.path(file)) for file in removed[:3])
        raise ConfigurationError(
            f"the index no longer lists {len(removed)} file(s) that the journal {ports.journal.name} has ({names}); "
            "put them back, or name another journal: what is stored and valid is recognised and not sent again"
        )
    merged, changed = delivery.table.merged(table)
    if not changed:
        return
    known = [file for file in changed if file < len(delivery)]
    revision = delivery.facts.index_revision + 1
    ports.journal.add_revision(revision, merged, changed)
    events: list[ev.Event] = [ev.IndexRevised(revision, merged.digest, len(merged))]
    # what was under way is settled first: only then may its row change
    under_way = (PENDING, TRANSFERRING)
    events += [ev.TransferInterrupted(file) for file in known if delivery.states[file] in under_way]
    events += [ev.FileRevised(file) for file in known]
    time_ms = ports.clock.now_ms()
    delivery.check(events)
    ports.journal.append(events, time_ms=time_ms)
    delivery.table = merged
    for event in events:
        delivery.apply(event, time_ms)


def connect(engine: Engine, opening: cmd.OpenSession) -> None:
    """Open a session: sign in, take the lock, learn what the archive knows, settle every doubt.

    Raises `NothingToDoError` when every file is valid already, `IdentityError`, `LockHeldError`,
    `ArchiveUnavailableError`.
    """
    delivery, ports = engine.delivery, engine.ports
    engine.open(opening)
    engine.record([ev.SignedIn(engine.insist(ports.identity.sign_in))])
    engine.insist(engine.learn_limits)
    engine.acquire_lock()
    # a journal that was begun anew beside a run at work has told it to stop, at most, and not before its second session
    rows_matter = delivery.run_state is not Run.NONE or delivery.facts.session > 1
    engine.take(engine.insist(lambda: engine.conversation.find_ours(rows_matter=rows_matter)))
    _catch_up(engine)
    if delivery.facts.run == 0:
        stored = engine.insist(lambda: [(found.relpath, found.size) for found in ports.archive.list()])
        engine.take(cmd.SightStored(stored))
    step = run_step(delivery.run_state, validator_at_work=_at_work(engine))
    if step is RunStep.AWAIT_BEGIN and _begins(engine):
        step = RunStep.END_ORPHAN
    if step is RunStep.END_ORPHAN:
        _await_attention(engine)
        engine.say_stop()
    if step in (RunStep.END_ORPHAN, RunStep.AWAIT_END):
        _await_end(engine)
    elif step is RunStep.ATTACH:
        engine.record([ev.PipelineAttached("a validation run of this delivery is at work")])
    _settle_doubts(engine)
    if delivery.all_valid:
        engine.close("complete", "", "all files were valid already")
        raise NothingToDoError("all files are valid already; there is nothing to do")


def _catch_up(engine: Engine) -> None:
    """Read the validator's log to its end."""
    while engine.insist(engine.hear):
        pass


def _settle_doubts(engine: Engine) -> None:
    """Ask the archive about every file in doubt, before anything is announced or sent; about one at a time while it is away."""
    delivery, dispatcher = engine.delivery, engine.ports.dispatcher
    while in_doubt := delivery.counts[UNRESOLVED]:
        outage, may_ask = bool(delivery.facts.outage_ms), engine.patience.may_ask()
        if not outage:
            engine.take(cmd.SettleDoubts(dispatcher.slots, engine.busy))
        elif may_ask and not engine.busy:
            engine.take(cmd.SettleDoubts(min(1, dispatcher.slots), engine.busy))
        elif not engine.busy and outlasted(delivery, engine.now_ms()):
            raise ArchiveUnavailableError("the archive does not answer what it holds; resume goes on from here")
        engine.collect(SETTLE_TURN_S)
        engine.heed_stop()
        if outage and delivery.counts[UNRESOLVED] < in_doubt:
            engine.take(cmd.WorldAnswered(again=True))
        engine.guard()


def _begins(engine: Engine) -> bool:
    """Whether the run that an earlier session asked for comes up, in the time that one may take to come up."""
    delivery, facts = engine.delivery, engine.delivery.facts
    answered_ms = max(facts.run_requested_ms, facts.run_accepted_ms, facts.run_refused_ms)
    until_ms = answered_ms + int(delivery.limits.validator_start_s * 1000)
    what = "a validation run that an earlier session asked for may begin yet"
    asked_for = (Run.REFUSED, Run.REQUEST_OUTDATED)
    _await(engine, what, until_ms, lambda: delivery.run_state not in asked_for or _at_work(engine))
    return _at_work(engine)


def _await_attention(engine: Engine) -> None:
    """One that has just come up reads our log from where it ends a little later: a stop row before that is never read."""
    delivery = engine.delivery
    until_ms = delivery.run_seen_ms + int(delivery.limits.validator_blind_s * 1000)
    _await(engine, "a validator that is to end has to listen", until_ms, lambda: follows(delivery, engine.now_ms()))


def _await_end(engine: Engine) -> None:
    """A validator that read our stop row is gone some seconds later; it must never read a second one."""
    until_ms = engine.now_ms() + int(engine.delivery.limits.validator_stop_s * 1000)
    if not _await(engine, "the validator of an earlier session has to end", until_ms, lambda: not _at_work(engine)):
        raise ValidatorStoppedError(
            "a validator of an earlier session is still at work and does not end; try again later"
        )
    _catch_up(engine)


def _at_work(engine: Engine) -> bool:
    return engine.insist(engine.ports.pipeline.is_running)


def _await(engine: Engine, what: str, until_ms: int, over: Callable[[], bool]) -> bool:
    """Whether that is over in time, to which outages add theirs; a wait is announced, and the log read meanwhile."""
    patience, announced = engine.patience, False
    until_ms -= patience.waited_ms
    while not over():
        left_ms = until_ms + patience.waited_ms - engine.now_ms()
        if left_ms <= 0:
            return False
        if not announced:
            engine.record([ev.RunAwaited(what, math.ceil(left_ms / 1000))])
            announced = True
        engine.guard()
        patience.wait(min(1.0, engine.delivery.limits.poll_interval_s))
        engine.insist(engine.hear)
    return True
