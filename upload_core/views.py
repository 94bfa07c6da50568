"""What callers see of a delivery: files, the table of states, the summary of a session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from upload_core.delivery import Delivery
from upload_core.files import ClientFile
from upload_core.lifecycle import ABANDONED, FAILED, INVALID
from upload_core.outcomes import FailedFile, Summary, exit_code_of

STATE_HEADER: Final = ("relpath", "state", "retries", "size", "checksum", "message")
"""Columns of `state_rows`."""


def client_file(delivery: Delivery, file: int, root: str, max_retries: int) -> ClientFile:
    """A copy of one row, with its place below `root`."""
    relpath = delivery.table.path(file)
    return ClientFile(
        abspath=f"{root.rstrip('/')}/{relpath}",
        relpath=relpath,
        state=delivery.state_of(file),
        # one that was given up early has no retry left to spend
        retries=max_retries if delivery.states[file] == ABANDONED else delivery.retries[file],
        max_retries=max_retries,
        message=delivery.message_of(file),
        checksum=delivery.table.checksum(file),
    )


def state_rows(delivery: Delivery, max_retries: int) -> Iterator[tuple[str, ...]]:
    """Every file's state as text, in index order."""
    for file in range(len(delivery)):
        seen = client_file(delivery, file, "", max_retries)
        size = str(delivery.table.size(file))
        yield seen.relpath, seen.state, str(seen.retries), size, seen.checksum or "", seen.message or ""


def summary_of(
    delivery: Delivery, *, unrecorded_end: tuple[str, str] | None, bytes_sent: int, seconds: float, journal: str
) -> Summary:
    """How a session ended: as its journal says, unless the journal could not be told any more."""
    facts = delivery.facts
    outcome, reason = unrecorded_end or (facts.outcome, facts.reason)
    if not outcome:
        outcome, reason = ("complete", "") if delivery.all_valid else ("interrupted", "user")
    return Summary(
        outcome=outcome,
        exit_code=exit_code_of(outcome, reason),
        counts={str(state): count for state, count in delivery.public_counts().items()},
        files=len(delivery),
        retries=facts.retries_total,
        bytes=bytes_sent,
        seconds=seconds,
        journal=journal,
        failed=[
            FailedFile(delivery.table.path(file), delivery.state_of(file), delivery.message_of(file))
            for file in sorted(delivery.files_in(FAILED, ABANDONED, INVALID))
        ],
        reason=reason,
        message=facts.message,
    )
