"""What one client has on one worker: its orders run here, by the same threads and channel as on one host.

Rule: a worker makes nothing visible unless the client has said so within `LEASE_S`, and not beyond the deadline that it
named. Both are measured from the moment of the question by the worker's own monotonic clock, so that an answer which
was long on its way, or a clock that is wrong, only makes them end earlier.
"""

from __future__ import annotations

import pickle
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs
from joserfc.errors import JoseError
from msgspec.structs import replace

from upload_adapters.clock import SystemClock
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_core.effects import FileNews, FileOrder, FileOutcome, TransferFile
from upload_core.errors import ArchiveUnavailableError, UploadClientError
from upload_core.ports import Archive, Clock, Load, Source
from upload_core.worker import explain, failed, stopped

from .messages import LEASE_S, Answer, Batch, BatchDone, Question, Supplies, Terms, Told, topic
from .sealing import Seal

TURN_S: Final = 0.25
ASK_S: Final = 10.0
"""How often a busy worker asks how things stand: several times within a lease, as answers may get lost."""
ASK_AGAIN_S: Final = 2.0
LOOK_AGAIN_S: Final = 2.0
"""How long a batch takes at least where the source cannot be seen: who fails at once would take most of what there is."""
IDLE_S: Final = 600.0
"""A post that had nothing to do for so long gives its threads back."""


def source_problem(source: Callable[[], Source], sample: Sequence[tuple[str, int]]) -> str | None:
    """Why this source is not the client's as seen from here, or None."""
    try:
        here = source()
        for relpath, size in sample:
            if (found := here.size(relpath)) != size:
                return f"{relpath!r} has {found} bytes here, {size} where the client runs"
    except UploadClientError as error:
        return explain(error)
    return None


def made(thing: Any, keys: Callable[[], Any], clock: Clock) -> Any:
    """The source or archive itself, made first if this is its recipe."""
    build = getattr(thing, "build", None)
    return thing if build is None else build(keys, clock)


class _MonotonicClock:
    """Time that nobody sets: deadlines are measured by it here."""

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def machine_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_ms = now_ms

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@attrs.define(eq=False)
class _Run:
    """One batch on its way through here."""

    batch: Batch
    name: str
    left: set[int]
    outcomes: list[FileOutcome] = attrs.field(factory=list)
    load: Load = Load()  # noqa: RUF009 - frozen
    done: threading.Event = attrs.field(factory=threading.Event)

    def end(self, outcome: FileOutcome) -> None:
        self.outcomes.append(outcome)
        self.left.discard(outcome.file)


class Post:
    """What one client has on one worker: threads, terms, and the orders of its batches that run here."""

    def __init__(self, worker: Any, token: str, delivery: str, forget: Callable[[Post], None]) -> None:
        """`forget` is told once it has nothing more to do."""
        self.token = token
        self.address: str = worker.address
        self.delivery = delivery
        self.ended = False
        """Whether it has nothing more to do, and another one may take its place."""
        self._worker = worker
        self._forget = forget
        self._changed = threading.Condition()
        self._terms: Terms | None = None
        self._supplies: Supplies | None = None
        self._deadline_s = 0.0
        self._counted_s = 0.0
        """When that was asked from which the deadline is measured."""
        self._asked: dict[int, tuple[float, int | None]] = {}
        self._nonce = 0
        self._asked_s = 0.0
        self._uploads: dict[int, dict[int, Any]] = {}
        self._keys: tuple[Any, Any] = (None, None)
        self._keys_version = 0
        self._seal = Seal()
        self._grace_s: float | None = None
        self._inbox: deque[_Run] = deque()
        self._runs: dict[int, _Run] = {}
        self._dispatcher: ChannelDispatcher | None = None
        self._opening = threading.Lock()

    # --- the client's word -------------------------------------------------------------------------

    def hear(self, answer: Answer) -> None:
        """Put down what the client said, if it is news."""
        with self._changed:
            if self._terms is not None and answer.terms.generation < self._terms.generation:
                return
            now_s, hold_s = time.monotonic(), answer.terms.hold_s
            if answer.nonce is None:
                if hold_s is not None:
                    self._deadline_s = min(self._deadline_s, now_s + hold_s)
            elif (asked := self._asked.pop(answer.nonce, None)) is not None and asked[0] >= self._counted_s:
                self._counted_s = asked[0]
                self._deadline_s = self._counted_s + (LEASE_S if hold_s is None else min(hold_s, LEASE_S))
                if asked[1] is not None:
                    self._uploads[asked[1]] = answer.uploads
            if answer.nonce is not None or self._terms is not None:
                self._terms = answer.terms
            self._supplies = self._supplies or answer.supplies
            if (keys := answer.keys) is not None and keys.version > self._keys_version:
                with suppress(JoseError):  # sealed for one whose place this one took: the next answer is for this
                    self._keys, self._keys_version = self._seal.opened(keys.sealed), keys.version
            self._changed.notify_all()
        self._wake()

    def refuse(self) -> None:
        """Begin nothing: a later life of the delivery has its turn."""
        self._grace_s = 0.0

    def end(self, grace_s: float) -> None:
        """Finish or cut what runs, and begin nothing more."""
        with self._changed:
            self._grace_s = grace_s if self._grace_s is None else min(grace_s, self._grace_s)
            self._changed.notify_all()
        self._wake()

    def _wake(self) -> None:
        if (dispatcher := self._dispatcher) is not None:
            dispatcher.wake()

    def _ask(self, batch: int | None = None, run: str = "") -> int:
        with self._changed:
            self._nonce += 1
            nonce = self._nonce
            self._asked_s = time.monotonic()
            self._asked[nonce] = (self._asked_s, batch)
            for old in [number for number in self._asked if number < nonce - 20]:
                del self._asked[old]
            needs = self._supplies is None
            question = Question(
                self.token, self.address, nonce, needs, self._keys_version, self._seal.public, batch, run
            )
        self._say(question)
        return nonce

    def _say(self, what: Question | Told) -> None:
        self._worker.log_event(topic(self.token), pickle.dumps(what))

    # --- a task ------------------------------------------------------------------------------------

    def run(self, batch: Batch) -> BatchDone:
        """Carry the batch out, and wait until each of its orders has ended."""
        run = _Run(batch, secrets.token_hex(8), {order.file for order in batch.orders})
        try:
            orders = self._ready(run)
            if orders is not None:
                self._open()
        except Exception as error:  # noqa: BLE001 - sorted by one table, like a worker's
            return BatchDone(batch.token, batch.number, [failed(order, error) for order in batch.orders], Load())
        if orders is None:
            return BatchDone(batch.token, batch.number, [stopped(order) for order in batch.orders], Load())
        run.batch = attrs.evolve(batch, orders=orders)
        with self._changed:
            if not self.ended:
                self._inbox.append(run)
        self._wake()
        while not run.done.wait(TURN_S):
            if self.ended:
                break
        outcomes = [*run.outcomes]
        outcomes += [stopped(order) for order in batch.orders if order.file in run.left]
        return BatchDone(batch.token, batch.number, outcomes, run.load)

    def _ready(self, run: _Run) -> tuple[FileOrder, ...] | None:
        """The orders as they stand, once the client has named its terms; None if it is over.

        Raises `ArchiveUnavailableError` if nobody answers.
        """
        batch = run.batch
        until_s = time.monotonic() + LEASE_S
        asked_s = 0.0
        while True:
            with self._changed:
                if self._grace_s is not None:
                    return None
                terms, now_s = self._terms, time.monotonic()
                known = terms is not None and terms.generation >= batch.generation and self._supplies is not None
                current = self._deadline_s > now_s or (
                    terms is not None and terms.hold_s is not None and terms.hold_s <= 0
                )
                if known and current and (not batch.goes_on or batch.number in self._uploads):
                    uploads = self._uploads.pop(batch.number, {})
                    return tuple(_gone_on(order, uploads) for order in batch.orders)
                if now_s > until_s:
                    raise ArchiveUnavailableError("the client of this delivery does not answer its workers")
                if asked_s + ASK_AGAIN_S > now_s:
                    self._changed.wait(ASK_AGAIN_S)
                    continue
                asked_s = now_s
            self._ask(batch.number if batch.goes_on else None, run.name)

    def _open(self) -> None:
        """Make source, archive and threads, once; raises what keeps them from being made, and tries again the next time."""
        with self._opening:
            if self._dispatcher is None:
                assert self._supplies is not None, "whoever is ready has them"
                try:
                    self._begin(self._supplies)
                except Exception:
                    time.sleep(LOOK_AGAIN_S)
                    raise

    def _begin(self, supplies: Supplies) -> None:
        clock = SystemClock()
        source: Source = made(supplies.source, lambda: self._keys[0], clock)
        if (problem := source_problem(lambda: source, supplies.sample)) is not None:
            raise ArchiveUnavailableError(f"the worker {self.address} does not see the source: {problem}")
        archive: Archive = made(supplies.archive, lambda: self._keys[1], clock)
        dispatcher = ChannelDispatcher(_MonotonicClock())
        dispatcher.open(source, archive, 1)
        dispatcher.set_level(0)
        dispatcher.hold_until(0)
        self._dispatcher = dispatcher
        threading.Thread(target=self._work, name="upload-post", daemon=True).start()

    # --- the one thread that the dispatcher belongs to -----------------------------------------------

    def _work(self) -> None:
        dispatcher = self._dispatcher
        assert dispatcher is not None, "begun"
        kept: tuple[int, float | None, float] | None = None
        idle_s = time.monotonic()
        try:
            while self._grace_s is None:
                with self._changed:
                    terms, deadline_s = self._terms, self._deadline_s
                    begun = [self._inbox.popleft() for _ in range(len(self._inbox))]
                assert terms is not None, "whoever is ready has heard them"
                wanted = (terms.share, terms.bandwidth, deadline_s)
                if wanted != kept:
                    if kept is None or wanted[1] != kept[1]:
                        dispatcher.set_bandwidth(terms.bandwidth)
                    dispatcher.set_level(terms.share)
                    dispatcher.hold_until(int(deadline_s * 1000))
                    kept = wanted
                for run in begun:
                    self._start(run, dispatcher)
                self._sort(dispatcher.collect(TURN_S), dispatcher)
                now_s = time.monotonic()
                if self._runs:
                    idle_s = now_s
                    if now_s - self._asked_s > ASK_S:
                        self._ask()
                elif now_s - idle_s > IDLE_S and not self._inbox:
                    self._grace_s = 0.0
            self._sort(dispatcher.close(self._grace_s), dispatcher)
        finally:
            with self._changed:
                self.ended = True
            self._forget(self)
            for run in [*self._runs.values(), *self._inbox]:
                run.done.set()

    def _start(self, run: _Run, dispatcher: ChannelDispatcher) -> None:
        mine: list[FileOrder] = []
        for order in run.batch.orders:
            if order.file in self._runs:  # of a run that was given up elsewhere, but not here
                run.end(stopped(order, "an earlier attempt is still at it"))
            else:
                self._runs[order.file] = run
                mine.append(order)
        dispatcher.submit(mine)
        if not run.left:
            run.done.set()

    def _sort(self, news: Sequence[FileNews], dispatcher: ChannelDispatcher) -> None:
        """Give each run what is its own; progress is told at once."""
        progress: dict[str, tuple[_Run, list[FileNews]]] = {}
        ended: list[_Run] = []
        for told in news:
            if isinstance(told, FileOutcome):
                run = self._runs.pop(told.file)
                run.end(told)
                if not run.left:
                    ended.append(run)
            elif (at := self._runs.get(told.file)) is not None:
                progress.setdefault(at.name, (at, []))[1].append(told)
        load = dispatcher.load() if ended or progress else Load()
        for run, its in progress.values():
            self._say(Told(self.token, run.batch.number, run.name, its, load))
            load = Load()
        for run in ended:
            run.load, load = load, Load()
            run.done.set()


def _gone_on(order: FileOrder, uploads: dict[int, Any]) -> FileOrder:
    """The order with the multipart upload as it stands by now."""
    if isinstance(order, TransferFile) and order.file in uploads:
        return replace(order, upload=uploads[order.file])
    return order
