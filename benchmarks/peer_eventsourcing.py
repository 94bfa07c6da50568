"""The same lives of files with the `eventsourcing` library and SQLite, written as its documentation teaches.

Its replay is the cheapest that the library offers: all notifications in pages, mapped back and folded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deliveries import CHECKSUM, ETAG, SIZE
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

PAGE = 1000


class File(Aggregate):
    """One file from ready to valid."""

    @event("Indexed")
    def __init__(self, path: str) -> None:
        self.path = path
        self.state = "ready"

    @event("Queued")
    def queue(self) -> None:
        self.state = "pending"

    @event("Started")
    def start(self) -> None:
        self.state = "transferring"

    @event("Completed")
    def complete(self, size: int, checksum: str, etag: str) -> None:
        self.state = "done"

    @event("Reported")
    def report(self) -> None:
        self.state = "reported"

    @event("Validated")
    def validate(self) -> None:
        self.state = "valid"


class Files(Application[Any]):
    """The delivery of these files."""


def application(directory: Path) -> Files:
    """An application whose events are in an SQLite file."""
    return Files(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(directory / "events.sqlite")})


def live(file: File) -> None:
    """The five events of a file's life, not saved yet."""
    file.queue()
    file.start()
    file.complete(SIZE, CHECKSUM, ETAG)
    file.report()
    file.validate()


def fill(app: Files, files: int) -> int:
    """Save that many whole lives; returns the number of events."""
    for first in range(0, files, 64):
        some = [File(path=f"file-{number}") for number in range(first, min(files, first + 64))]
        for file in some:
            live(file)
        app.save(*some)
    return files * 6


def replay(app: Files) -> int:
    """Fold every event that was saved; returns how many files are valid."""
    files: dict[Any, Any] = {}
    start = 1
    to_event = app.mapper.to_domain_event
    while found := app.recorder.select_notifications(start=start, limit=PAGE):
        for notification in found:
            domain_event: Any = to_event(notification)
            files[domain_event.originator_id] = domain_event.mutate(files.get(domain_event.originator_id))
        start = found[-1].id + 1
    return sum(file.state == "valid" for file in files.values())
