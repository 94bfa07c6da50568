"""How a delivery stands, as a file that Prometheus' node exporter picks up (its "textfile collector").

The format is Prometheus' text exposition format, version 0.0.4.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from upload_adapters.durable import write_all
from upload_adapters.outputs import begins_with, place_of
from upload_core import UploadClient
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import ConfigurationError
from upload_core.journal import Record

EVERY_S: Final = 5.0
"""A scrape is rarely more often than this."""
IS_METRICS: Final = begins_with(b"# HELP upload_core_files ")
"""What an earlier file is known by, which a new one may replace."""


def exposition(delivery: Delivery, bytes_sent: int) -> str:
    """The delivery's figures in the text exposition format."""
    created, facts = delivery.created, delivery.facts
    labels = f'dataset="{_escaped(created.dataset)}",delivery_id="{_escaped(created.delivery_id)}"'
    lines = [
        "# HELP upload_core_files Files of the delivery, by state.",
        "# TYPE upload_core_files gauge",
        *(
            f'upload_core_files{{{labels},state="{state}"}} {count}'
            for state, count in delivery.public_counts().items()
        ),
        "# HELP upload_core_sent_bytes Bytes that this session has stored.",
        "# TYPE upload_core_sent_bytes gauge",
        f"upload_core_sent_bytes{{{labels}}} {bytes_sent}",
        "# HELP upload_core_retries_total Further attempts at files.",
        "# TYPE upload_core_retries_total counter",
        f"upload_core_retries_total{{{labels}}} {facts.retries_total}",
        "# HELP upload_core_outage Whether the archive is out of reach.",
        "# TYPE upload_core_outage gauge",
        f"upload_core_outage{{{labels}}} {int(bool(facts.outage_ms))}",
        "# HELP upload_core_session Number of the delivery's latest session.",
        "# TYPE upload_core_session gauge",
        f"upload_core_session{{{labels}}} {facts.session}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsFile:
    """Keeps such a file while a client runs: at most every few seconds, and once more at the end of the session.

    A place that cannot be written never harms the delivery; `trouble` then says why.
    """

    def __init__(
        self, client: UploadClient, path: str | os.PathLike[str], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.trouble = ""
        self._client = client
        self._path = os.fspath(path)
        self._monotonic = monotonic
        self._due_s = 0.0
        self.unsubscribe = client.subscribe(self._told)

    def _told(self, record: Record) -> None:
        now_s = self._monotonic()
        if now_s >= self._due_s or isinstance(record.event, ev.SessionClosed):
            self._due_s = now_s + EVERY_S
            self.write()

    def write(self) -> None:
        """Write it now: whole or not at all, so that no scrape reads half a file, and over nothing but one of ours."""
        text = exposition(self._client.delivery, self._client.bytes_sent)
        temporary: Path | None = None
        try:
            path = Path(place_of(self._path, "the metrics file", IS_METRICS))
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            try:
                write_all(fd, text.encode())
            finally:
                os.close(fd)
            os.replace(temporary, path)
        except ConfigurationError as error:
            self.trouble = str(error)
        except OSError as error:
            self.trouble = f"the metrics file {self._path} cannot be written: {error.strerror or error}"
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink()
        else:
            self.trouble = ""
