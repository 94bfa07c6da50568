"""What a delivery knows besides its files: sessions, lock, validation run, log positions.

Each kind of event that changes a fact has one small function, found in `FACT_CHANGES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from upload_core import events as ev
from upload_core.jobs import CopyJob


class Facts(msgspec.Struct, omit_defaults=True):
    """Everything a delivery knows that is not a column; part of the canonical state, so only `apply` writes it.

    Facts that still have their default are left out of the canonical form: a new one changes no old journal's digest.
    """

    seq: int = 0
    index_digest: str = ""
    index_revision: int = 0
    session: int = 0
    agent_id: str = ""
    n_threads: int = 1
    max_retries: int = 0
    source: str = ""
    outcome: str = ""
    """How the last session was closed; empty while one is open (or was never closed)."""
    reason: str = ""
    message: str = ""
    retries_total: int = 0
    stop_requested: str = ""
    run: int = 0
    run_key: str = ""
    run_open: bool = False
    run_started: bool = False
    run_confirmed: bool = False
    """The validator has shown, by a verdict, that it reads our log from before the rows we append."""
    run_disturbed: bool = False
    """It may have ended because nothing was heard of us: there was an outage, we stood still, or another session began."""
    run_outdated: bool = False
    """A file that was settled is open again since the run was asked for: the run may have judged it, or not expect it."""
    run_requested_ms: int = 0
    run_accepted_ms: int = 0
    """When the request was answered, which can be minutes after it was made: the run may come up from then on."""
    run_refused_ms: int = 0
    """When a request was refused that may have taken effect before: the run may come up all the same."""
    stop_reported: bool = False
    client_log_size: int = 0
    validator_log_offset: int = 0
    validator_log_mark: str = ""
    validator_message: str = ""
    validator_agent: str = ""
    """Who wrote the `init` row of the run at work."""
    heard_ms: int = 0
    waiting_ms: int = 0
    """Since when the validator owes its first word, or the next verdict: since it was asked for, last told of files, judged
    one, or was attached to."""
    appended_ms: int = 0
    lock_etag: str = ""
    lock_ms: int = 0
    outage_ms: int = 0
    paused: dict[str, str] = {}
    """Who keeps files from being begun (user, window, host), and why."""
    level: int = 0
    """How many transfers run at a time, where that is found rather than fixed."""
    jobs: dict[str, CopyJob] = {}
    """Jobs that a service carries out by itself and that are not known to be over, by their token."""


def _index_revised(f: Facts, e: ev.IndexRevised, _: int) -> None:
    f.index_revision, f.index_digest = e.revision, e.index_digest
    f.run_outdated = f.run_outdated or f.run_open  # it reads, or has read, another index


def _session_opened(f: Facts, e: ev.SessionOpened, _: int) -> None:
    f.session, f.agent_id, f.n_threads, f.max_retries = e.session, e.agent_id, e.n_threads, e.max_retries
    f.outcome = f.reason = f.message = f.stop_requested = ""
    f.source = e.source or f.source
    f.lock_etag, f.lock_ms, f.outage_ms = "", 0, 0
    f.level, f.paused = 0, {}
    f.run_disturbed = f.run_open
    f.appended_ms = 0  # by another process's clock, which may have been ahead of this one's


def _session_closed(f: Facts, e: ev.SessionClosed, _: int) -> None:
    f.outcome, f.reason, f.message = e.outcome, e.reason, e.message


def _lock_taken(f: Facts, e: ev.LockAcquired | ev.LockRenewed, time_ms: int) -> None:
    f.lock_etag, f.lock_ms = e.etag, time_ms


def _lock_gone(f: Facts, e: ev.Event, _: int) -> None:
    f.lock_etag, f.lock_ms = "", 0


def _run_requested(f: Facts, e: ev.PipelineRequested, time_ms: int) -> None:
    if e.key != f.run_key:
        f.run += 1
        f.run_key = e.key
        f.run_started = f.run_confirmed = f.run_disturbed = False
        f.validator_agent = ""
    f.run_open, f.stop_reported, f.run_outdated, f.run_refused_ms = True, False, False, 0
    f.run_requested_ms = f.waiting_ms = time_ms
    f.run_accepted_ms = 0
    f.validator_message = ""


def _run_accepted(f: Facts, e: ev.PipelineAccepted, time_ms: int) -> None:
    f.run_accepted_ms = time_ms


def _run_alive(f: Facts, e: ev.Event, time_ms: int) -> None:
    f.heard_ms = time_ms
    if isinstance(e, ev.PipelineAttached):
        f.waiting_ms = time_ms
    if isinstance(e, ev.ValidatorStarted):
        f.validator_agent = e.agent
    if isinstance(e, ev.ValidatorStarted | ev.PipelineAttached):
        f.run_started = f.run_started or f.run_open
        f.run_refused_ms = 0


def _run_confirmed(f: Facts, e: ev.RunConfirmed, time_ms: int) -> None:
    f.run_confirmed = True


def _run_said(f: Facts, e: ev.ValidatorShutDown | ev.ValidatorStartFailed | ev.PipelineRefused, time_ms: int) -> None:
    f.heard_ms = time_ms
    if not f.validator_message:  # the first words hold the real reason, later ones repeat it
        f.validator_message = e.message
    if isinstance(e, ev.PipelineRefused):
        f.run_open = False
        f.run_refused_ms = time_ms if f.run_disturbed else 0
    elif isinstance(e, ev.ValidatorStartFailed):
        f.run_refused_ms = 0
    if not isinstance(e, ev.ValidatorShutDown):
        f.run_disturbed = False  # it never began, which our silence does not explain


def _run_over(f: Facts, e: ev.Event, time_ms: int) -> None:
    f.run_open = False
    if isinstance(e, ev.ValidatorLost):
        f.validator_message = f.validator_message or e.message
        f.run_disturbed = False  # it may be at work all the same, and would be told of its files twice


def _log_read(f: Facts, e: ev.ValidatorLogRead, time_ms: int) -> None:
    f.validator_log_offset, f.validator_log_mark, f.heard_ms = e.offset, e.mark, time_ms
    if e.verdicts:
        f.waiting_ms = time_ms


def _log_restarted(f: Facts, e: ev.ValidatorLogRestarted, _: int) -> None:
    f.validator_log_offset, f.validator_log_mark = 0, ""


def _appended(f: Facts, e: ev.ClientLogAppended, time_ms: int) -> None:
    f.client_log_size, f.appended_ms = e.size, time_ms
    if e.told:
        f.waiting_ms = time_ms  # the validator's turn begins anew


def _stop_reported(f: Facts, e: ev.StopReported, _: int) -> None:
    f.stop_reported = True


def _stop_requested(f: Facts, e: ev.StopRequested, _: int) -> None:
    f.stop_requested = e.reason


def _outage(f: Facts, e: ev.OutageBegan | ev.OutageEnded, time_ms: int) -> None:
    if isinstance(e, ev.OutageBegan):
        f.outage_ms, f.run_disturbed = time_ms, f.run_disturbed or f.run_open
    else:
        f.outage_ms, f.heard_ms = 0, time_ms  # nobody could hear the validator: its silence counts from now
        if f.run_open and not f.run_started:
            f.waiting_ms = time_ms  # its first word could not be read: it has its whole time again


def _suspended(f: Facts, e: ev.SuspensionNoticed, time_ms: int) -> None:
    # nobody waited meanwhile: what is judged by how long it lasts counts only what was lived through
    if f.outage_ms:
        f.outage_ms = min(time_ms, f.outage_ms + e.seconds * 1000)
    f.heard_ms = f.waiting_ms = time_ms
    f.run_disturbed = f.run_disturbed or f.run_open


def _paused(f: Facts, e: ev.TransfersPaused, _: int) -> None:
    f.paused = {**f.paused, e.by: e.message}


def _continued(f: Facts, e: ev.TransfersContinued, _: int) -> None:
    f.paused = {by: message for by, message in f.paused.items() if by != e.by}


def _concurrency_changed(f: Facts, e: ev.ConcurrencyChanged, _: int) -> None:
    f.level = e.level


def _job_requested(f: Facts, e: ev.CopyJobRequested, _: int) -> None:
    f.jobs = {**f.jobs, e.token: CopyJob(e.token, e.files, e.unmodified_since)}


def _job_changed(f: Facts, e: ev.CopyJobCreated | ev.CopyJobProgressed, _: int) -> None:
    if (job := f.jobs.get(e.token)) is not None:
        fields = msgspec.structs.asdict(e)
        f.jobs = {**f.jobs, e.token: msgspec.structs.replace(job, **fields)}


def _job_ended(f: Facts, e: ev.CopyJobEnded, _: int) -> None:
    f.jobs = {token: job for token, job in f.jobs.items() if token != e.token}


FACT_CHANGES: Final[dict[type[ev.Event], Callable[[Facts, Any, int], None]]] = {
    ev.IndexRevised: _index_revised,
    ev.SessionOpened: _session_opened,
    ev.SessionClosed: _session_closed,
    ev.LockAcquired: _lock_taken,
    ev.LockRenewed: _lock_taken,
    ev.LockLost: _lock_gone,
    ev.LockReleased: _lock_gone,
    ev.PipelineRequested: _run_requested,
    ev.PipelineAccepted: _run_accepted,
    ev.PipelineAttached: _run_alive,
    ev.PipelineRefused: _run_said,
    ev.ValidatorStarted: _run_alive,
    ev.ValidatorKeptAlive: _run_alive,
    ev.RunConfirmed: _run_confirmed,
    ev.ValidatorStartFailed: _run_said,
    ev.ValidatorShutDown: _run_said,
    ev.ValidatorStopped: _run_over,
    ev.ValidatorLost: _run_over,
    ev.ValidatorLogRead: _log_read,
    ev.ValidatorLogRestarted: _log_restarted,
    ev.ClientLogAppended: _appended,
    ev.StopReported: _stop_reported,
    ev.StopRequested: _stop_requested,
    ev.OutageBegan: _outage,
    ev.OutageEnded: _outage,
    ev.SuspensionNoticed: _suspended,
    ev.TransfersPaused: _paused,
    ev.TransfersContinued: _continued,
    ev.ConcurrencyChanged: _concurrency_changed,
    ev.CopyJobRequested: _job_requested,
    ev.CopyJobCreated: _job_changed,
    ev.CopyJobProgressed: _job_changed,
    ev.CopyJobEnded: _job_ended,
}
"""Event -> what it changes among the facts; events that are not here move the client's lifecycle at most."""
