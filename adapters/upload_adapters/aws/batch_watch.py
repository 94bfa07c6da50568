"""Whoever watches over the jobs of a session: asks for them, looks at them in turn, and hands on what comes of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import attrs

from upload_adapters.aws.batch_job import CutError, Duties, JobWork
from upload_adapters.aws.batch_jobs import BatchJobs
from upload_adapters.aws.errors import AwsConfigurationError
from upload_core.effects import FileOutcome, News, TransferFile
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    IdentityError,
    LockLostError,
)

POLL_LONGEST_S: Final = 15.0
"""The longer a job takes the less often it is looked at, up to this."""
CHECKERS: Final = 16
"""Copies that are checked at a time."""
CUT_S: Final = 5.0
"""How long a request under way may take when the session ends; what comes of it is found by the next one."""

Check = Callable[[TransferFile, int, Callable[[], None]], FileOutcome]
"""What the copy of one file is worth, made of a source not modified since that time; calls the last before it takes one away."""


@attrs.define(eq=False)
class _Row:
    """A job that is watched, when it is looked at next, and how long it is left alone after that."""

    work: JobWork
    due_s: float
    pause_s: float


class JobWatch:
    """The thread that asks for jobs and watches them, from the first that there is to the session's end."""

    def __init__(
        self,
        jobs: BatchJobs,
        check: Check,
        *,
        now_ms: Callable[[], int],
        wake: Callable[[], None],
        poll_s: float,
    ) -> None:
        """`now_ms` is the archive's time, `wake` is called whenever there is something to take; jobs are looked at no
        more often than every `poll_s` in all.
        """
        self._jobs, self._now_ms, self._wake, self._poll_s = jobs, now_ms, wake, poll_s
        self._pool = ThreadPoolExecutor(CHECKERS, thread_name_prefix="upload-check")
        self._duties = Duties(
            jobs,
            lambda order, unmodified_since: check(order, unmodified_since, self._commit),
            self._tell,
            self._commit,
            self._wait,
            self._pool,
        )
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
                self._works.extend(_Row(work, 0.0, self._poll_s) for work in works)
            self._begin()

    def hold_until(self, time_ms: int) -> None:
        """Nothing is begun after that time."""
        self._hold_ms = time_ms
        self._held = self._held or time_ms > self._now_ms()
        self._begin()

    def _begin(self) -> None:
        if self._works and self._held and self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="upload-jobs", daemon=True)
            self._thread.start()
        self._changed.set()

    def _commit(self) -> None:
        """Raises `LockLostError` once nothing more may be begun."""
        if self._ended.is_set():
            raise LockLostError("stopped before it was finished")
        if self._hold_ms is None or self._now_ms() > self._hold_ms:
            raise LockLostError("the delivery's lock was not renewed in time; no job is begun")

    def _wait(self, seconds: float) -> None:
        """Raises `CutError` once the session ends."""
        if self._ended.wait(seconds):
            raise CutError

    def _tell(self, news: Sequence[News]) -> None:
        """Hand on what belongs together."""
        if news:
            self._news.append(news)
            self._wake()

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
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._held and self._hold_ms is not None and self._now_ms() > self._hold_ms:
            for row in self._works:
                if row.work.job_id:
                    self._jobs.cancel(
                        row.work.job_id, "the delivery's lock was lost, or its journal takes nothing more"
                    )

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
                    self._wait(self._poll_s)
        except CutError:
            pass
        except ArchiveError as error:
            self._error = AwsConfigurationError(f"{error}; check [batch] of the deployment file, then resume")
        except BaseException as error:  # noqa: BLE001 - raised to whoever collects
            self._error = error
        self._wake()

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
        row.pause_s = self._poll_s if work.status != status else min(POLL_LONGEST_S, row.pause_s * 1.5)
        row.due_s = time.monotonic() + row.pause_s
