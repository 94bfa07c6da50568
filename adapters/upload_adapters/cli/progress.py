"""How a running delivery looks: a live line on a terminal, elsewhere a plain line every half minute.

Whatever goes wrong with a file is one line when it happens, up to `FILE_LINES_MAX` of them; the report at the end
and `status --failed` have them all.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from upload_adapters.cli.output import paused_in_words, size
from upload_adapters.console import TerminalConsole
from upload_core import events as ev
from upload_core.client import UploadClient
from upload_core.journal import Record
from upload_core.messages import describe
from upload_core.ports import MessageType

if TYPE_CHECKING:
    import rich.live

PLAIN_INTERVAL_S: Final = 30.0
FILE_LINES_MAX: Final = 20

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
    ev.IndexRevised: "info",
    ev.LockLost: "warning",
    ev.OutageBegan: "warning",
    ev.OutageEnded: "success",
    ev.TransfersPaused: "warning",
    ev.TransfersContinued: "success",
    ev.JournalRepaired: "warning",
}
"""Events that a person sees when they happen, and how; what ends a delivery badly is said once more at its end."""


class Progress:
    """Shows a client's progress while it is entered; nothing at all on a quiet console."""

    def __init__(self, console: TerminalConsole, client: UploadClient) -> None:
        self._console = console
        self._client = client
        self._began = time.monotonic()
        self._file_lines = 0
        self._live: rich.live.Live | None = None
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._client.subscribe(self._notice, kinds=SHOWN)
        if self._console.quiet:
            return self
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._renderable,
                console=self._console.rich(),
                refresh_per_second=4,
                transient=True,
                # a replaced sys.stderr would look to the console like another place to write to
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
            self._console.live = self._live
        else:
            self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._console.live = None
            self._live.stop()
        if self._ticker is not None:
            self._ticker.join()

    def _notice(self, record: Record) -> None:
        event = record.event
        mtype = SHOWN[type(event)]
        text = describe(event)
        if isinstance(event, ev.FileEvent):
            self._file_lines += 1
            if self._file_lines > FILE_LINES_MAX:
                if self._file_lines == FILE_LINES_MAX + 1:
                    self._console.message("further files are counted only; status --failed lists all", "warning")
                return
            text = f"{self._client.delivery.table.path(event.file)} {text}"
        self._console.message(text, mtype)

    def _tick(self) -> None:
        while not self._ended.wait(PLAIN_INTERVAL_S):
            self._console.message(self.line(), "info")

    def _renderable(self) -> Any:
        from rich.text import Text

        return Text(self.line(), "cyan", no_wrap=True, overflow="ellipsis")

    def line(self) -> str:
        """How far it is, in one line."""
        delivery = self._client.delivery
        counts = delivery.public_counts()
        judged = counts["valid"] + counts["invalid"]
        rate = self._client.bytes_sent / max(0.001, time.monotonic() - self._began)
        parts = [
            f"{judged + counts['done']:,} of {len(delivery):,} files stored",
            f"{judged:,} judged",
            f"{size(self._client.bytes_sent)} sent, {size(round(rate))}/s",
        ]
        wrong = counts["failed"] + counts["invalid"]
        if wrong:
            parts.insert(2, f"{wrong:,} failed or invalid")
        if delivery.facts.outage_ms:
            parts.append("waiting for the archive")
        elif delivery.facts.paused:
            parts.append(paused_in_words(delivery.facts.paused))
        elif delivery.client_state != "running":
            parts.append(delivery.client_state)
        return ", ".join(parts)
