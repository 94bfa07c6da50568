"""A machine that slept, or a process that was stopped, at any call: it is noticed, and nothing is written before the lock was seen."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from tests.command_line import Desk, environment
from tests.crash.test_outages import WRITES, Outage
from tests.crash.world import LIMITS, World
from upload_adapters.clock import SystemClock
from upload_adapters.local.places import LocalPlaces
from upload_core.errors import LockHeldError, LockLostError
from upload_core.owner_lock import OwnerLock

HOURS_S = 8 * 3600
SHORT = attrs.evolve(LIMITS, lock_staleness_s=600)


def small_world() -> World:
    return World({f"d/{n}.dat": bytes([n]) * 9 for n in range(4)}, bad=[])


def calls() -> int:
    world = small_world()
    world.client().run()
    return len(world.calls.made)


CALLS = calls()


class Suspension:
    """At the `number`-th call the machine sleeps, or the process is stopped; `meanwhile` is what happens then."""

    def __init__(self, world: World, number: int, seconds: float, *, stopped: bool, meanwhile=lambda: None) -> None:
        self.world, self.left, self.over = world, number, False
        self.after: list[tuple[str, str, object]] = []
        """What was asked of the world since, and each reconnection."""

        def watch(port: str, method: str) -> None:
            self.left -= 1
            if self.left == 0:
                clock = world.ports.clock
                (clock.advance if stopped else clock.suspend)(seconds)
                meanwhile()
                self.over = True
            elif self.over and port != "journal":
                args = world.calls.made[-1][2]
                self.after.append((port, method, args[0] if args else ""))

        world.calls.watcher = watch
        world.ports.reconnect = lambda: self.after.append(("ports", "reconnect", ""))


def finish(world: World) -> None:
    for _ in range(3):
        if world.client().run().outcome == "complete":
            break


@pytest.mark.parametrize("number", range(1, CALLS))
def test_a_sleep_of_the_machine_is_noticed_and_costs_nothing(number):
    world = small_world()
    asleep = Suspension(world, number, HOURS_S, stopped=False)
    client = world.client(max_retries=0)
    summary = client.run()
    noticed = [event["seconds"] for event in world.events if event["kind"] == "SuspensionNoticed"]
    lock, anew = ("control", "put", "lock/client"), ("ports", "reconnect", "")
    # a worker's put is refused at its commit, since the lock's time is over
    begun = [call for call in asleep.after if call[:2] != ("archive", "put")]
    writes = [call for call in begun if call == anew or (call[:2] in WRITES and call != lock)]
    if noticed:
        assert noticed == [HOURS_S]
        assert writes[0] == anew
    if "LockRenewed" in world.kinds():
        assert next(call for call in begun if call[:2] in WRITES) == lock
    assert (summary.retries, summary.counts["failed"]) == (0, 0)
    assert not world.kinds("LockLost")
    if summary.outcome != "complete":
        assert (summary.exit_code, summary.reason) == (6, "validator")
        finish(world)
    world.judge()


def test_it_is_noticed_wherever_the_session_still_writes_something():
    unnoticed = []
    for number in range(6, CALLS - 8):
        world = small_world()
        Suspension(world, number, HOURS_S, stopped=False)
        summary = world.client().run()
        # a look at the log that ended the session is not followed by anything but the conditional end of the lock
        if not world.kinds("SuspensionNoticed") and summary.reason != "validator":
            unnoticed.append(number)
    assert unnoticed == []


@pytest.mark.parametrize("stopped", [False, True], ids=["machine slept", "process stopped"])
@pytest.mark.parametrize("number", range(1, CALLS))
def test_whoever_wakes_up_beside_a_rival_writes_nothing_more(number, stopped):
    world = small_world()
    world.ports.limits = SHORT
    rival = OwnerLock(world.real["control"], "lock/client", "rival@elsewhere", SHORT.lock_staleness_s)
    taken: list[dict[str, bytes]] = []

    def take_over() -> None:
        if world.real["control"].head("lock/client") is not None:
            rival.acquire()
            taken.append(world.ports.archive.contents())

    asleep = Suspension(world, number, 700, stopped=stopped, meanwhile=take_over)
    try:
        summary = world.client().run()
    except (LockHeldError, LockLostError):
        assert world.last is not None
        summary = world.last.summary()
    if not taken:
        return
    writes = [call for call in asleep.after if call[:2] in WRITES and call[2] != "lock/client"]
    assert [call for call in writes if call[:2] != ("archive", "put")] == []
    assert world.ports.archive.contents() == taken[0]
    assert world.real["control"].read("lock/client")[0] == b"rival@elsewhere"
    if summary.outcome != "complete":
        assert summary.exit_code == 4 or (summary.exit_code, summary.reason) == (6, "validator")


def test_the_network_that_comes_back_after_the_machine_is_waited_for_and_the_lock_is_still_ours():
    for number in range(8, CALLS - 8):
        world = small_world()
        world.ports.limits = SHORT
        outage = Outage(world, 0, 20)

        def no_network(outage=outage) -> None:
            outage.number = outage.requests + 2  # the one under way is through

        Suspension(world, number, HOURS_S, stopped=False, meanwhile=no_network)
        summary = world.client(max_retries=0).run()
        assert not world.kinds("LockLost"), number
        assert summary.reason in ("", "validator"), number
        assert summary.counts["failed"] == 0


def test_an_outage_that_was_slept_through_is_not_over_its_time():
    world = small_world()
    outage = Outage(world, 12, 400)
    slept: list[int] = []

    def sleep() -> None:
        if outage.on and len(outage.failed) == 5 and not slept:
            slept.append(1)
            outage.until_ms += HOURS_S * 1000
            world.ports.clock.suspend(HOURS_S)

    outage.on_sleep = sleep
    summary = world.client(max_retries=0).run()
    assert slept
    assert world.kinds("SuspensionNoticed")
    assert summary.reason in ("", "validator")


def test_an_ordinary_delivery_notices_nothing():
    world = World(bad=[])
    world.client().run()
    assert world.kinds("SuspensionNoticed") == []


# --- the machine's own clock ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-60, -3600, -3 * 24 * 3600])
@pytest.mark.parametrize("number", range(1, CALLS, 3))
def test_a_clock_that_is_set_back_harms_nothing(number, seconds, monkeypatch):
    now = {"wall": 1_800_000_000_000_000_000, "monotonic": 5_000_000_000}

    def sleep(seconds: float) -> None:
        now["wall"] += int(seconds * 1e9)
        now["monotonic"] += int(seconds * 1e9)

    monkeypatch.setattr(time, "time_ns", lambda: now["wall"])
    monkeypatch.setattr(time, "monotonic_ns", lambda: now["monotonic"])
    monkeypatch.setattr(time, "sleep", sleep)
    world = small_world()
    clock = SystemClock()
    manual = world.ports.clock
    for name in ("now_ms", "machine_ms", "monotonic_ms", "sleep"):
        setattr(manual, name, getattr(clock, name))
    left = [number]

    def watch(port: str, method: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            now["wall"] += seconds * 1_000_000_000

    world.calls.watcher = watch
    summary = world.client(max_retries=0).run()
    assert (summary.outcome, summary.exit_code) == ("complete", 0)
    assert world.kinds("SuspensionNoticed", "OutageBegan", "LockLost") == []
    world.judge()


@pytest.mark.parametrize("number", range(4, CALLS, 5))
def test_an_archives_clock_that_goes_back_costs_no_time(number):
    """As when it was learnt from an answer that was wrong: nothing waits until it has come up again."""
    world = small_world()
    clock = world.ports.clock
    now_ms, began_ms, back_ms, left = clock.now_ms, clock.monotonic_ms(), [0], [number]

    def watch(port: str, method: str) -> None:
        left[0] -= 1
        back_ms[0] = 1_200_000 if left[0] <= 0 else 0

    setattr(clock, "now_ms", lambda: now_ms() - back_ms[0])  # noqa: B010 - of this one clock
    world.calls.watcher = watch
    assert world.client().run().outcome == "complete"
    assert clock.monotonic_ms() - began_ms < 60_000


# --- a real process ------------------------------------------------------------------------------

CHILD = """
import sys, attrs, pandas
from upload_adapters.wiring import wire
from upload_core import UploadClient, patience
from upload_core.wiring import WiringRequest

patience.SUSPENSION_MS, patience.TURN_MAX_S = 2_000, 1.0  # what is long for a test
root = sys.argv[1]
request = WiringRequest("d", "1", "staging", root + "/data", f"file://{root}/archive", root + "/journal", check="slow:check")
ports = wire(request)
ports.limits = attrs.evolve(ports.limits, lock_staleness_s=float(sys.argv[2]))
client = UploadClient(
    dataset="d",
    delivery_id="1",
    file_index=pandas.read_csv(root + "/index.csv"),
    transfer_type="staging",
    source=root + "/data",
    ports=ports,
    n_threads=2,
)
client.subscribe(lambda record: print(type(record.event).__name__, flush=True))
summary = client.run()
print("ended", summary.exit_code, summary.reason, flush=True)
"""


@pytest.mark.crash
@pytest.mark.promise("R13")
@pytest.mark.parametrize("rival", [True, False], ids=["rival", "alone"])
def test_a_stopped_process_that_goes_on_looks_at_its_lock_first(tmp_path: Path, rival, figure):
    desk = Desk(tmp_path, count=20)
    desk.index()
    (tmp_path / "slow.py").write_text("import time\ndef check(path, relpath):\n    time.sleep(0.1)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), "2" if rival else "60"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "FileValidated":
                break
        time.sleep(0.1)  # into some wait
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.6)
        control = LocalPlaces(str(tmp_path / "archive"), "d", "1", "staging").control()
        if rival:
            OwnerLock(control, "lock/client", "rival@elsewhere", 2).acquire()
        log = desk.control / "log" / "client_staging"
        before = log.read_bytes(), sorted(os.listdir(desk.archive))
        process.send_signal(signal.SIGCONT)
        out = process.stdout.read()
        process.wait(60)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    lines = out.split("\n")
    assert "SuspensionNoticed" in lines
    if rival:
        assert "ended 4 lock" in lines
        assert (log.read_bytes(), sorted(os.listdir(desk.archive))) == before
        lock = control.read("lock/client")
        assert lock is not None
        assert lock[0] == b"rival@elsewhere"
    else:
        assert "LockRenewed" in lines
        assert lines.index("SuspensionNoticed") < lines.index("LockRenewed")
        assert "ended 0 " in lines
    figure(1, "real processes that overslept")
