#!/usr/bin/env python
"""A validator in a process of its own that finds every reported file good, faster than any client can report.

    python benchmarks/sink_validator.py --directory DIR --socket PATH

It speaks the archive's log protocol over the control bucket below DIR, as the archive's validator does from another
machine: its CPU seconds are not the client's. It judges nothing: the sink says what was stored. `SocketPipeline` is
how a client has it started; it serves one session and ends.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from upload_adapters.local.control import DirectoryControlBucket
from upload_core.errors import PipelineError
from upload_core.logs import AppendLog
from upload_core.ports import ControlBucket, Pipeline
from upload_core.wire import SELF, Keys, encode_rows, parse_index

AGENT_ID: Final = "sink-validator"
IDLE_S: Final = 0.005
"""A look at a log without news costs 50 us: a hundredth of one core."""
KEEPALIVE_S: Final = 10.0
SILENCE_S: Final = 240.0
_SOCKET_TIMEOUT_S: Final = 60.0


class SocketPipeline:
    """Has the waiting validator begin; the answer comes once its `init` row is written."""

    def __init__(self, path: str, control: ControlBucket, lock: str) -> None:
        """`lock` is the validator's in that control bucket: one that a killed client started is at work still."""
        self._path = path
        self._control = control
        self._lock = lock
        self._running = False

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SOCKET_TIMEOUT_S)
                connection.connect(self._path)
                connection.sendall(agent_id.encode() + b"\n")
                answer = connection.recv(64)
        except OSError as error:
            raise PipelineError(f"the validator at {self._path} does not answer: {error}") from error
        if answer != b"ok\n":
            raise PipelineError(f"the validator answered {answer!r}")
        self._running = True
        return "a validator in another process"

    def is_running(self) -> bool:
        return self._running or self._control.head(self._lock) is not None

    def close(self) -> None: ...


class _Session:
    """One validation run, from `init` row to `stop` row."""

    def __init__(self, control: DirectoryControlBucket, keys: Keys) -> None:
        self._control, self._keys = control, keys
        self._log = AppendLog(control, keys.validator_log)
        found = control.read(keys.index)
        if found is None:
            raise ValueError(f"there is no index {keys.index}")
        self._expected = {row.path.encode() for row in parse_index(found[0]) if row.will_transfer}
        head = control.head(keys.client_log)
        self._read = 0 if head is None else head.size  # rows before this were for somebody else
        self._files = len(self._expected)
        self._say("init", "ok", "validation pipeline started")

    def serve(self) -> bool:
        """Answer until the client says `stop`; whether every expected file was reported."""
        self._control.put(self._keys.validator_lock, AGENT_ID.encode())
        said = heard = time.monotonic()
        stopping = False
        while not stopping:
            found = self._control.read(self._keys.client_log, self._read)
            now = time.monotonic()
            if found is None or not found[0]:
                if now - heard > SILENCE_S:
                    raise ValueError("client missing")
                if now - said > KEEPALIVE_S:
                    self._say("keepalive", "ok", f"{self._files - len(self._expected)} / {self._files}")
                    said = now
                time.sleep(IDLE_S)
                continue
            heard = now
            self._read += len(found[0])
            verdicts, stopping = self._judge(found[0])
            if verdicts:
                self._log.append(verdicts)
                said = now
        self._say("shutdown", "error" if self._expected else "ok", f"expected: {self._files}")
        self._say("stop", "ok")
        self._control.delete(self._keys.validator_lock)
        return not self._expected

    def _judge(self, rows: bytes) -> tuple[bytes, bool]:
        """Verdicts on the files that these rows report, and whether the client stops."""
        if b'"' in rows or not rows.endswith(b"\n"):
            raise ValueError("no row of a benchmark is quoted, and none is cut")
        time_ms = time.time_ns() // 1_000_000
        sample = encode_rows([(time_ms, "validation", "@", "ok", "", AGENT_ID)], backslash_escapes=True)
        before, _, after = sample.partition(b"@")
        verdicts: list[bytes] = []
        for row in rows.split(b"\n")[:-1]:
            _, category, ref, status, _, _ = row.split(b"\t")
            if category == b"stop":
                return b"".join(verdicts), True
            if category == b"transfer" and status == b"ok":
                self._expected.remove(ref)  # of a path that is not expected the archive's own dies as well
                verdicts += (before, ref, after)
        return b"".join(verdicts), False

    def _say(self, category: str, status: str, message: str = "") -> None:
        row = (time.time_ns() // 1_000_000, category, SELF, status, message, AGENT_ID)
        self._log.append(encode_rows([row], backslash_escapes=True))


def main() -> int:
    """Wait for one client, serve it, and say in the exit code whether it reported everything."""
    parser = argparse.ArgumentParser(description="Finds every reported file good.")
    parser.add_argument("--directory", required=True, help="the control bucket's directory")
    parser.add_argument("--socket", required=True, help="where clients ask for a validation run")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--delivery-id", default="1")
    options = parser.parse_args()
    control = DirectoryControlBucket(options.directory)
    keys = Keys(options.dataset, options.delivery_id, "staging")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(options.socket)
        listening.listen()
        print("ready", flush=True)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(_SOCKET_TIMEOUT_S)
            agent_id = connection.makefile("rb").readline().strip()
            lock = control.read(keys.client_lock)
            if lock is None or lock[0] != agent_id:
                connection.sendall(b"transfer app lockfile invalid or not present\n")
                return 1
            session = _Session(control, keys)
            connection.sendall(b"ok\n")
    return 0 if session.serve() else 1


if __name__ == "__main__":
    sys.exit(main())

if TYPE_CHECKING:
    _pipeline: type[Pipeline] = SocketPipeline
