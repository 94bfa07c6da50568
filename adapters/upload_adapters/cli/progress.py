"""How a running delivery looks: a few live lines on a terminal, elsewhere a plain line every half minute.

Whatever goes wrong is a line when it happens, up to `LINES_MAX` of a kind; the report at the end, `status --failed` and
the journal have them all. Nothing here costs more when there are more files.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from upload_adapters.cli import live
from upload_adapters.cli.gauge import ClientGauge, Reading
from upload_adapters.console import TerminalConsole
from upload_core import events as ev
from upload_core.client import UploadClient
from upload_core.journal import Record
from upload_core.messages import describe
from upload_core.ports import MessageType, Ports

if TYPE_CHECKING:
    import rich.live

PLAIN_INTERVAL_S: Final = 30.0
REFRESH_S: Final = 0.25
LINES_MAX: Final = 20
"""Lines about files, and of each other kind; what comes after is counted only."""
WAITING_MAX: Final = 1_000
"""Lines kept for the next refresh of a terminal; a million files at `-vv` must not fill the memory."""

SHOWN: Final[dict[type[ev.Event], MessageType]] = {
    ev.TransferFailed: "warning",
    ev.TransferAbandoned: "warning",
    ev.FileInvalidated: "warning",
    ev.LogLineRejected: "warning",
    ev.UnexpectedVerdictFound: "warning",
    ev.ValidatorStartFailed: "warning",
    ev.ValidatorLost: "warning",
    ev.ValidatorLogRestarted: "warning",
    ev.PipelineRefused: "warning",
    ev.PipelineAttached: "info",
    ev.RunAwaited: "info",
    ev.IndexRevised: "info",
    ev.LockLost: "warning",
    ev.OutageBegan: "warning",
    ev.OutageEnded: "success",
    ev.SuspensionNoticed: "warning",
    ev.CopyJobRequested: "info",
    ev.CopyJobCreated: "info",
    ev.CopyJobEnded: "info",
    ev.TransfersPaused: "warning",
    ev.TransfersContinued: "success",
    ev.JournalRepaired: "warning",
}
"""Events that a person sees when they happen, and how; what ends a delivery badly is said once more at its end."""

BOOKKEEPING: Final[frozenset[type[ev.Event]]] = frozenset(
    {
        ev.TransferQueued,
        ev.PartStored,
        ev.FileReported,
        ev.ValidatorLogRead,
        ev.ValidatorKeptAlive,
        ev.ClientLogAppended,
        ev.CopyJobProgressed,
        ev.LockRenewed,
    }
)
"""Events that `-v` leaves out and `-vv` shows."""


def shown_kinds(verbosity: int) -> Collection[type[ev.Event]]:
    """The events that are told as they happen: what goes wrong, with `-v` what happens, with `-vv` everything."""
    if verbosity:
        return frozenset(ev.EVENTS) if verbosity > 1 else frozenset(ev.EVENTS) - BOOKKEEPING
    return SHOWN.keys()


class Progress:
    """Shows a client's progress while it is entered; nothing at all on a quiet console."""

    def __init__(
        self, console: TerminalConsole, client: UploadClient, ports: Ports | None = None, *, verbosity: int = 0
    ) -> None:
        self._console = console
        self._client = client
        self._verbosity = verbosity
        self._gauge = ClientGauge(client, ports)
        self._told: Counter[object] = Counter()
        self._waiting: deque[tuple[str, MessageType]] = deque(maxlen=WAITING_MAX)
        self._dropped = 0
        self._live: rich.live.Live | None = None
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._client.subscribe(self._notice, kinds=shown_kinds(self._verbosity))
        if self._console.quiet:
            return self
        if self._console.is_terminal:
            self._begin_live()
        self._ticker = threading.Thread(
            target=self._tick if self._live is None else self._refresh_often, name="progress", daemon=True
        )
        self._ticker.start()
        return self

    def _begin_live(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=self._console.rich(),
            auto_refresh=False,  # its thread would die, loudly, of whatever goes wrong while drawing
            transient=True,
            # a replaced sys.stderr would look to the console like another place to write to
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()
        self._console.live = self._live
        self._draw()

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._live is not None:
            self._flush()
            self._console.live = None
            self._live.stop()

    # --- what happens ----------------------------------------------------------------------------

    def _notice(self, record: Record) -> None:
        event = record.event
        kind = ev.FileEvent if isinstance(event, ev.FileEvent) else type(event)
        self._told[kind] += 1
        if not self._verbosity and self._told[kind] > LINES_MAX:
            if self._told[kind] == LINES_MAX + 1:
                further = "files are counted only; status --failed lists all"
                if kind is not ev.FileEvent:
                    further = f"lines like this ({type(event).__name__}) are left out; the journal has all"
                self._say(f"further {further}", "warning")
            return
        sentence = describe(event)
        if isinstance(event, ev.FileEvent):
            sentence = f"{self._client.delivery.table.path(event.file)} {sentence}"
        # on a screen the day is known; a log is read days later, and beside a journal
        time_shown = f"{record.time[11:19]}Z" if self._console.is_terminal else record.time
        self._say(f"{time_shown} {sentence}", SHOWN.get(type(event), "info"))

    def _say(self, text: str, mtype: MessageType) -> None:
        if self._live is None:
            self._console.message(text, mtype)
        else:  # drawing takes a millisecond, and there may be thousands
            self._dropped += len(self._waiting) == WAITING_MAX
            self._waiting.append((text, mtype))

    def announce(self, text: str) -> bool:
        """Have a line shown with the next picture; False if none is drawn. May be called by a signal's handler."""
        if self._live is None or self._console.live is None:
            return False
        self._waiting.append((text, "warning"))
        return True

    def _flush(self) -> None:
        lines: list[tuple[str, MessageType]] = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        if self._dropped:
            lines.insert(0, (f"... {self._dropped:,} lines that came too fast", "info"))
            self._dropped = 0
        self._console.messages(lines)

    # --- how far it is ---------------------------------------------------------------------------

    def reading(self) -> Reading:
        """The figures of now."""
        return self._gauge.read(now_ms=time.time_ns() // 1_000_000, steady_s=time.monotonic())

    def _tick(self) -> None:
        """A line every half minute; between them the pace is looked at, so that there is one to tell."""
        next_s = time.monotonic() + PLAIN_INTERVAL_S
        while not self._ended.wait(min(1.0, max(0.0, next_s - time.monotonic()))):
            reading = self.reading()
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + PLAIN_INTERVAL_S
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self._console.message(f"{stamp} {live.plain(reading)}", "info")

    def _refresh_often(self) -> None:
        # the wait is at least as long as drawing took: a slow terminal gets fewer pictures, not all the time there is
        took_s = 0.0
        while not self._ended.wait(max(REFRESH_S, took_s)):
            began_s = time.monotonic()
            if self._console.live is not None:  # else somebody is asked something
                self._flush()
                self._draw()
            took_s = time.monotonic() - began_s

    def _draw(self) -> None:
        assert self._live is not None, "only what is live is drawn"
        width = self._console.rich().width if self._console.file.isatty() else shutil.get_terminal_size().columns
        unicode = "utf" in self._console.encoding.lower()
        self._live.update(live.text(self.reading(), max(10, width), unicode=unicode), refresh=True)
