"""D1 and D2: the same orders by threads of one process, and by 1, 2 and 4 worker processes of a Dask cluster.

What is measured is the dispatcher alone, from the first order to the last outcome, at one level for all; the cluster
stands before. All of it shares one machine with the server, so more processes than cores cannot be faster: what is seen
is what the way over a scheduler costs. Where each request waits 30 ms for its answer, nobody is short of cores.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import work_sets
from figures import Figure, Scale, interleave, number, wall
from programs import BUCKET, KEYS
from sink_server import Sink
from work_sets import WorkSet

from upload_adapters.aws.deployment import open_bucket
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.transport import transport
from upload_adapters.clock import SystemClock
from upload_adapters.dask import DaskDispatcher
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.index_file import read_index
from upload_adapters.indexing import build_table
from upload_adapters.source_directory import DirectorySource
from upload_core.effects import FileOutcome, FileStored, TransferFile
from upload_core.ports import Dispatcher

WORKERS: Final = (1, 2, 4)
LEVEL: Final = 32


def _orders(work: WorkSet, source: DirectorySource) -> list[TransferFile]:
    table = build_table(read_index(str(work.index)), source)
    rows = zip(table.paths(), table.checksums(), strict=True)
    return [TransferFile(number, path, work.size, crc) for number, (path, crc) in enumerate(rows)]


def _carry_out(dispatcher: Dispatcher, orders: list[TransferFile]) -> None:
    """Hand over and collect as an engine does, until all are stored."""
    left, done = list(reversed(orders)), 0
    while done < len(orders):
        free = min(dispatcher.slots, len(left))
        if free > 0:
            dispatcher.submit([left.pop() for _ in range(free)])
        for told in dispatcher.collect(0.2):
            if isinstance(told, FileOutcome):
                if not isinstance(told, FileStored):
                    raise RuntimeError(f"an order failed: {told}")
                done += 1


def _archive() -> S3Archive:
    import boto3

    session = boto3.Session(
        KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name=KEYS["AWS_DEFAULT_REGION"]
    )
    bulk = transport("auto")
    place = functools.cache(lambda: open_bucket(session, BUCKET))
    return S3Archive(place, sender=bulk.sender, channel=bulk.channel, carrier="auto")


def _throughput(key: str, what: str, work: WorkSet, latency_ms: float, rounds: int) -> Figure:
    import distributed

    with ExitStack() as stack:
        sink = stack.enter_context(Sink(buckets=[BUCKET], latency_ms=latency_ms))
        os.environ["AWS_ENDPOINT_URL_S3"] = sink.url
        source = stack.enter_context(DirectorySource(work.source))
        orders = _orders(work, source)
        dispatchers: dict[str, Any] = {"threads": ChannelDispatcher(SystemClock())}
        for count in WORKERS:
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=count, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
                )
            )
            dispatchers[f"{count} worker{'s' * (count > 1)}"] = DaskDispatcher(
                SystemClock(), cluster.scheduler_address, delivery="bench"
            )

        def timed(dispatcher: Any) -> float:
            sink.reset()
            dispatcher.open(source, _archive(), LEVEL)
            try:
                _carry_out(dispatcher, orders[: len(orders) // 10])  # connections and imports are made by these
                seconds = wall(lambda: _carry_out(dispatcher, orders))
            finally:
                dispatcher.close(0)
            if sink.stats()["objects"] != work.files:
                raise RuntimeError(f"not all of {work} came")
            return seconds

        medians = interleave({name: functools.partial(timed, one) for name, one in dispatchers.items()}, rounds)
    rates = {name: work.files / seconds for name, seconds in medians.items()}
    return Figure(
        key,
        what,
        None,
        rates["2 workers"] / rates["threads"],
        beside={name: f"{number(rate)} files/s" for name, rate in rates.items()},
        note=f"level {LEVEL}, {os.cpu_count()} cores for client, scheduler, workers and server",
    )


def d1(scale: Scale) -> Iterator[Figure]:
    """Small files, answered at once."""
    work = work_sets.small(scale(10_000, 2_000)).made()
    yield _throughput("D1", "files of 4 KiB: 2 Dask workers beside threads", work, 0, min(scale.rounds, scale(3, 1)))


def d2(scale: Scale) -> Iterator[Figure]:
    """Small files, each answered after 30 ms."""
    work = work_sets.small(scale(10_000, 2_000)).made()
    what = "files of 4 KiB, 30 ms of latency: 2 Dask workers beside threads"
    yield _throughput("D2", what, work, 30, min(scale.rounds, scale(3, 1)))


def d3(scale: Scale) -> Iterator[Figure]:
    """Files of 1 MiB."""
    work = work_sets.medium(scale(1_000, 200)).made()
    yield _throughput("D3", "files of 1 MiB: 2 Dask workers beside threads", work, 0, min(scale.rounds, scale(3, 1)))


FIGURES: Final = {"D1": d1, "D2": d2, "D3": d3}
TITLE: Final = "On a Dask cluster"
