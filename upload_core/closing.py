"""How a session ends: its transfers, its validator, its uploads and its lock, in that order; then it says how it went.

What cannot be done any more is left to the next session, which settles what this one left in doubt (`opening.py`).
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from upload_core import events as ev
from upload_core.errors import ArchiveUnavailableError, JournalError, UploadClientError
from upload_core.ports import abandoned_lock
from upload_core.sessions import follows
from upload_core.timestamps import iso

if TYPE_CHECKING:
    from upload_core.engine import Engine

ENDED_BY_VERDICTS: Final = frozenset({"complete", "incomplete", "interrupted"})
"""Outcomes that the validator's last words may still change."""
STOP_WAIT_S: Final = 1.0
"""How long a stopped session waits for the validator to write its last rows; they are read by the next one anyway."""
GONE_LOOK_MS: Final = 5_000
"""How often it is looked whether a validator that was told to stop is still there to do so."""


def end(engine: Engine, outcome: str, reason: str, message: str) -> None:
    """Give back all that the session has, and record its end; raises `JournalError` alone.

    With a `reason` it ends early: nothing is waited for.
    """
    delivery, patience = engine.delivery, engine.patience
    patience.hasty = bool(reason)
    engine.cut_transfers()
    stop = partial(stop_validator, engine, patient=not reason)
    for act in (stop, partial(end_uploads, engine), engine.release_lock):
        try:
            act()
        except JournalError:
            raise
        except UploadClientError as error:
            message = message or str(error)
            if isinstance(error, ArchiveUnavailableError):
                patience.hasty = True  # what was waited for in vain once is not waited for again
    if reason == "validator":
        message += _blocked_until(engine)
    if outcome in ENDED_BY_VERDICTS and delivery.validation_complete:
        # the last verdicts came while the validator drained its queue: nothing was left to interrupt, or one was taken back
        message = "" if outcome == "interrupted" else message
        outcome, reason = ("complete" if delivery.all_valid else "incomplete"), ""
    engine.record([ev.SessionClosed(outcome, reason, message)])
    engine.ports.pipeline.close()


def stop_validator(engine: Engine, *, patient: bool) -> None:
    """Write our stop row if a run is at work, and read what the validator still has to say."""
    delivery, limits = engine.delivery, engine.delivery.limits
    if delivery.client_state not in ("starting", "running", "stopping") or not delivery.facts.run_started:
        return
    if not delivery.facts.lock_etag or (not patient and delivery.facts.outage_ms):
        return  # it is not ours to stop; or every request would wait for a world that does not answer
    while not follows(delivery, engine.now_ms()):
        # what is written before it looks is never read: it would be waited for by the next session, which goes on in this run
        if not patient or engine.stop_wanted:
            return
        engine.patience.wait(min(limits.poll_interval_s, 1.0))
        engine.insist(engine.hear)
    if (unsent := engine.conversation.unsent) is not None:
        engine.insist(lambda: engine.report(unsent))
    engine.say_stop()
    _hear_last_words(engine, limits.validator_stop_s if patient else min(STOP_WAIT_S, limits.validator_stop_s))


def _hear_last_words(engine: Engine, wait_s: float) -> None:
    """Until the validator said that it ended, is gone, or had so much time, outages not counted."""
    delivery, patience, ports = engine.delivery, engine.patience, engine.ports
    deadline = engine.now_ms() + int(wait_s * 1000) - patience.waited_ms
    looked_ms, gone = engine.now_ms(), False
    while delivery.client_state == "stopping" and not gone and engine.now_ms() < deadline + patience.waited_ms:
        ports.clock.sleep(min(delivery.limits.poll_interval_s, 1.0))
        if engine.now_ms() - looked_ms >= GONE_LOOK_MS:  # it may have died of what kept it from writing so
            gone, looked_ms = not engine.insist(ports.pipeline.is_running), engine.now_ms()
        engine.insist(engine.hear)  # also once more after it went
    if delivery.client_state == "stopping":
        engine.insist(partial(engine.hear, final=True))


def record_crash(engine: Engine, exception: BaseException) -> None:
    """Record why the client cannot go on, then leave it in our log; a validator at work is told to stop, and not heard."""
    delivery, facts = engine.delivery, engine.delivery.facts
    now_ms, kind = engine.now_ms(), type(exception).__name__
    at_work = delivery.client_state in ("starting", "running") and facts.run_started and follows(delivery, now_ms)
    engine.record([ev.ClientCrashed(kind, str(exception))])
    if not facts.lock_etag or facts.outage_ms or engine.conversation.unsent is not None:
        return
    engine.guard()
    said = engine.conversation.say_crash(f"{kind}: {exception}", now_ms, stop=at_work)
    engine.record([said, *([ev.StopReported()] if at_work else [])])


def end_uploads(engine: Engine) -> None:
    """Once nothing is left to send, no multipart upload of ours stays open; until then the next session goes on."""
    d = engine.delivery
    if d.validation_complete and d.facts.lock_etag:
        engine.guard()
        known = {d.table.path(file): upload.upload_id for file, upload in d.uploads.items()}
        archive = engine.ports.archive
        engine.insist(lambda: archive.end_uploads(known, lambda path: d.find(path) is not None, engine.guard))
        engine.record([ev.UploadEnded(file) for file in d.uploads])


def _blocked_until(engine: Engine) -> str:
    """Until when no other validator can start, if the one that ended left its lock."""
    with suppress(UploadClientError):
        if (lock := abandoned_lock(engine.ports.pipeline)) is not None:
            until_ms = round((lock.modified + engine.delivery.limits.lock_staleness_s) * 1000)
            return f"; a validator that is gone left its lock: another can start at {iso(until_ms)[:19]}Z, or once the lock is gone"
    return ""
