"""The one loop: append, apply, act.

The engine asks the delivery what to do, appends the events it names to the journal, applies them, and only then
performs the effects; what comes of those goes back to the delivery. Nobody else appends, and nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core import wire
from upload_core.delivery import Delivery
from upload_core.errors import (
    ArchiveUnavailableError,
    LockLostError,
    NothingToDoError,
    PipelineError,
    UploadClientError,
    ValidatorStoppedError,
)
from upload_core.journal import Record
from upload_core.lifecycle import ABANDONED, INVALID, UNRESOLVED, VALID
from upload_core.logs import AppendLog, LogReader
from upload_core.owner_lock import OwnerLock
from upload_core.ports import Ports, TransferType
from upload_core.recovery import Run, RunStep, run_step
from upload_core.timestamps import iso
from upload_core.validation import Entry, LogParser, MalformedLine

Observer = Callable[[Record], object]

SNAPSHOT_EVERY: Final = 500_000
"""Events between snapshots: a second of replay."""
PROBE_FIRST_MS: Final = 1_000
PROBE_LONGEST_MS: Final = 30_000
"""During an outage the archive is asked after 1 s, then at doubled intervals up to half a minute."""
LOCK_MARGIN: Final = 0.9
"""Share of the lock's life after which it no longer counts as ours unless it was renewed."""
CUT_GRACE_S: Final = 2.0
"""How long running transfers may finish when the session is stopped; a host is promised a stop within 5 s."""
STOP_WAIT_S: Final = 2.0
"""How long a stopped session waits for the validator to write its last rows; they are read by the next one anyway."""


class Engine:
    """One session of one delivery."""

    def __init__(self, delivery: Delivery, ports: Ports, observers: Sequence[Observer] = ()) -> None:
        created = delivery.created
        self.delivery = delivery
        self.ports = ports
        self.observers = observers
        self.closed = False
        delivery.limits = ports.limits
        kind: TransferType = "sample" if created.transfer_type == "sample" else "staging"
        self.keys = wire.Keys(created.dataset, created.delivery_id, kind)
        self.lock = OwnerLock(
            ports.control, self.keys.client_lock, delivery.facts.agent_id, ports.limits.lock_staleness_s
        )
        self._client_log = AppendLog(ports.control, self.keys.client_log, 0)
        self._validator_log = LogReader(ports.control, self.keys.validator_log)
        self._busy: set[int] = set()
        self._failed: list[int] = []
        self._unsent: tuple[bytes, fx.ReportFiles | fx.KeepAlive] | None = None
        self._opened = False
        self._dispatching = False
        self._now_ms = 0
        self._polled_ms = 0
        self._probe_ms = 0
        self._probe_wait_ms = PROBE_FIRST_MS
        self._snapshot_seq = delivery.facts.seq
        self._stop_reason: str | None = None

    # --- append, apply, act ----------------------------------------------------------------------

    def now_ms(self) -> int:
        """The clock's time; never earlier than what was told before."""
        self._now_ms = max(self._now_ms, self.ports.clock.now_ms())
        return self._now_ms

    def take(self, what: object) -> None:
        """Decide about `what`, append and apply the events, perform the effects."""
        decision = self.delivery.decide(what, self.now_ms())
        self.record(decision.events)
        self._perform(decision.effects)

    def record(self, events: Sequence[ev.Event]) -> None:
        """Append the events as one batch, then apply them and tell the observers."""
        if not events:
            return
        delivery, time_ms = self.delivery, self.now_ms()
        delivery.check(events)
        self.ports.journal.append(events, time_ms=time_ms)
        first = delivery.facts.seq + 1
        for event in events:
            delivery.apply(event, time_ms)
        if self.observers:
            time = iso(time_ms)
            for seq, event in enumerate(events, first):
                for observer in self.observers:
                    observer(Record(seq, time, event))
        if delivery.facts.seq - self._snapshot_seq >= SNAPSHOT_EVERY:
            self._snapshot_seq = delivery.facts.seq
            self.ports.journal.snapshot(delivery)

    def _perform(self, effects: Sequence[fx.Effect]) -> None:
        orders: list[fx.FileOrder] = []
        for effect in effects:
            match effect:
                case fx.TransferFile() | fx.InspectFile():
                    orders.append(effect)
                case fx.RenewLock():
                    self.renew_lock()
                case fx.ReportFiles() | fx.KeepAlive():
                    self._report(effect)
                case fx.CloseSession():
                    self.close(effect.outcome, effect.reason, effect.message)
        if orders:
            self._busy.update(order.file for order in orders)
            self.ports.dispatcher.submit(orders)

    # --- beginning -------------------------------------------------------------------------------

    def connect(self, opening: cmd.OpenSession) -> None:
        """Open a session: sign in, take the lock, learn what the archive knows, settle every doubt.

        Raises `NothingToDoError` when every file is valid already, `IdentityError`, `LockHeldError`,
        `ArchiveUnavailableError`.
        """
        delivery, ports = self.delivery, self.ports
        self.take(opening)
        self._opened = True
        self.record([ev.SignedIn(ports.identity.sign_in())])
        self.acquire_lock()
        ports.dispatcher.open(ports.source, ports.archive, opening.n_threads)
        self._dispatching = True
        self._find_client_log()
        while self._read_validator_log():
            pass
        if delivery.facts.run == 0:
            self.take(cmd.SightStored([(stored.relpath, stored.size) for stored in ports.archive.list()]))
        step = run_step(delivery.run_state, validator_at_work=ports.pipeline.is_running())
        if step is RunStep.END_ORPHAN:
            self._end_orphan()
        elif step is RunStep.ATTACH:
            self.record([ev.PipelineAttached("a validation run of this delivery is at work")])
        self._settle_doubts()
        if delivery.all_valid:
            self.close("complete", "", "all files were valid already")
            raise NothingToDoError("all files are valid already; there is nothing to do")

    def acquire_lock(self) -> None:
        """Take or re-enter the delivery's lock; raises `LockHeldError`."""
        ownership = self.lock.acquire()
        self.record([ev.LockAcquired(ownership.etag, ownership.taken_over)])
        self._hold()

    def renew_lock(self) -> None:
        """Rewrite the lock; raises `LockLostError` if it is not ours, or could not be renewed for most of its life."""
        try:
            ownership = self.lock.renew()
        except ArchiveUnavailableError as error:
            self.take(cmd.WorldFailed(str(error)))
            if self.now_ms() >= self._hold_until_ms():
                message = "the lock could not be renewed in time, so it may be somebody else's by now"
                self.record([ev.LockLost(message)])
                raise LockLostError(message) from error
        except LockLostError as error:
            self.record([ev.LockLost(str(error))])
            raise
        else:
            self.record([ev.LockRenewed(ownership.etag)])
            self._hold()

    def _hold_until_ms(self) -> int:
        return self.delivery.facts.lock_ms + int(self.delivery.limits.lock_staleness_s * 1000 * LOCK_MARGIN)

    def _hold(self) -> None:
        self.ports.dispatcher.hold_until(self._hold_until_ms())

    def _find_client_log(self) -> None:
        """Learn what our log holds beyond what the journal knows: an append may have lost its answer."""
        known = self.delivery.facts.client_log_size
        found = self.ports.control.head(self.keys.client_log)
        size = 0 if found is None else found.size
        entries: list[Entry | MalformedLine] = []
        if size > known and self.delivery.run_state is not Run.NONE:
            read = self.ports.control.read(self.keys.client_log, known)
            if read is not None:
                parser = LogParser(known, backslash_escapes=False)
                entries = parser.feed(read[0])
                size = known + len(read[0])
        self.take(cmd.ClientLogFound(entries, size))
        self._client_log = AppendLog(self.ports.control, self.keys.client_log, size)

    def _settle_doubts(self) -> None:
        """Ask the archive about every file in doubt, before anything is announced or sent."""
        while self.delivery.counts[UNRESOLVED]:
            self.take(cmd.SettleDoubts(self.ports.dispatcher.slots, self._busy))
            self._collect(0.2)
            if self.delivery.facts.outage_ms:
                raise ArchiveUnavailableError("the archive does not answer what it holds; resume goes on from here")

    def _end_orphan(self) -> None:
        """A stop row ends a validator that nobody drives; it is gone some seconds later."""
        self._append([("stop", "self", "")])
        self.record([ev.ClientLogAppended(self._client_log.size(), note="stop"), ev.StopReported()])
        deadline = self.now_ms() + int(self.delivery.limits.validator_stop_s * 1000)
        while self.ports.pipeline.is_running():
            if self.now_ms() > deadline:
                raise ValidatorStoppedError(
                    "a validator of an earlier session is still at work and does not end; try again later"
                )
            self.ports.clock.sleep(min(1.0, self.delivery.limits.poll_interval_s))
        while self._read_validator_log():
            pass

    def write_index(self, label: bytes | None) -> None:
        """Put the label (if there is one) and this session's index, which names what the validator shall expect."""
        delivery, table, control = self.delivery, self.delivery.table, self.ports.control
        if label is not None:
            control.put(self.keys.label, label)
            self.record([ev.LabelWritten(self.keys.label)])
        settled = {VALID, INVALID, ABANDONED}
        expected = sum(delivery.counts[code] for code in range(len(delivery.counts)) if code not in settled)
        rows = (
            (table.path(file), delivery.states[file] not in settled, table.checksum(file))
            for file in range(len(delivery))
        )
        control.put(self.keys.index, b"".join(wire.encode_index(rows, checksums=table.has_checksums)))
        self.record([ev.IndexWritten(self.keys.index, expected)])

    def start_pipeline(self, client_config: Mapping[str, Any] | None) -> None:
        """Ask for a validation run; what it is told of are the rows that our log gets from here on."""
        self.take(cmd.RequestRun())
        facts = self.delivery.facts
        try:
            answer = self.ports.pipeline.start(
                agent_id=facts.agent_id, idempotency_key=facts.run_key, client_config=client_config
            )
        except PipelineError as error:
            self.record([ev.PipelineRefused(str(error))])
            return
        if answer.already_running:
            self.record([ev.PipelineAttached(answer.message)])
        else:
            self.record([ev.PipelineAccepted(answer.message)])

    # --- the loop --------------------------------------------------------------------------------

    def step(self, timeout_s: float, *, queue: bool = True) -> None:
        """One turn: take in outcomes and log entries, then do what is due; with `queue` new files are taken up."""
        self._collect(timeout_s)
        if self._stop_reason is not None and not self.delivery.facts.stop_requested:
            self.record([ev.StopRequested(self._stop_reason)])
        if self.closed:
            return
        try:
            self._guard()
            self._poll()
            self._tick(queue=queue)
        except ArchiveUnavailableError as error:
            self.take(cmd.WorldFailed(str(error)))

    def start_pending(self) -> None:
        """Hand files in line to workers that are free."""
        self._tick(queue=False)

    def _tick(self, *, queue: bool) -> None:
        failed, self._failed = self._failed, []
        self.take(cmd.Tick(self.ports.dispatcher.slots, self._busy, queue, self._probe_due(), failed))

    def _guard(self) -> None:
        """Whoever slept past half of the lock's life makes sure that it is ours before the next side effect."""
        facts = self.delivery.facts
        if facts.lock_etag and self.now_ms() - facts.lock_ms > self.delivery.limits.lock_staleness_s * 500:
            self.renew_lock()

    def _probe_due(self) -> bool:
        """During an outage: whether it is time to try again; the waits double."""
        if not self.delivery.facts.outage_ms:
            self._probe_ms, self._probe_wait_ms = 0, PROBE_FIRST_MS
            return True
        if self.now_ms() < self._probe_ms or self._busy:
            return False
        self._probe_ms = self.now_ms() + self._probe_wait_ms
        self._probe_wait_ms = min(PROBE_LONGEST_MS, self._probe_wait_ms * 2)
        return True

    def _collect(self, timeout_s: float) -> None:
        outcomes = self.ports.dispatcher.collect(timeout_s) if self._dispatching else []
        if outcomes:
            self._busy.difference_update([outcome.file for outcome in outcomes])
            self._failed += [o.file for o in outcomes if isinstance(o, fx.FileNotStored)]
            self.take(cmd.OutcomesFound(outcomes))

    def _poll(self) -> None:
        now = self.now_ms()
        if now - self._polled_ms >= self.delivery.limits.poll_interval_s * 1000:
            self._polled_ms = now
            self._read_validator_log()
            self.take(cmd.WorldAnswered())

    def _read_validator_log(self, *, final: bool = False) -> bool:
        """Turn what is new in the validator's log into events; False if there was nothing new."""
        offset = self.delivery.facts.validator_log_offset
        read = self._validator_log.read_from(offset)
        parser = LogParser(read.offset)
        entries = parser.feed(read.data)
        if final:
            entries += parser.finish()
        self.take(cmd.ValidatorLogFound(entries, parser.consumed, read.restarted))
        return bool(entries)

    # --- our log ---------------------------------------------------------------------------------

    def _report(self, effect: fx.ReportFiles | fx.KeepAlive) -> None:
        """Append the rows of an effect; rows whose fate is unknown go first, once more, before any others."""
        if self._unsent is None:
            self._unsent = (self._rows_of(effect), effect)
        rows, effect = self._unsent
        size = self._client_log.append(rows)
        self._unsent = None
        if isinstance(effect, fx.ReportFiles):
            self.take(cmd.FilesReported(effect.stored, effect.failed, size))
        else:
            self.record([ev.ClientLogAppended(size, note="keepalive")])

    def _rows_of(self, effect: fx.ReportFiles | fx.KeepAlive) -> bytes:
        if isinstance(effect, fx.KeepAlive):
            return self._encode([("keepalive", "self", ""), ("info", "self", "waiting")])
        path, message_of = self.delivery.table.path, self.delivery.messages.get
        stored = [("transfer", path(file), "") for file in effect.stored]
        failed = [("transfer", path(file), message_of(file) or "interrupted") for file in effect.failed]
        return self._encode(stored) + self._encode(failed, status="error")

    def _encode(self, rows: Sequence[tuple[str, str, str]], status: str = ev.OK) -> bytes:
        now, agent = self.now_ms(), self.delivery.facts.agent_id
        return wire.encode_rows((now, category, ref, status, message, agent) for category, ref, message in rows)

    def _append(self, rows: Sequence[tuple[str, str, str]]) -> None:
        if self._unsent is not None:
            self._report(self._unsent[1])
        self._client_log.append(self._encode(rows))

    # --- end -------------------------------------------------------------------------------------

    def request_stop(self, reason: str) -> None:
        """Ask for an end in order at the next turn; may be called from any thread."""
        self._stop_reason = reason
        self.ports.dispatcher.wake()

    def abandon(self) -> None:
        """Give back what can be given back without recording it: for when the journal takes nothing more."""
        self.closed = True
        if self._dispatching:
            self._dispatching = False
            self.ports.dispatcher.hold_until(0)
            self.ports.dispatcher.close(0)
        with suppress(UploadClientError):
            self.lock.release()
        self.ports.pipeline.close()

    @property
    def opened(self) -> bool:
        """Whether this session has begun and is not closed."""
        return self._opened and not self.closed

    def close(self, outcome: str, reason: str, message: str) -> None:
        """End the session in order; what cannot be done any more is left to the next one, and nothing is raised for it."""
        if self.closed:
            return
        if not self._opened:
            self.abandon()
            return
        self.closed = True
        self._cut_transfers()
        ours = bool(self.delivery.facts.lock_etag)
        try:
            if ours:
                self._guard()
                self._stop_validator(patient=not reason)
                if self.lock.release():
                    self.record([ev.LockReleased()])
        except (LockLostError, ArchiveUnavailableError) as error:
            message = message or str(error)
        self.record([ev.SessionClosed(outcome, reason, message)])
        self.ports.pipeline.close()

    def _cut_transfers(self) -> None:
        if not self._dispatching:
            return
        self._dispatching = False
        if not self.delivery.facts.lock_etag:
            self.ports.dispatcher.hold_until(0)
        outcomes = self.ports.dispatcher.close(CUT_GRACE_S)
        self._busy.clear()
        self.take(cmd.OutcomesFound([o for o in outcomes if not isinstance(o, fx.FileInspected)]))

    def _stop_validator(self, *, patient: bool) -> None:
        """Write our stop row if a run is at work, and read what the validator still has to say."""
        delivery, limits = self.delivery, self.delivery.limits
        if delivery.client_state not in ("starting", "running", "stopping") or not delivery.facts.run_started:
            return
        if not patient and delivery.facts.outage_ms:
            return  # every request would wait for a world that does not answer
        self._append([("stop", "self", "")])
        self.record([ev.ClientLogAppended(self._client_log.size(), note="stop"), ev.StopReported()])
        wait_s = limits.validator_stop_s if patient else min(STOP_WAIT_S, limits.validator_stop_s)
        deadline = self.now_ms() + int(wait_s * 1000)
        while delivery.client_state == "stopping" and self.now_ms() < deadline:
            self.ports.clock.sleep(min(limits.poll_interval_s, 1.0))
            self._read_validator_log()
        if delivery.client_state == "stopping":
            self._read_validator_log(final=True)
