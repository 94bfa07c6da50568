"""The talk with the validator: rows we append to our log, entries we find in its log, and how bytes become either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core import wire
from upload_core.delivery import Delivery
from upload_core.logs import AppendLog, LogReader
from upload_core.ports import ControlBucket
from upload_core.text import printable
from upload_core.validation import Entry, LogParser, MalformedLine

CRASH_SHOWN_MAX: Final = 1_000
STOP: Final = ("stop", wire.SELF, "")
ALIVE: Final = (("keepalive", wire.SELF, ""), ("info", wire.SELF, "waiting"))
"""A keepalive alone does not reset the validator's patience; together with any other row it does."""

Row = tuple[str, str, str]
"""Category, ref and message of a row of ours; time, status and agent id are the same for all of an append."""


class Conversation:
    """Both logs of a delivery, as one session sees them."""

    def __init__(
        self, control: ControlBucket, keys: wire.Keys, delivery: Delivery, guard: Callable[[], None] = lambda: None
    ) -> None:
        """`guard` makes sure of the lock before an append is repeated."""
        self._control = control
        self._keys = keys
        self._delivery = delivery
        self._guard = guard
        self._ours = AppendLog(control, keys.client_log, again=guard)
        self._theirs = LogReader(control, keys.validator_log)
        self._unsent: tuple[bytes, fx.ReportFiles | fx.KeepAlive] | None = None

    # --- our log ---------------------------------------------------------------------------------

    def find_ours(self, *, rows_matter: bool) -> cmd.ClientLogFound:
        """What our log holds beyond what the journal knows: an append may have lost its answer.

        Its rows are read only if they matter, that is if a validation run may have been told of them.
        """
        known = self._delivery.facts.client_log_size
        found = self._control.head(self._keys.client_log)
        size = 0 if found is None else found.size
        entries: list[Entry | MalformedLine] = []
        if size > known and rows_matter:
            read = self._control.read(self._keys.client_log, known)
            if read is not None:
                entries = LogParser(known, backslash_escapes=False).feed(read[0])
                size = known + len(read[0])
        self._ours = AppendLog(self._control, self._keys.client_log, size, self._guard)
        return cmd.ClientLogFound(entries, size)

    def report(self, effect: fx.ReportFiles | fx.KeepAlive, now_ms: int) -> cmd.FilesReported | ev.ClientLogAppended:
        """Append the rows of an effect and say what is in our log now.

        Rows whose fate is unknown go first, once more, instead of those of `effect`, which will be due again.
        """
        if self._unsent is None:
            self._unsent = (self._rows_of(effect, now_ms), effect)
        rows, effect = self._unsent
        size = self._ours.append(rows)
        self._unsent = None
        if isinstance(effect, fx.ReportFiles):
            return cmd.FilesReported(effect.stored, effect.failed, size)
        return ev.ClientLogAppended(size, note="keepalive")

    @property
    def unsent(self) -> fx.ReportFiles | fx.KeepAlive | None:
        """The effect whose rows may or may not be in our log; it has to be reported before anything else."""
        return None if self._unsent is None else self._unsent[1]

    def say_stop(self, now_ms: int) -> ev.ClientLogAppended:
        """Append our `stop` row; after a lost answer the very same one goes again, of the same time."""
        return ev.ClientLogAppended(self._ours.append(self._encode([STOP], now_ms)), note="stop")

    def say_crash(self, message: str, now_ms: int, *, stop: bool) -> ev.ClientLogAppended:
        """Append why we cannot go on, as the archive's own client does it, and with `stop` our `stop` row."""
        rows = self._encode([("client", wire.SELF, printable(message, CRASH_SHOWN_MAX))], now_ms, status="error")
        if stop:
            rows += self._encode([STOP], now_ms)
        return ev.ClientLogAppended(self._ours.append(rows), note="crash")

    def _rows_of(self, effect: fx.ReportFiles | fx.KeepAlive, now_ms: int) -> bytes:
        if isinstance(effect, fx.KeepAlive):
            return self._encode(ALIVE, now_ms)
        path, message_of = self._delivery.table.path, self._delivery.messages.get
        failed = [("transfer", path(file), message_of(file) or "interrupted") for file in effect.failed]
        stored = wire.encode_ok_rows(
            [path(file) for file in effect.stored], now_ms, "transfer", self._delivery.facts.agent_id
        )
        # failures first: an ok may follow an error, never the other way round
        return self._encode(failed, now_ms, status="error") + stored

    def _encode(self, rows: Sequence[Row], now_ms: int, status: str = ev.OK) -> bytes:
        agent = self._delivery.facts.agent_id
        return wire.encode_rows((now_ms, category, ref, status, message, agent) for category, ref, message in rows)

    # --- the validator's log ---------------------------------------------------------------------

    def hear(self, *, final: bool = False) -> cmd.ValidatorLogFound:
        """What is new in the validator's log; with `final` an unfinished last row counts as malformed."""
        facts = self._delivery.facts
        read = self._theirs.read_from(facts.validator_log_offset, facts.validator_log_mark)
        parser = LogParser(read.offset)
        entries = parser.feed(read.data)
        if final:
            entries += parser.finish()
        return cmd.ValidatorLogFound(entries, parser.consumed, read.restarted, read.mark_at(parser.consumed))
