"""`UploadClient`: what a host program holds. It drives the engine, keeps its promises about errors, and decides nothing.

Nothing here prints, exits, configures logging or reads a clock: all of that goes through the ports.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from upload_core import commands as cmd
from upload_core import events as ev
from upload_core.closing import record_crash
from upload_core.delivery import Delivery
from upload_core.engine import Engine
from upload_core.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    IdentityError,
    JournalError,
    LockHeldError,
    LockLostError,
    NothingToDoError,
    NotReadyError,
    StoppedError,
    ValidatorStoppedError,
)
from upload_core.files import ClientFile, FileTable
from upload_core.index_check import NO_FILES
from upload_core.journal import Record
from upload_core.notebook import delivery_html
from upload_core.opening import connect, open_delivery
from upload_core.outcomes import Summary
from upload_core.owner_lock import body_of
from upload_core.ports import Callback, Observer, Ports, TransferType
from upload_core.release import __version__
from upload_core.settings import check_settings
from upload_core.views import STATE_HEADER, client_file, state_name, state_rows, summary_of
from upload_core.wiring import WiringRequest, default_wiring

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from upload_core.dataroot import Bucket

    DataFrame = Any

STEP_S = 0.25
"""Longest wait of one turn: bounds how late a stop from another thread is noticed."""


class UploadClient:
    """Delivers the files of an index to an archive, and follows the archive's validator to a verdict on each."""

    def __init__(
        self,
        *,
        dataset: str,
        delivery_id: str,
        file_index: DataFrame,
        transfer_type: TransferType,
        source: str | Path | Bucket,
        lambda_client_config: dict[str, Any] | None = None,
        own_agent_id: str | None = None,
        n_threads: int = 1,
        debug: bool = False,
        max_retries: int = 2,
        to: str | None = None,
        journal: str | PathLike[str] | None = None,
        label: str | PathLike[str] | None = None,
        check: Callable[..., Any] | str | None = None,
        ports: Ports | None = None,
    ) -> None:
        """Check everything that can be checked without touching the archive; nothing is written yet.

        `file_index` is a data frame with a column `path` and optionally `checksum` (base64 CRC32) and `size` (bytes).
        `to` names the archive (`file:///DIR`), `journal` the journal's directory; hosts may pass `ports` instead.
        `n_threads` files are sent at a time; 0 lets that number find its own level.
        Raises `IndexProblemsError` with all problems of the index, `ConfigurationError`.
        """
        check_settings(dataset, delivery_id, transfer_type, n_threads, max_retries)
        self._ports = ports or default_wiring().wire(
            WiringRequest(dataset, delivery_id, transfer_type, source, to, journal, label, check)
        )
        self._prepare(n_threads, max_retries, own_agent_id, lambda_client_config, debug=debug)
        table = self._ports.index(file_index, self._ports.source)
        if not len(table):
            raise ConfigurationError(NO_FILES)
        self._begin_with(dataset, delivery_id, transfer_type, table)

    @classmethod
    def resume(
        cls,
        journal: str | PathLike[str] | None = None,
        *,
        lambda_client_config: dict[str, Any] | None = None,
        n_threads: int | None = None,
        debug: bool = False,
        max_retries: int | None = None,
        check: Callable[..., Any] | str | None = None,
        ports: Ports | None = None,
    ) -> Self:
        """A client that goes on from a journal; with `ports`, from theirs. What is None is as the last session had it.

        Raises `JournalError` if there is no journal, `JournalInUseError`.
        """
        if ports is None:
            if journal is None:
                raise ConfigurationError("name the journal to resume, or pass ports that hold one")
            ports = default_wiring().wire_journal(journal, {"check": check})
        client = cls.__new__(cls)
        client._ports = ports
        delivery = ports.journal.open()
        if delivery is None:
            raise JournalError(
                f"there is nothing to resume at {ports.journal.name}; begin the delivery there, or name its journal"
            )
        facts = delivery.facts  # of the last session, or as the delivery was begun
        client._prepare(
            facts.n_threads if n_threads is None else n_threads,
            facts.max_retries if max_retries is None else max_retries,
            None,
            lambda_client_config,
            debug=debug,
        )
        client._table = None
        client._created = delivery.created
        client._delivery = delivery
        client._opened = True
        return client

    def _prepare(
        self,
        n_threads: int,
        max_retries: int,
        own_agent_id: str | None,
        lambda_client_config: dict[str, Any] | None,
        *,
        debug: bool,
    ) -> None:
        self.n_threads = n_threads
        self.max_retries = max_retries
        self.debug = debug
        self.own_agent_id = own_agent_id or self._ports.agent_id
        self.lambda_client_config = lambda_client_config
        self._own_agent_id_given = own_agent_id is not None
        self._engine: Engine | None = None
        self._observers: list[Observer] = list(self._ports.observers)
        self._opened = False
        self._quit = False
        self._stop_reason: str | None = None
        self._pauses: dict[str, str] = {}
        self._unrecorded_end: tuple[str, str] | None = None
        self._began_ms = 0

    def _begin_with(self, dataset: str, delivery_id: str, transfer_type: str, table: FileTable) -> None:
        """The delivery as the index alone tells it; connecting replaces it by the journal's, if there is one."""
        self._table: FileTable | None = table
        self._created = ev.DeliveryCreated(
            dataset=dataset,
            delivery_id=delivery_id,
            transfer_type=transfer_type,
            agent_id=self.own_agent_id,
            source=self._ports.source.name,
            archive=self._ports.archive_name,
            index_digest=table.digest,
            files=len(table),
            settings=dict(self._ports.settings),
            n_threads=self.n_threads,
            max_retries=self.max_retries,
        )
        self._delivery = Delivery.begin(self._created, table)

    # --- what is the case ------------------------------------------------------------------------

    @property
    def delivery(self) -> Delivery:
        """The state as it stands; read it, never change it."""
        return self._delivery

    @property
    def state(self) -> str:
        """The client's own state, a word of `lifecycle.CLIENT_STATES`."""
        return self._delivery.client_state

    @property
    def done(self) -> bool:
        """True once the client has finished or has entered, for whatever reason, a state it does not come back from."""
        return self._quit or (self._engine is not None and self._engine.closed)

    @property
    def n_complete(self) -> int:
        """How many files are judged, or given up after their last retry."""
        return self._delivery.n_complete

    @property
    def next_file(self) -> ClientFile | None:
        """The file that would be sent next, or None if no file waits."""
        file = self._delivery.next_file(self._ports.clock.now_ms())
        return None if file is None else self._client_file(file)

    @property
    def transfer_complete(self) -> bool:
        """True once no file is left to send, although verdicts may be awaited."""
        return self._delivery.transfer_complete

    @property
    def validation_complete(self) -> bool:
        """True once nothing is left to do for any file."""
        return self._delivery.validation_complete

    def files(self) -> Iterator[ClientFile]:
        """Every file of the index, in index order."""
        return map(self._client_file, range(len(self._delivery)))

    def file(self, relpath: str) -> ClientFile:
        """One file; raises `KeyError` if it is not indexed."""
        file = self._delivery.find(relpath)
        if file is None:
            raise KeyError(relpath)
        return self._client_file(file)

    def _client_file(self, file: int) -> ClientFile:
        return client_file(self._delivery, file, self._ports.source.name, self.max_retries)

    def summary(self) -> Summary:
        """How the session ended (or stands), as one value."""
        seconds = (self._ports.clock.now_ms() - self._began_ms) / 1000 if self._began_ms else 0.0
        return summary_of(
            self._delivery,
            unrecorded_end=self._unrecorded_end,
            bytes_sent=self.bytes_sent,
            seconds=round(seconds, 3),
            journal=self._ports.journal.name,
        )

    # --- driving it ------------------------------------------------------------------------------

    def subscribe(self, callback: Callback, *, kinds: Collection[type[ev.Event]] | None = None) -> Callable[[], None]:
        """Have `callback(record)` called after each event is journaled and applied; returns a function that ends it.

        With `kinds` only of those: a delivery of a million files has five million events, and being told costs.
        """
        observer = Observer(callback, None if kinds is None else frozenset(kinds))
        self._observers.append(observer)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._observers.remove(observer)

        return unsubscribe

    @property
    def bytes_sent(self) -> int:
        """Bytes of files that this session has stored, parts of large ones included."""
        return 0 if self._engine is None else self._engine.sent.total

    def connect(self) -> None:
        """Open the journal and a session: sign in, take the lock, settle what earlier sessions left in doubt.

        Raises `NothingToDoError` if every file is valid already, `LockHeldError`, `IdentityError`, `JournalError`,
        `ArchiveUnavailableError`; after each of these the client is done.
        """
        if self._engine is not None or self._quit:
            raise NotReadyError("this client was connected before; make a new one")
        self._began_ms = self._ports.clock.now_ms()
        try:
            self._open_journal()
        except BaseException:
            self._quit = True  # what failed to open is not ours to close
            raise
        if self._delivery.all_valid and self._delivery.facts.outcome == "complete":
            # a finished delivery is not begun again: no sign-in, no lock, not even a record
            self._finish()
            raise NothingToDoError("all files are valid already; there is nothing to do")
        opening = cmd.OpenSession(
            agent_id=self.own_agent_id,
            n_threads=self.n_threads,
            max_retries=self.max_retries,
            source=self._ports.source.name,
            host=self._ports.host,
            pid=self._ports.pid,
            release=__version__,
        )
        try:
            connect(self._begin_session(), opening)
        except NothingToDoError:
            self._finish()
            raise
        except BaseException as error:
            self._fail(error)
            raise

    def _begin_session(self) -> Engine:
        """The engine of this session; raises `ConfigurationError` if our name cannot own a lock."""
        engine = self._engine = Engine(self._delivery, self._ports, self.own_agent_id, self._observers)
        if self.debug:
            self._observers.insert(0, Observer(self._show))
        engine.client_config = self.lambda_client_config
        engine.pauses = self._pauses
        if self._stop_reason is not None:
            engine.request_stop(self._stop_reason)
        return engine

    def _open_journal(self) -> None:
        if not self._opened:
            if not self.own_agent_id:
                raise ConfigurationError("these ports suggest no agent id; pass own_agent_id")
            body_of(self.own_agent_id)  # before it is in a journal, which every later session would take it from
            assert self._table is not None, "a client is made with a table or with an opened journal"
            self._delivery = open_delivery(self._ports, self._created, self._table)
            self._opened = True
        facts = self._delivery.facts
        if not self._own_agent_id_given:
            self.own_agent_id = facts.agent_id  # the lock object carries it: the same agent re-enters at once

    def run(self) -> Summary:
        """Deliver to the end, whatever the end is, and say how it ended; a second call only says it again.

        Raises what `connect` raises, except that a delivery with nothing to do is simply complete.
        """
        if self.done:
            return self.summary()
        try:
            self.initiate_transfer()
            turn_s = min(STEP_S, self._ports.limits.poll_interval_s)
            while not self.done:
                self._step(turn_s, queue=True)
        except (NothingToDoError, StoppedError):
            pass
        except KeyboardInterrupt:
            self._close("interrupted", "user", "interrupted by the user")
            raise
        finally:
            self.quit()
        return self.summary()

    def stop(self, reason: str = "the host asked for it") -> None:
        """Ask for an end in order; may be called from any thread. The thread that drives the client ends it."""
        self._stop_reason = reason or "stopped"
        if self._engine is not None:
            self._engine.request_stop(self._stop_reason)

    def pause(self, reason: str = "", *, by: Literal["host", "user", "window"] = "host") -> None:
        """Have no further file begun until `unpause`; may be called from any thread, and before `connect`.

        What is under way finishes; lock and validator stay served, so a pause may last.
        """
        self._pauses[by] = reason
        if self._engine is not None:
            self._engine.ports.dispatcher.wake()

    def unpause(self, *, by: Literal["host", "user", "window"] = "host") -> None:
        """Take that pause back; files are begun again once nobody pauses any more. May be called from any thread."""
        self._pauses.pop(by, None)
        if self._engine is not None:
            self._engine.ports.dispatcher.wake()

    def acquire_lock(self, *, refresh: bool = False) -> bool:
        """True once the delivery's lock is ours; with `refresh` the lock object is written even if it was already.

        Connects if that was not done. Raises `LockHeldError` or `LockLostError` if it is somebody else's, which ends the
        session, and `ArchiveUnavailableError` if nothing could be written.
        """
        if self._engine is None:
            self.connect()
            return True
        engine = self._require_engine()
        try:
            if not engine.lock.held:
                engine.acquire_lock()
            elif refresh:
                engine.renew_lock(at_once=True)
        except (LockHeldError, LockLostError) as error:
            self._fail(error)
            raise
        return True

    def release_lock(self) -> None:
        """Give the lock up; meant for `quit`: a session that goes on without it ends at its next turn.

        Nothing is stored or written from here on, unless `acquire_lock` takes it again before that turn.
        """
        self._require_engine().release_lock()

    def cognito_authenticate(self) -> None:
        """Get credentials from the identity; raises `IdentityError`."""
        principal = self._ports.identity.sign_in()
        if self._engine is not None and not self._engine.closed:
            self._engine.record([ev.SignedIn(principal)])

    def initiate_transfer(self) -> None:
        """Put label and index, and have the archive start a validation run, unless one is at work already.

        Connects if that was not done.
        """
        if self._engine is None:
            self.connect()
        engine = self._require_engine()

        def start() -> None:
            engine.write_index(self._ports.label)
            engine.start_pipeline()

        if self.state == "connected" and not self.validation_complete:
            self._guarded(start)

    def transfer_next_file(self) -> None | ClientFile:  # noqa: RUF036 - the order in which the published API writes it
        """Put the next file in line and return it; None, with a warning, if no file waits.

        Raises `NotReadyError` if the client is not connected or has crashed.
        """
        engine = self._engine
        if engine is None or engine.closed or self.state not in ("connected", "starting", "running"):
            message = f"no file can be transferred while the client is {self.state}"
            self.cmessage(message, "error")
            raise NotReadyError(message)
        file = self._delivery.next_file(engine.now_ms())
        if file is None:
            self.cmessage("no file is left to transfer", "warning")
            return None

        def queue() -> None:
            engine.take(cmd.QueueNext(1))
            engine.start_pending()

        self._guarded(queue)
        return self._client_file(file)

    def update(self) -> bool:
        """Take in outcomes and verdicts and do what is due; True if the client should stop.

        Does nothing, with a warning, if the client is not at work.
        """
        if self._engine is None or self.done:
            self.cmessage(f"nothing to update: the client is {self.state}", "warning")
            return self.done
        self._step(0.0, queue=False)
        return self.done

    def _step(self, timeout_s: float, *, queue: bool) -> None:
        engine = self._require_engine()
        self._guarded(lambda: engine.step(timeout_s, queue=queue))

    def _guarded(self, act: Callable[[], None]) -> None:
        """Run a part of the session; what ends the session ends it in order and is raised only if it is a fault."""
        try:
            act()
        except (LockLostError, IdentityError, ArchiveUnavailableError, StoppedError) as error:
            self._fail(error)
        except ConfigurationError as error:
            self._fail(error)
            raise
        except Exception as error:
            self.crash(error)
            raise
        if self._engine is not None and self._engine.closed:
            self._finish()

    def _fail(self, error: BaseException) -> None:
        """End the session as `_ENDINGS` says for this error."""
        for kind, (outcome, reason) in _ENDINGS.items():
            if isinstance(error, kind):
                self._close(outcome, reason, str(error))
                return
        self.crash(error)

    # --- ending it -------------------------------------------------------------------------------

    def crash(self, exception: BaseException) -> None:
        """Record that the client cannot go on and why, here and in our log; give everything back, and be done."""
        self.cmessage(f"the client crashed: {self.excformat(exception)}", "error")
        engine = self._engine
        if isinstance(exception, JournalError):
            self._unrecorded_end = ("interrupted", "journal")
        elif engine is not None and engine.opened:
            with suppress(Exception):  # one failure is enough to report; the other must not keep us from giving back
                record_crash(engine, exception)
        elif not self.done:
            self._unrecorded_end = ("crashed", "error")
        self._close("crashed", "error", f"{type(exception).__name__}: {exception}")

    def quit(self, _exception: BaseException | None = None) -> None:
        """End the session in order if it is not ended yet, and give everything back; calling it again does nothing."""
        if _exception is not None and not self.done:
            self._fail(_exception)
        self._close("interrupted", "user", "the host ended the session")

    def _close(self, outcome: str, reason: str, message: str) -> None:
        engine = self._engine
        try:
            if engine is not None and not engine.closed:
                engine.close(outcome, reason, message)
        except JournalError:
            self._unrecorded_end = ("interrupted", "journal")
        finally:  # an observer may raise at the last record, too
            self._finish()

    def _finish(self) -> None:
        if self._quit:
            return
        self._quit = True
        self._ports.journal.close(self._delivery if self._engine is not None else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.quit(exception)

    # --- telling people --------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """What a notebook shows: the delivery as it stands."""
        return delivery_html(self._delivery, self._ports.journal.name, f"the client is {self.state}")

    def cmessage(self, text: str, mtype: Literal["warning", "error", "info", "complete", "success"]) -> None:
        """Show a message in the colour of its category."""
        self._ports.console.message(text, mtype)

    def cprint(self, renderable: str, *, padded: bool = True) -> None:
        """Show text, or anything the console can render."""
        self._ports.console.print(renderable, padded=padded)

    def excformat(self, exc: BaseException) -> str:
        """The exception as a line for people; with `debug`, its whole traceback."""
        if self.debug:
            return "".join(traceback.format_exception(exc)).rstrip()
        return "".join(traceback.format_exception_only(exc)).strip()

    def dump_state(self) -> None:
        """Write every file's state as a CSV to the working directory; a place that cannot be written is a warning."""
        try:
            rows = state_rows(self._delivery, self.max_retries)
            place = self._ports.dump.write(state_name(self._created), STATE_HEADER, rows)
        except OSError as error:
            self.cmessage(f"the state could not be written: {error}", "warning")
        else:
            self.cmessage(f"state written to {place}", "info")

    def _show(self, record: Record) -> None:
        self.cmessage(f"{record.time} {record.seq} {record.event}", "info")

    def _require_engine(self) -> Engine:
        if self._engine is None or self._engine.closed:
            raise NotReadyError(f"connect first: the client is {self.state}")
        return self._engine


_ENDINGS: Mapping[type[BaseException], tuple[str, str]] = {
    LockHeldError: ("refused", "lock"),
    LockLostError: ("interrupted", "lock"),
    IdentityError: ("interrupted", "identity"),
    ValidatorStoppedError: ("interrupted", "validator"),
    ArchiveUnavailableError: ("interrupted", "outage"),
    ConfigurationError: ("refused", "usage"),
    StoppedError: ("interrupted", "user"),
    KeyboardInterrupt: ("interrupted", "user"),
    SystemExit: ("interrupted", "user"),
}
"""Error -> how it ends a session; anything else is a crash."""
