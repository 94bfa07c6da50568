"""A validation pipeline in memory, as strict as the archive's own: it takes a turn whenever its log is looked at.

It reads our log and writes its own, and talks to nobody otherwise. What kills the archive's validator kills this one:
it falls silent, its lock object stays, and `killed` says why.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from upload_core.errors import PipelineError
from upload_core.ports import Clock, Limits, ObjectInfo, Pipeline, StoredObject
from upload_core.wire import SELF, Keys, encode_rows, parse_index

from .buckets import MemoryArchive, MemoryControlBucket

Check = Callable[[str, bytes], Iterable[str]]
"""A host's own check of a stored file: name and bytes -> problems, none if it is valid."""

KEEPALIVE_S: Final = 10.0
PATIENCE_S: Final = 240.0
"""Without a row other than `keepalive` for this long the validator gives the client up as missing."""

_AGENT_ID: Final = "memory-validator"
_COLUMNS: Final = 6
_Reply = tuple[str, str, str, str]


@attrs.frozen
class StartRequest:
    """One call of `MemoryPipeline.start`, as it was asked."""

    agent_id: str
    idempotency_key: str
    client_config: Mapping[str, Any] | None


class MemoryPipeline:
    """Starts a `MemoryValidator` for the delivery; one at a time, and one per idempotency key.

    Set `refusal` to have every start refused with that reason. `requests` remembers what was asked.
    """

    def __init__(
        self,
        control: MemoryControlBucket,
        archive: MemoryArchive,
        clock: Clock,
        keys: Keys,
        *,
        check: Check | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.refusal: str | None = None
        self.requests: list[StartRequest] = []
        self.validator: MemoryValidator | None = None
        self._control, self._archive, self._clock, self._keys = control, archive, clock, keys
        self._check = check
        self._limits = limits or Limits()
        self._accepted: set[str] = set()
        control.before_read = self._on_read

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        self.requests.append(StartRequest(agent_id, idempotency_key, client_config))
        if self.refusal is not None:
            raise PipelineError(self.refusal)
        lock = self._control.read(self._keys.client_lock)
        if lock is None or lock[0] != agent_id.encode() or lock[1].age_s > self._limits.lock_staleness_s:
            raise PipelineError("transfer app lockfile invalid or not present")
        if self.is_running():
            return "a validation task is already running for this transfer"
        if idempotency_key not in self._accepted:
            self._accepted.add(idempotency_key)
            self.validator = MemoryValidator(
                self._control, self._archive, self._clock, self._keys, check=self._check, limits=self._limits
            )
        return "status: success"

    def is_running(self) -> bool:
        return self.validator is not None and self.validator.alive

    def abandoned_lock(self) -> ObjectInfo | None:
        """The lock of a validator that is gone, if it is still there."""
        return None if self.is_running() else self._control.head(self._keys.validator_lock)

    def turn(self) -> None:
        """Let the validator, if there is one, do what there is to do now."""
        if self.validator is not None:
            self.validator.turn()

    def close(self) -> None:
        self._accepted.clear()  # what was asked of a process ends with it
        if self.validator is not None:
            self.validator.end("the process that it lived in ended")

    def _on_read(self, key: str) -> None:
        if key == self._keys.validator_log:
            self.turn()


class Delivered(Protocol):
    """The archive as a validator sees it."""

    def stat(self, relpath: str) -> StoredObject | None:
        """The stored object with its CRC32, or None."""

    def read(self, relpath: str) -> bytes:
        """Its bytes."""


class MemoryValidator:
    """One validation run: it judges each file that our log reports as stored, and remembers each in `judged`."""

    def __init__(
        self,
        control: MemoryControlBucket,
        archive: Delivered,
        clock: Clock,
        keys: Keys,
        *,
        check: Check | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.alive = True
        self.killed = ""
        self.judged: dict[str, str] = {}
        self._control, self._archive, self._clock, self._keys = control, archive, clock, keys
        self._check = check
        self._staleness_s = (limits or Limits()).lock_staleness_s
        self._expected: dict[str, str | None] = {}
        self._begun = False
        self._log_size = 0
        self._offset = 0
        self._heard_s = self._wrote_s = self._now_s()

    def turn(self) -> None:
        """Read what is new in our log, and write what follows from it in one append."""
        if not self.alive:
            return
        if not self._begun:
            self._begin()
            return
        self._refresh_lock()
        rows = self._new_rows()
        replies: list[_Reply] = []
        stop_rows = 0
        for row in rows:
            if len(row) != _COLUMNS or not all(row[:4]) or not row[5]:
                self.kill(f"a row of our log is not {_COLUMNS} fields with all but the message filled: {row}")
                return
            time, category, ref, status = row[:4]
            if category != "keepalive":
                # By the client's own word: a slow clock makes it look silent.
                self._heard_s = datetime.fromisoformat(time).timestamp()
            if category == "transfer":
                reason = self._objection(ref)
                if reason:
                    self.kill(reason)
                    return
                if status == "ok":
                    replies.append(self._judge(ref))
            stop_rows += category == "stop"
        if stop_rows > 1:
            self.kill("two stop rows came in one piece")
            return
        if not rows and self._now_s() - self._wrote_s >= KEEPALIVE_S:
            replies.append(("keepalive", SELF, "ok", f"{len(self.judged)} / {len(self._expected)}"))
        self._write(replies)
        if stop_rows:
            self.end("the client stopped", status="ok")
        elif self._now_s() - self._heard_s > PATIENCE_S:
            self.end("client missing", status="error")

    def kill(self, reason: str = "killed") -> None:
        """End without a word, as a process that is killed: log and lock stay as they are."""
        self.alive = False
        self.killed = reason

    def end(self, reason: str, *, status: str = "ok") -> None:
        """End in order: summary and `stop` in the log, lock object gone."""
        if not self.alive:
            return
        if self._begun:
            summary = f"reason: {reason}\nvalidated: {len(self.judged)}\nexpected: {len(self._expected)}"
            self._write([("shutdown", SELF, status, summary), ("stop", SELF, "ok", "")])
            self._control.delete(self._keys.validator_lock)
        self.alive = False

    def _begin(self) -> None:
        self._begun = True
        self._log_size = self._control.size(self._keys.validator_log)
        found = self._control.head(self._keys.validator_lock)
        index = self._control.read(self._keys.index)
        if found is not None and found.age_s <= self._staleness_s:
            self._refuse("failure", "could not acquire lock")
            return
        if index is None:
            self._refuse("error", f"no index at {self._keys.index}")
            return
        self._control.put(self._keys.validator_lock, _AGENT_ID.encode())
        self._expected = {row.path: row.checksum for row in parse_index(index[0]) if row.will_transfer}
        self._offset = self._control.size(self._keys.client_log)  # what was written before is never read
        self._write([("init", SELF, "ok", "validation pipeline started")])

    def _refuse(self, status: str, message: str) -> None:
        self._write([("init", SELF, status, message), ("stop", SELF, "ok", "")])
        self.alive = False

    def _refresh_lock(self) -> None:
        lock = self._control.head(self._keys.validator_lock)
        if lock is None or lock.age_s > self._staleness_s / 4:
            self._control.put(self._keys.validator_lock, _AGENT_ID.encode())

    def _new_rows(self) -> list[list[str]]:
        found = self._control.read(self._keys.client_log, self._offset)
        if found is None or not found[0]:
            return []
        self._offset += len(found[0])
        return list(csv.reader(io.StringIO(found[0].decode(), newline=""), delimiter="\t"))

    def _objection(self, relpath: str) -> str:
        if relpath not in self._expected:
            return f"{relpath!r} was reported, but this session's index does not expect it"
        if len(self.judged) == len(self._expected):
            return f"{relpath!r} was reported after all expected files were done"
        if relpath in self.judged:
            return f"{relpath!r} was reported twice"
        return ""

    def _judge(self, relpath: str) -> _Reply:
        problems = list(self._problems(relpath))
        status = self.judged[relpath] = "failure" if problems else "ok"
        return ("validation", relpath, status, "\n".join(f"- {problem}" for problem in problems))

    def _problems(self, relpath: str) -> Iterable[str]:
        stored = self._archive.stat(relpath)
        if stored is None:
            yield "missing from the transfer bucket"
            return
        expected = self._expected[relpath]
        if expected and stored.checksum != expected:
            yield f"checksum mismatch: expected {expected}, found {stored.checksum}"
        if self._check is not None:
            yield from self._check(relpath, self._archive.read(relpath))

    def _write(self, rows: Sequence[_Reply]) -> None:
        if not rows:
            return
        now_ms = self._clock.now_ms()
        data = encode_rows([(now_ms, *row, _AGENT_ID) for row in rows], backslash_escapes=True)
        # Nobody else appends to this log, so its size in this object is its size in the bucket.
        self._log_size = self._control.append(self._keys.validator_log, data, offset=self._log_size).size
        self._wrote_s = self._now_s()

    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000


if TYPE_CHECKING:
    _pipeline: type[Pipeline] = MemoryPipeline
