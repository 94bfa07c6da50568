"""A world whose archive has a service that copies many files in one job, and goes on when the client is dead.

The service outlives the client; the dispatcher is one process's. How a job is asked for, watched and taken in is what
deliveries to S3 use (`batch_job.JobWork`); only threads and time are left out.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any
from urllib.parse import quote, unquote

import attrs

from tests.crash.world import World
from upload_adapters.aws.batch_job import Duties, JobWork
from upload_adapters.aws.batch_jobs import Progress
from upload_adapters.memory import InlineDispatcher
from upload_core.effects import (
    Fault,
    FileNotStored,
    FileOrder,
    FileOutcome,
    FileStored,
    JobRequested,
    News,
    TransferFile,
)
from upload_core.errors import LockLostError
from upload_core.jobs import Adopted, CopyJob, ranges
from upload_core.ports import Archive, Source

SERVICE = ("write_manifest", "find", "create", "describe", "cancel", "read_text")


@attrs.define
class Job:
    """A job as the service has it."""

    number: str
    token: str
    keys: list[str]
    results: dict[str, str] = attrs.field(factory=dict)
    """Key -> "" or why it failed."""
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return self.cancelled or len(self.results) == len(self.keys)


class CopyService:
    """Copies three files whenever somebody looks at a job; what it is asked for under a known token it has already."""

    def __init__(self, copy: Callable[[str], None], failing: Collection[str] = ()) -> None:
        self._copy = copy
        self.failing = set(failing)
        self.manifests: dict[str, list[str]] = {}
        self.jobs: dict[str, Job] = {}
        self.copied: list[str] = []
        self.forgets = False
        """Whether tokens of jobs that were taken are not known any more: then they can only be found."""

    def write_manifest(self, job: CopyJob, keys: Iterable[str]) -> str:
        self.manifests.setdefault(job.token, [quote(key) for key in keys])
        return f'"{job.token}"'

    def find(self, job: CopyJob) -> str | None:
        return next((made.number for made in self.jobs.values() if made.token == job.token), None)

    def create(self, job: CopyJob, etag: str) -> str:
        if not self.forgets and (found := self.find(job)) is not None:
            return found
        assert self.find(job) is None, f"the job {job.token} was made twice"
        made = Job(f"job-{len(self.jobs)}", job.token, self.manifests[job.token])
        self.jobs[made.number] = made
        return made.number

    def describe(self, job_id: str) -> Progress | None:
        job = self.jobs[job_id]
        self.work(job, 3)
        failed = sum(map(bool, job.results.values()))
        status = "Cancelled" if job.cancelled else "Complete" if job.over else "Active"
        return Progress(status, len(job.results) - failed, failed, len(job.keys))

    def work(self, job: Job, count: int) -> None:
        for key in [key for key in job.keys if key not in job.results][: 0 if job.cancelled else count]:
            path = unquote(key)
            job.results[key] = "InternalError" if path in self.failing else ""
            if not job.results[key]:
                self._copy(path)
                self.copied.append(path)

    def cancel(self, job_id: str, why: str) -> None:
        self.jobs[job_id].cancelled = True

    def report_place(self, job_id: str) -> tuple[str, str]:
        return job_id, "manifest.json"

    def read_text(self, bucket: str, key: str) -> Iterator[str] | None:
        job = self.jobs[bucket]
        if key == "manifest.json":
            return iter([json.dumps({"Results": [{"Bucket": bucket, "Key": "rows"}]})])
        written = io.StringIO(newline="")
        csv.writer(written).writerows(
            ("source", key, "", "failed" if why else "succeeded", why, "500" if why else "200", "")
            for key, why in job.results.items()
        )
        return iter(written.getvalue().splitlines(keepends=True))


class _Inline(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class JobsInline(InlineDispatcher):
    """Makes a job of whatever it is handed at once; what failed in one goes the ordinary way. One process's own."""

    def __init__(self, clock: Any, service: Any) -> None:
        super().__init__(clock)
        self._service = service

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        super().open(source, archive, n_threads)
        self._archive = archive
        self._works: list[JobWork] = []
        self._requested: list[JobWork] = []
        self._gathered: list[TransferFile] = []
        self._alone: set[int] = set()
        self._told: list[News] = []
        self._held = False

    @property
    def slots(self) -> int:
        return 100 if self._n_threads else 0

    def adopt(self, jobs: Sequence[Adopted]) -> None:
        self._works += [JobWork(job, orders, adopted=True) for job, orders in jobs]

    def submit(self, orders: Sequence[FileOrder]) -> None:
        for order in orders:
            if isinstance(order, TransferFile) and order.file not in self._alone:
                self._gathered.append(order)
            else:
                super().submit([order])

    def hold_until(self, time_ms: int) -> None:
        super().hold_until(time_ms)
        self._held = self._held or time_ms > self._clock.now_ms()

    def collect(self, timeout_s: float) -> Sequence[News]:  # type: ignore[override]  # it tells of jobs as well
        self._works += self._requested
        self._requested = []
        if self._gathered:
            orders, self._gathered = sorted(self._gathered, key=lambda order: order.file), []
            job = CopyJob(f"token-{orders[0].file}-{self._clock.now_ms()}", ranges(o.file for o in orders), 0)
            self._requested.append(JobWork(job, orders))
            return [JobRequested(job.token, job.files, job.unmodified_since)]
        duties = Duties(
            self._service,
            self._check,
            self._told.extend,
            self._may_begin,
            lambda _: None,
            _Inline(),
        )
        if self._held:
            self._works = [work for work in self._works if not work.advance(duties)]
        news, self._told = self._told, []
        self._alone.update(told.file for told in news if isinstance(told, FileNotStored))
        return [*news, *super().collect(0.0 if news else timeout_s)]

    def _may_begin(self) -> None:
        if self._hold_until_ms is not None and self._clock.now_ms() > self._hold_until_ms:
            raise LockLostError("the lock is not ours any more")

    def _check(self, order: TransferFile, _: int) -> FileOutcome:
        stored = self._archive.stat(order.relpath)
        if stored is None or (stored.size, stored.checksum) != (order.size, order.checksum):
            return FileNotStored(order.file, Fault.STOPPED, "it is not there")
        return FileStored(order.file, stored.size, stored.checksum, stored.etag)

    def close(self, grace_s: float) -> Any:
        if self._held and self._hold_until_ms is not None and self._clock.now_ms() > self._hold_until_ms:
            for work in self._works:
                if work.job_id:
                    self._service.cancel(work.job_id, "the lock is not ours any more")
        self._works, self._requested, self._gathered = [], [], []
        return super().close(grace_s)


class JobWorld(World):
    """A `World` whose files are copied by jobs; `failing` are those whose task fails."""

    def __init__(self, *, failing: Collection[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.service = CopyService(self._copy, failing)
        watched = self.calls.watch("service", self.service, SERVICE)
        self.ports.dispatcher = JobsInline(self.ports.clock, watched)

    def _copy(self, path: str) -> None:
        from upload_adapters.memory import MemorySource

        with MemorySource(self.files).open(path) as body:
            self.real["archive"].put(path, body, checksum=None)

    def judge_jobs(self) -> None:
        """Raises `AssertionError` unless each job was made once, ended, and told of once, and no file copied twice."""
        tokens = [job.token for job in self.service.jobs.values()]
        assert len(tokens) == len(set(tokens))
        asked = [event["token"] for event in self.events if event["kind"] == "CopyJobRequested"]
        ended = [event["token"] for event in self.events if event["kind"] == "CopyJobEnded"]
        assert asked == ended, (asked, ended)
        assert set(tokens) == set(asked)
        assert not self.real["journal"].replayed().facts.jobs
        twice = {path for path in self.service.copied if self.service.copied.count(path) > 1}
        assert not twice, f"copied twice: {twice}"
