"""Reading a journal: all of it, up to a moment, or along with the process that writes it. Nothing here writes or locks."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from upload_adapters import snapshot_file
from upload_adapters.table_file import load_columns, table_bytes, table_name
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import (
    IllegalEventError,
    JournalDamagedError,
    JournalError,
    JournalVersionError,
    JournalWriteError,
)
from upload_core.files import FileTable
from upload_core.journal import (
    CHUNK_BYTES,
    Header,
    Position,
    Record,
    decode_header,
    decode_record,
    first_record,
    is_torn,
    read_pieces,
    read_records,
    replay,
)


def segment_name(number: int) -> str:
    """File name of a segment; the first is 1."""
    return f"events-{number:06d}.ndjson"


def _chunks(path: Path, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - file.tell())):
            yield chunk


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of what is inside say which file it is."""
    try:
        yield
    except FileNotFoundError:
        raise JournalDamagedError(f"{path} is missing; nothing was changed. Restore it from a copy") from None
    except PermissionError:
        raise _unreadable(path) from None
    except OSError as error:
        raise JournalWriteError(
            f"{path} cannot be read ({error.strerror or error}); mend the disk, or mount it again, then run again"
        ) from error
    except (JournalDamagedError, JournalVersionError) as error:
        raise type(error)(f"{path}: {error}") from error


def _unreadable(path: Path) -> JournalError:
    return JournalError(
        f"{path} may not be read by this user; give this user access to the journal's directory and all that is in it, "
        "then run again"
    )


class JournalReader:
    """A replayed journal that can be read on as it grows.

    `delivery` is the state at `position`. A tail that is not whole is left alone: it may be being written.
    """

    delivery: Delivery
    header: Header
    position: Position

    columns_of: tuple[int, str] | None
    """Revision and digest of the table whose columns are there, and are those of `delivery`; None if they are not."""

    def __init__(self, path: str | os.PathLike[str], *, snapshots: bool = True) -> None:
        """Without `snapshots` nothing is believed but the truth: no snapshot and no columns are read."""
        self.path = Path(path)
        self.columns_of = None
        self._snapshots = snapshots
        self._started = False
        self._first_digest = ""
        self._table_of = (0, "")

    def exists(self) -> bool:
        """Whether anything was recorded there."""
        return self._last_segment() > 0

    def at_last_segment(self) -> bool:
        """Whether no segment follows the one at `position`."""
        return self.position.segment >= self._last_segment()

    def _last_segment(self) -> int:
        """The highest number of a segment, 0 if there is none; those below it may be missing."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except PermissionError:
            raise _unreadable(self.path) from None
        numbers = (name.removeprefix("events-").removesuffix(".ndjson") for name in names)
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def advance(self) -> bool:
        """Replay what is there beyond `position`; False if an unfinished batch follows.

        Such a batch is being written, or was when its process died. Raises `JournalDamagedError` if more than that is not
        whole, and `JournalVersionError`.
        """
        if not self._started:
            self._begin()
        refused: Position | None = None
        while True:
            # looked up before it is read: a segment that has a successor is not written to any more
            followed = not self.at_last_segment()
            whole = self._replay()
            if followed and whole:
                self.header, self.position = self._header_of(self.position.segment + 1, self.position)
            elif not followed and (whole or self._is_unfinished(self.position)):
                break
            elif followed or self.position == refused:
                raise self._damaged(self.position)
            else:
                refused = (
                    self.position
                )  # a writer may have gone on between the two looks; damage is there at the next one
        try:
            self.delivery.refresh_derived()
        except IllegalEventError as error:
            raise JournalDamagedError(f"the journal {self.path} contradicts itself: {error}") from error
        self._load_revisions()
        return whole

    def records(self) -> Iterator[Record]:
        """Every verified record from the first, none left out; ends quietly before an unfinished last batch.

        Raises `JournalDamagedError` where anything else is not whole, after the records before it.
        """
        seq, last = 0, self._last_segment()
        for number in range(1, last + 1):
            _, end = self._header_of(number, None)
            if end.seq != seq:
                raise JournalDamagedError(
                    f"{self.path} has a gap: record {seq} is followed by segment {number}, which begins with "
                    f"{end.seq + 1}; restore what is before it from a copy"
                )
            refused: Position | None = None
            segment = self.path / segment_name(number)
            while True:
                with _naming(segment):
                    end, whole = yield from read_records(_chunks(segment, end.offset), end)
                if whole or (number == last and self._is_unfinished(end)):
                    break
                if number < last or end == refused:
                    raise self._damaged(end)
                refused = end  # as in `advance`
            seq = end.seq

    def unfinished_bytes(self) -> int:
        """How many bytes follow `position`."""
        return len(self._tail(self.position))

    def pieces(self) -> Iterator[tuple[bytes, Position]]:
        """Everything from the first record up to `position` as verified lines, each piece with the place after it.

        For whoever folds a whole journal that `advance` has replayed; what was written since is left out.
        """
        for number in range(1, self.position.segment + 1):
            path = self.path / segment_name(number)
            _, start = self._header_of(number, None)
            end = self.position.offset if number == self.position.segment else None
            yield from read_pieces(_chunks(path, start.offset, end), start)

    def replay_until(self, past: Callable[[Record], bool]) -> Record | None:
        """Replay from the first record up to, but without, the first one that is `past`; returns the last one applied.

        Every single record is decoded in full: for whole journals `advance` is far quicker. `position` does not follow.
        Raises `JournalDamagedError`, `JournalVersionError`.
        """
        self._snapshots = False
        self._begin()
        last: Record | None = None
        for record in self.records():
            if past(record):
                break
            self._check(record)
            try:
                self.delivery.apply(record.event, record.time_ms)
            except (IllegalEventError, IndexError, ValueError, MemoryError, OverflowError) as error:
                raise JournalDamagedError(
                    f"record {record.seq} of {self.path} cannot follow what is before it: {error}"
                ) from error
            last = record
        self.delivery.refresh_derived()
        self._load_revisions()
        return last

    def latest_session(self) -> Record | None:
        """The record of the latest `SessionOpened`, found from the end without replaying; None if there is none yet."""
        mark = b'"kind":"SessionOpened"'  # cannot stand inside a JSON string, where each quote is escaped
        for segment in range(self._last_segment(), 0, -1):
            path = self.path / segment_name(segment)
            if not snapshot_file.size_of(path):  # which cannot be mapped
                continue
            with (
                _naming(path),
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                at = data.rfind(mark)
                while at >= 0:
                    end = data.find(b"\n", at)
                    if end >= 0:  # else its line is still being written
                        return decode_record(data[data.rfind(b"\n", 0, at) + 1 : end])
                    at = data.rfind(mark, 0, at)
        return None

    # --- internals -------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self.path.is_dir() or not self.exists():
            raise JournalDamagedError(f"there is no journal at {self.path}: it has no {segment_name(1)}")
        header, start = self._header_of(1, None)
        segment = self.path / segment_name(1)
        with _naming(segment):
            record = first_record(_chunks(segment, start.offset), start)
        if record is None or not isinstance(record.event, ev.DeliveryCreated):
            raise JournalDamagedError(
                f"the first record of {self.path} is unreadable; nothing was changed. Restore it from a copy, "
                "or move the journal away and deliver again: what is stored and valid is not sent again"
            )
        self._first_digest = record.event.index_digest
        table = self._kept_table() or self._first_table()
        if not 0 <= record.event.files <= len(table):
            raise JournalDamagedError(
                f"the first record of {self.path} speaks of {record.event.files} files, its file table holds "
                f"{len(table)}; nothing was changed. Restore them from a copy"
            )
        self._started = True
        if self._snapshots and self._from_snapshot(table):
            return
        self.delivery = Delivery.begin(record.event, table)
        self.header, self.position = header, start

    def _from_snapshot(self, table: FileTable) -> bool:
        for path in snapshot_file.newest_first(self.path):
            loaded = snapshot_file.load(path, table)
            if loaded is None:
                continue
            delivery, position, nonce = loaded
            segment = self.path / segment_name(position.segment)
            if snapshot_file.size_of(segment) < position.offset:
                continue  # the journal was cut before this snapshot's place: the state it holds is gone
            header, _ = self._header_of(position.segment, None)
            if header.nonce == nonce:
                self.delivery, self.header, self.position = delivery, header, position
                return True
        return False

    def _header_of(self, number: int, after: Position | None) -> tuple[Header, Position]:
        path = self.path / segment_name(number)
        with _naming(path), path.open("rb") as file:
            return decode_header(file.readline(CHUNK_BYTES), segment=number, after=after)

    def _tail(self, end: Position) -> bytes:
        path = self.path / segment_name(end.segment)
        with _naming(path), path.open("rb") as file:
            file.seek(end.offset)
            return file.read()

    def _is_unfinished(self, end: Position) -> bool:
        """Whether what follows is at most one batch that is being written, or was when its process died."""
        return is_torn(self._tail(end), end.seq)

    def _damaged(self, end: Position) -> JournalDamagedError:
        return JournalDamagedError(
            f"{self.path / segment_name(end.segment)} is damaged after record {end.seq} (offset {end.offset}), and more than "
            "an unfinished last batch is affected; nothing was changed. Restore the segment from a copy, or move the journal "
            "away and deliver again: what is stored and valid is recognised and not sent again"
        )

    def _replay(self) -> bool:
        segment = self.path / segment_name(self.position.segment)
        with _naming(segment):
            chunks = _chunks(segment, self.position.offset)
            self.position, whole = replay(chunks, self.position, self.delivery, self._check)
        return whole

    def _check(self, record: Record) -> None:
        """Refuse a revision of more files than the tables can hold before memory is taken for them: a row has 20 bytes."""
        if isinstance(record.event, ev.IndexRevised) and record.event.files > table_bytes(self.path) // 20:
            raise JournalDamagedError(
                f"record {record.seq} of {self.path} speaks of {record.event.files} files, which is more than its file "
                "tables can hold; nothing was changed. Restore them from a copy"
            )

    def _kept_table(self) -> FileTable | None:
        """The table that was kept as columns; that it is this journal's is for the events to confirm."""
        kept = load_columns(self.path) if self._snapshots else None
        if kept is None:
            return None
        self.columns_of = self._table_of = kept.revision, kept.digest
        return kept.table

    def _first_table(self) -> FileTable:
        """The table that the journal was begun with, decoded."""
        self.columns_of, self._table_of = None, (0, self._first_digest)
        path = self.path / table_name(0)
        with _naming(path):
            return FileTable.decode(_chunks(path), self._first_digest)

    def _load_revisions(self) -> None:
        """Bring the table to the revision that the events speak of."""
        facts = self.delivery.facts
        wanted = facts.index_revision, facts.index_digest
        if self._table_of == wanted:
            return
        table = None
        if self.columns_of is None:
            table = self._revised(self.delivery.table, self._table_of[0])
        else:
            with contextlib.suppress(JournalDamagedError):
                table = self._revised(self.delivery.table, self._table_of[0])
            if table is None or table.digest != facts.index_digest:
                # columns of another journal, or of a revision that was lost with the events that told of it
                table = self._revised(self._first_table(), 0)
        if table.digest != facts.index_digest:
            raise JournalDamagedError(f"the revised file table of {self.path} does not match its journal; restore it")
        if len(table) != len(self.delivery):
            raise JournalDamagedError(
                f"the journal {self.path} speaks of {len(self.delivery)} files, its revised file table holds {len(table)}; "
                "nothing was changed. Restore them from a copy"
            )
        self.columns_of = None
        self.delivery.table, self._table_of = table, wanted

    def _revised(self, table: FileTable, revision: int) -> FileTable:
        """`table`, which is at that revision, with all later ones that the events speak of."""
        for number in range(revision + 1, self.delivery.facts.index_revision + 1):
            path = self.path / table_name(number)
            with _naming(path):
                table = table.revised(_chunks(path))
        return table
