"""`upload-core status`: how deliveries stand, also while other processes work on them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import click

from upload_adapters.cli import live
from upload_adapters.cli.ending import groups, resume_command
from upload_adapters.cli.options import journals_argument, no_color_option
from upload_adapters.cli.output import failed_json, files, paused_in_words, size, write_json, write_line
from upload_adapters.cli.reading import journals_among
from upload_adapters.cli.several import said_of_shared
from upload_adapters.cli.watching import CUT_OFF, RUNNING, UNKNOWN, Watch
from upload_adapters.console import TerminalConsole
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.jobs import CopyJob
from upload_core.lifecycle import ABANDONED, FAILED, INVALID
from upload_core.messages import plain
from upload_core.outcomes import FailedFile
from upload_core.text import printable

FOLLOW_S: Final = 0.5
PLAIN_INTERVAL_S: Final = 30.0
"""Between two lines where nobody watches."""


@click.command()
@journals_argument
@click.option("--failed", "with_failed", is_flag=True, help="List every failed or invalid file with its reason.")
@click.option("--follow", is_flag=True, help="Go on until no session runs any more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@no_color_option
def command(journals: Sequence[str], with_failed: bool, follow: bool, as_json: bool) -> int:
    """How deliveries stand, also while they run.

    Reads the journals, or those in a directory of them, and nothing else; whoever works on them is not disturbed. With --follow a terminal shows what
    `deliver` shows; elsewhere there is a line every half minute, or with --json an object whenever something changes.
    """
    found, others = journals_among(journals)
    for place in others:
        TerminalConsole().message(f"{printable(place, 300)} is no journal and is left out", "warning")
    watches = [Watch(journal) for journal in found]
    for watch in watches:
        watch.look()
        if as_json:
            write_json(_status(watch))
    if follow:
        _follow(watches, as_json=as_json)
    if not as_json:
        for number, watch in enumerate(watches):
            if number:
                write_line("")
            _show(watch, with_failed=with_failed)
        if len(watches) > 1:
            _show_sum(watches)
    return 0


# --- following -----------------------------------------------------------------------------------


def _follow(watches: Sequence[Watch], *, as_json: bool) -> None:
    """Look again and again until no session runs any more."""
    console = TerminalConsole()
    screen = _Screen(console) if console.is_terminal and not as_json else None
    told_s = time.monotonic()
    try:
        while any(watch.running for watch in watches):
            if screen is not None:
                screen.draw(watches)
            time.sleep(FOLLOW_S)
            due = screen is None and not as_json and time.monotonic() - told_s >= PLAIN_INTERVAL_S
            told_s = time.monotonic() if due else told_s
            for watch in watches:
                changed = watch.look()
                if changed and as_json:
                    write_json(_status(watch))
                reading = watch.reading() if screen is None else None  # the pace needs to be looked at now and then
                if due and reading is not None:
                    write_line(f"{watch.reader.position.time} {reading.name}: {live.plain(reading)}")
    finally:
        if screen is not None:
            screen.close()


class _Screen:
    """A few lines for each delivery, drawn over and over."""

    def __init__(self, console: TerminalConsole) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(
            console=console.rich(),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def draw(self, watches: Sequence[Watch]) -> None:
        """Show them as they stand."""
        from rich.text import Text

        unicode = "utf" in self._console.encoding.lower()
        width = max(10, self._console.rich().width)
        shown = [live.text(watch.reading(), width, unicode=unicode) for watch in watches]
        self._live.update(Text("\n\n", no_wrap=True, end="").join(shown), refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()


# --- showing -------------------------------------------------------------------------------------


def failed_files(delivery: Delivery) -> list[FailedFile]:
    """Every file that failed or is invalid, in index order."""
    return [
        FailedFile(delivery.table.path(file), delivery.state_of(file), delivery.message_of(file))
        for file in sorted(delivery.files_in(FAILED, ABANDONED, INVALID))
    ]


def _status(watch: Watch) -> dict[str, Any]:
    reader, session = watch.reader, watch.session
    delivery = reader.delivery
    created, facts = delivery.created, delivery.facts
    return {
        "dataset": created.dataset,
        "delivery_id": created.delivery_id,
        "transfer_type": created.transfer_type,
        "session": session,
        "client_state": delivery.client_state,
        "message": facts.message,
        "paused": dict(facts.paused) if session in (RUNNING, UNKNOWN) else {},
        "jobs": facts.level or facts.n_threads,
        "seq": reader.position.seq,
        "time": reader.position.time,
        "counts": {str(state): count for state, count in delivery.public_counts().items()},
        "copy_jobs": [
            {"job_id": job.job_id, "status": job.status, "copied": job.copied, "failed": job.failed, "total": job.total}
            for job in facts.jobs.values()
        ],
        "files": len(delivery),
        "retries": facts.retries_total,
        "source": facts.source,
        "archive": created.archive,
        "journal": str(reader.path),
        "failed": failed_json(failed_files(delivery)),
    }


def _show(watch: Watch, *, with_failed: bool) -> None:
    reader, delivery = watch.reader, watch.reader.delivery
    created = delivery.created
    write_line(f"{created.dataset}-{created.delivery_id} ({created.transfer_type}): {_in_words(watch)}")
    write_line(f"{files(len(delivery))}: {_counts(delivery.public_counts())}")
    for job in delivery.facts.jobs.values():
        write_line(f"copy job {printable(job.job_id) or 'not yet taken'}: {_job(job)}")
    failed = failed_files(delivery)
    if with_failed:
        for file in failed:
            write_line(f"{file.relpath}: {file.state}: {plain(file.message or '')}")
    else:
        for text, _ in groups(failed):
            write_line(text)
    write_line(f"record {reader.position.seq:,} of {reader.position.time}")
    if watch.session in (CUT_OFF, "interrupted", "crashed"):
        write_line(f"next: {resume_command(str(reader.path))}")


def _job(job: CopyJob) -> str:
    failed = f", {job.failed:,} failed" if job.failed else ""
    far = f", {job.copied:,} of {job.total:,} copied{failed}" if job.total else ""
    return f"{printable(job.status, 200) or 'New'}{far}"


def _show_sum(watches: Sequence[Watch]) -> None:
    """All of them together: a delivery may be split into several with indexes of their own."""
    total: Counter[str] = Counter()
    for watch in watches:
        total.update({str(state): count for state, count in watch.reader.delivery.public_counts().items()})
    count, size_bytes = total.total(), sum(watch.reader.delivery.table.total_bytes for watch in watches)
    write_line("")
    write_line(f"in all, {len(watches)} journals: {files(count)}, {size(size_bytes)}: {_counts(total)}")
    if (shared := said_of_shared([watch.reader.delivery.table for watch in watches])) is not None:
        write_line(shared)


def _counts(counts: Any) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in counts.items() if count) or "none"


def _in_words(watch: Watch) -> str:
    opened, facts = watch.opened, watch.reader.delivery.facts
    event = opened.event if opened is not None else None
    known = isinstance(event, ev.SessionOpened) and event.pid
    who = f"process {event.pid} on {event.host}" if known else "its process"  # type: ignore[union-attr]  # it is known
    match watch.session:
        case "running":
            since = f" since {opened.time}" if opened is not None else ""
            paused = f", {paused_in_words(facts.paused)}" if facts.paused else ""
            return f"running, by {who}{since}; the client is {watch.reader.delivery.client_state}{paused}"
        case "cut off":
            return f"cut off: {who} ended without closing its session"
        case "unknown":
            return f"open, by {who}; whether that still runs cannot be told from here"
        case outcome:
            return f"{outcome}: {plain(facts.message)}" if facts.message else outcome
