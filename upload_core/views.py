"""What callers see of a delivery: files, the table of states, the summary of a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import ClientFile
from upload_core.lifecycle import ABANDONED, FAILED, INVALID
from upload_core.messages import WHOLE_MAX, plain
from upload_core.outcomes import FailedFile, Summary, exit_code_of

STATE_HEADER: Final = ("relpath", "state", "retries", "size", "checksum", "message")
"""Columns of `state_rows`."""


_COUNTED: Final = frozenset({ev.TransferStarted, ev.UploadBegun, ev.PartStored})


class SentBytes:
    """Counts the bytes of a session: of a file in parts those that it has journaled, of any other all at its end."""

    def __init__(self) -> None:
        self.total = 0
        self._part_sizes: dict[int, int] = {}
        """Of files that are sent in parts, until their end."""

    def count(self, delivery: Delivery, events: Sequence[ev.Event]) -> None:
        """To be told of each batch once it is applied."""
        part_sizes, uploads = self._part_sizes, delivery.uploads
        for event in events:
            if isinstance(event, ev.TransferCompleted):
                if part_sizes.pop(event.file, None) is None:
                    self.total += event.size
            elif type(event) not in _COUNTED:
                continue  # nearly all events: asked once instead of kind by kind
            elif isinstance(event, ev.TransferStarted):
                part_sizes.pop(event.file, None)
                if uploads and (upload := uploads.get(event.file)) is not None:
                    part_sizes[event.file] = upload.part_size
            elif isinstance(event, ev.UploadBegun):
                part_sizes[event.file] = event.part_size
            elif isinstance(event, ev.PartStored):
                part_size = part_sizes.get(event.file, 0)
                self.total += min(part_size, delivery.table.size(event.file) - (event.number - 1) * part_size)


def client_file(delivery: Delivery, file: int, root: str, max_retries: int) -> ClientFile:
    """A copy of one row, with its place below `root`."""
    relpath, retries = delivery.table.path(file), delivery.retries[file]
    return ClientFile(
        abspath=f"{root.rstrip('/')}/{relpath}",
        relpath=relpath,
        state=delivery.state_of(file),
        retries=retries,
        # Callers take retries < max_retries for another attempt to come; a file that was given up early gets none.
        max_retries=retries if delivery.states[file] == ABANDONED else max_retries,
        message=delivery.message_of(file),
        checksum=delivery.table.checksum(file),
    )


def state_name(created: ev.DeliveryCreated) -> str:
    """What a dump of this delivery's state is called."""
    return f"{created.dataset}-{created.delivery_id}-{created.transfer_type}-state"


def state_rows(delivery: Delivery, max_retries: int) -> Iterator[tuple[str, ...]]:
    """Every file's state as text, in index order; a reason as people read it, however the validator wrote it."""
    for file in range(len(delivery)):
        seen = client_file(delivery, file, "", max_retries)
        size = str(delivery.table.size(file))
        yield (
            seen.relpath,
            seen.state,
            str(seen.retries),
            size,
            seen.checksum or "",
            plain(seen.message or "", WHOLE_MAX),
        )


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
        copy_jobs=len(facts.jobs),
    )
