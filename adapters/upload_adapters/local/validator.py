"""A validator for a local archive: it talks to the client through the two logs only, as the archive's own does.

Rule: a path is judged once per session, and every row is written once. A validator that is killed writes nothing more;
the lock that its process held is free at once.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from upload_core.checksum import crc32_base64, parse_checksum
from upload_core.errors import ArchiveError, ArchiveUnavailableError, UploadClientError
from upload_core.events import OK
from upload_core.logs import AppendLog
from upload_core.validation import LogParser
from upload_core.wire import SELF, IndexRow, LogRow, encode_rows, parse_index

from .disk import ProcessLock
from .places import LOCAL_LIMITS, LocalPlaces
from .session import ERROR, FAILURE, Session, SessionBrokenError, as_yaml, problems_text

Check = Callable[[str, str], "Iterable[str] | None"]
"""A host's own check: path of the stored file and its name in the delivery -> problems, none if it is good."""

KEEPALIVE_INTERVAL_S: Final = 10.0
"""The archive's own writes a row at least this often."""

CLIENT_SILENCE_S: Final = 240.0
"""The archive's own gives up on a client that wrote nothing but keepalives for so long."""

LOCK_WAIT_S: Final = 1.0
"""Whoever asks whether a validator runs touches its lock for microseconds; that must not make a start fail."""

BREATH_S: Final = 0.002
"""Verdicts are collected in handfuls: waking up for each one would cost the judge as much as judging it."""

START_MESSAGE: Final = "validation pipeline started"


def validator_lock(places: LocalPlaces) -> ProcessLock:
    """The lock that a delivery's validator holds for its lifetime."""
    return ProcessLock(places.control().private_file("validator.lock"))


class DirectoryValidator:
    """One validation run; `run` is its life, in whatever thread or process calls it."""

    def __init__(
        self,
        places: LocalPlaces,
        *,
        check: Check | None = None,
        keepalive_interval_s: float = KEEPALIVE_INTERVAL_S,
        poll_interval_s: float = LOCAL_LIMITS.poll_interval_s,
        client_silence_s: float = CLIENT_SILENCE_S,
    ) -> None:
        self.started = threading.Event()
        """Set once it is known whether the run began; `refusal` says why it did not."""
        self.refusal = ""
        self.served_to_stop = False
        """Whether the client's stop row ended the run."""
        self._keys = places.keys
        self._control = places.control()
        self._archive = places.archive()
        self._lock = validator_lock(places)
        self._check = check
        self._keepalive_interval_s = keepalive_interval_s
        self._poll_interval_s = poll_interval_s
        self._client_silence_s = client_silence_s
        self._agent_id = f"local-validator-{secrets.token_hex(6)}"
        self._log = AppendLog(self._control, self._keys.validator_log)
        self._unwritten = bytearray()
        self._written_at = 0.0
        self._ending = threading.Event()
        self._cut = threading.Event()
        self._jobs: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._verdicts: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
        self._outstanding = 0

    def end(self) -> None:
        """Ask the run to end without waiting for the client's stop row; may be called from any thread."""
        self._ending.set()

    def run(self) -> None:
        """Serve one session to its end; every ending but a killed process's is written to the log."""
        try:
            if not self._lock.acquire(wait_s=LOCK_WAIT_S):
                self.refusal = "could not acquire lock"
                return
            try:
                self._serve()
            finally:
                self._lock.release()
        except (UploadClientError, OSError) as error:
            self.refusal = self.refusal or str(error)
        finally:
            self.started.set()

    def _serve(self) -> None:
        """The session, from `init` row to `stop` row, while the lock is ours."""
        self._control.put(self._keys.validator_lock, self._agent_id.encode())
        try:
            try:
                # Rows before this point were for somebody else.
                found = self._control.head(self._keys.client_log)
                parser = LogParser(0 if found is None else found.size, backslash_escapes=False)
                session = Session(self._index())
            except (ValueError, ArchiveError) as error:
                self.refusal = str(error)
                self._say("init", SELF, ERROR, self.refusal)
                self._say("shutdown", SELF, ERROR, as_yaml({"reason": self.refusal}))
            else:
                self._say("init", SELF, OK, START_MESSAGE)
                self._flush()
                self.started.set()
                self._judge_and_end(session, parser)
            self._say("stop", SELF, OK)
            self._flush_for_good()
        finally:
            self._control.delete(self._keys.validator_lock)

    def _index(self) -> Iterator[IndexRow]:
        found = self._control.read(self._keys.index)
        if found is None:
            raise ValueError(f"there is no index {self._keys.index}")
        return parse_index(found[0])

    def _judge_and_end(self, session: Session, parser: LogParser) -> None:
        """Everything between the `init` row and the `stop` row."""
        judge = threading.Thread(target=self._judge_all, name="local validator's judge", daemon=True)
        judge.start()
        try:
            reason, broken = self._session(session, parser), False
        except (SessionBrokenError, UploadClientError) as error:
            reason, broken = str(error), True
        finally:
            self._cut.set()
            self._jobs.put(None)
        self._collect(session, until=time.monotonic())
        status = ERROR if broken or reason else session.status()
        self._say("shutdown", SELF, status, session.summary(reason))

    def _session(self, session: Session, parser: LogParser) -> str:
        """Read, judge and answer in turns; "" after the client's stop row, else why the run ends."""
        silent_s, before = 0.0, time.monotonic()
        while True:
            asked_to_end = self._ending.is_set()
            now = time.monotonic()
            # A turn counts for a second at most: while this process was stopped its client mostly was, too.
            silent_s, before = silent_s + min(now - before, 1.0), now
            if self._read(session, parser):
                silent_s = 0.0
            self._collect(session, until=now + self._poll_interval_s)
            if now - self._written_at >= self._keepalive_interval_s:
                self._say("keepalive", SELF, OK, session.progress)
            self._flush()
            if session.stopping:
                if not self._outstanding:
                    self.served_to_stop = True
                    return ""
            elif asked_to_end:
                return "the process that it lived in ended it"
            elif silent_s > self._client_silence_s:
                return f"client missing: no row but keepalives for {self._client_silence_s:.0f} s"
            if not self._outstanding and not session.stopping:
                self._ending.wait(max(0.0, now + self._poll_interval_s - time.monotonic()))

    def _read(self, session: Session, parser: LogParser) -> bool:
        """Hand what is new in the client's log to the judge; whether the client said anything but that it lives."""
        if session.stopping:
            return False
        try:
            found = self._control.read(self._keys.client_log, parser.consumed)
        except ArchiveUnavailableError:
            return False  # the next turn looks again; if it stays like that the client will seem to be missing
        if found is None or not found[0]:
            return False
        entries = parser.feed(found[0])
        for job in session.take(entries):
            self._outstanding += 1
            self._jobs.put(job)
        if parser.pending:
            raise SessionBrokenError("the client's log ends within a row")
        return any(getattr(entry, "category", "") != "keepalive" for entry in entries)

    def _collect(self, session: Session, *, until: float) -> None:
        """Take verdicts as they come, until that moment or until none is due."""
        while self._outstanding:
            try:
                path, status, message = self._verdicts.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            self._outstanding -= 1
            session.settle(status)
            self._say("validation", path, status, message)
            if self._verdicts.empty() and self._outstanding:
                time.sleep(BREATH_S)

    # --- the judge: a thread of its own, so that a long file delays no keepalive -------------------

    def _judge_all(self) -> None:
        while (job := self._jobs.get()) is not None and not self._cut.is_set():
            path, crc = job
            self._verdicts.put((path, *self._judge(path, crc)))

    def _judge(self, path: str, crc: int) -> tuple[str, str]:
        """Status and message for one file; never raises, whatever a host's check does."""
        try:
            stored = self._archive.stat(path)
            if stored is None:
                return FAILURE, problems_text(["missing: the archive holds no such file"])
            if crc >= 0 and parse_checksum(stored.checksum) != crc:
                expected = f"the index says {crc32_base64(crc)}, the archive holds {stored.checksum}"
                return FAILURE, problems_text([f"checksum: {expected}"])
            if self._check is not None:
                found = self._check(os.path.join(self._archive.root, path), path)
                problems = [found] if isinstance(found, str) else [str(problem) for problem in found or ()]
                if problems:
                    return FAILURE, problems_text(problems)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a check that fails is its file's verdict, not our end
            return ERROR, as_yaml({"could not be judged": f"{type(error).__name__}: {error}"})
        return OK, ""

    # --- our log ----------------------------------------------------------------------------------

    def _say(self, category: str, ref: str, status: str, message: str = "") -> None:
        # A host's check may say anything, and must not be able to end the run by it.
        message = message.encode("utf-8", "backslashreplace").decode("utf-8")
        row: LogRow = (time.time_ns() // 1_000_000, category, ref, status, message, self._agent_id)
        self._unwritten += encode_rows([row], backslash_escapes=True)

    def _flush(self) -> None:
        """Append what there is to say; while the disk is full it waits, and nothing is said twice."""
        if self._unwritten:
            try:
                self._log.append(bytes(self._unwritten))
            except ArchiveUnavailableError:
                return
            self._unwritten.clear()
            self._written_at = time.monotonic()

    def _flush_for_good(self) -> None:
        """The last rows get a few more tries; without them the client notices the silence."""
        for _ in range(20):
            self._flush()
            if not self._unwritten:
                return
            time.sleep(self._poll_interval_s)
