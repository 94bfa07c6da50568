"""A journal that may be growing while it is read: how its session stands, and its figures for a screen."""

from __future__ import annotations

import time

from upload_adapters.cli.gauge import Gauge, Reading, stored_bytes
from upload_adapters.cli.reading import is_alive, open_reader
from upload_adapters.journal_reader import JournalReader
from upload_adapters.local import local_limits
from upload_core import events as ev
from upload_core.journal import Record

CUT_OFF, RUNNING, UNKNOWN = "cut off", "running", "unknown"
"""Its process is gone; it runs; it runs elsewhere, if at all."""


class Watch:
    """One journal, read on as it grows; whoever writes it is not disturbed."""

    def __init__(self, journal: str) -> None:
        self.reader: JournalReader = open_reader(journal)
        self.session = ""
        """`running`, `cut off`, `unknown`, or how it ended."""
        self.opened: Record | None = None
        """The record of the latest session's beginning."""
        self._session_number = -1
        self._seq = -1
        self._gauge = Gauge()
        self._stored_of = -1, 0

    @property
    def seq(self) -> int:
        """Number of the last record read."""
        return self.reader.position.seq

    @property
    def running(self) -> bool:
        """Whether a process of this machine works on it."""
        return self.session == RUNNING

    def look(self) -> bool:
        """Read what is new; whether anything changed."""
        self.reader.advance()
        facts = self.reader.delivery.facts
        if facts.session != self._session_number:
            self._session_number, self.opened = facts.session, self.reader.latest_session()
        if self.reader.delivery.created.archive.startswith("file:"):
            self.reader.delivery.limits = local_limits()
        before, self.session = (self.session, self._seq), self._session()
        self._seq = self.seq
        return before != (self.session, self._seq)

    def _session(self) -> str:
        outcome = self.reader.delivery.facts.outcome
        if outcome:
            return outcome
        if self.opened is None or not isinstance(self.opened.event, ev.SessionOpened):
            return CUT_OFF
        alive = is_alive(self.opened.event.host, self.opened.event.pid)
        return UNKNOWN if alive is None else RUNNING if alive else CUT_OFF

    def reading(self) -> Reading:
        """The figures of now; looks at every file once whenever something has changed."""
        delivery = self.reader.delivery
        if self._stored_of[0] != self.seq:
            self._stored_of = self.seq, stored_bytes(delivery)
        return self._gauge.read(
            delivery, self._stored_of[1], now_ms=time.time_ns() // 1_000_000, steady_s=time.monotonic()
        )
