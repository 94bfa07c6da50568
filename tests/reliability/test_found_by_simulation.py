"""What the simulation found, each by itself: small deliveries in which just that goes wrong."""

import re
from collections.abc import Callable

import pytest

from tests.crash.odd_validator import KEYS, OddPipeline
from tests.crash.test_faults import replace_port
from tests.crash.world import World
from upload_adapters.memory import ManualClock, MemoryControlBucket
from upload_adapters.simulation import simulate
from upload_adapters.testing import Killed
from upload_core import events as ev
from upload_core.errors import (
    ArchiveUnavailableError,
    IdentityError,
    LockLostError,
    PipelineError,
    ValidatorStoppedError,
)
from upload_core.logs import AppendLog, LogReader, mark_of
from upload_core.recovery import Run, RunStep, run_step

KEY = KEYS.validator_log
FILES = {"a": b"first", "b": b"second", "c": b"third"}


@pytest.fixture
def control():
    return MemoryControlBucket(ManualClock())


# --- a verdict that comes while the validator drains its queue -----------------------------------


def test_a_verdict_that_is_taken_back_at_the_last_moment_is_no_success():
    world = World(FILES, bad=[])

    class Repentant(OddPipeline):
        def _turn(self, key):
            ours = self.control._objects.get(KEYS.client_log)
            if self.alive and key == KEYS.validator_log and ours and b"\tstop\t" in ours.data:
                self.write(self.row("validation", "a", "failure", "on second thoughts"))
            super()._turn(key)

    replace_port(
        world,
        pipeline=Repentant(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)]),
    )
    summary = world.client().run()
    assert summary.counts["invalid"] == 1
    assert (summary.outcome, summary.exit_code) == ("incomplete", 1)


# --- knowing the validator's log again -----------------------------------------------------------


def test_a_row_that_never_ended_does_not_make_it_another_log(control):
    torn = b"2027-01-15T08:00:00.000Z\tvalidation\ta\tok\t\tv\n2027-01-15T08:00"
    control.append(KEY, torn, offset=0)
    read = LogReader(control, KEY).read_from(0)
    mark = read.mark_at(len(torn))  # given up as torn
    control.append(KEY, b"-and more\n", offset=len(torn))
    resumed = LogReader(control, KEY).read_from(len(torn), mark)
    assert (resumed.restarted, resumed.data) == ("", b"-and more\n")


def test_another_log_of_the_same_shape_is_another_log(control):
    control.append(KEY, b"row 1\nrow 2\n", offset=0)
    mark = LogReader(control, KEY).read_from(0).mark_at(12)
    control.put(KEY, b"ROW 1\nROW 2\nROW 3\n")
    read = LogReader(control, KEY).read_from(12, mark)
    assert "replaced" in read.restarted
    assert read.data == b"ROW 1\nROW 2\nROW 3\n"
    assert mark == mark_of(b"row 1\nrow 2\n")


def test_a_mark_is_that_of_the_last_bytes_however_they_came(control):
    log = b"".join(b"row %d\n" % number for number in range(60))
    control.append(KEY, log, offset=0)
    first = LogReader(control, KEY).read_from(0).mark_at(300)
    reader = LogReader(control, KEY)
    for offset in (0, 50, 120, 290):
        assert reader.read_from(offset).mark_at(300) == first


def test_a_session_after_a_torn_row_reads_nothing_again():
    world = World(FILES, bad=[])
    torn = [True]

    def answer(odd, path):
        row = odd.row("validation", path)
        return [row[:-9]] if path == "c" and torn[0] else [row]

    pipeline = OddPipeline(world.real["control"], world.ports.clock, answer)
    replace_port(world, pipeline=pipeline)
    world.client().run()  # waits for c in vain, and gives the torn row up
    assert world.kinds("LogLineRejected")
    torn[0] = pipeline.alive = False
    world.client().run()
    assert world.kinds("ValidatorLogRestarted", "VerdictRepeated") == []
    assert world.last is not None
    assert world.last.summary().exit_code == 0


# --- a validator that has yet to find its place --------------------------------------------------


class Blind(OddPipeline):
    """It finds its place in our log only some seconds after its first word, and has a keepalive each ten."""

    blind_s = 3.0

    def start(self, **request):
        answer = super().start(**request)
        self.begun_ms = self.clock.now_ms()
        self.offset = -1
        self.wrote_ms = self.begun_ms
        return answer

    def _turn(self, key):
        now_ms = self.clock.now_ms()
        if not self.alive or key != KEYS.validator_log:
            return
        if self.offset < 0:
            if now_ms - self.begun_ms >= self.blind_s * 1000:
                self.offset = self.control.size(KEYS.client_log)
            return
        before = self.control.size(key)
        super()._turn(key)
        if self.control.size(key) > before:
            self.wrote_ms = now_ms
        elif now_ms - self.wrote_ms >= 10_000:
            self.wrote_ms = now_ms
            self.write(self.row("keepalive", "self", message="0 / 1"))


def test_the_only_file_is_announced_once_the_validator_listens():
    world = World({"only": b"one"}, bad=[])
    pipeline = Blind(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)])
    replace_port(world, pipeline=pipeline)
    summary = world.client().run()
    assert (summary.exit_code, len(world.kinds("FileReported"))) == (0, 1)
    assert summary.seconds < 30


def test_a_validator_has_its_time_from_the_answer_on_however_late_that_came():
    world = World({"only": b"one"}, bad=[])
    clock = world.ports.clock

    class Late(OddPipeline):
        def start(self, **request):
            answer = super().start(**request)
            found, began_ms = self.control.read(KEYS.validator_log), self.clock.now_ms()
            assert found is not None
            self.control.delete(KEYS.validator_log)
            clock.advance(290)  # the archive looks for a machine before it answers
            self.init, self.due_ms = found[0], began_ms + 350_000
            return answer

        def _turn(self, key):
            if self.init and key == KEYS.validator_log and self.clock.now_ms() >= self.due_ms:
                init, self.init = self.init, b""
                self.write(init)
            super()._turn(key)

    pipeline = Late(world.real["control"], clock, lambda odd, path: [odd.row("validation", path)])
    pipeline.init = b""
    replace_port(world, pipeline=pipeline)
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 1


def test_a_session_that_ends_before_the_validator_listens_leaves_the_run_to_the_next():
    world = World(FILES, bad=[])
    pipeline = Blind(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)])
    replace_port(world, pipeline=pipeline)

    def refuse(port, method, args):
        if port == "archive" and method == "put":
            raise IdentityError("expired")

    world.calls.before = refuse
    client = world.client()
    client.run()
    assert client.summary().exit_code == 5
    assert "stop" not in {row[1] for row in world.rows()}
    world.calls.disarm()
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 1


# --- whoever stood still between two requests ----------------------------------------------------


def test_an_append_is_repeated_only_if_the_lock_is_still_ours(control):
    asked = []

    class Away(MemoryControlBucket):
        def append(self, key, data, *, offset):
            asked.append(offset)
            raise ArchiveUnavailableError("timed out")

    def again():
        raise LockLostError("somebody else's")

    log = AppendLog(Away(ManualClock()), KEYS.client_log, 0, again)
    with pytest.raises(LockLostError):
        log.append(b"row\n")
    assert asked == [0]


def test_nor_is_one_that_an_earlier_call_left_in_doubt(control):
    ours = [True]

    class Lost(MemoryControlBucket):
        def append(self, key, data, *, offset):
            raise ArchiveUnavailableError("no route")

        def read(self, key, start=0):
            raise ArchiveUnavailableError("no route")

    def again():
        if not ours[0]:
            raise LockLostError("somebody else's")

    bucket = Lost(ManualClock())
    log = AppendLog(bucket, KEYS.client_log, 0, again)
    with pytest.raises(ArchiveUnavailableError):
        log.append(b"row\n")
    log._control, ours[0] = control, False  # the network is back, and the lock is gone
    with pytest.raises(LockLostError):
        log.append(b"row\n")
    assert control.size(KEYS.client_log) == 0


# --- a new chance beside a run at work -----------------------------------------------------------


def test_a_run_that_judged_a_file_is_not_gone_on_with_once_the_file_gets_a_new_chance():
    world = World(FILES, bad=["a"])
    world.client().run()
    delivery = world.real["journal"].replayed()
    delivery.facts.run_open, delivery.facts.stop_reported = True, False
    states = [delivery.run_state]
    delivery.apply(ev.FileRequeued(0), 0)
    assert [*states, delivery.run_state] == [Run.STARTED, Run.OUTDATED]


def test_nor_is_one_that_came_up_before_anybody_heard_of_it():
    world = World(FILES, bad=["a"])
    world.client().run()
    delivery = world.real["journal"].replayed()
    delivery.facts.run_open, delivery.facts.stop_reported, delivery.facts.run_started = True, False, False
    states = [delivery.run_state]
    delivery.apply(ev.FileRequeued(0), 0)
    assert [*states, delivery.run_state] == [Run.REQUESTED, Run.REQUEST_OUTDATED]
    assert run_step(delivery.run_state, validator_at_work=True) is RunStep.END_ORPHAN


@pytest.mark.parametrize("seed", [418_274, 539_925])
def test_nor_is_one_that_comes_up_while_the_next_session_settles_its_doubts(seed):
    """It read the index of the session before, which did not expect the files that had a new chance since."""
    assert simulate(seed).violations == []


def test_a_run_that_was_asked_for_with_another_index_may_come_up_yet_and_is_waited_for():
    delivery = World(FILES).client().delivery
    for event in (
        ev.SessionOpened(1, "us", 1, 2),
        ev.LockAcquired("etag"),
        ev.PipelineRequested("key", 0),
        ev.PipelineAccepted("success"),
        ev.SessionClosed("interrupted", "user", ""),
        ev.IndexRevised(1, "digest", len(delivery)),
    ):
        delivery.apply(event, 0)
    assert run_step(delivery.run_state, validator_at_work=False) is RunStep.AWAIT_BEGIN
    assert run_step(delivery.run_state, validator_at_work=True) is RunStep.END_ORPHAN


# --- a run at work that looked dead --------------------------------------------------------------


class Hidden(OddPipeline):
    """While it is hidden, whoever looks for it by its log, which somebody takes away, finds nothing."""

    hidden = False
    deaf = False
    on_answer: Callable[[], None] = staticmethod(lambda: None)

    def start(self, **request):
        answer = super().start(**request)
        self.on_answer()
        return answer

    def is_running(self):
        return self.alive and not self.hidden

    def write(self, *pieces):
        if not self.hidden:
            super().write(*pieces)

    def _turn(self, key):
        if not self.deaf:
            super()._turn(key)


@pytest.fixture
def unheard():
    """A world whose validator was told of three files and heard of one, and looks dead."""
    world = World(FILES, bad=[])
    pipeline = Hidden(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)])
    replace_port(world, pipeline=pipeline)

    def hide(port, method, args):
        if (port, method) == ("control", "append") and b"\ttransfer\tb\t" in args[1]:
            pipeline.hidden = True

    world.calls.before = hide
    assert world.client().run().exit_code == 6
    assert announced(world) == ["a", "b", "c"]
    world.calls.disarm()
    world.real["control"].delete(KEYS.validator_log)
    return world, pipeline


def announced(world):
    return sorted(row[2] for row in world.rows() if row[1] == "transfer")


def test_a_run_that_answers_in_place_of_the_one_asked_for_is_ended_and_never_told_anew(unheard):
    world, pipeline = unheard
    summary = world.client().run()
    assert "did not start" in summary.message
    assert (summary.exit_code, announced(world), pipeline.runs) == (6, ["a", "b", "c"], 1)
    pipeline.hidden = False
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 2


def test_nor_does_a_session_that_finds_an_unanswered_request_go_on_with_it(unheard):
    world, pipeline = unheard

    def die(*_):
        world.calls.before = die  # whatever tidies up afterwards reaches nothing any more
        raise Killed

    pipeline.on_answer = die
    with pytest.raises(Killed):
        world.client().run()
    world.die()
    world.calls.disarm()
    pipeline.hidden, pipeline.on_answer = False, lambda: None
    assert world.client().run().exit_code == 6
    assert (announced(world), pipeline.runs) == (["a", "b", "c"], 1)
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 2


def run_and_die_once_stop_is_said(world):
    def watch(port, method, args):
        if (port, method) == ("control", "append") and b"\tstop\t" in args[1]:
            world.calls.before = lambda *_: die()

    def die():
        raise Killed

    world.calls.before = watch
    with pytest.raises(Killed):
        world.client().run()
    world.die()
    world.calls.disarm()


def test_one_that_was_told_to_end_is_not_told_again_by_the_next_session(unheard):
    world, pipeline = unheard
    pipeline.hidden = False
    pipeline.deaf = True
    run_and_die_once_stop_is_said(world)
    with pytest.raises(ValidatorStoppedError):
        world.client().run()
    assert [row[1] for row in world.rows()].count("stop") == 1
    pipeline.deaf = False
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 2


# --- a request that took effect, and was refused when it was repeated ----------------------------


class Slow(OddPipeline):
    """The run that was asked for comes up `late_ms` after the request, whatever was answered to it since."""

    late_ms = 100_000
    refusal = ""
    due_ms: int | None = None
    on_answer: Callable[[], None] = staticmethod(lambda: None)

    def start(self, **request):
        if self.refusal:
            raise PipelineError(self.refusal)
        if self.due_ms is None and not self.alive:
            self.due_ms, self.asked = self.clock.now_ms() + self.late_ms, request
        self.on_answer()
        return ""

    def _turn(self, key):
        if self.due_ms is not None and self.clock.now_ms() >= self.due_ms:
            self.due_ms = None
            super().start(**self.asked)
        super()._turn(key)


def never_answered():
    """A world whose request for a run took effect; who asked for it died before the answer."""
    world = World(FILES, bad=[])
    pipeline = Slow(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)])
    replace_port(world, pipeline=pipeline)

    def die(*_):
        world.calls.before = die
        raise Killed

    pipeline.on_answer = die
    with pytest.raises(Killed):
        world.client().run()
    world.die()
    world.calls.disarm()
    pipeline.on_answer = lambda: None
    return world, pipeline


@pytest.fixture
def doubtful():
    """A world whose request for a run took effect, was not answered, and was refused when it was repeated."""
    world, pipeline = never_answered()
    pipeline.refusal = "transfer app lockfile invalid or not present"
    assert world.client().run().exit_code == 6
    pipeline.refusal = ""
    return world, pipeline


def test_a_run_that_may_come_up_in_spite_of_a_refusal_is_waited_for_and_ended(doubtful):
    world, pipeline = doubtful
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 2
    keys = [event["key"] for event in world.events if event["kind"] == "PipelineRequested"]
    assert [*map(keys.index, keys)] == [0, 0, 2]
    awaited = [event["message"] for event in world.events if event["kind"] == "RunAwaited"]
    assert [re.findall("may begin|has to listen|has to end", message) for message in awaited] == [
        ["may begin"],
        ["has to listen"],
        ["has to end"],
    ]


def test_nor_is_it_waited_for_longer_than_a_run_may_take_to_come_up(doubtful):
    world, pipeline = doubtful
    pipeline.due_ms = None  # it will never come
    began_ms = world.ports.clock.now_ms()
    pipeline.late_ms = 0
    assert world.client().run().exit_code == 0
    waited_s = (world.ports.clock.now_ms() - began_ms) / 1000
    assert world.ports.limits.validator_start_s - 60 < waited_s < world.ports.limits.validator_start_s + 60
    assert pipeline.runs == 1


def test_a_run_that_was_waited_for_in_vain_is_not_waited_for_again():
    world, pipeline = never_answered()
    pipeline.due_ms = None
    pipeline.late_ms = 10**12
    client = world.client()
    assert client.run().exit_code == 6
    assert "did not start within" in client.summary().message
    pipeline.due_ms, pipeline.late_ms = None, 0
    assert world.client().run().exit_code == 0
    assert world.kinds("RunAwaited") == []
    assert pipeline.runs == 1


def test_a_request_that_is_refused_at_once_leaves_no_doubt():
    world = World(FILES, bad=[])
    world.real["pipeline"].refusal = "the machine could not be had"
    assert world.client().run().exit_code == 6
    world.real["pipeline"].refusal = None
    assert world.client().run().exit_code == 0
    assert world.kinds("RunAwaited") == []


def test_nor_does_a_run_of_which_something_was_heard(doubtful):
    world, pipeline = doubtful
    pipeline.late_ms = 0
    pipeline.due_ms = 0
    pipeline._turn(KEYS.validator_log)
    pipeline.write(pipeline.row("stop", "self"))  # it came up, and is gone
    pipeline.alive = False
    assert world.client().run().exit_code == 0
    assert world.kinds("RunAwaited") == []


def test_a_journal_that_was_lost_and_begun_anew_tells_a_run_to_end_once():
    world = World(FILES, bad=[])
    pipeline = Hidden(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)])
    replace_port(world, pipeline=pipeline)
    pipeline.start(agent_id="memory-agent", idempotency_key="of a journal that is gone", client_config=None)
    pipeline.deaf = True
    run_and_die_once_stop_is_said(world)
    with pytest.raises(ValidatorStoppedError):
        world.client().run()
    with pytest.raises(ValidatorStoppedError):
        world.client().run()
    assert [row[1] for row in world.rows()].count("stop") == 1
    pipeline.deaf = False
    assert world.client().run().exit_code == 0
    assert pipeline.runs == 2


# --- a first word that is lost -------------------------------------------------------------------


class Inarticulate(OddPipeline):
    """A validator whose first row was torn; all that can be read of it are signs of life, for two thousand seconds."""

    last_ms = 0

    def start(self, **_):
        self.alive, self.runs, self.began_ms = True, self.runs + 1, self.clock.now_ms()
        self.offset = self.control.size(KEYS.client_log)
        return "status: success"

    def _turn(self, key):
        now_ms = self.clock.now_ms()
        if self.alive and key == KEYS.validator_log and self.last_ms + 10_000 <= now_ms < self.began_ms + 2_000_000:
            self.last_ms = now_ms
            self.write(self.row("keepalive", "self", "ok", "0 / 3"))
        super()._turn(key)


def test_signs_of_life_of_a_run_that_never_began_are_not_waited_through():
    world = World(FILES, bad=[])
    pipeline = Inarticulate(world.real["control"], world.ports.clock, lambda *_: [])
    replace_port(world, pipeline=pipeline)
    began_ms = world.ports.clock.now_ms()
    summary = world.client().run()
    assert (summary.exit_code, "did not start" in summary.message) == (6, True)
    assert (world.ports.clock.now_ms() - began_ms) / 1000 < world.ports.limits.validator_start_s + 60
    articulate = OddPipeline(world.real["control"], world.ports.clock, lambda odd, path: [odd.row("validation", path)])
    articulate.alive, articulate.offset = True, pipeline.offset  # it is still there, and is ended first
    replace_port(world, pipeline=articulate)
    assert world.client().run().exit_code == 0
    assert [row[1] for row in world.rows()].count("stop") == 2
