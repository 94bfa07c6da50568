"""A Dask cluster of real processes: workers with nannies, which are killed and come back; and one by its own commands."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import distributed


@contextmanager
def local_cluster(n_workers: int = 2, **options: Any) -> Iterator[Any]:
    """Worker processes under nannies; the scheduler lives here, and replaces a nanny that gave its worker up."""
    with distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", **options
    ) as cluster:
        cluster.adapt(minimum=n_workers, maximum=n_workers, interval="500 ms")
        yield cluster


def workers_of(cluster: Any) -> list[int]:
    """The process ids of the workers that live now."""
    found = [nanny.process.pid for nanny in cluster.workers.values() if nanny.process is not None]
    return [pid for pid in found if pid is not None]


class Reaper:
    """Kills a worker every now and then, so often at most: where a start takes longer than a life, nothing would end."""

    def __init__(self, cluster: Any, rng: random.Random, *, at_most: int, every_s: float = 0.7) -> None:
        self.kills = 0
        self._at_most = at_most
        self._cluster, self._rng, self._every_s = cluster, rng, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._reap)

    def _reap(self) -> None:
        while self.kills < self._at_most and not self._ended.wait(self._every_s * self._rng.uniform(0.5, 1.5)):
            if pids := workers_of(self._cluster):
                with suppress(ProcessLookupError):
                    os.kill(self._rng.choice(pids), signal.SIGKILL)
                    self.kills += 1

    def __enter__(self) -> Reaper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class OwnProcesses:
    """A scheduler and workers started by their commands, each to be killed and started again by itself."""

    def __init__(self, log: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = log
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start_scheduler(self) -> None:
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError("the scheduler does not start")

    def start_worker(self) -> None:
        self.workers.append(
            self._start(
                "dask_worker",
                f"tcp://{self.address}",
                *("--nthreads", "2", "--no-nanny", "--no-dashboard", "--death-timeout", "30", "--host", "127.0.0.1"),
            )
        )

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self) -> None:
        for process in [self.scheduler, *self.workers]:
            if process is not None:
                process.kill()
                process.wait()
