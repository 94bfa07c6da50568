"""The dispatcher that leaves copies from bucket to bucket to S3 Batch Operations, many objects at once.

Orders are gathered into jobs; what a job cannot do goes to another dispatcher beside: objects that are too large, single
ones, those whose task failed, and questions. A job is asked for once the journal holds its request, goes on when a session
ends, and is taken over by the next one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import attrs

from upload_adapters.aws.batch_check import checked_copy
from upload_adapters.aws.batch_job import CutError, Duties, JobWork
from upload_adapters.aws.batch_jobs import BatchJobs
from upload_core.effects import FileNotStored, FileOrder, FileOutcome, JobRequested, News, TransferFile
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ConfigurationError,
    IdentityError,
    LockLostError,
    NotReadyError,
)
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
POLL_LONGEST_S: Final = 15.0
"""Jobs are looked at once a second in all, and each less often the longer it takes."""
CHECKERS: Final = 16
CUT_S: Final = 5.0

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
        report_place: Callable[[str], tuple[str, str]],
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
        self._report_place = report_place
        self._objects_max = objects_max
        self._check = check
        self._object_max = object_max
        self._gather_s = gather_s
        self._poll_s = poll_s
        self._crew: _Watch | None = None
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
        self._crew = _Watch(self, source, archive)

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
        if self._crew is None or not self._level or not self._beside.slots:
            return 0  # what comes next may have to go beside
        kept = len(self._gathered) + self._crew.files + sum(len(work.orders) for work in self._requested)
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

    def _demand_open(self) -> _Watch:
        if self._crew is None:
            raise NotReadyError("the dispatcher is not open; open it first")
        return self._crew

    def collect(self, timeout_s: float) -> Sequence[News]:
        crew = self._crew
        if crew is None:
            return []
        crew.add(self._requested)  # whoever asks again has journaled that they were asked for
        self._requested = []
        news: list[News] = list(self._form())
        news += crew.take()
        if not news:
            crew.raise_error()
        wait_s = 0.0 if news else timeout_s
        if self._gathered:
            wait_s = min(wait_s, max(0.0, self._submitted_s + self._gather_s - time.monotonic()))
        news += self._beside.collect(wait_s)
        news += crew.take()
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
        if self._crew is not None:
            self._crew.hold_until(time_ms)

    def close(self, grace_s: float) -> Sequence[News]:
        crew = self._crew
        if crew is None:
            return []
        crew.close()
        news: list[News] = [stopped(order) for order in self._gathered]
        news += crew.take()
        news += self._beside.close(grace_s)
        self._crew, self._gathered, self._requested = None, [], []
        return news

    # --- for the thread that watches ---------------------------------------------------------------------

    def duties(self, watch: _Watch, source: Source, archive: Archive) -> Duties:
        """What a job's life needs of this dispatcher."""

        def check(order: TransferFile, unmodified_since: int) -> FileOutcome:
            return self._check(order, source, archive, unmodified_since, watch.commit)

        return Duties(self._jobs, check, watch.tell, watch.commit, watch.wait, self._report_place, watch.pool)

    def now_ms(self) -> int:
        """The archive's time."""
        return self._clock.now_ms()

    @property
    def poll_s(self) -> float:
        """The least time between two looks at jobs."""
        return self._poll_s

    def cancel(self, work: JobWork) -> None:
        """Have S3 copy nothing more of it."""
        if work.job_id:
            self._jobs.cancel(work.job_id, "the delivery's lock was lost, or its journal takes nothing more")


@attrs.define(eq=False)
class _Row:
    """A job that is watched, when it is looked at next, and how long it is left alone after that."""

    work: JobWork
    due_s: float
    pause_s: float


class _Watch:
    """The thread that asks for jobs and watches them, from the first that there is to the session's end."""

    def __init__(self, dispatcher: BatchDispatcher, source: Source, archive: Archive) -> None:
        self._dispatcher = dispatcher
        self.pool = ThreadPoolExecutor(CHECKERS, thread_name_prefix="upload-check")
        self._duties = dispatcher.duties(self, source, archive)
        self._mutex = threading.Lock()
        self._works: list[_Row] = []
        self._news: deque[Sequence[News]] = deque()
        self._error: BaseException | None = None
        self._hold_ms: int | None = None
        self._held = False
        """Whether the lock was ours at any time."""
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def files(self) -> int:
        """How many files of jobs are not answered."""
        with self._mutex:
            return sum(len(row.work.orders) for row in self._works)

    def add(self, works: Sequence[JobWork]) -> None:
        """Watch these as well; nothing is asked before the lock is known to be ours."""
        if works:
            with self._mutex:
                self._works.extend(_Row(work, 0.0, self._dispatcher.poll_s) for work in works)
            self._begin()

    def hold_until(self, time_ms: int) -> None:
        self._hold_ms = time_ms
        self._held = self._held or time_ms > self._dispatcher.now_ms()
        self._begin()

    def _begin(self) -> None:
        if self._works and self._held and self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="upload-jobs", daemon=True)
            self._thread.start()
        self._changed.set()

    def commit(self) -> None:
        """Raises `LockLostError` once nothing more may be begun."""
        if self._ended.is_set():
            raise CutError
        if self._hold_ms is None or self._dispatcher.now_ms() > self._hold_ms:
            raise LockLostError("the delivery's lock was not renewed in time; no job is begun")

    def wait(self, seconds: float) -> None:
        """Raises `CutError` once the session ends."""
        if self._ended.wait(seconds):
            raise CutError

    def tell(self, news: Sequence[News]) -> None:
        """Hand on what belongs together."""
        if news:
            self._news.append(news)
            self._dispatcher.wake()

    def take(self) -> list[News]:
        """All that was told."""
        told: list[News] = []
        while self._news:
            told.extend(self._news.popleft())
        return told

    def raise_error(self) -> None:
        """Raises what ended the watching, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the watching; jobs go on, unless nothing may become visible any more."""
        self._ended.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(CUT_S)
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self._held and self._hold_ms is not None and self._dispatcher.now_ms() > self._hold_ms:
            for row in self._works:
                self._dispatcher.cancel(row.work)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._changed.clear()
                with self._mutex:
                    row = min(self._works, key=lambda row: row.due_s, default=None)
                wait_s = 1.0 if row is None else row.due_s - time.monotonic()
                if row is None or wait_s > 0:
                    self._changed.wait(wait_s)
                else:
                    self._look(row)
                    self.wait(self._dispatcher.poll_s)
        except CutError:
            pass
        except ArchiveError as error:
            self._error = ConfigurationError(f"{error}; check [batch] of the deployment file, then resume")
        except BaseException as error:  # noqa: BLE001 - raised to whoever collects
            self._error = error
        self._dispatcher.wake()

    def _look(self, row: _Row) -> None:
        """Look at one job, and say when it is looked at again."""
        work, status, over = row.work, row.work.status, False
        try:
            over = work.advance(self._duties)
        except LockLostError:
            pass  # perhaps it is renewed yet; if not, the session ends
        except IdentityError:
            raise
        except ArchiveUnavailableError as error:
            work.could_not_be_asked(str(error), self._duties)
        if over:
            with self._mutex:
                self._works.remove(row)
            return
        row.pause_s = self._dispatcher.poll_s if work.status != status else min(POLL_LONGEST_S, row.pause_s * 1.5)
        row.due_s = time.monotonic() + row.pause_s


if TYPE_CHECKING:
    _dispatcher: type[JobDispatcher] = BatchDispatcher
