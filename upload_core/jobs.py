"""Jobs: many files that a service of the archive copies by itself, watched from outside, perhaps over several sessions.

A file of an open job is `transferring`, and stays so when a session ends: the job goes on without us, and the next session
takes it over (`adopted`). What did not succeed is told together with the job's end, so that a file of an open job is
never with anybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from upload_core import effects as fx
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.lifecycle import TRANSFERRING

if TYPE_CHECKING:
    from upload_core.delivery import Delivery
    from upload_core.ports import Dispatcher, JobDispatcher


class CopyJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """An open job as the journal knows it; `token` is what it was asked for by, `files` its rows as `ranges` writes them."""

    token: str
    files: str
    unmodified_since: int
    """Seconds since the epoch: a source that was written later is not copied."""
    job_id: str = ""
    """The service's name for it; "" until the service answered."""
    status: str = ""
    copied: int = 0
    failed: int = 0
    total: int = 0

    @property
    def size(self) -> int:
        """How many files it has."""
        return self.total or sum(map(len, runs_of(self.files)))


def ranges(files: Iterable[int]) -> str:
    """Ascending rows, written as runs.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    runs: list[list[int]] = []
    for file in files:
        if runs and file == runs[-1][1] + 1:
            runs[-1][1] = file
        else:
            runs.append([file, file])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def runs_of(written: str) -> Iterator[range]:
    """The runs of rows that `ranges` wrote; raises `ValueError` for any other text.

    >>> list(runs_of('0-2,5'))
    [range(0, 3), range(5, 6)]
    """
    for run in written.split(",") if written else ():
        first, _, last = run.partition("-")
        yield range(int(first), int(last or first) + 1)


def rows_of(written: str, count: int) -> Iterator[int]:
    """Those of the rows that `ranges` wrote that a table of so many rows has.

    >>> list(rows_of('0-2,5', 5))
    [0, 1, 2]
    """
    for run in runs_of(written):
        yield from range(run.start, min(run.stop, count))


def members(d: Delivery) -> bytearray:
    """1 for each file that an open job has, 0 for all others."""
    flags = bytearray(len(d))
    for job in d.facts.jobs.values():
        for file in rows_of(job.files, len(flags)):
            flags[file] = 1
    return flags


Adopted = tuple[CopyJob, Sequence[fx.TransferFile]]
"""An open job, and the orders of its files of which nothing is known yet."""


def adopted(d: Delivery) -> list[Adopted]:
    """Every open job, and an order for each of its files of which nothing is known yet."""
    table, states = d.table, d.states
    return [
        (
            job,
            [
                fx.TransferFile(f, table.path(f), table.size(f), table.checksum(f))
                for f in rows_of(job.files, len(states))
                if states[f] == TRANSFERRING
            ],
        )
        for job in d.facts.jobs.values()
    ]


def adopter(d: Delivery, dispatcher: Dispatcher) -> JobDispatcher | None:
    """Who goes on with the open jobs, None if there are none; raises `ConfigurationError` if this dispatcher cannot."""
    if not d.facts.jobs:
        return None
    if not hasattr(dispatcher, "adopt"):
        raise ConfigurationError(
            f"{len(d.facts.jobs)} copy job(s) of this delivery may still be at work: resume with --dispatch s3-batch, "
            "which goes on with them"
        )
    return cast("JobDispatcher", dispatcher)


def left_to_service(news: Iterable[fx.News], count: int) -> Iterator[int]:
    """The files that are a service's from now on, and no worker's."""
    for told in news:
        if isinstance(told, fx.JobRequested):
            yield from rows_of(told.files, count)


def told(d: Delivery, news: fx.JobNews) -> list[ev.Event]:
    """What is new in this for the journal; news of a job that is not open has been told before."""
    known: Mapping[str, CopyJob] = d.facts.jobs
    job = known.get(news.token)
    match news:
        case fx.JobRequested():
            return [] if job is not None else [ev.CopyJobRequested(news.token, news.files, news.unmodified_since)]
        case fx.JobCreated() if job is not None and job.job_id != news.job_id:
            return [ev.CopyJobCreated(news.token, news.job_id)]
        case fx.JobProgressed() if job is not None:
            before = (job.status, job.copied, job.failed, job.total)
            now = (news.status, news.copied, news.failed, news.total)
            return [] if now == before else [ev.CopyJobProgressed(news.token, *now)]
        case fx.JobEnded() if job is not None:
            return [ev.CopyJobEnded(news.token, news.status, news.message)]
        case _:
            return []
