"""One job's life as we see it: asked for, watched, its report taken in, and every file of it answered.

Rule: what was stored is told as soon as it is checked, all else together with the job's end. So a file of an open job is
with nobody else, and whoever takes the job over after a crash finds each file either stored or still the job's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Final
from urllib.parse import quote

import attrs

from upload_adapters.aws.batch_check import failed_task
from upload_adapters.aws.batch_jobs import BatchJobs, Phase, Progress
from upload_adapters.aws.batch_report import TaskResult, read_report
from upload_adapters.aws.errors import AwsConfigurationError, AwsIdentityError
from upload_core.effects import (
    Fault,
    FileNotStored,
    FileOutcome,
    FileStored,
    JobCreated,
    JobEnded,
    JobProgressed,
    News,
    TransferFile,
)
from upload_core.jobs import CopyJob

CHUNK: Final = 500
"""Copies that are checked before their outcomes are told: some tenths of a second's work."""
REPORT_WAIT_S: Final = 60.0
"""How long the report of a job that is over may take to appear."""
UNKNOWN_WAIT_S: Final = 300.0
"""How long S3 may not know a job that it has taken: asking right after it was made is a known reason."""
AGAIN_S: Final = 10.0
"""Between two attempts to check copies while the archive does not answer."""


class CutError(Exception):
    """The session ends: whoever was at work stops where it is."""


@attrs.define
class Duties:
    """What a job's life needs from whoever watches it."""

    jobs: BatchJobs
    check: Callable[[TransferFile, int], FileOutcome]
    """Compares one copy, made of a source that was not modified since that time."""
    tell: Callable[[Sequence[News]], None]
    """Hands on news that belong together."""
    commit: Callable[[], None]
    """Raises `LockLostError` once nothing more may be begun."""
    wait: Callable[[float], None]
    """Lets time pass; raises `CutError` once the session ends."""
    pool: Executor


class JobWork:
    """A job and those of its files that are not answered."""

    def __init__(self, job: CopyJob, orders: Sequence[TransferFile], *, adopted: bool = False) -> None:
        self.job = job
        self.job_id = job.job_id
        self.orders = {order.file: order for order in orders}
        self._adopted = adopted
        self._told = (job.status, job.copied, job.failed, job.total)
        self._over_s: float | None = None
        self._unknown_s: float | None = None

    @property
    def status(self) -> str:
        """The status that was last told."""
        return self._told[0]

    def advance(self, duties: Duties) -> bool:
        """Do what can be done now; True once the job is over and all is told.

        Raises `ConfigurationError` if the job could not run at all, and what S3 answers.
        """
        if not self.job_id:
            self.job_id = self._ask(duties)
            duties.tell([JobCreated(self.job.token, self.job_id)])
        progress = duties.jobs.describe(self.job_id)
        if progress is None:
            return self._unknown(duties)
        self._unknown_s = None
        now = (progress.status, progress.copied, progress.failed, progress.total)
        if now != self._told:
            self._told = now
            duties.tell([JobProgressed(self.job.token, *now)])
        if progress.phase in (Phase.GOING, Phase.HELD):
            return False
        results = read_report(*duties.jobs.report_place(self.job_id), duties.jobs.read_text)
        if results is None:
            self._over_s = self._over_s or time.monotonic()
            if (progress.copied or progress.failed) and time.monotonic() - self._over_s < REPORT_WAIT_S:
                return False
        self._take_in(results or (), progress, duties)
        if self.orders and not progress.copied and not progress.failed and progress.status == "Failed":
            raise AwsConfigurationError(
                f"the job {self.job_id} of S3 Batch Operations could not run ({progress.reasons or 'no reason given'}): check "
                "role and bucket in [batch] of the deployment file, then resume"
            )
        return True

    def _unknown(self, duties: Duties) -> bool:
        """S3 does not know the job: it may have been asked too soon; if that lasts, its files are looked at one by one."""
        self._unknown_s = self._unknown_s or time.monotonic()
        if time.monotonic() - self._unknown_s < UNKNOWN_WAIT_S:
            return False
        why = f"S3 does not know the job {self.job_id}"
        rest = [FileNotStored(file, Fault.STOPPED, why) for file in self.orders]
        duties.tell([*rest, JobEnded(self.job.token, "unknown", why)])
        return True

    def could_not_be_asked(self, why: str, duties: Duties) -> None:
        """S3 Batch Operations does not answer; the job may be going on all the same."""
        status = f"not known now ({why})"
        if self.job_id and self._told[0] != status:
            self._told = (status, *self._told[1:])
            duties.tell([JobProgressed(self.job.token, *self._told)])

    def _ask(self, duties: Duties) -> str:
        """The job's id: of the one that was taken already, else of a new one."""
        duties.commit()
        if self._adopted and (found := duties.jobs.find(self.job)) is not None:
            return found
        etag = duties.jobs.write_manifest(self.job, (order.relpath for order in self.orders.values()))
        duties.commit()
        return duties.jobs.create(self.job, etag)

    # --- the report ----------------------------------------------------------------------------------

    def _take_in(self, results: Iterable[TaskResult], progress: Progress, duties: Duties) -> None:
        keys = self._by_key()
        bad: list[FileOutcome] = []
        copied: list[TransferFile] = []
        for result in results:
            order = keys.pop(result.key, None)
            if order is None:
                continue  # answered by an earlier session, or no task of ours
            if result.succeeded:
                copied.append(order)
                if len(copied) == CHUNK:
                    bad += self._check(copied, duties)
                    copied = []
            else:
                bad.append(failed_task(order, result))
        # the last ones are told with the end: a delivery that is complete has no open job
        last = self._outcomes(copied, duties)
        known = {outcome.file for outcome in (*bad, *last)}
        why = f"the job ended {progress.status} before it came to this file"
        rest = [FileNotStored(file, Fault.STOPPED, why) for file in self.orders if file not in known]
        message = progress.reasons if progress.phase is Phase.BROKEN else ""
        duties.tell([*last, *bad, *rest, JobEnded(self.job.token, progress.status, message)])

    def _by_key(self) -> dict[str, TransferFile]:
        """The orders by their keys as the manifest names them, and as they are, where that is no other's."""
        keys = {quote(order.relpath): order for order in self.orders.values()}
        for order in self.orders.values():
            keys.setdefault(order.relpath, order)
        return keys

    def _check(self, orders: Sequence[TransferFile], duties: Duties) -> list[FileOutcome]:
        """Tell of those that are stored; the others."""
        outcomes = self._outcomes(orders, duties)
        stored = [outcome for outcome in outcomes if isinstance(outcome, FileStored)]
        for outcome in stored:
            del self.orders[outcome.file]
        duties.tell(stored)
        return [outcome for outcome in outcomes if not isinstance(outcome, FileStored)]

    def _outcomes(self, orders: Sequence[TransferFile], duties: Duties) -> list[FileOutcome]:
        """What each copy is worth; asked again for as long as the archive does not say. Raises `IdentityError`."""
        outcomes: list[FileOutcome] = []
        left = list(orders)
        while left:
            duties.wait(0.0)
            again: list[TransferFile] = []
            checked = duties.pool.map(lambda order: duties.check(order, self.job.unmodified_since), left)
            for order, outcome in zip(left, checked, strict=True):
                fault = outcome.fault if isinstance(outcome, FileNotStored) else None
                if fault is Fault.IDENTITY and isinstance(outcome, FileNotStored):
                    raise AwsIdentityError(outcome.message)
                if fault is Fault.WORLD:
                    again.append(order)
                else:
                    outcomes.append(outcome)
            left = again
            if left:
                duties.wait(AGAIN_S)
        return outcomes
