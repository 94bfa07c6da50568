"""One session of a delivery as the command line runs it: signals, progress, events, report, exit code."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from upload_adapters.cli.ending import ending
from upload_adapters.cli.exit_codes import INTERRUPTED, OUTCOMES, exit_code_of_error
from upload_adapters.cli.hooks import finish
from upload_adapters.cli.interrupts import REASON, Interrupts
from upload_adapters.cli.output import drop_output, explain, show_error, summary_json, write_json
from upload_adapters.cli.pausing import PauseWatch
from upload_adapters.cli.progress import Progress
from upload_adapters.cli.windows import Windows
from upload_adapters.console import TerminalConsole
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.prometheus import MetricsFile
from upload_adapters.state_dump import DirectoryStateDump
from upload_adapters.wiring import directory_of
from upload_core.client import UploadClient
from upload_core.outcomes import Summary
from upload_core.ports import Ports
from upload_core.views import STATE_HEADER, state_name, state_rows


class EventStream:
    """The journal's records on standard output, as they are committed; when nobody reads any more, it falls silent."""

    def __init__(self) -> None:
        self._open = True

    def __call__(self, lines: bytes) -> None:
        if self._open:
            self._open = write_tolerantly(lines)


def write_tolerantly(data: bytes) -> bool:
    """Write to standard output at once; False, and nothing more can follow, if nobody reads it any more."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        # A reader that left is no reason to stop a delivery. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return False
    return True


def prepare(ports: Ports, *, quiet: bool, events: bool, bandwidth: float | None = None) -> TerminalConsole:
    """Fit wired ports to the command line."""
    # The one that was wired: whoever signs in is asked through it.
    console = ports.console
    assert isinstance(console, TerminalConsole), "the command line wires no other"
    console.quiet = quiet
    ports.dispatcher.set_bandwidth(bandwidth)
    ports.dump = DirectoryStateDump(ports.journal.name)
    if events:
        assert isinstance(ports.journal, DirectoryJournal), "records are lines of a file only here"
        ports.journal.on_commit = EventStream()
    return console


def run(
    client: UploadClient,
    console: TerminalConsole,
    interrupts: Interrupts,
    *,
    ports: Ports,
    as_json: bool,
    verbosity: int = 0,
    windows: Windows | None = None,
    again: str,
    metrics: str | None = None,
    on_finish: str | None = None,
) -> int:
    """Drive the client to its end, whatever that is, say how it ended, and return the exit code.

    `again` is the command that delivers what is mended: it reads the index, which resuming does not.
    """
    if as_json:
        interrupts.last_words = lambda: _interrupted_now(client)
    interrupts.client = client
    interrupts.at_person = lambda: console.asking
    new_archive = _missing_directory(ports.archive_name)
    metrics_file = None if metrics is None else MetricsFile(client, metrics)
    try:
        with (
            PauseWatch(client, Path(ports.journal.name), windows),
            Progress(console, client, ports, verbosity=verbosity) as progress,
        ):
            interrupts.announce = progress.announce
            summary = client.run()
    except Exception as error:  # noqa: BLE001 - every end of a session is reported in the same way
        summary = _ended_by(error, client)
        if summary.outcome in ("refused", "crashed"):
            show_error(error, summary.message)
            summary_text = replace(summary, message="")
        else:
            summary_text = summary
    else:
        summary_text = summary
    if new_archive and os.path.isdir(new_archive):
        console.message(f"the archive {new_archive} did not exist and was made", "info")
    if summary.outcome != "refused":
        full_list = _dump_state(client, ports, summary)
        lines = ending(summary_text, again=again, full_list=full_list)
        if not console.quiet or summary.exit_code:
            console.messages((text, "error" if console.quiet else mtype) for text, mtype in lines)
    if metrics_file is not None:
        metrics_file.write()
        if metrics_file.trouble:
            console.message(f"--metrics: {metrics_file.trouble}", "warning")
    if as_json:
        try:
            write_json(summary_json(summary))
        except BrokenPipeError:
            drop_output()
        except (OSError, AttributeError) as error:  # a full disk; no standard output at all
            if isinstance(error, OSError):
                drop_output()
            reason = error.strerror if isinstance(error, OSError) else "there is none"
            console.message(f"the summary could not be written to standard output: {reason}", "error")
    if on_finish is not None and (trouble := finish(on_finish, summary)):
        console.message(trouble, "warning")
    return summary.exit_code


def _missing_directory(archive: str) -> str:
    """The directory that is the archive if it is not there yet, else "": it is made, and its name may be mistyped."""
    if not archive.startswith("file://"):
        return ""
    directory = directory_of(archive)
    return "" if os.path.isdir(directory) else directory


def _ended_by(error: Exception, client: UploadClient) -> Summary:
    """The summary of a session that an error ended, or kept from beginning."""
    code = exit_code_of_error(error)
    recorded = client.summary().outcome if client.delivery.facts.session else ""
    outcome = OUTCOMES[code] if code in (0, 2, 7) or not recorded else recorded
    return replace(_known(client), outcome=outcome, exit_code=code, message=explain(error))


def _known(client: UploadClient) -> Summary:
    """The client's summary; without counts until it has opened its journal, which may know that files are valid."""
    summary = client.summary()
    return summary if client.delivery.facts.session else replace(summary, counts={})


def _interrupted_now(client: UploadClient) -> bytes:
    summary = replace(_known(client), outcome="interrupted", exit_code=INTERRUPTED, message=REASON)
    return json.dumps(summary_json(summary)).encode() + b"\n"


def _dump_state(client: UploadClient, ports: Ports, summary: Summary) -> str:
    """After anything but a complete delivery: every file's state as a CSV in the journal's directory, the latest only.

    Returns its place, "" if there is none; what cannot be written or removed is a warning.
    """
    directory = Path(summary.journal)
    if not directory.is_dir() or not summary.counts:
        return ""
    try:
        for old in directory.glob(f"{state_name(client.delivery.created)}*.csv"):
            old.unlink(missing_ok=True)
        if summary.outcome != "complete":
            rows = state_rows(client.delivery, client.max_retries)
            return ports.dump.write(state_name(client.delivery.created), STATE_HEADER, rows)
    except OSError as error:
        client.cmessage(f"the list of all files' states could not be written: {error}", "warning")
    return ""


def again_by(arguments: Sequence[str]) -> str:
    """The command line of these arguments, as a shell takes it."""
    return shlex.join(["upload-core", *arguments])
