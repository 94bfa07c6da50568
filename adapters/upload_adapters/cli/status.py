"""`upload-core status`: how a delivery stands, also while another process works on it."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from upload_adapters.cli.output import files, paused_in_words, write_json, write_line
from upload_adapters.cli.reading import is_alive, open_reader
from upload_adapters.cli.report import groups, resume_command
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.lifecycle import ABANDONED, FAILED, INVALID
from upload_core.messages import plain
from upload_core.outcomes import FailedFile

FOLLOW_S: Final = 0.5


@click.command()
@click.argument("journal", type=click.Path())
@click.option("--failed", "with_failed", is_flag=True, help="List every failed or invalid file with its reason.")
@click.option("--follow", is_flag=True, help="Go on whenever something changes, until the session ends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def command(journal: str, with_failed: bool, follow: bool, as_json: bool) -> int:
    """How a delivery stands, also while it runs.

    Reads the journal and nothing else; whoever works on it is not disturbed.
    """
    reader = open_reader(journal)
    seen = -1
    while True:
        reader.advance()
        session = _session(reader)
        if reader.position.seq != seen:
            seen = reader.position.seq
            status = _status(reader, session)
            if as_json:
                write_json(status)
            else:
                _show(reader, status, with_failed=with_failed)
        if not follow or session != "running":
            return 0
        time.sleep(FOLLOW_S)


def _session(reader: JournalReader) -> str:
    """running, cut off (its process is gone), unknown (it runs elsewhere, if at all), or how it ended."""
    if reader.delivery.facts.outcome:
        return reader.delivery.facts.outcome
    latest = reader.latest_session()
    if latest is None or not isinstance(latest.event, ev.SessionOpened):
        return "cut off"
    alive = is_alive(latest.event.host, latest.event.pid)
    return "unknown" if alive is None else "running" if alive else "cut off"


def failed_files(delivery: Delivery) -> list[FailedFile]:
    """Every file that failed or is invalid, in index order."""
    return [
        FailedFile(delivery.table.path(file), delivery.state_of(file), delivery.message_of(file))
        for file in sorted(delivery.files_in(FAILED, ABANDONED, INVALID))
    ]


def _status(reader: JournalReader, session: str) -> dict[str, Any]:
    delivery = reader.delivery
    created, facts = delivery.created, delivery.facts
    return {
        "dataset": created.dataset,
        "delivery_id": created.delivery_id,
        "transfer_type": created.transfer_type,
        "session": session,
        "client_state": delivery.client_state,
        "message": facts.message,
        "paused": dict(facts.paused) if session in ("running", "unknown") else {},
        "jobs": facts.level or facts.n_threads,
        "seq": reader.position.seq,
        "time": reader.position.time,
        "counts": {str(state): count for state, count in delivery.public_counts().items()},
        "files": len(delivery),
        "retries": facts.retries_total,
        "source": facts.source,
        "archive": created.archive,
        "journal": str(reader.path),
        "failed": [{"relpath": f.relpath, "state": f.state, "message": f.message} for f in failed_files(delivery)],
    }


def _show(reader: JournalReader, status: dict[str, Any], *, with_failed: bool) -> None:
    delivery = reader.delivery
    name = f"{status['dataset']}-{status['delivery_id']} ({status['transfer_type']})"
    counts = ", ".join(f"{count:,} {state}" for state, count in status["counts"].items() if count)
    write_line(f"{name}: {_in_words(reader, status)}")
    write_line(f"{files(status['files'])}: {counts or 'none'}")
    failed = failed_files(delivery)
    if with_failed:
        for file in failed:
            write_line(f"{file.relpath}: {file.state}: {plain(file.message or '')}")
    else:
        for text, _ in groups(failed):
            write_line(text)
    write_line(f"record {status['seq']:,} of {status['time']}")
    if status["session"] in ("cut off", "interrupted", "crashed"):
        write_line(f"next: {resume_command(str(reader.path))}")


def _in_words(reader: JournalReader, status: dict[str, Any]) -> str:
    latest = reader.latest_session()
    event = latest.event if latest is not None else None
    who = f"process {event.pid} on {event.host}" if isinstance(event, ev.SessionOpened) else "its process"
    message = f": {plain(status['message'])}" if status["message"] else ""
    match status["session"]:
        case "running":
            since = f" since {latest.time}" if latest is not None else ""
            paused = f", {paused_in_words(status['paused'])}" if status["paused"] else ""
            return f"running, by {who}{since}; the client is {status['client_state']}{paused}"
        case "cut off":
            return f"cut off: {who} ended without closing its session"
        case "unknown":
            return f"open, by {who}; whether that still runs cannot be told from here"
        case outcome:
            return f"{outcome}{message}"
