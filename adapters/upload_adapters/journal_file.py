"""`DirectoryJournal`: the journal as a directory of segments, written by one process, read by any.

What `append` returned from survives a power cut. A torn tail is cut off after a copy is kept; any other damage is
refused and left untouched. The directory's layout is specified in `docs/journal-format.md`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from filelock import FileLock, Timeout

from upload_adapters import snapshot_file
from upload_adapters.durable import fsync_directory, write_all, write_durably
from upload_adapters.journal_reader import JournalReader, segment_name
from upload_adapters.table_file import table_name, write_columns
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import ConfigurationError, JournalDamagedError, JournalInUseError, JournalWriteError
from upload_core.files import FileTable
from upload_core.journal import Header, Position, encode_header, encode_together
from upload_core.text import printable
from upload_core.timestamps import parse_iso

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Bounds what a copy of a torn segment costs; a delivery of a million files fills about eight."""


_NO_PLACE: Final[dict[int | None, str]] = {
    errno.EEXIST: "there is a file of that name",
    errno.ENOTDIR: "a part of its path is a file",
    errno.ENOENT: "nothing can be made there",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EROFS: "it is mounted read-only",
    errno.ENAMETOOLONG: "its name is longer than the file system allows",
    errno.ELOOP: "its symbolic links lead in a circle",
}
"""Why a directory cannot be made, where neither waiting nor room would help."""

PATIENCE: Final = 1 / 8
"""Share of a sync's time that a leader waits for those who shared the last ones; alone it never waits."""

Batch = tuple[Sequence[ev.Event], int]
"""Events and the time (ms) they are recorded with."""


class DirectoryJournal:
    """A journal in a directory that only its owner can read (files 0600 in a directory 0700)."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        sync: Callable[[int], None] | None = None,
    ) -> None:
        """`sync` makes what was written to a descriptor survive a power cut; another one serves to measure and to test."""
        self.path = Path(path)
        self._sync = sync or _sync
        self.on_commit: Callable[[bytes], object] | None = None
        """Told the lines of each commit once they are on disk, by the thread that wrote them; it must not raise."""
        self._segment_bytes = segment_bytes
        self._lock: FileLock | None = None
        self._fd = -1
        self._position = Position(0, 0, 0, 0)
        self._header: Header | None = None
        self._columns_of: tuple[int, str] | None = None
        self._failure: str | None = None
        self._waiting: list[Batch] = []
        self._issued = 0
        self._synced = 0
        self._leading = False
        self._crowd = 1
        self._sync_s = 0.0
        self._queue = threading.Lock()
        self._synced_some = threading.Condition(self._queue)
        self._arrived = threading.Condition(self._queue)

    @property
    def name(self) -> str:
        """The directory."""
        return str(self.path)

    # --- beginning -------------------------------------------------------------------------------

    def open(self) -> Delivery | None:
        """The replayed delivery, after taking the journal for this process and mending a torn tail.

        Raises `JournalInUseError`, `JournalDamagedError`, and where the disk lets it do neither `JournalWriteError`, or
        `ConfigurationError` if it is not ours to use.
        """
        if not os.path.isdir(self.path):  # the method of `Path` raises where we may not look
            return None
        try:
            self._take()
            reader = JournalReader(self.path)
            if not reader.exists():
                return None
            whole = reader.advance()
            repaired = None if whole else self._cut_tail(reader)
            delivery, self._header, self._position = reader.delivery, reader.header, reader.position
            self._columns_of = reader.columns_of
            self._fd = os.open(self._segment(self._position.segment), os.O_WRONLY | os.O_APPEND)
            snapshot_file.drop_beyond(self.path, self._position.seq)
            os.fsync(self._fd)  # what we are about to believe may still be in the page cache of a killed process
            if repaired is not None:
                time_ms = parse_iso(self._position.time)
                self.append([repaired], time_ms=time_ms)
                delivery.apply(repaired, time_ms)
            return delivery
        except OSError as error:
            self._give_back()
            raise self._unusable(error) from error
        except BaseException:
            self._give_back()
            raise

    def create(self, created: ev.DeliveryCreated, table: FileTable, *, time_ms: int) -> Delivery:
        """Write the file table, then the first segment under its final name: its presence makes the journal.

        Raises `JournalWriteError`, and `ConfigurationError` where no journal can ever be.
        """
        try:
            self._make_place()
            self._take()
            if JournalReader(self.path).exists():  # since `open` looked
                self._give_back()
                raise JournalInUseError(
                    f"another process has begun the journal {self.path} meanwhile; run again to go on with it"
                )
            write_durably(self.path / table_name(0), table.encode())
            self._header = Header.first(created, secrets.token_hex(8))
            delivery = Delivery.begin(created, table)
            self._begin_segment(self._header, [([created], time_ms)])
            fsync_directory(self.path.parent)
        except OSError as error:
            self._give_back()
            raise JournalWriteError(
                f"cannot create the journal {self.path}: {error.strerror or error}; make room or name another place, then run again"
            ) from error
        delivery.apply(created, time_ms)
        return delivery

    def _make_place(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            raise ConfigurationError(
                f"no journal can be made at {printable(str(self.path), 300)}: {_NO_PLACE[error.errno]}; "
                "name another place with --journal DIR (journal=... in a program)"
            ) from error

    def _unusable(self, error: OSError) -> Exception:
        """What to raise where a journal that is there cannot be opened."""
        if error.errno in (errno.EACCES, errno.EPERM):
            return ConfigurationError(
                f"the journal {self.path} may not be written by this user ({_named(error)}); give this user access to "
                "the directory and all that is in it, then run again"
            )
        return JournalWriteError(
            f"the journal {self.path} cannot be gone on with ({error}); make room or mend the disk, then resume"
        )

    def _take(self) -> None:
        if self._lock is not None:
            return
        # a host may open the journal in one thread and close it in another
        lock = FileLock(self.path / "journal.lock", timeout=0, mode=0o600, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise JournalInUseError(
                f"another process is working with the journal {self.path}{self._who()}; "
                "wait for it or stop it, then run again"
            ) from None
        self._lock = lock
        # whatever went wrong before, what counts from here on is what is read from the disk
        self._failure, self._waiting, self._synced = None, [], self._issued

    def _who(self) -> str:
        """Who holds the journal, as far as it tells."""
        with contextlib.suppress(JournalDamagedError, OSError):
            latest = JournalReader(self.path).latest_session()
            if latest is not None and isinstance(latest.event, ev.SessionOpened) and latest.event.pid:
                return f" (process {latest.event.pid} on {printable(latest.event.host, 200)}, since {latest.time})"
        return ""

    def _segment(self, number: int) -> Path:
        return self.path / segment_name(number)

    def _begin_segment(self, header: Header, batches: Sequence[Batch]) -> None:
        """A segment appears under its name only with its header and first batches whole and on disk."""
        head, position = encode_header(header)
        body, position = encode_together(batches, position)
        path = self._segment(header.segment)
        write_durably(path, [head, body])
        before, self._fd = self._fd, os.open(path, os.O_WRONLY | os.O_APPEND)
        if before >= 0:
            os.close(before)
        self._header, self._position = header, position
        if self.on_commit is not None:
            self.on_commit(body)

    def _cut_tail(self, reader: JournalReader) -> ev.JournalRepaired:
        """Keep a copy of the torn segment, then leave only its verified part under its name."""
        end = reader.position
        path = self._segment(end.segment)
        data = path.read_bytes()
        tail = data[end.offset :]
        kept = _free_name(path.with_name(path.name + ".torn"))
        write_durably(kept, [data])
        write_durably(path, [data[: end.offset]])
        return ev.JournalRepaired(end.segment, end.offset, len(tail), kept.name)

    # --- appending -------------------------------------------------------------------------------

    def append(self, events: Sequence[ev.Event], *, time_ms: int) -> None:
        """Append one batch and return when it survives a power cut.

        Callers from several threads share one sync: one of them leads and writes for all that wait.
        """
        with self._queue:
            self._waiting.append((events, time_ms))
            self._issued = ticket = self._issued + 1
            if self._crowd > 1:
                self._arrived.notify()
            while self._leading and self._synced < ticket:
                self._synced_some.wait()
            if self._synced >= ticket:
                return
            if self._failure is not None:
                raise JournalWriteError(self._failure)
            self._leading = True
        try:
            self._lead()
        finally:
            with self._queue:
                self._leading = False
                self._synced_some.notify_all()

    def _lead(self) -> None:
        with self._queue:
            if self._crowd > 1:
                # who shared a sync lately is about to come again: a moment's patience saves a sync for each of them
                patience_s = self._sync_s * PATIENCE
                self._arrived.wait_for(lambda: len(self._waiting) >= self._crowd, patience_s)
            waiting, self._waiting, issued = self._waiting, [], self._issued
            self._crowd = max(len(waiting), self._crowd - 1)
        began = time.monotonic()
        try:
            self._write(waiting)
        except BaseException as error:
            # a write or sync that failed or was cut short (Ctrl-C) leaves the file in a state that nobody knows:
            # nothing more may be promised
            self._failure = (
                f"the journal {self.path} could not be written ({str(error) or type(error).__name__}); "
                "make room or mend the disk, then resume"
            )
            if isinstance(error, OSError):
                raise JournalWriteError(self._failure) from error
            raise
        self._sync_s = time.monotonic() - began
        self._synced = issued

    def _write(self, batches: Sequence[Batch]) -> None:
        end = self._position
        if end.offset >= self._segment_bytes:
            header = msgspec.structs.replace(
                self._require_header(),
                segment=end.segment + 1,
                first_seq=end.seq + 1,
                nonce=secrets.token_hex(8),
                previous_crc=f"{end.crc:08x}",
            )
            self._begin_segment(header, batches)
            return
        data, position = encode_together(batches, end)
        write_all(self._fd, data)
        self._sync(self._fd)
        self._position = position
        if self.on_commit is not None:
            self.on_commit(data)

    def snapshot(self, delivery: Delivery) -> None:
        """Write a snapshot of the state at the journal's end; reopening then reads only what comes after it.

        The file table's columns are put beside it unless they are there: without a snapshot they would save little.
        """
        snapshot_file.write(self.path, delivery, self._position, self._require_header().nonce)
        facts = delivery.facts
        table_of = facts.index_revision, facts.index_digest
        if self._columns_of != table_of and delivery.table.digest == facts.index_digest:
            self._columns_of = table_of if write_columns(self.path, delivery.table, facts.index_revision) else None

    def add_revision(self, revision: int, table: FileTable, changed: Sequence[int]) -> None:
        """Store the changed and added rows as a table of their own."""
        try:
            write_durably(self.path / table_name(revision), [table.encode_rows(changed)])
        except OSError as error:
            raise JournalWriteError(
                f"cannot store the revised index in {self.path}: {error.strerror or error}; make room, then run again"
            ) from error

    def _require_header(self) -> Header:
        assert self._header is not None, "the journal is not open"
        return self._header

    # --- end -------------------------------------------------------------------------------------

    def close(self, delivery: Delivery | None = None) -> None:
        """Write a snapshot if `delivery` is given and all is well, then let other processes in."""
        try:
            if delivery is not None and self._fd >= 0 and self._failure is None:
                self.snapshot(delivery)
        finally:
            self._give_back()

    def _give_back(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _named(error: OSError) -> str:
    """The error with the name of the file it is about, without its number."""
    reason = (error.strerror or type(error).__name__).lower()
    return f"{reason}: {os.path.basename(os.fsdecode(error.filename))}" if error.filename else reason


def _sync(fd: int) -> None:
    getattr(os, "fdatasync", os.fsync)(fd)  # macOS has no fdatasync


def _free_name(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}{number}")
    return candidate


if TYPE_CHECKING:
    from upload_core.ports import Journal

    _port: Journal = DirectoryJournal("x")
