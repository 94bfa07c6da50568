"""Nothing answers for a while, beginning at any call: it costs time, and nothing else.

Neither bucket, nor the pipeline, nor the identity answers; the validator lives where the archive is and goes on meanwhile.
What it makes of our silence is its own affair: after four minutes it gives us up, and then we ask for another run.
"""

from itertools import pairwise

import attrs
import pytest

from tests.crash.large_world import LargeWorld
from tests.crash.world import LIMITS, World
from upload_adapters.testing import Killed
from upload_core import UploadClient
from upload_core.errors import ArchiveUnavailableError, LockLostError, SignInCutError
from upload_core.owner_lock import OwnerLock
from upload_core.ports import Limits

REMOTE = ("archive", "control", "pipeline", "identity", "s3")
LOCAL_METHODS = {("pipeline", "close"), ("archive", "put"), ("archive", "stat"), ("archive", "end_uploads")}
"""Calls that are no request themselves, where the world's archive is a bucket whose own calls are watched."""
PATIENCE_S = 240
"""How long the validator waits for a row of ours."""
OUTAGE_LIMIT_S = 900


def small_world() -> World:
    return World({f"d/{n}.dat": bytes([n]) * 9 for n in range(4)}, bad=[])


WORLDS = {"small": small_world, "large": LargeWorld}


class Outage:
    """From the `number`-th request on nothing answers for `seconds`; with `lost` the first one takes effect all the same."""

    def __init__(self, world: World, number: int, seconds: float, *, lost: bool = False) -> None:
        self.world, self.number, self.seconds, self.lost = world, number, seconds, lost
        self.requests = 0
        self.failed: list[float] = []
        self.until_ms = 0
        self.reconnects = 0
        self.slept: list[float] = []
        self.on_sleep = lambda: None
        world.calls.before = self._before
        world.calls.after = self._after
        world.ports.reconnect = self._reconnected
        clock, validator = world.ports.clock, world.real["pipeline"]
        sleep = clock.sleep

        def asleep(seconds: float) -> None:
            self.slept.append(seconds)
            sleep(seconds)
            if self.on:
                validator.turn()  # it needs nobody to look at it
            self.on_sleep()

        setattr(clock, "sleep", asleep)  # noqa: B010 - of this one clock

    @property
    def on(self) -> bool:
        return self.world.ports.clock.now_ms() < self.until_ms

    def _is_request(self, port, method) -> bool:
        if port not in REMOTE or (port, method) == ("pipeline", "close"):
            return False
        return port != "archive" or not isinstance(self.world, LargeWorld)

    def _before(self, port, method, args) -> None:
        if not self._is_request(port, method):
            return
        self.requests += 1
        if self.requests == self.number:
            self.until_ms = self.world.ports.clock.now_ms() + round(self.seconds * 1000)
            if self.lost:
                return
        if self.on:
            self._fail(port, method)

    def _after(self, port, method, args) -> None:
        if self.lost and self.requests == self.number and self._is_request(port, method):
            self._fail(port, method)

    def _fail(self, port, method):
        self.failed.append(self.world.ports.clock.now_ms() / 1000)
        raise ArchiveUnavailableError(f"no route to host ({port}.{method})")

    def _reconnected(self) -> None:
        self.reconnects += 1


def requests_of(kind: str) -> int:
    world = WORLDS[kind]()
    outage = Outage(world, 0, 0)
    assert world.client().run().exit_code == 0
    return outage.requests


REQUESTS = {kind: requests_of(kind) for kind in WORLDS}
CASES = [(kind, number) for kind, count in REQUESTS.items() for number in range(1, count + 1)]


@pytest.mark.promise("R9")
@pytest.mark.parametrize("lost", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("seconds", [20, 300, OUTAGE_LIMIT_S - 5])
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_total_outage_at_any_request_costs_time_and_nothing_else(kind, number, seconds, lost, figure):
    world = WORLDS[kind]()
    outage = Outage(world, number, seconds, lost=lost)
    summary = world.client(max_retries=0).run()
    assert len(outage.failed) < 6 * 30, "the archive is not hammered"
    assert (summary.retries, summary.counts["failed"], summary.counts["invalid"]) == (0, 0, 0)
    given_up = "client missing" in repr(world.rows("log/validator_staging"))
    assert not given_up or seconds > PATIENCE_S
    assert (summary.outcome, summary.exit_code, summary.retries) == ("complete", 0, 0)
    turns = world.kinds("OutageBegan", "OutageEnded", "SessionClosed")
    assert "OutageBegan" in turns
    assert summary.message == "", "everything was given back"
    stops = [row for row in world.rows() if row[1] == "stop"]
    assert len(world.started) <= 1 + given_up
    assert len(stops) == (0 if given_up and len(world.started) == 1 and not stops else 1)
    open_outages = [a for a, b in pairwise(turns) if a == "OutageBegan" and b != "OutageEnded"]
    assert len(open_outages) == (turns.count("SessionClosed") > 1 and "OutageEnded" not in turns)
    world.calls.disarm()
    world.judge()
    if isinstance(world, LargeWorld):
        assert world.stored.open_uploads() == []
    figure(1, "outages of everything")


class ReadOnly(Outage):
    """Nothing can be written to the control bucket for `seconds`, while everything can be read: as on a full disk."""

    def _is_request(self, port, method) -> bool:
        return (port, method) in {("control", "put"), ("control", "append"), ("control", "delete")}


WRITTEN = 7
"""Writes to the control bucket of an undisturbed delivery of the small world, more or less."""


@pytest.mark.promise("R9")
@pytest.mark.parametrize("number", range(1, WRITTEN + 1))
@pytest.mark.parametrize("staleness_s", [60, 3600], ids=["a lock to be renewed", "a lock that lasts"])
@pytest.mark.parametrize("seconds", [120, OUTAGE_LIMIT_S * 2])
def test_a_control_bucket_that_can_be_read_and_not_written_is_one_outage(number, seconds, staleness_s, figure):
    """What is read meanwhile ends nothing: it did not begin the outage. A file that can be stored does, once each."""
    world = small_world()
    world.ports.limits = attrs.evolve(LIMITS, lock_staleness_s=staleness_s)
    outage = ReadOnly(world, number, seconds)
    began_s = world.ports.clock.now_ms() / 1000
    client = world.client(max_retries=0)
    try:
        summary = client.run()
    except ArchiveUnavailableError:
        summary = client.summary()
    lasted_s = world.ports.clock.now_ms() / 1000 - began_s
    turns = world.kinds("OutageBegan", "OutageEnded")
    assert turns == (["OutageBegan", "OutageEnded"] * 10)[: len(turns)]
    assert 1 <= len(turns) <= 2 * (len(world.files) + 1), "and one where another validation run is asked for"
    assert len(outage.failed) < 6 * 30, "the archive is not hammered"
    assert lasted_s < min(seconds, OUTAGE_LIMIT_S) + 120
    assert summary.counts["failed"] == summary.retries == 0
    if seconds < OUTAGE_LIMIT_S and summary.outcome != "complete":
        assert (summary.exit_code, summary.reason) == (6, "validator")
    world.calls.disarm()
    world.ports.clock.advance(OUTAGE_LIMIT_S * 2)
    world.real["pipeline"].turn()
    for _ in range(3):
        if summary.outcome == "complete":
            break
        summary = world.client(max_retries=0).run()
    world.judge(lock_gone=False)
    figure(1, "outages of writing alone")


def left_behind(kind: str, killed: int, *, validator_too: bool) -> World:
    """What a client left that was killed at its `killed`-th call: doubts, a lock, perhaps a validator that goes on."""
    world = WORLDS[kind]()
    world.calls.kill_at(killed, after=True)
    with pytest.raises(Killed):
        world.client().run()
    world.die(validator_too=validator_too)
    return world


RESUMED = [
    ("small", killed, validator_too, number)
    for killed in (26, 31, 36, 40)
    for validator_too in (False, True)
    for number in range(1, 13)
] + [("large", killed, False, number) for killed in (33, 52) for number in range(1, 13)]


@pytest.mark.promise("R9")
@pytest.mark.parametrize("lost", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("seconds", [OUTAGE_LIMIT_S - 5])
@pytest.mark.parametrize(("kind", "killed", "validator_too", "number"), RESUMED)
def test_a_total_outage_while_a_killed_client_is_resumed_costs_time_only(
    kind, killed, validator_too, number, seconds, lost, figure
):
    world = left_behind(kind, killed, validator_too=validator_too)
    Outage(world, number, seconds, lost=lost)
    summary = world.client(max_retries=0).run()
    assert (summary.retries, summary.counts["failed"], summary.counts["invalid"]) == (0, 0, 0)
    assert (summary.outcome, summary.exit_code, summary.retries) == ("complete", 0, 0)
    world.calls.disarm()
    world.judge()
    figure(1, "outages of everything")


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_an_outage_beyond_the_limit_ends_the_session_and_resume_finishes(kind, number):
    world = WORLDS[kind]()
    outage = Outage(world, number, OUTAGE_LIMIT_S * 2)
    began_s = world.ports.clock.now_ms() / 1000
    client = world.client(max_retries=0)
    try:
        summary = client.run()
    except ArchiveUnavailableError:
        summary = client.summary()
    lasted_s = world.ports.clock.now_ms() / 1000 - began_s
    assert OUTAGE_LIMIT_S <= lasted_s < OUTAGE_LIMIT_S + 120
    assert summary.retries == summary.counts["failed"] == 0
    if summary.outcome == "complete":  # nothing was left to do but to give things back
        assert number > REQUESTS[kind] - 12
    else:
        assert (summary.exit_code, summary.reason, summary.outcome) == (8, "outage", "interrupted")
    assert outage.failed[-1] >= outage.failed[0] + OUTAGE_LIMIT_S, "one last look when the time is over"
    world.ports.clock.advance(OUTAGE_LIMIT_S * 2)
    world.real["pipeline"].turn()
    for _ in range(3):
        if world.client(max_retries=0).run().outcome == "complete":
            break
    world.calls.disarm()
    world.judge(lock_gone=False)


@pytest.mark.parametrize(("kind", "number"), [case for case in CASES if case[0] == "small"])
def test_probes_come_at_doubling_intervals_and_each_opens_new_connections(kind, number):
    world = WORLDS[kind]()
    outage = Outage(world, number, 600)
    world.client().run()
    asked = sorted(set(outage.failed))
    gaps = [round(b - a) for a, b in pairwise(asked)]
    assert max(gaps) <= 31
    assert [gap for gap in gaps if gap > 1][:4] == [2, 4, 8, 16]
    assert 15 <= outage.reconnects <= len(asked) + 20
    assert max(outage.slept) <= 1


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_an_end_that_is_asked_for_during_an_outage_is_heeded_within_a_second(kind, number):
    world = WORLDS[kind]()
    outage = Outage(world, number, 800)
    client = world.client()
    asked_ms: list[int] = []

    def ask() -> None:
        if outage.on and len(outage.failed) > 5 and not asked_ms:
            asked_ms.append(world.ports.clock.now_ms())
            client.stop("enough")

    outage.on_sleep = ask
    summary = client.run()
    assert asked_ms
    assert client.done
    assert world.ports.clock.now_ms() - asked_ms[0] <= 2_500, "its lock and stop row are asked for at most once more"
    if summary.outcome != "complete":
        assert (summary.outcome, summary.reason) == ("interrupted", "user")
    world.calls.disarm()
    for _ in range(3):
        world.ports.clock.advance(OUTAGE_LIMIT_S)
        world.real["pipeline"].turn()
        if world.client().run().outcome == "complete":
            break
    world.judge(lock_gone=False)


@pytest.mark.parametrize("number", range(1, REQUESTS["small"] + 1))
def test_a_validator_has_its_whole_time_to_start_from_the_end_of_an_outage_on(number):
    world = small_world()
    world.let_validator_dawdle(4)
    Outage(world, number, 150)
    world.ports.limits = attrs.evolve(LIMITS, validator_start_s=60)
    assert world.client().run().outcome == "complete"


def test_many_doubts_are_settled_as_quickly_as_ever_once_the_archive_answers():
    files = {f"d/{n:03}.dat": bytes([n]) * 9 for n in range(60)}
    world = World(files, bad=[])

    def dead(port, method, args) -> None:
        if (port, method) == ("journal", "append") and world.ports.archive.contents():
            raise Killed(port, method)

    world.calls.before = dead
    with pytest.raises(Killed):
        world.client(n_threads=30).run()
    world.die(validator_too=True)
    asked: list[str] = []
    outage = Outage(world, 0, 100)

    def begin(port, method) -> None:
        if (port, method) == ("archive", "stat"):
            asked.append(method)
            if len(asked) == 3:
                outage.number = outage.requests + 1

    world.calls.watcher = begin
    summary = world.client(n_threads=30).run()
    assert (summary.outcome, summary.retries) == ("complete", 0)
    assert len(asked) > 30
    assert world.ports.clock.now_ms() - outage.until_ms < 45_000
    turns = world.kinds("OutageBegan", "OutageEnded", "PipelineRequested")
    assert turns == ["PipelineRequested", "OutageBegan", "OutageEnded", "PipelineRequested"]
    world.judge()


def test_a_pause_during_an_outage_does_not_keep_it_from_ending():
    world = small_world()
    outage = Outage(world, REQUESTS["small"] // 2, 60)
    client = world.client()
    client.pause()

    def unpause() -> None:
        if outage.until_ms and not outage.on and "OutageEnded" in world.kinds():
            client.unpause()

    outage.number = 25
    outage.on_sleep = unpause
    assert client.run().outcome == "complete"


WRITES = {("control", "put"), ("control", "append"), ("control", "delete"), ("archive", "put"), ("pipeline", "start")}
LOCKED = [number for kind, number in CASES if kind == "small" and number > 3]
"""The first three requests sign in and take the lock."""


@pytest.mark.parametrize("number", LOCKED)
def test_a_lock_past_half_of_its_life_is_renewed_before_anything_is_written(number):
    world = small_world()
    world.ports.limits = attrs.evolve(LIMITS, lock_staleness_s=600)
    outage = Outage(world, number, 400)
    writes: list[tuple[str, str, object]] = []

    def watch(port, method) -> None:
        if outage.until_ms and not outage.on and (port, method) in WRITES:
            writes.append((port, method, world.calls.made[-1][2][0] if world.calls.made[-1][2] else ""))

    world.calls.watcher = watch
    world.client().run()
    assert writes[0] == ("control", "put", "lock/client")
    assert world.kinds("LockRenewed")
    assert not world.kinds("LockLost")


@pytest.mark.parametrize("rival", [False, True], ids=["nobody else", "a rival"])
@pytest.mark.parametrize("number", LOCKED)
def test_a_lock_whose_time_passes_during_an_outage_is_ours_unless_somebody_took_it(number, rival):
    world = small_world()
    world.ports.limits = attrs.evolve(LIMITS, lock_staleness_s=100)
    outage = Outage(world, number, 400)
    other = OwnerLock(world.real["control"], "lock/client", "rival@elsewhere", 100)
    taken: list[dict[str, bytes]] = []
    writes: list[tuple[str, str, object]] = []

    def take_over() -> None:
        if rival and outage.on and not taken and outage.until_ms - world.ports.clock.now_ms() < 200_000:
            other.acquire()
            taken.append(world.ports.archive.contents())

    def watch(port, method) -> None:
        key = (*world.calls.made[-1][2], "")[0]
        if taken and not outage.on and (port, method) in WRITES and key != "lock/client":
            writes.append((port, method, key))

    outage.on_sleep = take_over
    world.calls.watcher = watch
    try:
        summary = world.client().run()
    except LockLostError:
        assert world.last is not None
        summary = world.last.summary()
    assert summary.counts["failed"] == 0
    assert bool(world.kinds("LockLost")) == bool(taken)
    if taken:
        assert writes == []
        assert world.ports.archive.contents() == taken[0]
        assert world.real["control"].read("lock/client")[0] == b"rival@elsewhere"
        assert summary.outcome == "complete" or (summary.exit_code, summary.reason) == (4, "lock")
    else:
        assert summary.reason in ("", "validator")


def test_whoever_signs_in_is_not_asked_again_and_again():
    world = small_world()
    asked: list[int] = []

    def sign_in() -> str:
        asked.append(1)
        raise SignInCutError("the issuer cannot be reached")

    setattr(world.ports.identity, "sign_in", sign_in)  # noqa: B010 - of this one identity
    client: UploadClient = world.client()
    with pytest.raises(SignInCutError):
        client.run()
    assert len(asked) == 1
    assert (client.summary().exit_code, client.summary().reason) == (8, "outage")


def test_limits_name_the_patience():
    assert Limits().outage_s == OUTAGE_LIMIT_S
