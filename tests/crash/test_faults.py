"""A world that misbehaves: answers are lost, it is slow or away, its lock is taken, its validator is odd or silent, its files move.

No such thing spends a file's retries, unless it is the file's own fault; nothing is doubled, and the end is the same.
"""

import random
from contextlib import suppress
from itertools import pairwise

import attrs
import pytest

from tests.contracts.flaky import FlakyControlBucket
from tests.crash.odd_validator import KEYS, OddPipeline
from tests.crash.test_port_boundaries import CALLS
from tests.crash.world import FILES, LIMITS, World
from upload_adapters.testing import Killed
from upload_core import IndexProblemsError, LockHeldError, LockLostError, NothingToDoError, Ports, ValidatorStoppedError
from upload_core.checksum import crc32_base64, crc_of
from upload_core.errors import ArchiveUnavailableError
from upload_core.files import FileTable
from upload_core.owner_lock import OwnerLock
from upload_core.ports import Limits


def replace_port(world: World, **ports: object) -> None:
    """Put other adapters in the place of the memory ones."""
    for name, port in ports.items():
        setattr(world.ports, name, port)


def deliver_until_settled(world: World, sessions: int = 12) -> int:
    """Run sessions until one ends as finished; how many it took."""
    for number in range(1, sessions + 1):
        client = world.client()
        with suppress(ArchiveUnavailableError, ValidatorStoppedError, NothingToDoError):
            client.run()
        assert client.done
        if client.summary().outcome in ("complete", "incomplete"):
            return number
        world.ports.clock.advance(5)
    raise AssertionError(f"not finished after {sessions} sessions: {world.kinds()[-9:]}")


# --- answers that get lost -----------------------------------------------------------------------

FATES = ["request lost", "answer lost", "answer lost and repeated"]


def control_requests() -> int:
    world = World()
    flaky = FlakyControlBucket(world.real["control"])
    replace_port(world, control=flaky)
    world.deliver()
    return len(flaky.requests)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("number", range(control_requests()))
def test_any_single_request_to_the_control_bucket_may_lose_its_answer(number, fate):
    world = World()
    flaky = FlakyControlBucket(world.real["control"], [*["answered"] * number, fate])  # type: ignore[list-item]
    replace_port(world, control=flaky)
    deliver_until_settled(world, 3)
    world.judge()
    assert world.last is not None
    assert world.last.summary().retries == 0


@pytest.mark.parametrize("seed", range(60))
def test_however_many_answers_are_lost_nothing_is_doubled_and_no_retry_is_spent(seed):
    chance = random.Random(seed)
    share = chance.choice([0.05, 0.2, 0.5])
    fates = [chance.choice(FATES) if chance.random() < share else "answered" for _ in range(chance.randint(20, 400))]
    world = World()
    replace_port(world, control=FlakyControlBucket(world.real["control"], fates))  # type: ignore[arg-type]
    deliver_until_settled(world, 60)
    world.judge(lock_gone=False)
    assert world.last is not None
    assert world.last.summary().retries == 0


@pytest.mark.parametrize("seed", range(40))
def test_a_client_that_is_killed_while_answers_are_lost_still_reaches_the_end(seed):
    chance = random.Random(seed)
    world = World()
    fates = [chance.choice(FATES) if chance.random() < 0.2 else "answered" for _ in range(150)]
    replace_port(world, control=FlakyControlBucket(world.ports.control, fates))  # type: ignore[arg-type]
    for _ in range(3):
        world.calls.kill_at(chance.randint(5, CALLS), after=chance.random() < 0.5)
        try:
            with suppress(ArchiveUnavailableError, ValidatorStoppedError):
                world.client().run()
        except Killed:
            world.die(validator_too=False)
    world.calls.disarm()
    deliver_until_settled(world, 40)
    world.judge(lock_gone=False)


def test_rows_judged_before_their_append_was_answered_are_consumed_once():
    """All answers are lost until the validator has read the rows and judged the file."""
    for number in range(10, 60):
        world = World()
        fates = [*["answered"] * number, *["answer lost"] * 4, *["request lost"] * 3]
        replace_port(world, control=FlakyControlBucket(world.real["control"], fates))  # type: ignore[arg-type]
        deliver_until_settled(world, 5)
        world.judge()


# --- an archive that is away ---------------------------------------------------------------------


def away(world: World, *, first: int, last: int, error: type[Exception] = ArchiveUnavailableError) -> list[str]:
    """Puts number `first` to `last` fail."""
    seen: list[str] = []

    def before(port, method, args):
        if (port, method) == ("archive", "put"):
            seen.append(args[0])
            if first <= len(seen) <= last:
                raise error("SlowDown: please reduce your request rate")

    world.calls.before = before
    return seen


@pytest.mark.parametrize("error", [ArchiveUnavailableError, ConnectionError, TimeoutError])
@pytest.mark.parametrize("first", range(1, 9))
def test_an_outage_spends_no_retries_and_the_journal_shows_both_turns(first, error):
    world = World()
    away(world, first=first, last=first + 5, error=error)
    summary, _ = world.deliver(max_retries=0)
    world.judge()
    assert summary is not None
    assert (summary.outcome, summary.retries) == ("incomplete", 0)
    turns = world.kinds("OutageBegan", "OutageEnded")
    assert turns
    assert turns == ["OutageBegan", "OutageEnded"] * (len(turns) // 2)


def test_during_an_outage_one_attempt_at_a_time_is_made_at_growing_intervals():
    world = World()
    times: list[float] = []
    seen = away(world, first=1, last=8)
    inner = world.calls.before
    assert inner is not None

    def timed(*call):
        if call[:2] == ("archive", "put"):
            times.append(world.ports.clock.now_ms() / 1000)
        inner(*call)

    world.calls.before = timed
    world.deliver()
    assert len(seen) > 8
    waits = [round(b - a) for a, b in pairwise(times[2:9])]
    assert waits == sorted(waits)
    assert waits[-1] >= 15
    world.judge()


def test_an_outage_longer_than_its_limit_ends_the_session_and_resume_goes_on():
    world = World(limits=attrs.evolve(LIMITS, outage_s=60))
    away(world, first=3, last=10_000)
    summary, _ = world.deliver()
    assert summary is not None
    assert (summary.exit_code, summary.reason, summary.retries) == (8, "outage", 0)
    assert summary.counts["failed"] == 0
    world.calls.disarm()
    deliver_until_settled(world, 2)
    world.judge()


# --- the lock ------------------------------------------------------------------------------------

PACED = Limits(lock_staleness_s=60, validator_stop_s=5, poll_interval_s=1)


@pytest.mark.promise("R13")
@pytest.mark.parametrize("number", range(1, CALLS))
def test_whoever_sleeps_past_its_lock_writes_nothing_once_a_rival_has_it(number, figure):
    """Only a request that was on its way already can still arrive, and it changes nothing of the rival's."""
    world = World(limits=PACED)
    control = world.real["control"]
    rival = OwnerLock(control, "lock/client", "rival@elsewhere", PACED.lock_staleness_s)
    left, taken = [number], []

    def sleep(port, method, args):
        left[0] -= 1
        if left[0] == 0:
            world.ports.clock.advance(PACED.lock_staleness_s + 5)
            try:
                rival.acquire()
            except LockHeldError:  # it was just being renewed
                return
            taken.append((len(world.calls.made), port, method))

    world.calls.before = sleep
    try:
        summary = world.client().run()
    except (LockHeldError, LockLostError):
        assert world.last is not None
        summary = world.last.summary()
    assert taken
    at, port, method = taken[0]
    after = [(p, m, *a[:1]) for p, m, a in world.calls.made[at:] if p in ("control", "archive", "pipeline")]
    held_before = "LockAcquired" in world.kinds()
    writes = [
        call
        for call in after
        if call[:2] in (("control", "put"), ("control", "append"), ("control", "delete")) or call[0] == "pipeline"
        if call[1] not in ("is_running", "close") and call[2:] != ("lock/client",)
    ]
    assert writes == [], f"asleep before {port}.{method}"
    assert control.read("lock/client")[0] == b"rival@elsewhere"
    if held_before and summary.outcome == "interrupted":
        assert summary.exit_code == 4
    figure(1, "simulated sleeps")


def test_a_lock_that_is_held_is_refused_and_names_its_holder():
    world = World()
    OwnerLock(world.real["control"], "lock/client", "rival@elsewhere", 3600).acquire()
    client = world.client()
    with pytest.raises(LockHeldError, match="rival@elsewhere") as caught:
        client.connect()
    assert caught.value.holder == "rival@elsewhere"
    assert client.done
    assert client.summary().exit_code == 4
    assert world.ports.archive.contents() == {}


# --- the validator -------------------------------------------------------------------------------


def odd(world: World, answer, **options) -> OddPipeline:
    pipeline = OddPipeline(world.real["control"], world.ports.clock, answer, **options)
    replace_port(world, pipeline=pipeline)
    return pipeline


def ok(validator, path):
    return validator.row("validation", path)


ANOMALIES = {
    "says ok twice": (lambda v, p: [ok(v, p), ok(v, p)], "VerdictRepeated"),
    "judges what is not in the index": (
        lambda v, p: [v.row("validation", "d/unknown"), ok(v, p)],
        "UnexpectedVerdictFound",
    ),
    "writes a line that is torn": (lambda v, p: [ok(v, p)[:20] + b"\n", ok(v, p)], "LogLineRejected"),
    "writes what is not UTF-8": (lambda v, p: [b"\xff\xfe" + ok(v, p), ok(v, p)], "LogLineRejected"),
    "writes a category of its own": (lambda v, p: [v.row("weather", "self"), ok(v, p)], "LogEntryNoted"),
    "writes an empty line": (lambda v, p: [b"\n", ok(v, p)], "LogLineRejected"),
    "writes a path that is not UTF-8": (lambda v, p: [ok(v, "X").replace(b"X", b"\xff"), ok(v, p)], "LogLineRejected"),
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_a_validator_that(name):
    answer, event = ANOMALIES[name]
    world = World(bad=[])
    odd(world, answer)
    summary, _ = world.deliver()
    assert summary is not None
    assert (summary.outcome, summary.exit_code) == ("complete", 0)
    assert world.kinds(event)
    assert not world.kinds("ClientCrashed")


def test_a_row_that_comes_in_pieces_is_one_row():
    world = World(bad=[])

    def piecewise(validator, path):
        row = ok(validator, path)
        return [row[i : i + 7] for i in range(0, len(row), 7)]

    odd(world, piecewise)
    assert world.client().run().exit_code == 0


def test_an_ok_before_the_file_was_sent_makes_it_invalid_and_the_others_go_on():
    world = World(bad=[])
    odd(world, lambda v, p: [ok(v, p)], first=lambda v: [ok(v, "d/007.dat")])
    summary = world.client(n_threads=1).run()
    assert summary.exit_code == 1
    [failed] = summary.failed
    assert (failed.relpath, failed.state) == ("d/007.dat", "invalid")
    assert "was not sent" in str(failed.message)


def test_a_contradiction_is_invalid_and_says_why():
    world = World(bad=[])
    odd(world, lambda v, p: [ok(v, p), *([v.row("validation", p, "failure", "no")] if p == "d/004.dat" else [])])
    summary = world.client().run()
    assert [(f.relpath, f.state) for f in summary.failed] == [("d/004.dat", "invalid")]
    assert "contradicts itself" in str(summary.failed[0].message)


@pytest.mark.parametrize("judged", range(1, 8))
def test_a_validator_that_falls_silent_is_noticed_and_resume_goes_on_from_what_it_said(judged):
    world = World(bad=[])
    said: list[str] = []

    def answer(validator, path):
        said.append(path)
        return [ok(validator, path)] if len(said) <= judged else []

    pipeline = odd(world, answer)
    began = world.ports.clock.now_ms()
    summary = world.client().run()
    assert (summary.exit_code, summary.reason) == (6, "validator")
    assert summary.counts["valid"] == judged
    assert world.kinds("ValidatorLost")
    assert (world.ports.clock.now_ms() - began) / 1000 < LIMITS.validator_silence_s + 60
    pipeline.alive = False  # as its lock will tell
    said.clear()
    judged = 100
    summary = world.client().run()
    assert summary.exit_code == 0
    assert len(said) == len(FILES) - summary.counts["valid"] + len(said), "only what was not judged is told again"
    assert sorted(path for path, _ in world.puts) == sorted(FILES), "nothing was sent again"


def test_a_validator_that_could_not_start_says_why():
    world = World(bad=[])
    pipeline = odd(world, ok)

    def start(**_):
        pipeline.write(pipeline.row("init", "self", "failure", "could not acquire lock"), pipeline.row("stop", "self"))
        return ""

    setattr(pipeline, "start", start)  # noqa: B010 - one answer of many
    summary = world.client().run()
    assert (summary.exit_code, summary.message) == (6, "could not acquire lock")


def test_a_validator_whose_lock_outlives_it_is_waited_for_by_the_next_session():
    world = World()
    world.calls.kill_at(30, after=True)
    with pytest.raises(Killed):
        world.client().run()
    world.die(validator_too=False)
    world.real["pipeline"].validator.kill()  # its lock stays
    summary = world.client().run()
    assert summary.exit_code == 6
    assert summary.message.startswith(
        "could not acquire lock; a validator that is gone left its lock: another can start"
    )
    world.ports.clock.advance(world.ports.limits.lock_staleness_s + 1)
    deliver_until_settled(world, 1)
    world.judge()


def test_a_pipeline_that_refuses_gives_its_reason():
    world = World()
    world.real["pipeline"].refusal = "the label was not accepted"
    summary = world.client().run()
    assert (summary.exit_code, summary.message) == (6, "the label was not accepted")
    world.real["pipeline"].refusal = None
    deliver_until_settled(world, 1)
    world.judge()


# --- a journal that is gone ----------------------------------------------------------------------


@pytest.mark.parametrize("validator_too", [True, False])
@pytest.mark.parametrize("number", [12, 20, 26, 30, 38, 45, CALLS])
def test_a_lost_journal_is_made_up_for_by_logs_and_archive(number, validator_too):
    world = World()
    world.calls.kill_at(number, after=True)
    try:
        world.client().run()
    except Killed:
        world.die(validator_too=validator_too)
    world.calls.disarm()
    stored = set(world.ports.archive.contents())
    valid = {row[2] for row in world.rows("log/validator_staging") if row[1:4:2] == ["validation", "ok"]}
    sent_before = len(world.puts)
    from upload_adapters.memory import MemoryJournal

    world.real["journal"] = MemoryJournal()
    world.ports.journal = world.calls.watch("journal", world.real["journal"])
    deliver_until_settled(world, 2)
    world.judge_runs()
    delivery = world.real["journal"].replayed()
    states = {path: delivery.state_of(n) for n, path in enumerate(delivery.table.paths())}
    assert states == {path: "invalid" if path in world.bad else "valid" for path in FILES}
    again = {path for path, _ in world.puts[sent_before:]}
    assert not again & stored, "what is stored as indexed is not sent again"
    told = {row[2] for row in world.rows(start=world.started[-1][1]) if row[1] == "transfer"}
    assert not told & valid or len(world.started) == 1, "what is valid is not judged again"


# --- files that are not what they were -----------------------------------------------------------


def rewrite_during_put(world: World, path: str, data: bytes, *, times: int) -> None:
    left = [times]

    def meddle(port, method, args):
        if (port, method) == ("archive", "put") and args[0] == path and left[0]:
            left[0] -= 1
            world.files[path] = bytes(data)  # after it was opened, before its last byte was read
            world.files[path] = bytes(bytearray(data))

    world.calls.before = meddle


def test_a_file_rewritten_once_while_it_is_sent_is_sent_again_whole():
    world = World(checksums=False, bad=[])
    data = bytes(len(FILES["d/004.dat"]))
    rewrite_during_put(world, "d/004.dat", data, times=1)
    summary, _ = world.deliver()
    assert summary is not None
    assert summary.exit_code == 0
    assert summary.retries == 1
    assert world.ports.archive.contents()["d/004.dat"] == data
    world.judge()


def test_a_file_that_keeps_changing_is_given_up_and_never_stored_in_pieces():
    world = World(checksums=False, bad=[])
    rewrite_during_put(world, "d/004.dat", b"\x01" * 5, times=100)
    summary, _ = world.deliver(max_retries=2)
    assert summary is not None
    [failed] = summary.failed
    assert (failed.relpath, failed.state, summary.exit_code, summary.retries) == ("d/004.dat", "failed", 1, 2)
    assert "changed" in str(failed.message)
    assert "d/004.dat" not in world.ports.archive.contents()


def test_a_file_of_another_size_than_indexed_is_never_stored():
    world = World(checksums=False, bad=[])
    table = world.table()
    world.table = lambda: table
    world.files["d/004.dat"] += b"more"
    summary, _ = world.deliver()
    assert summary is not None
    assert summary.exit_code == 1
    assert "the index says 5" in str(summary.failed[0].message)
    assert "d/004.dat" not in world.ports.archive.contents()


def test_a_wrong_checksum_is_read_once_more_and_given_up_with_both_values():
    world = World(bad=[])
    wrong = crc32_base64(crc_of([b"other"]))
    sums = [wrong if path == "d/004.dat" else crc32_base64(crc_of([data])) for path, data in FILES.items()]
    table = FileTable.from_columns(list(FILES), [len(data) for data in FILES.values()], sums)
    world.table = lambda: table
    summary, _ = world.deliver(max_retries=9)
    assert summary is not None
    [failed] = summary.failed
    assert (failed.relpath, failed.state, summary.exit_code) == ("d/004.dat", "failed", 1)
    assert wrong in str(failed.message)
    assert crc32_base64(crc_of([FILES["d/004.dat"]])) in str(failed.message)
    assert sum(path == "d/004.dat" for path, _ in world.puts) == 2, "no retry storm"


def test_a_file_that_is_gone_fails_and_a_mended_one_is_sent_by_the_next_session_alone():
    world = World(bad=[])
    table = world.table()
    world.table = lambda: table
    gone = world.files.pop("d/002.dat")
    summary = world.client().run()
    assert [failed.relpath for failed in summary.failed] == ["d/002.dat"]
    world.files["d/002.dat"] = gone
    before = len(world.puts)
    assert world.client().run().exit_code == 0
    assert [path for path, _ in world.puts[before:]] == ["d/002.dat"]


def test_an_index_with_problems_starts_nothing():
    world = World()

    def refuse(index, source):
        raise IndexProblemsError(["d/000.dat: does not exist"])

    replace_port(world, index=refuse)
    with pytest.raises(IndexProblemsError, match="does not exist"):
        world.client()
    assert world.calls.made == []
    assert isinstance(world.ports, Ports)


# --- an index that is revised --------------------------------------------------------------------


@pytest.mark.parametrize("validator_too", [True, False])
@pytest.mark.parametrize("number", range(12, CALLS + 1, 3))
def test_a_revised_index_is_never_told_to_a_validator_that_knows_another(number, validator_too):
    world = World()
    world.calls.kill_at(number, after=True)
    try:
        world.client().run()
    except Killed:
        world.die(validator_too=validator_too)
    world.calls.disarm()
    world.files["d/000.dat"] = b"another one, and longer"
    world.files["d/new.dat"] = b"new"
    deliver_until_settled(world, 2)
    world.judge_runs()
    delivery = world.real["journal"].replayed()
    states = {path: delivery.state_of(n) for n, path in enumerate(delivery.table.paths())}
    assert states == {path: "invalid" if path in world.bad else "valid" for path in world.files}
    assert world.ports.archive.contents() == dict(sorted(world.files.items()))


def test_a_validator_that_dies_of_our_stop_row_is_not_waited_for():
    world = World(bad=[], limits=Limits(validator_stop_s=600))
    pipeline = odd(world, lambda validator, path: [validator.row("validation", path)])
    turn = pipeline._turn

    def die_of_it(key):
        ours = world.real["control"]._objects.get(KEYS.client_log)
        if ours is not None and b"\tstop\t" in ours.data:
            pipeline.alive = False  # on a full disk it can say nothing
        turn(key)

    world.real["control"].before_read = die_of_it
    began_ms = world.ports.clock.now_ms()
    assert world.client().run().exit_code == 0
    assert world.ports.clock.now_ms() - began_ms < 120_000
