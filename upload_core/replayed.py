"""A journal replayed for a program or a notebook: `upload_core.replay`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from upload_core.delivery import Delivery
from upload_core.files import ClientFile
from upload_core.lifecycle import FILE_STATES
from upload_core.notebook import delivery_html
from upload_core.views import client_file
from upload_core.wiring import default_wiring

if TYPE_CHECKING:
    from datetime import datetime
    from os import PathLike


@attrs.frozen
class Replayed:
    """The state that a journal led to: after record `seq`, which was written at `time`."""

    delivery: Delivery
    seq: int
    time: str
    journal: str

    def files(self) -> Iterator[ClientFile]:
        """Every file of the index, in index order."""
        facts = self.delivery.facts
        for file in range(len(self.delivery)):
            yield client_file(self.delivery, file, facts.source, facts.max_retries)

    def columns(self) -> dict[str, list[Any]]:
        """The state as columns: relpath, state, retries, size (bytes), checksum and message, None where there is none."""
        delivery, table = self.delivery, self.delivery.table
        rows = range(len(delivery))
        names = [state.shown_as for state in FILE_STATES]
        return {
            "relpath": list(table.paths())[: len(rows)],
            "state": [names[code] for code in delivery.states],
            "retries": list(delivery.retries),
            "size": list(map(table.size, rows)),
            "checksum": list(map(table.checksum, rows)),
            "message": list(map(delivery.message_of, rows)),
        }

    def to_dataframe(self, library: str | None = None) -> Any:
        """`columns` as a data frame of `library` (pandas, polars or pyarrow); if None, of one that is there.

        One that the program has imported already comes first. Raises `ConfigurationError` if there is none.
        """
        return default_wiring().dataframe(self.columns(), library)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        at = f"{self.delivery.client_state}, record {self.seq:,} of {self.time}"
        return delivery_html(self.delivery, self.journal, at)


def replay(journal: str | PathLike[str], *, until: int | str | datetime | None = None) -> Replayed:
    """The state that a journal led to, up to record number `until`, or up to a moment; nothing is locked or changed.

    A moment is a `datetime` with a time zone, or text like 2026-11-22T12:34:56.789Z. Raises `JournalError` if there is no
    journal, `JournalDamagedError`, and `ConfigurationError` for a moment that is none, or is before the first record.
    """
    delivery, seq, time = default_wiring().replay(journal, until)
    return Replayed(delivery, seq, time, str(journal))
