"""The judge of the journal: what its records add up to, whether they may follow, and what clients did beside them.

It has its own idea of what each record means, and its own eyes for the logs.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from upload_adapters.simulation.evidence import Ended, Evidence, Request
from upload_adapters.simulation.invariants import Violation
from upload_adapters.simulation.logs_seen import SeenRow, seen_rows

MOVES: Final = {
    "TransferQueued": "pending",
    "TransferRetried": "pending",
    "TransferStarted": "transferring",
    "TransferCompleted": "done",
    "TransferFailed": "failed",
    "TransferAbandoned": "failed",
    "TransferInterrupted": "ready",
    "FileSighted": "ready",
    "FileFoundStored": "done",
    "FileFoundMissing": "ready",
    "FileFoundValid": "valid",
    "FileRequeued": "ready",
    "FileRevised": "ready",
    "FileReported": "done",
    "ReportLapsed": "done",
    "FileValidated": "valid",
    "FileInvalidated": "invalid",
}
"""Kind of record -> the word for the file after it."""

SENDS: Final = ("put", "begin", "part", "complete")
VERDICTS: Final = ("FileValidated", "FileInvalidated", "VerdictRepeated", "VerdictDeferred", "UnexpectedVerdictFound")
RUDE_SLACK: Final = 1.0
"""Whoever is robbed without warning has until the lock would have been stale to notice."""


class JournalJudge:
    """Reads the journal from its first record to its last, beside what was done meanwhile."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.paths = [fact.path for fact in evidence.files]
        self.facts = {fact.path: fact for fact in evidence.files}
        self.states = dict.fromkeys(self.paths, "ready")
        self.uploads: dict[str, tuple[str, set[int]]] = {}
        self.deferred: dict[str, str] = {}
        self.overtaken: set[str] = set()
        """What a worker had been given when an odd verdict came: it may still be sent, which changes nothing any more."""
        self.failures: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        """Requests that could make the file visible, in its attempt under way."""
        self.run_keys: dict[str, int] = {}
        self.unreadable = b""
        self.lock_held = False
        self.life = 0
        self.seq = 0
        self.cursor = 0
        self.our_size = 0
        self.logs = [seen_rows(log) for log in evidence.validator_logs]
        self.read_logs = {0}
        """Those of the validator's logs that may be the one that was read last."""
        self.torn = False

    # --- the journal, record by record, beside what was done meanwhile ----------------------------

    def findings(self) -> Iterator[Violation]:
        requests, ended = iter(self.evidence.requests), iter(sorted(self.evidence.ended, key=lambda e: e.seq))
        request, end = next(requests, None), next(ended, None)
        for told in self.evidence.told:
            if told.seq > told.synced:
                yield Violation(
                    "told is synced", f"an observer heard of {told.kind}, record {told.seq}, before its sync"
                )
        for batch in self._batches():
            last = batch[-1]["seq"]
            while end is not None and end.seq < last:
                yield from self._as_it_said(end)
                end = next(ended, None)
            while request is not None and request.synced < last:
                yield from self._allowed(request)
                request = next(requests, None)
            yield from self._consumed(batch)
            for record in batch:
                yield from self._apply(record)
        if self.unreadable:
            yield Violation(
                "no bug", f"after record {self.seq} the journal holds what is no record: {self.unreadable!r}"
            )
            return
        while end is not None:
            yield from self._as_it_said(end)
            end = next(ended, None)
        while request is not None:
            yield from self._allowed(request)
            request = next(requests, None)

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        batch: list[dict[str, Any]] = []
        for line in self.evidence.journal.split(b"\n")[1:-1]:
            try:
                record = json.loads(line)
            except ValueError:
                self.unreadable = line[:60]
                return
            batch.append(record)
            if "batch" in record:
                yield batch
                batch = []

    def _apply(self, record: dict[str, Any]) -> Iterator[Violation]:
        kind, seq = record["kind"], record["seq"]
        if seq != self.seq + 1:
            yield Violation("no bug", f"record {seq} follows record {self.seq}")
        self.seq = seq
        if "file" in record:
            yield from self._apply_to_file(self.paths[record["file"]], kind, record)
            return
        match kind:
            case "SessionOpened":
                self.lock_held, self.life = False, record.get("pid", 0)
                self.overtaken.clear()
            case "LockAcquired" | "LockRenewed":
                self.lock_held = True
            case "LockLost" | "LockReleased":
                self.lock_held = False
            case "PipelineRequested":
                self.run_keys.setdefault(record["key"], seq)
            case "ClientLogAppended":
                size, log = record["size"], self.evidence.client_log
                if size < self.our_size or size > len(log) or (size and log[size - 1 : size] != b"\n"):
                    yield Violation("cursor", f"record {seq}: our log ends at {size} after {self.our_size}")
                self.our_size = size
            case "ClientCrashed":
                yield Violation("no bug", f"record {seq}: {record['error']}: {record['message']}")
            case "SessionClosed":
                wanted = {"complete": {"valid"}, "incomplete": {"valid", "invalid", "failed"}}.get(record["outcome"])
                if wanted and not set(self.states.values()) <= wanted:
                    yield Violation("honest end", f"record {seq} says {record['outcome']}: {self.states}")

    def _apply_to_file(self, path: str, kind: str, record: dict[str, Any]) -> Iterator[Violation]:
        before = self.states[path]
        match kind:
            case "TransferFailed" | "TransferAbandoned":
                self.failures[path] += 1
                fact = self.facts[path]
                if fact.ends != "failed" and self.failures[path] > fact.faults:
                    yield Violation(
                        "retries",
                        f"record {record['seq']}: {path} failed without a fault of its own: {record['message']}",
                    )
            case "TransferRetried" if before != "failed":
                yield Violation("retries", f"record {record['seq']}: {path} is tried again although it was {before}")
            case "UploadBegun":
                self.uploads[path] = record["upload_id"], set()
            case "PartStored" if path in self.uploads:
                self.uploads[path][1].add(record["number"])
            case "UploadEnded":
                self.uploads.pop(path, None)
            case "VerdictDeferred":
                self.deferred[path] = record["status"]
                if before == "failed":
                    self.states[path] = "ready"
            case "FileInvalidated" if before == "transferring":
                self.overtaken.add(path)
            case "FileFoundValid" if self.deferred.get(path) != "ok":
                yield Violation("valid means judged", f"record {record['seq']}: {path} is valid without a verdict")
            case "FileRevised":
                yield Violation(
                    "never again", f"record {record['seq']}: {path} is begun anew, and no index was revised"
                )
            case "TransferStarted":
                self.sent[path] = 0
        if kind in MOVES:
            self.states[path] = MOVES[kind]
        if kind in ("FileFoundStored", "FileFoundMissing", "FileFoundValid", "FileInvalidated", "FileRequeued"):
            self.deferred.pop(path, None)

    # --- the validator's log ----------------------------------------------------------------------

    def _consumed(self, batch: list[dict[str, Any]]) -> Iterator[Violation]:
        """The rows between two cursors are the verdicts of the batch that moves it, one by one."""
        events = [record for record in batch if record["kind"] in VERDICTS]
        read = next((record for record in batch if record["kind"] == "ValidatorLogRead"), None)
        seq = batch[-1]["seq"]
        if read is None:
            for record in events:
                path, kind = self.paths[record["file"]], record["kind"]
                if kind in ("FileValidated", "FileInvalidated"):
                    judged = "valid" if kind == "FileValidated" else "invalid"
                    yield Violation(
                        "valid means judged", f"record {record['seq']}: {path} is {judged} without a verdict"
                    )
            return
        found = [self._verdict_of(record) for record in events]
        self.torn = any(record["kind"] == "LogLineRejected" for record in batch)
        restarted = any(record["kind"] == "ValidatorLogRestarted" for record in batch)
        start, end = (0 if restarted else self.cursor), read["offset"]
        candidates = range(min(self.read_logs) + restarted, len(self.logs)) if not start else sorted(self.read_logs)
        fitting = {log for log in candidates if self._fits(log, start, end, found)}
        if end < start:
            yield Violation("cursor", f"record {seq}: read up to {end} after {start}")
        elif not fitting and restarted:
            yield Violation("cursor", f"record {seq}: no log there ever was says what was read anew, {found}")
        elif not fitting:
            rows = [[(r.ref, r.status) for r in self._rows(log, start, end)] for log in candidates]
            yield Violation("once", f"record {seq}: the log says {rows} from {start} to {end}, the journal {found}")
        self.read_logs, self.cursor = fitting or self.read_logs, end

    def _verdict_of(self, record: dict[str, Any]) -> tuple[str, str]:
        """Path and status that a record repeats, "" for a status that it does not say."""
        path = record["path"] if "path" in record else self.paths[record["file"]]
        if record["kind"] == "FileValidated":
            return path, "ok"
        return path, record.get("status", "")

    def _rows(self, log: int, start: int, end: int) -> list[SeenRow]:
        return [r for r in self.logs[log] if r.start >= start and r.end <= end and r.category == "validation"]

    def _fits(self, log: int, start: int, end: int, found: list[tuple[str, str]]) -> bool:
        """Whether that log has just these verdicts there; a place within a row is one that was given up as torn."""
        data = self.evidence.validator_logs[log]
        if end > len(data) or (end and data[end - 1 : end] != b"\n" and not self.torn):
            return False
        rows = self._rows(log, start, end)
        return len(rows) == len(found) and all(
            row.ref == path and status in ("", row.status) for row, (path, status) in zip(rows, found, strict=True)
        )

    # --- what clients said and did ----------------------------------------------------------------

    def _as_it_said(self, end: Ended) -> Iterator[Violation]:
        if end.seq != self.seq or not end.seq:
            if end.seq > self.seq:
                yield Violation(
                    "told is synced", f"life {end.life} believed record {end.seq}, which is not in the journal"
                )
            return
        if end.states != self.states:
            wrong = {
                path: (state, self.states.get(path))
                for path, state in end.states.items()
                if state != self.states.get(path)
            }
            yield Violation("state is the fold", f"life {end.life} at record {end.seq}: {wrong}")

    def _allowed(self, request: Request) -> Iterator[Violation]:
        path, where = request.about, f"step {request.step}: {request.kind} {request.about}"
        if request.kind in SENDS:
            state = self.states.get(path)
            if state != "transferring" and not (state == "invalid" and path in self.overtaken):
                yield Violation("never again", f"{where} while the journal says {state}")
            if request.again and not self.sent[path] and not (self.facts[path].late or self.facts[path].faults):
                yield Violation("never again", f"{where}: the archive has it, as it was indexed")
            self.sent[path] += request.kind in ("put", "complete")
            upload = self.uploads.get(path)
            if request.kind == "part" and upload and request.upload_id == upload[0] and request.number in upload[1]:
                yield Violation("never again", f"{where}: part {request.number} is in the journal")
        if request.kind == "start" and request.about not in self.run_keys:
            yield Violation("told is synced", f"{where}: the request is not in the journal")
        if request.kind == "append":
            for row in seen_rows(request.data):
                if (
                    row.category == "transfer"
                    and row.status == "ok"
                    and self.states.get(row.ref)
                    not in (
                        "done",
                        "valid",
                        "invalid",
                    )
                ):
                    yield Violation(
                        "told is synced",
                        f"{where}: {row.ref} is announced while the journal says {self.states.get(row.ref)}",
                    )
        if request.about != "lock/client":
            yield from self._with_lock(request, where)

    def _with_lock(self, request: Request, where: str) -> Iterator[Violation]:
        if not self.lock_held or self.life != request.life:
            yield Violation("lock first", f"{where}: the journal does not say that the lock is ours")
        if request.holder == self.evidence.agent:
            return
        times = [change.time_ms for change in self.evidence.locks]
        for change in reversed(self.evidence.locks[: bisect_right(times, request.time_ms)]):
            if change.before == self.evidence.agent and change.holder != self.evidence.agent:
                late_ms = request.time_ms - change.time_ms
                if change.how != "rude" or late_ms > self.evidence.staleness_ms * RUDE_SLACK:
                    holder = request.holder or "nobody"
                    yield Violation(
                        "lock first", f"{where}: {late_ms} ms after the lock went to {holder} ({change.how})"
                    )
                return
        yield Violation("lock first", f"{where}: the lock never was ours")
