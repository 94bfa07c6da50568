"""A worker in a process of its own: tasks come in by standard input, answers go out by standard output.

Processes, by measurement: a small file costs some ten system calls of a microsecond each, and threads that pass the
interpreter lock to each other at every one of them are slower together than one of them alone.
The process ends with its input, so none outlives whoever started it, however that ended.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any, Final, Protocol

from upload_adapters.checksums.measuring import Batch, Measured, Measurer, Piece
from upload_adapters.source_directory import DirectorySource

_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; from upload_adapters.checksums.worker import serve; sys.exit(serve())"
)


class Worker(Protocol):
    """Whoever can do what a `Measurer` does."""

    def measure(self, batch: Batch) -> Measured:
        """See `Measurer.measure`."""
        ...

    def piece(self, piece: Piece) -> int:
        """See `Measurer.piece`."""
        ...


class WorkerProcess:
    """A `Measurer` in another process; one that dies is replaced by one in this process. For one thread."""

    def __init__(self, source: DirectorySource, *, with_checksums: bool) -> None:
        self._source, self._with_checksums = source, with_checksums
        self._here: Measurer | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            # A group of its own: Ctrl-C is for whoever started us, and he ends us by closing our input.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            )
            self._send((source, with_checksums))
        except OSError:
            self._replace()

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
        if self._process is not None:
            process, self._process = self._process, None
            for pipe in (process.stdin, process.stdout):
                try:
                    pipe.close()  # type: ignore[union-attr]  # both are pipes
                except OSError:
                    continue  # what was still to be written is of no use to anybody
            process.wait()

    def _ask(self, what: str, task: Batch | Piece) -> Any:
        if self._process is not None:
            try:
                self._send((what, task))
                answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]  # noqa: S301 - our own process
            except (OSError, EOFError, pickle.UnpicklingError):
                self._replace()
            else:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return getattr(self._here, what)(task)

    def _send(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _replace(self) -> None:
        self.close()
        self._here = Measurer(self._source, with_checksums=self._with_checksums)


def serve() -> int:
    """Do what comes in until nothing more comes."""
    tasks = sys.stdin.buffer
    # Whatever else is printed must not stand between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        source, with_checksums = pickle.load(tasks)  # noqa: S301 - from whoever started this process
        measurer = Measurer(source, with_checksums=with_checksums)
        while True:
            what, task = pickle.load(tasks)  # noqa: S301 - as above
            try:
                answer = getattr(measurer, what)(task)
            except Exception as error:  # noqa: BLE001 - raised again by whoever asked
                answer = error
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):
        return 0
