"""Decisions about the session: its beginning, its validation run, what is due now, and how it ends."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import TYPE_CHECKING, Final

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core import jobs, transfers
from upload_core.commands import NOTHING, Decision
from upload_core.lifecycle import (
    ABANDONED,
    DONE,
    FAILED,
    INVALID,
    PENDING,
    READY,
    REPORTED,
    TRANSFERRING,
    UNRESOLVED,
    VALID,
)
from upload_core.recovery import Run
from upload_core.validation import Entry

if TYPE_CHECKING:
    from upload_core.delivery import Delivery

FINISHED_OUTCOMES: Final = frozenset({"complete", "incomplete"})
_TOLD: Final = frozenset({REPORTED, VALID, INVALID})
ROWS_PER_APPEND: Final = 5_000
"""Bounds one append to about a megabyte; at one append per second still far above what a validator judges."""
UNJUDGED_MIN: Final = 500
UNJUDGED_S: Final = 20.0
"""As many files are announced and unjudged as the validator judges in that time, at least so many.

It judges all that it has before it writes of any, and its log only once it rests for half a second
(mast-transfer-tools 1.0.3, `server/core.py`, `s3log/s3tsvwriter.py`); by a verdict it looks through the whole index, so a
long queue of a large index would keep it silent for longer than `Limits.validator_silence_s`.
"""
LAST_PROBE_MS: Final = 30_000
"""How long the question that an outage's time ends with may take before the session ends without its answer."""
PROBE_AFTER_MS: Final = 30_000
"""A first row that the validator has not judged by then was likely written before it began to read."""


# --- beginning -----------------------------------------------------------------------------------


def open_session(d: Delivery, command: cmd.OpenSession, now_ms: int) -> Decision:
    """A new session: what was under way is in doubt, and what a finished session ended badly gets a new chance."""
    goes_on = jobs.members(d) if d.facts.jobs else None
    events: list[ev.Event] = [
        ev.TransferInterrupted(file, "the session that sent it ended")
        for file in d.files_in(PENDING, TRANSFERRING)
        if goes_on is None or not goes_on[file]
    ]
    if d.facts.outcome in FINISHED_OUTCOMES:
        events.extend(ev.FileRequeued(file) for file in d.files_in(FAILED, ABANDONED, INVALID))
    events.append(
        ev.SessionOpened(
            session=d.facts.session + 1,
            agent_id=command.agent_id,
            n_threads=command.n_threads,
            max_retries=command.max_retries,
            source=command.source,
            host=command.host,
            pid=command.pid,
            release=command.release,
        )
    )
    return Decision(events)


def sight_stored(d: Delivery, listed: cmd.SightStored, now_ms: int) -> Decision:
    """Objects of the right name and size that a new journal knows nothing of are looked at before anything is sent."""
    rows = ((d.find(relpath), size) for relpath, size in listed.sizes)
    return Decision(
        [
            ev.FileSighted(file)
            for file, size in rows
            if file is not None and d.states[file] == READY and d.table.size(file) == size
        ]
    )


def client_log_found(d: Delivery, found: cmd.ClientLogFound, now_ms: int) -> Decision:
    """Rows in our log that the journal does not know: the append took effect, its answer was lost."""
    events: list[ev.Event] = []
    told: set[int] = set()
    stopped = False
    for entry in found.entries:
        if not isinstance(entry, Entry) or entry.agent_id != d.facts.agent_id:
            continue
        if entry.category == "transfer" and entry.status == ev.OK:
            file = d.find(entry.ref)
            if file is not None and d.states[file] == DONE and file not in told:
                told.add(file)
                events.append(ev.FileReported(file))
        stopped = stopped or (entry.category == "stop" and entry.ref == "self")
    if found.size != d.facts.client_log_size:
        events.append(ev.ClientLogAppended(found.size, len(told), "found after a lost answer"))
    if stopped:  # also where it was meant for one that outlived its run
        events.append(ev.StopReported())
    return Decision(events)


# --- the validation run --------------------------------------------------------------------------


def request_run(d: Delivery, _: cmd.RequestRun, now_ms: int) -> Decision:
    """Ask for a run: the same one again if its answer was lost, else a new one, which is told everything anew."""
    again = d.run_state is Run.REQUESTED
    # the time keeps the key apart from those of a journal that was lost: their requests were answered long ago
    key = d.facts.run_key if again else f"{d.facts.agent_id}:{d.facts.run + 1}:{now_ms}"
    lapsed = [ev.ReportLapsed(file) for file in d.files_in(REPORTED)]
    return Decision([*lapsed, ev.PipelineRequested(key, d.facts.client_log_size)])


# --- the world -----------------------------------------------------------------------------------


def world_failed(d: Delivery, failure: cmd.WorldFailed, now_ms: int) -> Decision:
    """The archive is out of reach: an outage begins, unless one is on already."""
    return NOTHING if d.facts.outage_ms else Decision([ev.OutageBegan(failure.message)])


def world_answered(d: Delivery, answered: cmd.WorldAnswered, now_ms: int) -> Decision:
    """The archive answers: that ends an outage of the same question, or if no file may be sent (see `outcomes_found`)."""
    sufficient = answered.again or d.transfer_complete or d.facts.paused or _left_to_jobs(d)
    return Decision([ev.OutageEnded()]) if d.facts.outage_ms and sufficient else NOTHING


def _left_to_jobs(d: Delivery) -> bool:
    """Whether nothing is left to begin, and what is under way may be a service's, which no outage of ours keeps up."""
    counts = d.counts
    return bool(d.facts.jobs) and not (counts[READY] or counts[UNRESOLVED] or counts[PENDING] or counts[FAILED])


def outlasted(d: Delivery, now_ms: int) -> bool:
    """Whether an outage has lasted for as long as one is waited for."""
    return bool(d.facts.outage_ms) and now_ms - d.facts.outage_ms >= d.limits.outage_s * 1000


# --- what is due ---------------------------------------------------------------------------------


def tick(d: Delivery, tick: cmd.Tick, now_ms: int) -> Decision:
    """What is due now: the lock first, then the end if there is one, then doubts, transfers, reports, signs of life."""
    ending = _ending(d, tick, now_ms)
    if ending is not None:
        return ending
    effects: list[fx.Effect] = []
    may_ask = not d.facts.outage_ms or tick.probe
    if may_ask and d.facts.lock_etag and now_ms - d.facts.lock_ms >= d.limits.lock_staleness_s * 1000 / 4:
        effects.append(fx.RenewLock())
    events: list[ev.Event] = []
    slots = 0 if d.facts.paused else tick.slots
    if d.facts.outage_ms and slots:
        slots = 1 if tick.probe and not tick.busy else 0  # one careful attempt at a time until one succeeds
    if slots and d.client_state in transfers.SENDING_STATES:
        # only a stored file shows that an outage is over, so a probe is one wherever there is one to send
        sendable = d.counts[PENDING] or (tick.queue and d.counts[READY])
        in_doubt = d.counts[UNRESOLVED] and not (d.facts.outage_ms and sendable)
        doubts = transfers.inspect(d, slots, tick.busy) if in_doubt else []
        effects.extend(doubts)
        if len(doubts) < slots:
            started = transfers.start_transfers(d, slots - len(doubts), now_ms, queue=tick.queue)
            events.extend(started.events)
            effects.extend(started.effects)
    # during an outage of the transfer bucket alone the validator is still within reach, and its patience runs out
    if may_ask:
        effects.extend(_due_rows(d, tick.failed, now_ms))
    return Decision(events, effects)


def _ending(d: Delivery, tick: cmd.Tick, now_ms: int) -> Decision | None:
    """How the session ends, if it does now."""
    facts, limits = d.facts, d.limits
    if d.validation_complete:
        return _close("complete" if d.all_valid else "incomplete", "", "")
    if facts.stop_requested:
        return _close("interrupted", "user", facts.stop_requested)
    if outlasted(d, now_ms) and _last_word(d, tick, now_ms):
        return _close("interrupted", "outage", f"the archive was out of reach for {limits.outage_s:.0f} s")
    match d.client_state:
        case "stopped" if facts.run_disturbed:
            return Decision(effects=[fx.StartRun()]) if not facts.outage_ms or tick.probe else None
        case "stopped":
            return _close("interrupted", "validator", facts.validator_message or "the validator stopped")
        case "starting" if _unstarted(d, now_ms):
            why = f"the validator did not start within {limits.validator_start_s:.0f} s of being asked for"
            return Decision([ev.ValidatorLost(why)])
        case "running" if _silent(d, now_ms):
            why = f"nothing was heard of the validator for {limits.validator_silence_s:.0f} s"
            return Decision([ev.ValidatorLost(why)])
        case "running" if _unheard(d, now_ms):
            # rows that it never read cannot be told again in the same run, so another run has to judge these files
            why = f"the validator has judged nothing for {limits.verdict_wait_s:.0f} s; {d.counts[REPORTED]} files wait"
            return Decision([ev.ValidatorLost(why)])
        case _:
            return None


def _last_word(d: Delivery, tick: cmd.Tick, now_ms: int) -> bool:
    """Whether nobody is asking the archive for the last time; such a question may take a while, but not for ever."""
    asking = tick.probe or tick.busy
    return not asking or now_ms - d.facts.outage_ms > d.limits.outage_s * 1000 + LAST_PROBE_MS


def _unstarted(d: Delivery, now_ms: int) -> bool:
    # signs of life do not count: who writes them and never its first word began before, or lost that
    waited_ms = now_ms - max(d.facts.waiting_ms, d.facts.run_accepted_ms)
    return not d.facts.outage_ms and waited_ms > d.limits.validator_start_s * 1000


def _silent(d: Delivery, now_ms: int) -> bool:
    # while the archive is out of reach, the validator's silence says nothing about the validator
    return not d.facts.outage_ms and now_ms - d.facts.heard_ms > d.limits.validator_silence_s * 1000


def _unheard(d: Delivery, now_ms: int) -> bool:
    facts = d.facts
    waiting = d.transfer_complete and not (d.counts[DONE] and _room(d) > 0) and not facts.outage_ms
    return waiting and now_ms - facts.waiting_ms > d.limits.verdict_wait_s * 1000


def _close(outcome: str, reason: str, message: str) -> Decision:
    return Decision(effects=[fx.CloseSession(outcome, reason, message)])


def follows(d: Delivery, now_ms: int) -> bool:
    """Whether the validator must have found its place in our log by now: what is written before is never read."""
    seen_ms = d.run_seen_ms
    return d.facts.run_confirmed or not seen_ms or now_ms - seen_ms >= d.limits.validator_blind_s * 1000


def _room(d: Delivery) -> int:
    """How many more files the validator may be told of before it has judged some."""
    return max(UNJUDGED_MIN, int(d.verdicts_per_s * UNJUDGED_S)) - d.counts[REPORTED]


def _due_rows(d: Delivery, failed: Collection[int], now_ms: int) -> list[fx.Effect]:
    """The rows that our log is due: what is stored, by age; signs of life when there is nothing else to say."""
    facts, limits = d.facts, d.limits
    if d.client_state != "running":
        return []
    waited_ms = now_ms - facts.appended_ms
    # of a file that was announced meanwhile no failure may be told any more: the validator would die of it
    untold = tuple(islice((file for file in failed if d.states[file] not in _TOLD), ROWS_PER_APPEND))
    if (d.counts[DONE] or untold) and waited_ms >= limits.report_interval_s * 1000:
        if facts.run_confirmed:
            stored = d.take(DONE, max(0, min(ROWS_PER_APPEND, _room(d))))
            if stored or untold:
                return [fx.ReportFiles(tuple(stored), untold)]
        # rows written before the validator looked are never read, and cannot be told again: one file is the probe
        elif d.counts[DONE] and follows(d, now_ms) and (not d.counts[REPORTED] or waited_ms >= PROBE_AFTER_MS):
            return [fx.ReportFiles(tuple(d.take(DONE, 1)))]
    if waited_ms >= limits.keepalive_interval_s * 1000:
        return [fx.KeepAlive()]
    return []
