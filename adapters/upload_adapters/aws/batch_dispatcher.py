"""The dispatcher that leaves copies from bucket to bucket to S3 Batch Operations, many objects at once.

Orders are gathered into jobs; what a job cannot do goes to another dispatcher beside: objects that are too large, single
ones, those whose task failed, and questions. A job is asked for once the journal holds its request, goes on when a session
ends, and is taken over by the next one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from upload_adapters.aws.batch_check import checked_copy
from upload_adapters.aws.batch_job import JobWork
from upload_adapters.aws.batch_jobs import BatchJobs
from upload_adapters.aws.batch_watch import JobWatch
from upload_core.effects import FileNotStored, FileOrder, FileOutcome, JobRequested, News, TransferFile
from upload_core.errors import NotReadyError
from upload_core.jobs import Adopted, CopyJob, ranges
from upload_core.ports import Archive, Clock, Dispatcher, JobDispatcher, Load, Source
from upload_core.worker import stopped

OBJECT_MAX: Final = 5 * 1024**3
"""Larger objects cannot be copied by a job (S3 User Guide, "Copy objects")."""
OBJECTS_MIN: Final = 2
"""A single object is copied sooner, and for less, by one request of our own."""
JOBS_OPEN: Final = 4
"""Jobs under way: some 260 bytes are kept in memory for each of their files."""
TURN: Final = 5_000
"""Orders taken over in one turn of the engine, which journals two events for each."""
GATHER_S: Final = 1.0
"""A job is made once no order has come for so long, unless it is full before."""
POLL_S: Final = 1.0
"""Jobs are looked at once a second in all."""

Check = Callable[[TransferFile, Source, Archive, int, Callable[[], None]], FileOutcome]
"""Says what the copy of one file is worth (`checked_copy`)."""


class BatchDispatcher:
    """Everything but `wake` belongs to one thread, the engine's."""

    def __init__(
        self,
        clock: Clock,
        jobs: BatchJobs,
        beside: Dispatcher,
        *,
        objects_max: int,
        check: Check = checked_copy,
        object_max: int = OBJECT_MAX,
        gather_s: float = GATHER_S,
        poll_s: float = POLL_S,
    ) -> None:
        """`jobs` copies from the source to the archive that `open` names; `objects_max` go into one job."""
        self._clock = clock
        self._jobs = jobs
        self._beside = beside
        self._objects_max = objects_max
        self._check = check
        self._object_max = object_max
        self._gather_s = gather_s
        self._poll_s = poll_s
        self._watch: JobWatch | None = None
        self._level = 0
        self._gathered: list[TransferFile] = []
        self._submitted_s = 0.0
        self._alone: set[int] = set()
        """Files whose task failed: they go beside."""
        self._requested: list[JobWork] = []
        """Jobs that were told of and may not be in the journal yet."""

    @property
    def level_max(self) -> int:
        return self._beside.level_max

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        """Get ready; `archive` is where `jobs` copies to."""
        self._beside.open(source, archive, n_threads)
        self._level = max(1, n_threads)
        self._alone.clear()
        self._watch = JobWatch(
            self._jobs,
            lambda order, unmodified_since, commit: self._check(order, source, archive, unmodified_since, commit),
            now_ms=self._clock.now_ms,
            wake=self._beside.wake,
            poll_s=self._poll_s,
        )

    def adopt(self, jobs: Sequence[Adopted]) -> None:
        self._demand_open().add([JobWork(job, orders, adopted=True) for job, orders in jobs])

    def set_level(self, level: int) -> None:
        self._level = max(0, level)
        self._beside.set_level(level)

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        self._beside.set_bandwidth(bytes_per_s)

    def load(self) -> Load:
        return self._beside.load()

    @property
    def slots(self) -> int:
        if self._watch is None or not self._level or not self._beside.slots:
            return 0  # what comes next may have to go beside
        kept = len(self._gathered) + self._watch.files + sum(len(work.orders) for work in self._requested)
        return max(0, min(TURN, self._objects_max * JOBS_OPEN - kept))

    def submit(self, orders: Sequence[FileOrder]) -> None:
        """Begin these orders; raises `NotReadyError` unless open."""
        self._demand_open()
        beside: list[FileOrder] = []
        for order in orders:
            if isinstance(order, TransferFile) and self._fits(order):
                self._gathered.append(order)
            else:
                beside.append(order)
        self._submitted_s = time.monotonic()
        if beside:
            self._beside.submit(beside)

    def _fits(self, order: TransferFile) -> bool:
        return order.size <= self._object_max and order.upload is None and order.file not in self._alone

    def _demand_open(self) -> JobWatch:
        if self._watch is None:
            raise NotReadyError("the dispatcher is not open; open it first")
        return self._watch

    def collect(self, timeout_s: float) -> Sequence[News]:
        watch = self._watch
        if watch is None:
            return []
        watch.add(self._requested)  # whoever asks again has journaled that they were asked for
        self._requested = []
        news: list[News] = list(self._form())
        news += watch.take()
        if not news:
            watch.raise_error()
        wait_s = 0.0 if news else timeout_s
        if self._gathered:
            wait_s = min(wait_s, max(0.0, self._submitted_s + self._gather_s - time.monotonic()))
        news += self._beside.collect(wait_s)
        news += watch.take()
        self._alone.update(told.file for told in news if isinstance(told, FileNotStored))
        return news

    def _form(self) -> list[News]:
        """Make jobs of what was gathered: full ones at once, the rest when nothing more comes."""
        made: list[News] = []
        while self._level and self._gathered:
            full = len(self._gathered) >= self._objects_max
            if not full and time.monotonic() - self._submitted_s < self._gather_s:
                break
            orders, self._gathered = self._gathered[: self._objects_max], self._gathered[self._objects_max :]
            if len(orders) < OBJECTS_MIN:
                self._beside.submit(orders)
                continue
            orders.sort(key=lambda order: order.file)
            # S3 keeps times by the second, and an object of this second may be replaced in it
            until = self._clock.now_ms() // 1000 - 1
            job = CopyJob(uuid.uuid4().hex, ranges(order.file for order in orders), until)
            self._requested.append(JobWork(job, orders))
            made.append(JobRequested(job.token, job.files, job.unmodified_since))
        return made

    def wake(self) -> None:
        self._beside.wake()

    def hold_until(self, time_ms: int) -> None:
        self._beside.hold_until(time_ms)
        if self._watch is not None:
            self._watch.hold_until(time_ms)

    def close(self, grace_s: float) -> Sequence[News]:
        watch = self._watch
        if watch is None:
            return []
        watch.close()
        news: list[News] = [stopped(order) for order in self._gathered]
        news += watch.take()
        news += self._beside.close(grace_s)
        self._watch, self._gathered, self._requested = None, [], []
        return news


if TYPE_CHECKING:
    _dispatcher: type[JobDispatcher] = BatchDispatcher
