"""Workers that are processes of their own: tasks go to them, and answers come back, through a socket.

Processes, by measurement: a small file costs seven system calls of a microsecond each, and threads that pass the
interpreter lock to each other at every one of them are slower together than one of them alone.
They are forked, because that costs milliseconds where a new interpreter costs a third of a second, and only by a process
that has no other thread, because whatever lock another thread holds would stay locked in them for ever.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol

from upload_adapters.checksums.measuring import Batch, Measured, Measurer, Piece
from upload_adapters.source_directory import DirectorySource

FILES_WORTH_IT: Final = 500
BYTES_WORTH_IT: Final = 512 << 20
"""Less than both is done before processes would have made a difference."""


class Worker(Protocol):
    """Whoever can do what a `Measurer` does."""

    def measure(self, batch: Batch) -> Measured:
        """See `Measurer.measure`."""
        ...

    def piece(self, piece: Piece) -> int:
        """See `Measurer.piece`."""
        ...

    def close(self) -> None:
        """Give back whatever it holds; twice is no error."""
        ...


def start_workers(
    source: DirectorySource, relpaths: Sequence[str], count: int, *, with_checksums: bool
) -> list[Worker]:
    """So many workers, or as many as there is work for: processes where that is possible and worth it."""
    worth_it = _is_worth_it(source, relpaths)
    if not worth_it:
        count = max(1, min(count, len(relpaths)))
    apart = worth_it and count > 1 and can_fork()
    workers: list[Worker] = []
    sockets: list[int] = []
    for _ in range(count):
        worker: Worker = Measurer(source, with_checksums=with_checksums)
        if apart:
            with contextlib.suppress(OSError):  # too many processes; this thread does it as well
                worker = process = WorkerProcess(worker, sockets)
                sockets.append(process.fileno())
        workers.append(worker)
    return workers


def can_fork() -> bool:
    """Whether no other thread of this process could be at anything while it forks."""
    try:
        # Those of libraries count as well. On a Mac there may be some that we cannot see.
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _is_worth_it(source: DirectorySource, relpaths: Sequence[str]) -> bool:
    if len(relpaths) >= FILES_WORTH_IT:
        return True
    total = 0
    for relpath in relpaths:
        try:
            total += source.status(relpath).st_size
        except (OSError, ValueError):
            continue  # whoever opens it says what is wrong
    return total >= BYTES_WORTH_IT


class WorkerProcess:
    """A `Measurer` in another process, which ends with this one; if it dies before, its work is done here. For one thread."""

    def __init__(self, measurer: Worker, others: Sequence[int]) -> None:
        """Forks; raises `OSError`. `others` are the sockets of those forked before: none may hold another one's open."""
        self._here = measurer
        ours, theirs = socket.socketpair()
        try:
            self._pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if not self._pid:
            _live(measurer, theirs, [ours.fileno(), *others])
        theirs.close()
        self._socket = ours
        self._tasks, self._answers = ours.makefile("wb"), ours.makefile("rb")

    def fileno(self) -> int:
        """Our end of the socket."""
        return self._socket.fileno()

    def measure(self, batch: Batch) -> Measured:
        """As `Measurer.measure`, whose errors it raises."""
        found: Measured = self._ask("measure", batch)
        return found

    def piece(self, piece: Piece) -> int:
        """As `Measurer.piece`, whose errors it raises."""
        crc: int = self._ask("piece", piece)
        return crc

    def close(self) -> None:
        """End the process; twice is no error."""
        if self._pid:
            pid, self._pid = self._pid, 0
            for end in (self._tasks, self._answers, self._socket):
                try:
                    end.close()
                except OSError:
                    continue  # what could not be sent any more is of no use to anybody
            os.waitpid(pid, 0)
        self._here.close()

    def _ask(self, what: str, task: Batch | Piece) -> Any:
        if self._pid:
            try:
                _send(self._tasks, (what, task))
                answer = pickle.load(self._answers)  # noqa: S301 - from our own process
            except (OSError, EOFError, pickle.UnpicklingError):
                self.close()
            else:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return getattr(self._here, what)(task)


def _live(measurer: Worker, end: socket.socket, not_ours: Sequence[int]) -> None:
    """A worker's whole life; never returns, since everything else in this process belongs to whoever forked it."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever forked us is told as well, and ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for other in not_ours:
            os.close(other)  # or that worker would not see that whoever forked it is gone
        _serve(measurer, end)
    finally:
        os._exit(0)


def _serve(measurer: Worker, end: socket.socket) -> None:
    with end, end.makefile("rb") as tasks, end.makefile("wb") as answers:
        while True:
            try:
                what, task = pickle.load(tasks)  # noqa: S301 - from whoever forked us
            except (EOFError, OSError):
                return
            try:
                answer = getattr(measurer, what)(task)
            except Exception as error:  # noqa: BLE001 - raised again by whoever asked
                answer = error
            _send(answers, answer)


def _send(file: Any, message: object) -> None:
    pickle.dump(message, file, pickle.HIGHEST_PROTOCOL)
    file.flush()
