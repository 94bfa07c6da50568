"""The one loop: append, apply, act.

The engine asks the delivery what to do, appends the events it names to the journal, applies them, and only then
performs the effects; what comes of those goes back to the delivery. Nobody else appends, and nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, assert_never

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core import jobs, wire
from upload_core.closing import end
from upload_core.concurrency import INTERVAL_S, Concurrency
from upload_core.conversation import Conversation
from upload_core.delivery import Delivery
from upload_core.errors import (
    ArchiveUnavailableError,
    IdentityError,
    LockLostError,
    PipelineError,
    StoppedError,
    UploadClientError,
)
from upload_core.journal import Record
from upload_core.lifecycle import ABANDONED, INVALID, VALID
from upload_core.owner_lock import OwnerLock
from upload_core.patience import Patience
from upload_core.ports import Observer, Ports, TransferType
from upload_core.timestamps import iso
from upload_core.views import SentBytes

T = TypeVar("T")

SNAPSHOT_EVERY: Final = 500_000
"""Events between snapshots: a second of replay."""
LOCK_MARGIN: Final = 0.9
"""Share of the lock's life after which it no longer counts as ours unless it was renewed."""
CUT_GRACE_S: Final = 1.0
"""How long running transfers may finish when the session is stopped; a host is promised a stop within 5 s."""


class Engine:
    """One session of one delivery."""

    def __init__(self, delivery: Delivery, ports: Ports, agent_id: str, observers: list[Observer]) -> None:
        created = delivery.created
        self.delivery = delivery
        self.ports = ports
        self.observers = observers
        self.client_config: Mapping[str, Any] | None = None
        """What the pipeline is told of us, as the host gave it."""
        self.closed = False
        self.sent = SentBytes()
        delivery.limits = ports.limits
        kind: TransferType = "sample" if created.transfer_type == "sample" else "staging"
        self.keys = wire.Keys(created.dataset, created.delivery_id, kind)
        self._agent_id = agent_id
        self.lock = self._own_lock()
        self.conversation = self._conversation()
        self.busy: set[int] = set()
        """Files that workers are at."""
        self._failed: dict[int, None] = {}  # an ordered set: whose failed attempt the validator was not told of
        self._opened = False
        self._dispatching = False
        self._told_ms: tuple[int, int] | None = None
        """The latest time by the clock that was no step back, and the monotonic time of that moment."""
        self._polled_ms = 0
        self.pauses: dict[str, str] = {}
        """Who wants no further file to be begun, and why; set from any thread, recorded by `step`."""
        self._concurrency: Concurrency | None = None
        """Finds the level, unless the host fixed it."""
        self._level = 1
        self._paced_ms = 0
        self.patience = Patience(self)
        self.insist = self.patience.insist
        self._control_away = False
        """Whether the control bucket did not answer our last look; then it is asked only when a probe is due."""
        self._unrenewed = False
        """Whether the lock's last renewal failed."""
        self._load_counts = True
        self._snapshot_seq = delivery.facts.seq
        self._stop_reason: str | None = None

    # --- append, apply, act ----------------------------------------------------------------------

    def now_ms(self) -> int:
        """The clock's time, never earlier than what was told before.

        Where the clock went back, our time goes on at half its pace until the clock has come up: if it stood still, all
        that waits would wait for that long.
        """
        now_ms, passing_ms = self.ports.clock.now_ms(), self.ports.clock.monotonic_ms()
        if self._told_ms is not None:
            slow_ms = self._told_ms[0] + (passing_ms - self._told_ms[1]) // 2
            if now_ms < slow_ms:
                return slow_ms
        self._told_ms = now_ms, passing_ms
        return now_ms

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
        self.sent.count(delivery, events)
        if self.observers:
            self._tell(events, first, iso(time_ms))
        if delivery.facts.seq - self._snapshot_seq >= SNAPSHOT_EVERY:
            self._snapshot_seq = delivery.facts.seq
            self.ports.journal.snapshot(delivery)

    def _tell(self, events: Sequence[ev.Event], first: int, stamp: str) -> None:
        """Call the observers; one that raises is called no more, and its error is raised once all others were told."""
        if all(observer.kinds is not None for observer in self.observers):
            wanted = {kind for observer in self.observers for kind in observer.kinds or ()}
            if wanted.isdisjoint(map(type, events)):
                return  # most batches are of files alone: whoever wants none of those costs next to nothing
        failures: list[Exception] = []
        for seq, event in enumerate(events, first):
            for observer in tuple(self.observers):
                if observer.kinds is not None and type(event) not in observer.kinds:
                    continue
                try:
                    observer.callback(Record(seq, stamp, event))
                except Exception as error:  # noqa: BLE001 - raised below
                    failures.append(error)
                    self.observers.remove(observer)
        if failures:
            raise failures[0]

    def _perform(self, effects: Sequence[fx.Effect]) -> None:
        orders = [effect for effect in effects if isinstance(effect, fx.TransferFile | fx.InspectFile)]
        for effect in effects:
            match effect:
                case fx.RenewLock():
                    self.renew_lock()
                case fx.TransferFile() | fx.InspectFile():
                    # all at once, and before anything that may fail: they are recorded as started
                    self._submit(orders)
                    orders = []
                case fx.ReportFiles() | fx.KeepAlive():
                    self.report(effect)
                case fx.StartRun():
                    self._start_another_run()
                case fx.CloseSession():
                    self.close(effect.outcome, effect.reason, effect.message)
                case _:
                    assert_never(effect)

    def _submit(self, orders: Sequence[fx.FileOrder]) -> None:
        if orders:
            self.busy.update([order.file for order in orders])
            self.ports.dispatcher.submit(orders)

    # --- beginning -------------------------------------------------------------------------------

    def open(self, opening: cmd.OpenSession) -> None:
        """Record that this session begins, and get the workers ready."""
        before = self.delivery.facts.session
        self.patience.look()
        try:
            self.take(opening)
        finally:  # an observer may raise although the session is recorded
            self._opened = self.delivery.facts.session > before
        self._level = opening.n_threads
        if not self._level:
            self._concurrency = Concurrency(self.ports.dispatcher.level_max)
            self._level = self._concurrency.level
            self.record([ev.ConcurrencyChanged(self._level, "to begin with")])
        open_jobs, adopter = jobs.adopted(self.delivery), jobs.adopter(self.delivery, self.ports.dispatcher)
        self.ports.dispatcher.open(self.ports.source, self.ports.archive, self._level)
        self._dispatching = True
        if adopter is not None:
            adopter.adopt(open_jobs)

    def learn_limits(self) -> None:
        """Take over the limits that the archive itself names, where it does; before the lock is asked for."""
        if (ask := self.ports.archive_limits) is not None:
            self.delivery.limits = self.ports.limits = ask(self.ports.limits)
            self.lock = self._own_lock()

    def _conversation(self) -> Conversation:
        return Conversation(self.ports.control, self.keys, self.delivery, self.guard)

    # --- the lock --------------------------------------------------------------------------------

    def _own_lock(self) -> OwnerLock:
        ports = self.ports
        return OwnerLock(ports.control, self.keys.client_lock, self._agent_id, ports.limits.lock_staleness_s)

    def acquire_lock(self) -> None:
        """Take or re-enter the delivery's lock; raises `LockHeldError`."""
        ownership = self.insist(self.lock.acquire)
        self.record([ev.LockAcquired(ownership.etag, ownership.taken_over)])
        self._hold()

    def renew_lock(self, *, at_once: bool = False) -> None:
        """Rewrite the lock; raises `LockLostError` if it is not ours.

        A renewal that fails waits for the next one as long as the lock cannot be anybody else's, unless it has to be
        `at_once`. After that nothing is done at all before it was renewed.
        """
        try:
            try:
                ownership = self.lock.renew()
            except ArchiveUnavailableError as error:
                self._unrenewed = True
                self.take(cmd.WorldFailed(str(error)))
                if not at_once and self.now_ms() < self._hold_until_ms():
                    return
                ownership = self.insist(self.lock.renew, guarded=False)
        except LockLostError as error:
            self.record([ev.LockLost(str(error))])
            raise
        self._unrenewed = False
        self.record([ev.LockRenewed(ownership.etag)])
        self._hold()

    def release_lock(self) -> None:
        """Give the lock back if it is ours; no worker makes anything visible without it."""
        if self._dispatching:
            self.ports.dispatcher.hold_until(0)
        if self.insist(self.lock.release):
            self.record([ev.LockReleased()])

    def _hold_until_ms(self) -> int:
        return self.delivery.facts.lock_ms + int(self.delivery.limits.lock_staleness_s * 1000 * LOCK_MARGIN)

    def _hold(self) -> None:
        self.ports.dispatcher.hold_until(self._hold_until_ms())

    # --- the run ---------------------------------------------------------------------------------

    def write_index(self, label: bytes | None) -> None:
        """Put the label (if there is one) and this session's index, which names what the validator shall expect."""
        delivery, table, control = self.delivery, self.delivery.table, self.ports.control
        self.guard()
        if label is not None:
            written = label
            self.insist(lambda: control.put(self.keys.label, written))
            self.record([ev.LabelWritten(self.keys.label)])
        settled = {VALID, INVALID, ABANDONED}
        expected = sum(delivery.counts[code] for code in range(len(delivery.counts)) if code not in settled)
        waited_for = (code not in settled for code in delivery.states)
        rows = zip(table.paths(), waited_for, table.checksums(), strict=False)  # a table may be ahead of its delivery
        index = b"".join(wire.encode_index(rows, checksums=table.has_checksums))
        self.guard()
        self.insist(lambda: control.put(self.keys.index, index))
        self.record([ev.IndexWritten(self.keys.index, expected)])

    def start_pipeline(self) -> None:
        """Ask for a validation run; what it is told of are the rows that our log gets from here on.

        If the answer is lost, it is asked for again under the same key, which starts nothing twice. Whatever the answer,
        the run is believed by its `init` row alone; without one in time the next session ends what is at work.
        """
        self.take(cmd.RequestRun())
        self.guard()
        facts = self.delivery.facts
        try:
            answer = self.insist(
                lambda: self.ports.pipeline.start(
                    agent_id=facts.agent_id, idempotency_key=facts.run_key, client_config=self.client_config
                )
            )
        except PipelineError as error:
            self.record([ev.PipelineRefused(str(error))])
            return
        # Also where a run is at work already: it may be an earlier one, which looked dead and was told of files that it
        # must not be told of again. Only one that comes up after this request is the run that was asked for.
        self.record([ev.PipelineAccepted(answer)])

    def _start_another_run(self) -> None:
        """As a new session would: what was on its way to the run before is no longer told, but found in our log."""
        # what is read ends no outage of what is written, and so is not insisted on
        if self.ports.pipeline.is_running():  # whose run that is, and what it was told, the next session settles
            self.close("interrupted", "validator", self.delivery.facts.validator_message)
            return
        self.conversation = self._conversation()
        self._failed.clear()  # the new run does not expect what was given up before
        self.take(self.conversation.find_ours(rows_matter=False))
        self.write_index(self.ports.label)
        self.start_pipeline()
        self.take(cmd.WorldAnswered(again=True))

    # --- the loop --------------------------------------------------------------------------------

    def step(self, timeout_s: float, *, queue: bool = True) -> None:
        """One turn: take in outcomes and log entries, then do what is due; with `queue` new files are taken up."""
        self.collect(timeout_s)
        if self._stop_reason is not None and not self.delivery.facts.stop_requested:
            self.record([ev.StopRequested(self._stop_reason)])
        if self.closed:
            return
        self.heed_pauses()
        during_outage = bool(self.delivery.facts.outage_ms)
        may_ask = self.patience.may_ask()
        try:
            self.guard()
            self._find_level()
            if may_ask or not self._control_away:
                self._poll()
        except ArchiveUnavailableError as error:
            self.take(cmd.WorldFailed(str(error)))
            may_ask = may_ask and during_outage  # the one that just began is probed later
        self._tick(queue=queue, may_ask=may_ask)

    def start_pending(self) -> None:
        """Hand files in line to workers that are free."""
        self.heed_pauses()
        self._tick(queue=False, may_ask=self.patience.may_ask())

    def _tick(self, *, queue: bool, may_ask: bool) -> None:
        try:
            self.take(cmd.Tick(self.ports.dispatcher.slots, self.busy, queue, may_ask, self._failed))
        except ArchiveUnavailableError as error:
            self.take(cmd.WorldFailed(str(error)))

    def heed_pauses(self) -> None:
        """Record who wants a pause now and who no longer does; while anybody does, no order is begun."""
        wanted, paused = dict(self.pauses), self.delivery.facts.paused
        if wanted.keys() == paused.keys():
            return
        self.record(
            [
                *(ev.TransfersPaused(by, message) for by, message in wanted.items() if by not in paused),
                *(ev.TransfersContinued(by) for by in paused if by not in wanted),
            ]
        )
        self.ports.dispatcher.set_level(0 if wanted else self._level)

    def _find_level(self) -> None:
        """Once per interval, let what was done since the last one say how many transfers run at a time."""
        if self._concurrency is None:
            return
        passed_s = (self.now_ms() - self._paced_ms) / 1000
        if passed_s < INTERVAL_S:
            return
        first, self._paced_ms = not self._paced_ms, self.now_ms()
        load = self.ports.dispatcher.load()
        counts, facts = self._load_counts and not first, self.delivery.facts
        self._load_counts = not (facts.outage_ms or facts.paused)
        if facts.outage_ms:
            change = self._concurrency.cut_off()
        elif counts and self._load_counts:
            change = self._concurrency.observe(load, passed_s)
        else:
            return  # what a pause's last transfers and an outage's probes meet says nothing about how many would do well
        if change is not None:
            self.record([ev.ConcurrencyChanged(change.level, change.reason)])
            self._level = change.level
            self.ports.dispatcher.set_level(0 if facts.paused else self._level)

    def guard(self) -> None:
        """Whoever stood still, or let half of the lock's life pass, makes sure that it is ours before the next side effect."""
        self.patience.look()
        if lost_s := self.patience.lost_s():
            # nothing is believed of connections, of the lock, or of how far the clocks are apart
            self.record([ev.SuspensionNoticed(lost_s)])
            self._load_counts = False
            self.patience.reconnect()
            if self.delivery.facts.lock_etag:
                self.renew_lock()
        facts = self.delivery.facts
        if not facts.lock_etag:
            if self.delivery.client_state != "connecting":
                raise LockLostError("the lock was given back, and nothing is done without it; resume takes it again")
        elif self.now_ms() - facts.lock_ms > self.delivery.limits.lock_staleness_s * 500:
            self.renew_lock()

    def collect(self, timeout_s: float) -> None:
        """Take in what workers tell and hand back; raises `IdentityError` if one was refused for its credentials."""
        news: Sequence[fx.News] = ()
        if self._dispatching:
            self.patience.look()
            news = self.ports.dispatcher.collect(timeout_s)
            self.patience.look(timeout_s)
        if news:
            outcomes = [told for told in news if isinstance(told, fx.FileOutcome)]
            self.busy.difference_update([outcome.file for outcome in outcomes])
            self._failed.update(dict.fromkeys(o.file for o in outcomes if isinstance(o, fx.FileNotStored)))
            self.busy.difference_update(jobs.left_to_service(news, len(self.delivery)))
            self.take(cmd.OutcomesFound(news))
            if any(isinstance(told, fx.FileInspected) and told.holds is not fx.ArchiveHolds.UNKNOWN for told in news):
                self.patience.answered()
            for outcome in outcomes:
                if not isinstance(outcome, fx.FileStored) and outcome.fault is fx.Fault.IDENTITY:
                    raise IdentityError(outcome.message)

    def _poll(self) -> None:
        now = self.now_ms()
        if now - self._polled_ms >= self.delivery.limits.poll_interval_s * 1000:
            self._polled_ms = now
            # after a long silence a row that never ended may be holding back those behind it
            facts, limits = self.delivery.facts, self.delivery.limits
            self._control_away = True
            self.hear(final=now - facts.heard_ms > limits.validator_silence_s * 500)
            self._control_away = False
            owed = self.conversation.unsent is not None or self._unrenewed or self.delivery.client_state == "stopped"
            if not owed:
                # where something could not be written (a full disk), what can be read ends no outage
                self.take(cmd.WorldAnswered())

    def hear(self, *, final: bool = False) -> bool:
        """Turn what is new in the validator's log into events; False if there was nothing new."""
        found = self.conversation.hear(final=final)
        self.take(found)
        return bool(found.entries)

    def report(self, effect: fx.ReportFiles | fx.KeepAlive) -> None:
        """Tell the validator what is due."""
        self.guard()
        done = self.conversation.report(effect, self.now_ms())
        if isinstance(done, ev.Event):
            self.record([done])
        else:
            for file in (*done.failed, *done.stored):
                self._failed.pop(file, None)
            self.take(done)

    # --- end -------------------------------------------------------------------------------------

    def request_stop(self, reason: str) -> None:
        """Ask for an end in order at the next turn; may be called from any thread."""
        self._stop_reason = reason
        self.ports.dispatcher.wake()

    def heed_stop(self) -> None:
        """Raises `StoppedError` if an end was asked for; for waits outside the loop."""
        if self._stop_reason is not None:
            raise StoppedError(self._stop_reason)

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

    def cut_transfers(self) -> None:
        """Let workers finish for a moment, and take in what they say; once."""
        if not self._dispatching:
            return
        self._dispatching = False
        if not self.delivery.facts.lock_etag:
            self.ports.dispatcher.hold_until(0)
        outcomes = self.ports.dispatcher.close(CUT_GRACE_S)
        self.busy.clear()
        self.take(cmd.OutcomesFound([o for o in outcomes if not isinstance(o, fx.FileInspected)]))

    @property
    def stop_wanted(self) -> bool:
        """Whether an end was asked for."""
        return self._stop_reason is not None

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
        try:
            end(self, outcome, reason, message)
        except BaseException:
            self.abandon()
            raise

    def say_stop(self) -> None:
        """Write our stop row, once."""
        self.guard()
        now_ms = self.now_ms()
        self.record([self.insist(lambda: self.conversation.say_stop(now_ms)), ev.StopReported()])
