"""The dispatcher whose workers are those of a Dask cluster.

What is due is known here alone. A worker that dies costs a retry of its batch, by Dask itself; a scheduler that is away
is the world's fault and no file's, and is looked for again with the next orders.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from upload_core.effects import FileNews, FileOrder, FileOutcome, FileProgress, OpenUpload
from upload_core.errors import ArchiveUnavailableError, ConfigurationError, NotReadyError, UploadClientError
from upload_core.ports import Archive, Clock, Dispatcher, Load, Source
from upload_core.worker import failed, stopped

from .batching import added, backlog, is_large, take_batch
from .cluster import CONNECT_S, RECONNECT_S, Cluster, packed
from .messages import Answer, Batch, BatchDone, Question, Supplies, Terms, Told
from .places import local_cluster, portable, sample_of
from .sealing import SharedKeys
from .uploads import OpenUploads

if TYPE_CHECKING:
    import distributed

LEVEL_MAX: Final = 4_096
TASKS_PER_THREAD: Final = 2
"""Batches on their way for each of the cluster's threads, so that the next is there when one ends."""
GATHER_S: Final = 0.02
LOOK_S: Final = 5.0
"""How often the cluster is counted and the keys are looked at."""
CUT_S: Final = 4.0
"""How long workers may take to say what became of orders that were cut."""


class DaskDispatcher:
    """Runs up to `level` orders at a time on all workers of a cluster together.

    Everything but `wake` belongs to one thread, the engine's.
    """

    def __init__(
        self, clock: Clock, address: str | None = None, *, delivery: str = "", n_workers: int | None = None
    ) -> None:
        """`address` is a scheduler's (None starts a cluster here, of `n_workers` processes); `delivery` names what is
        delivered where, so that its earlier lives are known.
        """
        self._clock = clock
        self._address = address
        self._delivery = hashlib.sha256(delivery.encode()).hexdigest()[:16]
        self._n_workers = n_workers
        self._local: distributed.LocalCluster | None = None
        self._mutex = threading.RLock()
        self._news: SimpleQueue[FileNews | None] = SimpleQueue()
        self._open = False
        self._source: Source | None = None
        self._archive: Archive | None = None
        self._sample: tuple[tuple[str, int], ...] = ()
        self._cluster: Cluster | None = None
        self._supplies: Supplies | None = None
        self._keys: SharedKeys | None = None
        self._level = 0
        self._bandwidth: float | None = None
        self._hold_ms: int | None = None
        self._generation = 1
        self._number = 0
        self._line: deque[FileOrder] = deque()
        self._due: dict[int, FileOrder] = {}
        self._under_way: dict[int, Batch] = {}
        self._runs: dict[int, str] = {}
        self._uploads = OpenUploads()
        self._load = Load()
        self._waited = False
        self._ended = threading.Event()

    # --- opening -------------------------------------------------------------------------------------

    @property
    def level_max(self) -> int:
        return LEVEL_MAX

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        """Connect, and have all workers look at the source.

        Earlier lives of the delivery are ended once there is a deadline, or an order: the lock is ours then.

        Raises `ConfigurationError` if there is no such cluster, or where a worker cannot take part.
        """
        assert not self._open, "close comes before the next open"
        self._source, self._archive = source, archive
        self._level = max(1, n_threads)
        self._hold_ms, self._supplies, self._keys, self._load = None, None, None, Load()
        self._news = SimpleQueue()
        self._sample = () if hasattr(source, "portable") else tuple(sample_of(source))
        try:
            self._cluster = self._connected(CONNECT_S)
            self._cluster.demand_workers()
            self._cluster.demand_release()
            if not hasattr(source, "portable"):  # what is reached over the network is the same everywhere
                self._cluster.demand_source(source, self._sample)
        except BaseException as error:
            self._leave()
            if isinstance(error, ArchiveUnavailableError):
                raise ConfigurationError(str(error)) from error
            raise
        self._open = True
        self._ended = threading.Event()
        threading.Thread(target=self._look, args=(self._ended,), name="upload-dask", daemon=True).start()

    def _connected(self, timeout_s: float) -> Cluster:
        if self._address is None and self._local is None:
            self._local = local_cluster(self._n_workers)
        return Cluster(self._local or str(self._address), self._delivery, self._heard, self._batch_ended, timeout_s)

    def _reconnect(self) -> None:
        """Connect anew if the cluster is gone, and begin this life there; raises `ArchiveUnavailableError` if that fails."""
        cluster, fresh = self._cluster, None
        try:
            if cluster is None or not cluster.alive:
                self._give_up(cluster.broken if cluster is not None else "")
                if cluster is not None:
                    cluster.close()
                self._cluster = None
                fresh = cluster = self._connected(RECONNECT_S)
                fresh.demand_release()
            cluster.begin()
        except (UploadClientError, OSError, TimeoutError) as error:
            if fresh is not None:
                fresh.close()
            raise ArchiveUnavailableError(f"the Dask cluster cannot be gone on with: {error}") from error
        self._cluster = cluster

    def _give_up(self, why: str) -> None:
        """Answer all that is due: nobody else will."""
        error = ArchiveUnavailableError(why or "the Dask cluster is out of reach")
        with self._mutex:
            self._under_way.clear()
            self._line.clear()
            for order in list(self._due.values()):
                self._tell(failed(order, error))

    # --- pace ----------------------------------------------------------------------------------------

    def set_level(self, level: int) -> None:
        if not self._open:
            return
        self._level = max(0, level)
        self._changed()
        self._hand_over()

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        self._bandwidth = bytes_per_s
        if self._open:
            self._changed()

    def hold_until(self, time_ms: int) -> None:
        if self._open:
            self._hold_ms = time_ms
            if time_ms and self._cluster is not None:
                with suppress(OSError, TimeoutError):  # the next orders try again
                    self._cluster.begin()
            self._changed()

    def _changed(self) -> None:
        """Have all workers hear of it; those that are away or new ask before they begin what is submitted from now on."""
        with self._mutex:
            self._generation += 1
            if (cluster := self._cluster) is not None and not cluster.broken:
                cluster.answer(Answer(cluster.token, self._terms(cluster)))

    def _terms(self, cluster: Cluster) -> Terms:
        share = 0 if not self._level else max(1, self._level // cluster.n_workers)
        bandwidth = None if self._bandwidth is None else self._bandwidth / cluster.n_workers
        hold_s = None if self._hold_ms is None else (self._hold_ms - self._clock.now_ms()) / 1000
        return Terms(self._generation, share, bandwidth, hold_s)

    def load(self) -> Load:
        with self._mutex:
            load, self._load = self._load, Load()
            waited, self._waited = self._waited, bool(self._line) and self._level > 0
            return Load(load.files, load.bytes, load.pushbacks, load.saturated or waited)

    @property
    def slots(self) -> int:
        if not self._open or not self._level:
            return 0
        return max(0, self._level + backlog(self._level) - len(self._due))

    # --- orders --------------------------------------------------------------------------------------

    def submit(self, orders: Sequence[FileOrder]) -> None:
        """Begin these orders; raises `NotReadyError` unless open."""
        if not self._open:
            raise NotReadyError("the dispatcher is not open; open it first")
        with self._mutex:
            for order in orders:
                assert order.file not in self._due, "one order per file at a time: its outcome names the file alone"
        error: Exception | None = None
        try:
            self._reconnect()
            self._supply()  # may ask the archive: nobody is kept from answering workers meanwhile
        except Exception as failure:  # noqa: BLE001 - sorted by one table, like a worker's
            error = failure
        with self._mutex:
            for order in orders:
                self._due[order.file] = order
                self._uploads.add(order)
                if error is not None:
                    self._tell(failed(order, error))
            if error is None:
                self._line.extend(orders)
        self._hand_over()

    def _supply(self) -> None:
        """What workers need to know of source and archive, made when it is first needed: by then somebody has signed in."""
        if self._supplies is not None:
            return
        (source, source_keys), (archive, archive_keys) = portable(self._source), portable(self._archive)
        packed(archive, "this archive cannot be written to by other machines")
        if source_keys is not None or archive_keys is not None:
            self._keys = SharedKeys(lambda: (source_keys and source_keys(), archive_keys and archive_keys()))
        self._supplies = Supplies(source, archive, self._sample)

    def _tell_keys(self) -> None:
        """At once: a worker that is busy with a long file may not ask before the old ones expire."""
        with self._mutex:
            if (cluster := self._cluster) is not None and cluster.alive and self._keys is not None:
                terms = self._terms(cluster)
                for where, keys in self._keys.for_all():
                    cluster.answer(Answer(cluster.token, terms, keys=keys), where)

    def _hand_over(self) -> None:
        """Make batches of what waits, for as many tasks as may be under way."""
        with self._mutex:
            cluster = self._cluster
            if cluster is None or not self._level:
                return
            room = min(self._level, TASKS_PER_THREAD * cluster.n_threads)
            if self._level >= cluster.n_workers:
                room = TASKS_PER_THREAD * cluster.n_threads
            while self._line and len(self._under_way) < room:
                fair = -(-len(self._line) // (room - len(self._under_way)))
                self._send(cluster, take_batch(self._line, fair))
            self._waited = self._waited or bool(self._line)

    def _send(self, cluster: Cluster, orders: tuple[FileOrder, ...]) -> None:
        self._number += 1
        goes_on = any(map(is_large, orders))
        batch = Batch(cluster.token, self._delivery, self._number, self._generation, orders, goes_on)
        self._under_way[batch.number] = batch
        cluster.submit(batch)

    # --- what is heard, in the connection's thread -----------------------------------------------------

    def _heard(self, told: Question | Told) -> None:
        with self._mutex:
            cluster = self._cluster
            if cluster is None or told.token != cluster.token:
                return
            if isinstance(told, Question):
                self._answer(cluster, told)
                return
            self._load = added(self._load, told.load)
            batch = self._under_way.get(told.batch)
            if batch is None or self._runs.get(told.batch, told.run) != told.run:
                return  # of a run that Dask gave up
            for news in told.news:
                if news.file in self._due:
                    if isinstance(news, FileProgress):
                        self._uploads.take(news)
                    self._news.put(news)

    def _answer(self, cluster: Cluster, question: Question) -> None:
        uploads: dict[int, OpenUpload | None] = {}
        if question.batch is not None and (batch := self._under_way.get(question.batch)) is not None:
            self._runs[question.batch] = question.run
            uploads = {order.file: self._uploads[order.file] for order in batch.orders}
        keys = None if self._keys is None else self._keys.for_one(question)
        cluster.answer(
            Answer(
                cluster.token,
                self._terms(cluster),
                question.nonce,
                self._supplies if question.needs_supplies else None,
                keys,
                uploads,
            ),
            question.worker,
        )

    def _batch_ended(self, batch: Batch, done: BatchDone | None, why: str) -> None:
        with self._mutex:
            if self._under_way.pop(batch.number, None) is None:
                return
            self._runs.pop(batch.number, None)
            if done is not None:
                self._load = added(self._load, done.load)
                for outcome in done.outcomes:
                    if outcome.file in self._due:
                        self._tell(outcome)
            lost = ArchiveUnavailableError(why or "a Dask worker gave no answer")
            for order in batch.orders:
                if order.file in self._due:
                    self._tell(failed(order, lost))
        self._hand_over()

    def _tell(self, outcome: FileOutcome) -> None:
        del self._due[outcome.file]
        self._uploads.discard(outcome.file)
        self._news.put(outcome)

    def _look(self, ended: threading.Event) -> None:
        """Keep an eye on the cluster's size and on the keys, which are renewed by being asked for."""
        while not ended.wait(LOOK_S):
            try:
                if (keys := self._keys) is not None and keys.renewed():
                    self._tell_keys()
            except Exception:  # noqa: BLE001, S110 - the old ones may work on; if not, transfers say so
                pass
            try:
                if (cluster := self._cluster) is not None and cluster.alive and cluster.count():
                    self._changed()
                    self._hand_over()
            except Exception:  # noqa: BLE001, S110 - a scheduler that is away is noticed by its batches
                pass
            with self._mutex:
                if (cluster := self._cluster) is not None and not cluster.alive and self._under_way:
                    self._give_up(cluster.broken)

    # --- what comes of it ------------------------------------------------------------------------------

    def collect(self, timeout_s: float) -> list[FileNews]:
        news: list[FileNews] = []
        try:
            told = self._news.get(timeout=max(0.0, timeout_s))
        except Empty:
            return news
        deadline_s = time.monotonic() + min(GATHER_S, timeout_s)
        while True:
            if told is not None:
                news.append(told)
            try:
                wait_s = 0.0 if told is None or not self._due else max(0.0, deadline_s - time.monotonic())
                told = self._news.get(timeout=wait_s) if wait_s else self._news.get_nowait()
            except Empty:
                return news

    def wake(self) -> None:
        # SimpleQueue.put may even interrupt itself, so a signal handler can call this.
        self._news.put(None)

    def close(self, grace_s: float) -> list[FileNews]:
        if not self._open:
            return []
        with self._mutex:
            waiting = [*self._line]
            self._line.clear()
            for order in waiting:
                self._tell(stopped(order))
        cluster = self._cluster
        if self._due and cluster is not None and cluster.alive:
            cluster.end(grace_s)
        news: list[FileNews] = []
        deadline_s = time.monotonic() + max(0.0, grace_s) + CUT_S
        while self._due and cluster is not None and cluster.alive and (left_s := deadline_s - time.monotonic()) > 0:
            news += self.collect(min(left_s, 0.25))
        with self._mutex:
            # Of what is not heard of by now the archive is asked at resume.
            for order in list(self._due.values()):
                self._tell(stopped(order, "stopped while it was running"))
            self._under_way.clear()
            self._open = False
        self._ended.set()
        if cluster is not None and cluster.alive:
            cluster.end(0.0)
        news += self.collect(0)
        self._leave()
        return news

    def _leave(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        if self._local is not None:
            self._local.close(timeout=5)
            self._local = None
        self._source = self._archive = self._supplies = self._keys = None


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = DaskDispatcher
