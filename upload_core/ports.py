"""What the core needs of the world: one Protocol per need, each with what it guarantees and which error means what.

Adapters implement these and join the contract tests in `tests/contracts/`. Every method may raise
`ArchiveUnavailableError` (try again later) or `IdentityError` (credentials) where it talks to a remote place;
other errors are named at the method.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import attrs

from upload_core.effects import FileOrder, News, OpenUpload, StoredPart
from upload_core.events import DeliveryCreated, Event

if TYPE_CHECKING:
    from upload_core.delivery import Delivery
    from upload_core.files import FileTable
    from upload_core.jobs import Adopted
    from upload_core.journal import Record

TransferType = Literal["staging", "sample"]
MessageType = Literal["warning", "error", "info", "complete", "success"]


@attrs.frozen
class Limits:
    """Figures of one archive that pace the client; times in seconds. Defaults are those of an archive in AWS."""

    poll_interval_s: float = 1.0
    """At most one look at the validator's log per this time."""
    report_interval_s: float = 1.0
    """At most one append to our log per this time; rows never wait longer."""
    keepalive_interval_s: float = 60.0
    """The validator gives up after 240 s without a row; a quarter leaves room for three lost appends."""
    lock_staleness_s: float = 3600.0
    """A lock object older than this may be taken over (LOCK_STALENESS_THRESHOLD)."""
    validator_start_s: float = 300.0
    """How long the `init` row may take after the pipeline answered."""
    validator_blind_s: float = 15.0
    """How long after its first word the validator may not have found its place in our log; what is written before is
    never read. A keepalive of its own, written every 10 s of quiet, says that it has."""
    validator_silence_s: float = 120.0
    """The validator writes a keepalive every 10 s of quiet; after twelve missing ones it counts as dead."""
    verdict_wait_s: float = 3600.0
    """How long a living validator may judge nothing once it was told of everything; a huge file takes its time."""
    validator_stop_s: float = 60.0
    """How long a stopped validator may take to drain its queue after a finished delivery."""
    outage_s: float = 900.0
    """How long the archive may be out of reach before the session ends; `resume` goes on."""


@attrs.frozen
class ObjectInfo:
    """A control object as one answer describes it; `modified` and `now` are epoch seconds by the same (server's) clock."""

    size: int
    etag: str
    modified: float
    now: float

    @property
    def age_s(self) -> float:
        """Seconds since the object was written, by the clock of whoever stores it."""
        return self.now - self.modified


class ControlBucket(Protocol):
    """Small objects with conditional writes and append: locks, logs, index, label.

    Every write is atomic: a reader sees the object before or after it, never between.
    """

    def head(self, key: str) -> ObjectInfo | None:
        """The object's description, or None if there is none."""

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        """The bytes from `start` to the end (empty if there are none yet), or None if there is no object."""

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        """Write the whole object; raises `PreconditionFailedError`, and writes nothing, if the condition does not hold.

        `if_match` demands that etag, `if_absent` that there be no object.
        """

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        """Append to an object of exactly `offset` bytes (0 creates it); else raises `OffsetConflictError`."""

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Delete the object; absent is no error, another etag raises `PreconditionFailedError`."""


@attrs.frozen
class StoredObject:
    """An object of the archive; `checksum` is its full-object CRC32 (base64), or "" where that was not asked for."""

    relpath: str
    size: int
    checksum: str = ""
    etag: str = ""


class SourceFile(Protocol):
    """An open source file that notices when it changes under the reader."""

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, b"" at the end."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Those bytes, wherever `read` is; fewer only where the file ends, which is where it was when opened.

        Any number of threads may ask at once.
        """

    def rewind(self) -> None:
        """Go back to the first byte."""

    @property
    def fingerprint(self) -> str:
        """What its content's identity was when it was opened: as long as that is the same, so are the bytes.

        It is kept in the journal and compared by a later session, perhaps after a restart of the machine.
        """

    def verify_unchanged(self) -> None:
        """Raises `SourceChangedError` if size, times or identity are not those of the moment it was opened."""


@attrs.frozen
class CopySource:
    """The stored object that an open source file is, for an archive that can copy it without its bytes passing here."""

    bucket: str
    key: str
    etag: str
    size: int
    checksum: str = ""
    """Its full-object CRC32 as its store keeps it, "" if it keeps none."""
    modified: float = 0.0
    """When it was written, in epoch seconds by its store's clock."""


def origin_of(file: SourceFile) -> CopySource | None:
    """The stored object that this file is (its attribute `origin`), or None for any other file."""
    origin = getattr(file, "origin", None)
    return origin if isinstance(origin, CopySource) else None


class Source(Protocol):
    """The read side of a delivery."""

    @property
    def name(self) -> str:
        """What a person calls it: a path or URL."""

    def problem_with(self, relpath: str) -> str | None:
        """Why this file could not be delivered (missing, not a plain file, leaves the root), or None."""

    def size(self, relpath: str) -> int:
        """Size in bytes; raises `SourceMissingError` or `SourceError` whenever `problem_with` names a problem."""

    def open(self, relpath: str) -> AbstractContextManager[SourceFile]:
        """The file, opened without following any link out of the root; raises `SourceMissingError` or `SourceError`."""

    def ls(self, prefix: str = "") -> tuple[str, ...]:
        """Names directly under `prefix`, sorted; raises `SourceMissingError` if there is no such place."""


class Attempt(Protocol):
    """What an archive may ask, and has to tell, while it stores one file. Safe to use by many threads.

    `FreeAttempt` is one without limits or memory; a dispatcher's are made from the order.
    """

    @property
    def upload(self) -> OpenUpload | None:
        """The multipart upload that an earlier attempt left open, as the journal knows it."""

    @property
    def resumable(self) -> bool:
        """Whether somebody will go on with an upload that this attempt leaves open; if not, it must leave none."""

    def commit(self) -> None:
        """Raises `LockLostError` once nothing more may become visible."""

    def upload_begun(self, upload: OpenUpload) -> None:
        """The archive opened this multipart upload (or found it open); what was known of another no longer counts."""

    def part_stored(self, part: StoredPart) -> None:
        """The archive acknowledged this part of the open upload."""

    def upload_ended(self) -> None:
        """The upload was completed or aborted: what was known of it no longer counts."""

    def pushed_back(self, why: str) -> None:
        """The store asked for patience, or an answer timed out, and the adapter is about to try again by itself."""

    def slot(self) -> AbstractContextManager[None]:
        """The right to have one request with bytes under way, for as long as the context lasts."""

    def spend(self, size_bytes: int) -> None:
        """Waits until so many more bytes may be sent; called before each request that carries them."""


class Archive(Protocol):
    """The transfer bucket. What is visible under a name is a whole file or nothing."""

    def stat(self, relpath: str) -> StoredObject | None:
        """The stored object with its CRC32, or None."""

    def put(
        self, relpath: str, body: SourceFile, *, checksum: str | None, attempt: Attempt | None = None
    ) -> StoredObject:
        """Store the whole body, replacing what was there, under the CRC32 that the archive itself verified.

        `checksum` is what the body must have (None: whatever it has). Immediately before the object becomes visible
        the adapter calls `body.verify_unchanged()` and `attempt.commit()`; whatever they raise is passed on and nothing
        is stored. A body with an origin (`origin_of`) may be copied by the store itself instead, which then must demand
        the origin's etag and may leave `verify_unchanged` out. Raises `ChecksumMismatchError`, `SourceError`, `ArchiveError` (this object is refused for good).

        An archive that takes large files in parts tells the attempt of each, and goes on with `attempt.upload` if that
        is of the same content. It leaves an upload open only if the attempt is `resumable` and what ended it is no
        fault of the file (`worker.fault_of`).
        """

    def end_uploads(
        self, known: Mapping[str, str], ours: Callable[[str], bool], commit: Callable[[], None] = lambda: None
    ) -> None:
        """End every multipart upload that is open under a name that `ours` accepts; nobody goes on with any of them.

        Immediately before it ends one the adapter calls `commit()`; what that raises is passed on.
        `known` are those the journal knows, relpath -> upload id; they are ended even where the archive may not be asked
        what is open. Uploads under other names are left alone.
        """

    def list(self) -> Iterator[StoredObject]:
        """Every stored object, in no order, without checksums."""


CHANNEL_BODY_MAX: Final = 256 * 1024
"""Larger bodies are worth a thread each; smaller ones cost more by the thread than by their bytes."""


class Channel(Protocol):
    """Many small objects on their way to an archive at once, all from one thread; an archive that has such a way makes
    channels by its method `channel` (see `channel_of`).

    Everything but `wake` belongs to one thread.
    """

    @property
    def under_way(self) -> int:
        """How many were started and not yet returned."""

    def start(
        self, tag: int, relpath: str, data: bytes, checksum: str, commit: Callable[[], None] = lambda: None
    ) -> None:
        """Begin to store the bytes, under their CRC32 and replacing what was there; never waits for the archive.

        `commit` is asked again as late as can be; what it raises is what ends this one, and nothing is stored of it.
        """

    def finished(self, timeout_s: float) -> list[tuple[int, StoredObject | Exception | None]]:
        """Move everything on and return what ended, each tag once; waits up to `timeout_s` for the first, or until `wake`.

        With each comes its object; or the error that ended it; or None, if the archive took it without confirming its
        CRC32. Whatever did not succeed may or may not be stored, and is for `Archive.put` to repeat and to judge.
        """

    def wake(self) -> None:
        """Make a waiting `finished` return now; may be called from any thread."""

    def close(self) -> list[int]:
        """Break off what is under way; returns the tags of which nobody will hear."""


def channel_of(archive: Archive) -> Channel | None:
    """A new channel of this archive, or None if it has none."""
    make = getattr(archive, "channel", None)
    channel: Channel | None = None if make is None else make()
    return channel


class Pipeline(Protocol):
    """Starts the archive's validation."""

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        """Ask for one validation run; the same key asks for the same run, so that asking twice starts one.

        Returns the archive's words, also where a run is at work already, be it this one or one before.
        Raises `PipelineError` with the archive's reason if it refuses.
        """

    def is_running(self) -> bool:
        """Whether a validator of this delivery is at work now."""

    def close(self) -> None:
        """Give back local resources; a validator that lives in this process is asked to end."""


def abandoned_lock(pipeline: Pipeline) -> ObjectInfo | None:
    """What an ended validator left that keeps another from starting until it is stale, by the method of this name."""
    ask: Callable[[], ObjectInfo | None] | None = getattr(pipeline, "abandoned_lock", None)
    return None if ask is None else ask()


class Identity(Protocol):
    """Who we are to the archive."""

    def sign_in(self) -> str:
        """Make credentials available to the other adapters; returns a public name. Raises `IdentityError`."""


def expiry_of(identity: Identity) -> int | None:
    """When its credentials end unless renewed (ms since the epoch, machine's clock), by `expires_ms`; None if it cannot tell."""
    ask: Callable[[], int | None] | None = getattr(identity, "expires_ms", None)
    return None if ask is None else ask()


@attrs.frozen
class Load:
    """What a dispatcher did since it was last asked."""

    files: int = 0
    """Orders that came to a good end."""
    bytes: int = 0
    """What the archive acknowledged, parts of large files included."""
    pushbacks: int = 0
    """How often the store asked for patience, or an answer did not come in time."""
    saturated: bool = False
    """Whether as many orders or requests as may were under way, so that more would have had more to do."""


class Dispatcher(Protocol):
    """Where transfers run. Outcomes come back in any order, each exactly once, and before each what is told meanwhile."""

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        """Get ready to run up to `n_threads` orders at a time, which is the first level."""

    @property
    def level_max(self) -> int:
        """The highest level that makes sense here; known before `open`."""

    def set_level(self, level: int) -> None:
        """Run up to `level` orders, and requests with bytes, at a time; those above it that are under way finish.

        At level 0 no further order is begun, while those under way keep the right to as many requests as before.
        """

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        """Send no more than that on average, all transfers together; None is no limit. It holds over `close` and `open`."""

    def load(self) -> Load:
        """What was done since this was last asked, or since `open`."""

    @property
    def slots(self) -> int:
        """How many more orders are worth handing over now; 0 while it is saturated."""

    def submit(self, orders: Sequence[FileOrder]) -> None:
        """Begin these orders; never blocks for long."""

    def collect(self, timeout_s: float) -> Sequence[News]:
        """All that is at hand, in the order in which it was told of each file; waits up to `timeout_s` for the first one, or until `wake`.

        Who calls it again has journaled what it returned before.
        """

    def wake(self) -> None:
        """Make a waiting `collect` return now; may be called from any thread."""

    def hold_until(self, time_ms: int) -> None:
        """No worker makes an object visible after this time (by `Clock`); the engine moves it on with the lock."""

    def close(self, grace_s: float) -> Sequence[News]:
        """Let running orders finish for up to `grace_s`, cut the rest, and return all that is still to be told.

        Orders that are part of a job (`JobRequested`) are answered in a later session, unless `hold_until` has said that
        nothing may become visible any more: then the job is ended.
        """


class JobDispatcher(Dispatcher, Protocol):
    """A dispatcher that leaves many files to a service at once, and can go on with what an earlier session left to it."""

    def adopt(self, jobs: Sequence[Adopted]) -> None:
        """Go on with these jobs, of whose files these are not answered; once it is open, and before any `submit`.

        Nobody is asked anything before `hold_until` was called.
        """


class Console(Protocol):
    """Where messages for a person go. Text is data: never markup, never terminal control."""

    def message(self, text: str, mtype: MessageType) -> None:
        """Show a message in its category's colour."""

    def print(self, renderable: object, *, padded: bool = True) -> None:
        """Show text, or whatever the console can render."""


class Clock(Protocol):
    """The time, as the archive sees it."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""

    def machine_ms(self) -> int:
        """The same by the machine's own clock, whatever the archive's says."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment, by a clock that nobody sets and that may stand still while the machine sleeps."""

    def sleep(self, seconds: float) -> None:
        """Let that time pass."""


class StateDump(Protocol):
    """Where `dump_state` writes."""

    def write(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """Write a CSV of that name, mode 0600, cells safe for spreadsheets; returns its place. Raises `OSError`."""


class Journal(Protocol):
    """The append-only record of everything; `upload_core.journal` says what a record is."""

    @property
    def name(self) -> str:
        """Where it is, for a person."""

    def open(self) -> Delivery | None:
        """Take the journal for this process, mend a torn tail, and replay it; None if nothing was recorded yet.

        Raises `JournalInUseError`, `JournalDamagedError`, `JournalVersionError`, `ConfigurationError` if it is not ours.
        """

    def create(self, created: DeliveryCreated, table: FileTable, *, time_ms: int) -> Delivery:
        """Begin a journal that holds the file table and, as its first record, `created`; both survive a power cut.

        Raises `JournalWriteError`, and `ConfigurationError` where none can be.
        """

    def add_revision(self, revision: int, table: FileTable, changed: Sequence[int]) -> None:
        """Store the rows `changed` of a revised table durably, before the `IndexRevised` event that refers to them."""

    def append(self, events: Sequence[Event], *, time_ms: int) -> None:
        """Append the events as one batch, all of them or none, and return when they survive a power cut.

        Raises `JournalWriteError`, after which nothing more is accepted: a failed sync is never retried.
        """

    def snapshot(self, delivery: Delivery) -> None:
        """Record the state at the journal's end, so that opening it need not replay what is before."""

    def close(self, delivery: Delivery | None = None) -> None:
        """Make everything durable, write a snapshot of `delivery` if given, and let other processes in."""


class IndexBuilder(Protocol):
    """Turns what a caller calls an index into a checked file table."""

    def __call__(self, file_index: object, source: Source) -> FileTable:
        """The table of any data frame with a `path` column; raises `IndexProblemsError` with every problem found."""


Callback = Callable[["Record"], object]


@attrs.frozen(eq=False)
class Observer:
    """Somebody who is told of records once they are journaled and applied; of all, or of some kinds of event."""

    callback: Callback
    kinds: Collection[type[Event]] | None = None


@attrs.define
class Ports:
    """Everything a client needs of the world, in one bundle."""

    journal: Journal
    source: Source
    archive: Archive
    control: ControlBucket
    pipeline: Pipeline
    identity: Identity
    dispatcher: Dispatcher
    console: Console
    clock: Clock
    dump: StateDump
    index: IndexBuilder
    limits: Limits = Limits()
    reconnect: Callable[[], None] | None = None
    """Has every later request open a new connection, to wherever the archive's names lead by then.

    Called when an outage begins, before each attempt during one, and after the process stood still; must be quick, and
    leave alone what is under way.
    """
    archive_limits: Callable[[Limits], Limits] | None = None
    """`limits` with what only the archive can say of them; asked once a session, after signing in."""
    archive_name: str = ""
    """The archive's public name (its URL without secrets), as the journal records it."""
    label: bytes | None = None
    """The delivery's label as it shall stand in the control bucket, if the archive wants one."""
    agent_id: str = ""
    """The agent id of a new journal, unless the host names one; it should say who and where."""
    host: str = ""
    pid: int = 0
    observers: Sequence[Observer] = ()
    """Who is told of every delivery over these ports, before those that subscribe to a client."""
    settings: Mapping[str, str] = attrs.field(factory=dict)
    """What a later `resume` needs to wire the same ports again; never a secret."""
