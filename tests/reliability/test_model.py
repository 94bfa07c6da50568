"""A delivery beside its model: any order of commands, outcomes, verdicts, ticks and crashes, the same words."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.reliability.model import Model
from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.journal import Header, encode_batch, encode_header, replay
from upload_core.lifecycle import FILE_STATES
from upload_core.ports import Limits
from upload_core.timestamps import iso
from upload_core.validation import Entry

COUNT = 4
PATHS = [f"file {number}" for number in range(COUNT)]
TABLE = FileTable.from_columns(PATHS, [10] * COUNT)
CREATED = ev.DeliveryCreated("d", "1", "staging", "me", "/data", "file:///a", TABLE.digest, COUNT)
FOREVER = 1e9
LIMITS = Limits(
    lock_staleness_s=FOREVER,
    validator_silence_s=FOREVER,
    validator_start_s=FOREVER,
    verdict_wait_s=FOREVER,
    outage_s=FOREVER,
    keepalive_interval_s=FOREVER,
    report_interval_s=1.0,
)
"""The clock's own decisions are tested one by one elsewhere; here it only makes files rest."""

FAULTS = {fault.value: fault for fault in fx.Fault}
HOLDS = {holds.value: holds for holds in fx.ArchiveHolds}


class Together(RuleBasedStateMachine):
    """The real delivery with a real journal's bytes, and the model."""

    def __init__(self):
        super().__init__()
        self.now = 1_800_000_000_000
        self.model = Model(COUNT)
        self.before_batch = self.model.copy()
        _, self.position = encode_header(Header.first(CREATED, "nonce"))
        self.start = self.position
        self.journal = b""
        self.last_batch = 0
        self.delivery = Delivery.begin(CREATED, TABLE)
        self.delivery.limits = LIMITS
        self.busy: dict[int, str] = {}
        self.log_offset = self.our_log = 0
        self.steps = 0

    # --- what the engine does ---------------------------------------------------------------------

    def record(self, *events):
        if not events:
            return
        self.before_batch = self.model.copy()
        self.delivery.check(events)
        data, self.position = encode_batch(events, self.now, self.position)
        self.journal += data
        self.last_batch = len(data)
        for event in events:
            self.delivery.apply(event, self.now)

    def decide(self, command):
        """What comes of it, recorded; the model is told by whoever asked."""
        decision = self.delivery.decide(command, self.now)
        self.record(*decision.events)
        return decision.effects

    def open_session(self, retries):
        self.decide(cmd.OpenSession("me", 1, retries))
        self.model.session_begins(retries)
        self.record(ev.LockAcquired("etag"))

    def close_session(self, outcome, reason):
        self.record(ev.SessionClosed(outcome, reason))
        self.model.session_ends(outcome)
        self.busy.clear()

    def hear(self, *rows):
        entries = []
        for category, ref, status, message in rows:
            entries.append(Entry(self.log_offset, iso(self.now), category, ref, status, message, "v1"))
            self.log_offset += 10
        self.decide(cmd.ValidatorLogFound(entries, self.log_offset))

    # --- rules ------------------------------------------------------------------------------------

    @initialize(retries=st.integers(0, 2))
    def begin(self, retries):
        self.record(CREATED)
        self.open_session(retries)

    def alive(self):
        return self.model.phase != "closed"

    @rule(ms=st.sampled_from([1, 400, 600, 1_100, 2_500, 40_000]))
    def time_passes(self, ms):
        self.now += ms

    @precondition(alive)
    @rule(count=st.integers(1, 3))
    def queue(self, count):
        before = self.model.copy()
        decision = self.delivery.decide(cmd.QueueNext(count), self.now)
        self.record(*decision.events)
        queued = [event.file for event in decision.events if isinstance(event, ev.FileEvent)]
        for file in queued:
            self.model.is_queued(file, self.now)
        ready = sum(word == "ready" for word in before.words())
        failed = sum(word == "failed" for word in before.words())
        rested = sum(file.word == "failed" and file.rests_until <= self.now for file in before.files)
        if ready or rested:
            assert len(queued) == min(count, ready + rested)
        else:
            assert len(queued) == min(count, failed)

    @precondition(alive)
    @rule(slots=st.integers(0, 3), queue=st.booleans(), probe=st.booleans(), failed=st.booleans())
    def tick(self, slots, queue, probe, failed):
        model = self.model
        told = (
            [number for number, file in enumerate(model.files) if file.word in ("failed", "abandoned")]
            if failed
            else []
        )
        expected_end = None
        if model.all_in({"valid", "invalid", "abandoned"}):
            expected_end = "complete" if model.all_in({"valid"}) else "incomplete"
        elif model.phase == "over" and not model.disturbed:
            expected_end = "interrupted"
        effects = self.decide(cmd.Tick(slots, set(self.busy), queue, probe, told))
        if model.phase == "over" and not expected_end:
            # The run may have given us up for our silence: another one is asked for.
            if model.outage and not probe:
                assert effects == []
                return
            assert effects == [fx.StartRun()]
            self.decide(cmd.RequestRun())
            model.run_is_asked_for()
            return
        ends = [effect for effect in effects if isinstance(effect, fx.CloseSession)]
        assert [end.outcome for end in ends] == ([expected_end] if expected_end else [])
        if ends:
            assert effects == ends
            self.close_session(ends[0].outcome, ends[0].reason)
            return
        if model.outage:
            slots = 1 if probe and not self.busy and slots else 0
        sendable = model.due(self.now, queue=queue)
        doubts = model.in_doubt(set(self.busy)) if model.may_send() else []
        if model.outage and any(file.word == "pending" or (queue and file.word == "ready") for file in model.files):
            doubts = []
        looks = [effect.file for effect in effects if isinstance(effect, fx.InspectFile)]
        sends = [effect.file for effect in effects if isinstance(effect, fx.TransferFile)]
        assert len(looks) == min(slots, len(doubts))
        assert set(looks) <= set(doubts)
        assert len(sends) == (min(slots - len(looks), sendable) if model.may_send() else 0)
        for file in sends:
            assert model.files[file].word not in ("valid", "done", "reported"), "sent although it is stored"
            model.is_sent(file, self.now)
            self.busy[file] = "send"
        for file in looks:
            self.busy[file] = "look"
        self.announce([effect for effect in effects if isinstance(effect, fx.ReportFiles)], told)

    def announce(self, reports, told):
        model = self.model
        if not reports:
            return
        [report] = reports
        assert model.phase == "running"
        assert set(report.stored) <= set(model.may_announce())
        assert set(report.failed) <= set(told)
        if not model.trusted:
            assert len(report.stored) == 1, "before the validator is known to listen, one file is the probe"
            assert not report.failed
        self.our_log += 10 * (len(report.stored) + len(report.failed))
        self.decide(cmd.FilesReported(report.stored, report.failed, self.our_log))
        for file in report.stored:
            model.is_announced(file)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def worker_answers(self, data):
        file = data.draw(st.sampled_from(sorted(self.busy)))
        if self.busy.pop(file) == "send":
            fault = data.draw(st.sampled_from(["", "", "", *FAULTS]))
            if fault:
                self.decide(cmd.OutcomesFound([fx.FileNotStored(file, FAULTS[fault], f"no: {fault}")]))
                self.model.is_not_stored(file, fault, self.now)
            else:
                self.decide(cmd.OutcomesFound([fx.FileStored(file, 10, "AAAAAA==")]))
                self.model.is_stored(file)
        else:
            holds = data.draw(st.sampled_from(sorted(HOLDS)))
            self.decide(cmd.OutcomesFound([fx.FileInspected(file, HOLDS[holds])]))
            self.model.is_looked_at(file, holds)

    @precondition(lambda self: self.alive() and self.model.phase in ("catching up", "over"))
    @rule()
    def ask_for_a_run(self):
        self.decide(cmd.RequestRun())
        self.model.run_is_asked_for()

    @precondition(alive)
    @rule()
    def validator_begins(self):
        self.hear(("init", "self", "ok", "started"))
        self.model.run_begins()

    @precondition(alive)
    @rule(data=st.data())
    def validator_judges(self, data):
        verdicts = data.draw(
            st.lists(
                st.tuples(st.integers(0, COUNT), st.sampled_from(["ok", "ok", "failure", "error"])),
                min_size=1,
                max_size=3,
            )
        )
        paths = [*PATHS, "not in the index"]
        self.hear(*(("validation", paths[file], status, "") for file, status in verdicts))
        for file, status in verdicts:
            if file < COUNT:
                self.model.is_judged(file, status)

    @precondition(lambda self: self.model.phase == "running")
    @rule()
    def validator_ends(self):
        self.hear(("shutdown", "self", "ok", ""), ("stop", "self", "ok", ""))
        self.model.run_ends()

    @precondition(alive)
    @rule()
    def world_fails(self):
        self.decide(cmd.WorldFailed("no route"))
        self.model.outage_begins()

    @precondition(alive)
    @rule(again=st.booleans())
    def world_answers(self, again):
        self.decide(cmd.WorldAnswered(again))
        if again or self.model.sending_is_over:
            self.model.outage = False

    @rule(torn=st.booleans(), retries=st.integers(0, 2))
    def crash(self, torn, retries):
        """The process dies; the last batch may not have reached the disk. Another one goes on."""
        data = self.journal
        if torn and self.last_batch and not data.startswith(data[-self.last_batch :]):
            data = data[: len(data) - self.last_batch // 2]
            self.model = self.before_batch.copy()
        delivery = Delivery.begin(CREATED, TABLE)
        position, whole = replay([data], self.start, delivery)
        assert whole == (data == self.journal)
        delivery.refresh_derived()
        delivery.limits = LIMITS
        self.delivery, self.position = delivery, position
        self.journal = data[: position.offset - self.start.offset]
        self.last_batch = 0
        self.busy.clear()
        self.model.restarted()
        self.log_offset = delivery.facts.validator_log_offset
        self.open_session(retries)

    # --- what must always hold --------------------------------------------------------------------

    @invariant()
    def same_words(self):
        words = [FILE_STATES[code].name for code in self.delivery.states]
        assert words == self.model.words()
        assert [self.delivery.state_of(file) for file in range(COUNT)] == self.model.shown()

    @invariant()
    def same_numbers(self):
        delivery, model = self.delivery, self.model
        assert list(delivery.retries) == [file.retries for file in model.files]
        assert {file: status for file, (status, _) in delivery.deferred.items()} == {
            number: file.waiting for number, file in enumerate(model.files) if file.waiting
        }
        assert delivery.n_complete == sum(word in ("valid", "invalid", "abandoned") for word in model.words())
        assert delivery.transfer_complete == model.sending_is_over
        assert delivery.validation_complete == model.all_in({"valid", "invalid", "abandoned"})
        assert delivery.all_valid == model.all_in({"valid"})
        assert bool(delivery.facts.outage_ms) == model.outage
        assert delivery.facts.run_confirmed == model.trusted
        counts = delivery.public_counts()
        assert {word: count for word, count in counts.items() if count} == {
            word: model.shown().count(word) for word in set(model.shown())
        }

    @invariant()
    def reasons_where_needed(self):
        for file, word in enumerate(self.model.shown()):
            message = self.delivery.message_of(file)
            assert (message is not None) == (word in ("failed", "invalid"))

    def teardown(self):
        """The state is the fold of the journal, and its canonical form says all of it."""
        again = Delivery.begin(CREATED, TABLE)
        _, whole = replay([self.journal], self.start, again)
        assert whole
        again.refresh_derived()
        assert again.canonical() == self.delivery.canonical()
        assert Delivery.from_canonical(again.canonical(), TABLE).canonical() == again.canonical()


@pytest.mark.promise("R18")
@pytest.mark.promise("R1")
def test_a_delivery_and_its_model_agree_on_every_word(size, figure):
    examples = size(pr=150, nightly=10_000, release=30_000)
    run_state_machine_as_test(
        Together,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            print_blob=True,
            phases=[Phase.explicit, Phase.generate, Phase.shrink]
            if examples > 150
            else [Phase.explicit, Phase.generate],
            report_multiple_bugs=False,
            derandomize=examples == 150,
            suppress_health_check=list(HealthCheck),
        ),
    )
    figure(examples, "random lives of a delivery beside its model", promise="R1")
