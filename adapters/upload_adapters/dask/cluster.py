"""The client's side of a connection to a cluster: what is sent, and what is heard.

Rule: each connection is a life of its own with a token of its own. What carries another token is of an earlier life and
is dropped; on the workers a new life ends those before it.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import distributed

from upload_core.errors import ArchiveUnavailableError, ConfigurationError
from upload_core.ports import Source
from upload_core.release import __version__
from upload_core.text import printable

from . import worker
from .messages import Answer, Batch, BatchDone, Question, Told, topic

CONNECT_S: Final = 10.0
RECONNECT_S: Final = 3.0
"""An engine waits for this, so it is short; it tries again by itself."""
WORKERS_WAIT_S: Final = 30.0
ASK_WORKERS_S: Final = 30.0

_log = logging.getLogger("upload_core.dask")


def packed(thing: object, otherwise: str) -> bytes:
    """It, ready to travel; raises `ConfigurationError` saying `otherwise` if it cannot."""
    try:
        return pickle.dumps(thing)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ConfigurationError(f"{otherwise}: {error}; transfer without --dispatch") from error


class Cluster:
    """One connection; `heard` is told of questions, news and how batches ended, in the connection's own thread."""

    def __init__(
        self,
        address: str | distributed.LocalCluster,
        delivery: str,
        heard: Callable[[Question | Told], None],
        ended: Callable[[Batch, BatchDone | None, str], None],
        timeout_s: float = CONNECT_S,
    ) -> None:
        """Raises `ArchiveUnavailableError` if there is no scheduler."""
        self.token = secrets.token_hex(8)
        self.delivery = delivery
        self.broken = ""
        """Why nothing more will be heard, "" while all is well."""
        self.begun = False
        """Whether the workers know that this is the delivery's life."""
        self.n_workers = 1
        self.n_threads = 1
        self._heard = heard
        self._ended = ended
        self._tasks: dict[int, Any] = {}
        try:
            self._client: Any = distributed.Client(address, timeout=timeout_s, set_as_default=False, name="upload-core")
        except (OSError, TimeoutError) as error:
            raise ArchiveUnavailableError(
                f"the Dask scheduler {printable(str(address), 200)} does not answer: {printable(str(error), 300)}"
            ) from error
        self._comm = self._client.scheduler_comm
        try:
            self._client.subscribe_topic(topic(self.token), self._event)
            self.count()
        except (OSError, TimeoutError) as error:
            self.close()
            raise ArchiveUnavailableError(f"the Dask scheduler went away: {printable(str(error), 300)}") from error

    # --- beginning ---------------------------------------------------------------------------------

    def demand_workers(self) -> None:
        """Wait for the first worker; raises `ConfigurationError` if there is none."""
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_WAIT_S)
        except TimeoutError as error:
            raise ConfigurationError(
                f"the Dask cluster has no workers (waited for {WORKERS_WAIT_S:.0f} s); start some, then run again"
            ) from error
        self.count()

    def begin(self) -> None:
        """End earlier lives of the delivery on all workers: for whoever holds its lock."""
        if not self.begun:
            self._ask_all(worker.begin, self.token, self.delivery)
            self.begun = True

    def demand_release(self) -> None:
        """Raises `ConfigurationError` where another release is installed."""
        releases = self._ask_all(worker.release)
        others = {where: found for where, found in releases.items() if found != __version__}
        for where, found in others.items():
            if isinstance(found, Exception):
                found = f"no upload-core that can be imported ({type(found).__name__}: {printable(str(found), 200)})"
            raise ConfigurationError(
                f"{len(others)} of {len(releases)} Dask workers cannot take part: {where} has {found}, here is {__version__}; "
                "install the same release on all of them"
            )

    def demand_source(self, source: Source, sample: Sequence[tuple[str, int]]) -> None:
        """Raises `ConfigurationError` naming the workers that do not see the source as it is here."""
        pickled = packed(source, f"the source {source.name} cannot be read by other machines")
        found = self._ask_all(worker.look_at_source, pickled, tuple(sample))
        wrong = {where: problem for where, problem in found.items() if problem is not None}
        if wrong:
            shown = "; ".join(
                f"{where}: {printable(str(problem), 300)}" for where, problem in sorted(wrong.items())[:5]
            )
            more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise ConfigurationError(
                f"{len(wrong)} of {len(found)} Dask workers do not see the source {source.name} as it is here ({shown}{more}); "
                "mount the same file system at the same path on all of them"
            )

    def _ask_all(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        """What all workers answer; who dies meanwhile is asked when it is back and takes its first batch."""
        found: dict[str, Any] = self._client.run(function, *args, on_error="return")
        return {where: answer for where, answer in found.items() if not isinstance(answer, OSError)}

    # --- saying ------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether this is still the connection that it was."""
        if not self.broken and (self._client.status != "running" or self._client.scheduler_comm is not self._comm):
            self.broken = "the connection to the Dask scheduler was lost"
        return not self.broken

    def submit(self, batch: Batch) -> None:
        """Have one task carry out this batch."""
        self._client.loop.add_callback(self._watch, batch)

    async def _watch(self, batch: Batch) -> None:
        done, why = None, ""
        try:
            # pure would make a name of the arguments, and two batches alike one
            future = self._client.submit(
                worker.run_batch, batch, key=f"upload-{self.token[:8]}-{batch.number}", pure=False
            )
            self._tasks[batch.number] = future
            done = await self._client.gather(future, asynchronous=True)
        except distributed.KilledWorker:
            why = "the Dask workers that carried this out died"
        except BaseException as error:
            if self.alive and not isinstance(error, Exception):
                raise
            why = self.broken or f"the task was lost: {type(error).__name__}: {error}"
            if type(error).__name__.endswith("CancelledError"):
                self.broken = self.broken or "the connection to the Dask scheduler was lost"
                why = self.broken
        finally:
            self._tasks.pop(batch.number, None)
        self._ended(batch, done if done is not None and done.token == self.token else None, why)

    def answer(self, answer: Answer, where: str | None = None) -> None:
        """Say this to one worker, or to all."""
        self._say(worker.hear, answer, where=where)

    def end(self, grace_s: float) -> None:
        """Have all workers finish or cut what they do for this connection."""
        self._say(worker.end, self.token, grace_s)

    def _say(self, function: Callable[..., Any], *args: Any, where: str | None = None) -> None:
        async def say() -> None:
            try:
                await self._client.run(
                    function, *args, workers=None if where is None else [where], on_error="ignore", asynchronous=True
                )
            except Exception as error:  # noqa: BLE001 - who did not hear asks again
                _log.debug("a word to %s was lost: %s", where or "all workers", error)

        self._client.loop.add_callback(say)

    # --- hearing -----------------------------------------------------------------------------------

    def _event(self, event: tuple[float, Any]) -> None:
        told = pickle.loads(event[1])  # noqa: S301 - from workers, whose results are unpickled as well
        if isinstance(told, Question | Told) and told.token == self.token:
            self._heard(told)

    def count(self) -> bool:
        """Ask how many workers there are; whether that has changed."""
        threads = self._client.nthreads()
        before = (self.n_workers, self.n_threads)
        self.n_workers, self.n_threads = max(1, len(threads)), max(1, sum(threads.values()))
        return (self.n_workers, self.n_threads) != before

    def close(self) -> None:
        """Leave; what still runs for us on the workers ends with its lease."""
        alive, self.broken = self.alive, self.broken or "closed"

        def leave() -> None:
            try:
                if alive:
                    self._client.run(worker.end, self.token, 0.0, on_error="ignore")
                self._client.close(timeout=2)
            except Exception as error:  # noqa: BLE001 - it is given up anyway
                _log.debug("leaving the cluster: %s", error)

        thread = threading.Thread(target=leave, name="upload-dask-leave", daemon=True)
        thread.start()
        thread.join(5.0)
