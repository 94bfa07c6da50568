"""Real processes that deliver to the emulator are stopped and killed: one that slept past its lock writes nothing more.

The judge is the emulator: its store, and its own log of requests.
"""

import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, EmulatedArchive
from tests.command_line import environment
from tests.emulator import Emulator
from tests.reliability.test_requests import judge_archive

STALE_S = 2
WRITES = {"PutObject", "DeleteObject", "CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart", "CopyObject"}
CHILD = f"""
import sys, attrs
from upload_adapters.index_file import read_index
from upload_adapters.wiring import wire
from upload_core import UploadClient, patience
from upload_core.wiring import WiringRequest

patience.SUSPENSION_MS, patience.TURN_MAX_S = 1_500, 1.0  # what is long for a test
root = sys.argv[1]
request = WiringRequest({DATASET!r}, {DELIVERY!r}, "staging", root + "/data", "mast.toml", root + "/journal")
ports = wire(request)
ports.limits = attrs.evolve(ports.limits, poll_interval_s=0.05, report_interval_s=0.05)
ports.dispatcher.set_bandwidth(60_000)
client = UploadClient(
    dataset={DATASET!r},
    delivery_id={DELIVERY!r},
    file_index=read_index(root + "/index.csv"),
    transfer_type="staging",
    source=root + "/data",
    ports=ports,
    n_threads=2,
)
print("ready", flush=True)
summary = client.run()
print("ended", summary.exit_code, summary.reason, flush=True)
"""


class Sleeper:
    """A delivery to an emulator of its own, in a process that can be put to sleep."""

    def __init__(self, root, *, count: int = 60, staleness_s: float = 3600, chance: random.Random) -> None:
        root.mkdir()
        self.root = root
        self.aws = Emulator()
        self.archive = EmulatedArchive(self.aws, root, count=count, staleness_s=staleness_s)
        for relpath in self.archive.files:
            self.archive.files[relpath] = data = chance.randbytes(3_000)
            (self.archive.source / relpath).write_bytes(data)
        pd.DataFrame(self.archive.index()).to_csv(root / "index.csv", index=False)

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.root)],
            cwd=self.root,
            env=environment(**self.aws.environment()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_puts(self, process: "subprocess.Popen[str]", count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.archive.puts()) < count and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def close(self) -> None:
        self.archive.close()
        self.aws.close()


def ended(process: "subprocess.Popen[str]") -> str:
    """What it said once it has ended; it is killed if it does not."""
    try:
        return process.communicate(timeout=60)[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()


@pytest.mark.crash
@pytest.mark.promise("R13")
@pytest.mark.parametrize("batch", range(3))
def test_whoever_slept_past_its_lock_writes_nothing_after_a_rival_took_it(batch, tmp_path, size, figure):
    def sleep(number: int) -> int:
        chance = random.Random(number)
        sleeper = Sleeper(tmp_path / str(number), staleness_s=STALE_S, chance=chance)
        process = sleeper.start()
        try:
            sleeper.wait_for_puts(process, chance.randint(1, 40))
            time.sleep(chance.random() / 10)
            process.send_signal(signal.SIGSTOP)
            time.sleep(STALE_S + 0.7)
            rival_takes_over(sleeper)
            before = len(sleeper.aws.log())
            process.send_signal(signal.SIGCONT)
            said = ended(process)
            late = [
                entry
                for entry in sleeper.aws.log()[before:]
                if entry.operation in WRITES and entry.status in (0, 200, 204)
            ]
            assert [(entry.operation, entry.key) for entry in late] == [], f"{number}: written after the takeover"
            assert sleeper.archive.control.found("lock/client").data == b"rival@elsewhere"
            assert "ended 4 lock" in said, said
        finally:
            process.kill()
            process.wait()
            sleeper.close()
        return 1

    each = size(pr=6, nightly=20)
    with ThreadPoolExecutor(3) as pool:
        slept = sum(pool.map(sleep, range(batch * each, (batch + 1) * each)))
    figure(slept, "real processes that overslept")


def rival_takes_over(sleeper: Sleeper) -> None:
    """By the same rules as anybody: only a stale lock is replaced, and only by its etag."""
    found = sleeper.archive.control.read("lock/client")
    assert found is not None
    assert found[1].age_s > STALE_S
    sleeper.archive.control.put("lock/client", b"rival@elsewhere")


@pytest.mark.crash
@pytest.mark.promise("R6")
def test_killed_and_stopped_again_and_again_a_delivery_to_s3_ends_right(tmp_path, size, figure):
    lives = size(pr=2, nightly=4)

    def disturb(number: int) -> int:
        chance = random.Random(number)
        sleeper = Sleeper(tmp_path / str(number), chance=chance)
        kills = 0
        try:
            for _ in range(lives):
                process = sleeper.start()
                waking = None
                sleeper.wait_for_puts(process, len(sleeper.archive.puts()) + chance.randint(0, 12))
                if chance.random() < 0.5:
                    process.send_signal(signal.SIGSTOP)
                    waking = threading.Timer(chance.random(), process.send_signal, [signal.SIGCONT])
                    waking.start()
                    time.sleep(chance.random())
                else:
                    time.sleep(chance.random() / 5)
                kills += process.poll() is None
                process.kill()
                process.communicate()
                if waking is not None:
                    waking.cancel()
            said = ended(sleeper.start())
            assert "ended 0" in said or "nothing to do" in said, said
            judge_archive(sleeper.archive, sessions=5)
            assert sleeper.archive.control.found(sleeper.archive.keys.client_lock) is None
        finally:
            sleeper.close()
        return kills

    with ThreadPoolExecutor(2) as pool:
        figure(sum(pool.map(disturb, range(size(pr=1, nightly=30)))), "kills of a delivery to S3")
