"""Events as records of Python's logging, under `upload_core.events`; a host that configures nothing sees and pays nothing.

Rule: nobody here adds a handler that shows something, or sets a level. What happens to a file is DEBUG unless it goes
wrong: a million files have five million events.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import msgspec

from upload_core import events as ev
from upload_core.journal import Record
from upload_core.ports import Observer
from upload_core.text import printable

LOGGER: Final = logging.getLogger("upload_core.events")
logging.getLogger("upload_core").addHandler(logging.NullHandler())

TEXT_MAX: Final = 1_000

LEVELS: Final[Mapping[type[ev.Event], int]] = {
    ev.TransferFailed: logging.WARNING,
    ev.TransferAbandoned: logging.ERROR,
    ev.FileInvalidated: logging.WARNING,
    ev.UnexpectedVerdictFound: logging.WARNING,
    ev.LogLineRejected: logging.WARNING,
    ev.ValidatorLogRestarted: logging.WARNING,
    ev.ValidatorStartFailed: logging.ERROR,
    ev.ValidatorLost: logging.ERROR,
    ev.ValidatorShutDown: logging.INFO,
    ev.ValidatorStarted: logging.INFO,
    ev.ValidatorStopped: logging.INFO,
    ev.PipelineRequested: logging.INFO,
    ev.PipelineAccepted: logging.INFO,
    ev.PipelineAttached: logging.INFO,
    ev.RunAwaited: logging.INFO,
    ev.PipelineRefused: logging.ERROR,
    ev.LockAcquired: logging.INFO,
    ev.LockReleased: logging.INFO,
    ev.LockLost: logging.ERROR,
    ev.OutageBegan: logging.WARNING,
    ev.OutageEnded: logging.WARNING,
    ev.SuspensionNoticed: logging.WARNING,
    ev.ConcurrencyChanged: logging.INFO,
    ev.CopyJobRequested: logging.INFO,
    ev.CopyJobCreated: logging.INFO,
    ev.CopyJobEnded: logging.INFO,
    ev.TransfersPaused: logging.INFO,
    ev.TransfersContinued: logging.INFO,
    ev.IndexRevised: logging.INFO,
    ev.SessionOpened: logging.INFO,
    ev.StopRequested: logging.INFO,
    ev.SessionClosed: logging.INFO,
}
"""Kind of event -> level; all others are DEBUG."""


def observer(logger: logging.Logger = LOGGER) -> Observer:
    """Logs each event of a delivery at its level; those of level DEBUG only if the logger wants them by now."""
    debug = logger.isEnabledFor(logging.DEBUG)

    def log(record: Record) -> None:
        level = LEVELS.get(type(record.event), logging.DEBUG)
        if logger.isEnabledFor(level):
            logger.log(level, "%s", in_words(record), extra={"upload_core_record": record})

    return Observer(log, None if debug else LEVELS.keys())


def in_words(record: Record) -> str:
    """The event and its fields in one printable line.

    >>> in_words(Record(7, "2026-11-22T07:24:36.959Z", ev.TransferFailed(3, "no such file")))
    "TransferFailed seq=7 file=3 message='no such file'"
    """
    fields = msgspec.structs.asdict(record.event)
    shown = " ".join(f"{name}={value!r}" for name, value in fields.items() if value not in ("", {}))
    return printable(f"{type(record.event).__name__} seq={record.seq} {shown}".rstrip(), TEXT_MAX)
