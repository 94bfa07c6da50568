"""What commands print: one JSON object as the last line of standard output, text for people on standard error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final

import click

from upload_adapters.cli.exit_codes import BUG, INTERRUPTED, OUTCOMES, exit_code_of_error
from upload_adapters.console import TerminalConsole
from upload_core.errors import IndexProblemsError
from upload_core.messages import WHOLE_MAX, plain
from upload_core.outcomes import FailedFile, Summary
from upload_core.text import printable

DEBUG_VARIABLE: Final = "UPLOAD_CORE_DEBUG"
NO_COMMAND: Final[Any] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises where a command lacks, with the help as its message; 8.1 shows the help by itself."""


DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
OUTPUT_LOST: Final = 8
"""As for any disk that cannot be written now."""


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return bool(os.environ.get(DEBUG_VARIABLE))


def paused_in_words(paused: Mapping[str, str]) -> str:
    """Who keeps files from being begun, and why, in a few words."""
    return "paused by " + ", ".join(f"{by} ({printable(why, 100)})" if why else by for by, why in paused.items())


def write_json(data: Mapping[str, Any]) -> None:
    """One line of ASCII: whatever a name holds, no terminal acts on it and no encoding spoils it."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def drop_output() -> None:
    """Give what is still to be written to standard output another place: Python would complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def write_line(text: str) -> None:
    """One line of data that a person may read as well."""
    write_cells([text])


def write_hanging(head: str, text: str) -> None:
    """A line that on a terminal goes on beneath its own beginning; elsewhere a line is a line."""
    if not sys.stdout.isatty():
        write_line(head + text)
        return
    width = max(len(head) + 20, shutil.get_terminal_size().columns)
    shown = head + printable(text, 10_000)
    for line in textwrap.wrap(shown, width, subsequent_indent=" " * len(head), drop_whitespace=False):
        write_line(line.rstrip())


def write_raw(text: str) -> None:
    """Text of our own that another program reads, as it stands."""
    sys.stdout.write(text)


def write_cells(cells: Iterable[str]) -> None:
    """A line of cells with tabs between; a tab inside a cell shows as an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    line = "\t".join(printable(cell, 10_000) for cell in cells)
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def write_table(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> None:
    """Rows of cells in columns, those of `right` flush right; blanks at the end of a line are left out."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(w) if n in right else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        write_line("  ".join(cells).rstrip())


def summary_json(summary: Summary) -> dict[str, Any]:
    """The object that `--json` prints for a session; `message` and `copy_jobs` are there only if there is something to say.

    Without `counts` nothing is known of the files: the command ended before it had read the journal, or the index.
    """
    data: dict[str, Any] = {
        "outcome": summary.outcome,
        "exit_code": summary.exit_code,
        "counts": summary.counts or None,
        "files": summary.files or None,
        "retries": summary.retries if summary.counts else None,
        "bytes": summary.bytes,
        "seconds": summary.seconds,
        "journal": summary.journal,
        "failed": failed_json(summary.failed),
    }
    if summary.message:
        data["message"] = summary.message
    if summary.copy_jobs:
        data["copy_jobs"] = summary.copy_jobs
    return data


def failed_json(failed: Iterable[FailedFile]) -> list[dict[str, Any]]:
    """Files that failed or are invalid, with the reasons that people read."""
    return [{"relpath": f.relpath, "state": f.state, "message": reason(f.message)} for f in failed]


def reason(message: str | None) -> str | None:
    """Why a file is as it is, in one line, as the screen has it; the journal keeps how the validator wrote it."""
    return None if message is None else plain(message, WHOLE_MAX)


def empty_summary(code: int, message: str, journal: str = "") -> Summary:
    """The summary of a command that ended before there was a delivery."""
    return Summary(OUTCOMES[code], code, {}, 0, 0, 0, 0.0, journal, [], message=message)


def problems_json(error: IndexProblemsError) -> list[dict[str, Any]]:
    """All problems of an index, however many are shown to people."""
    return [{"row": p.row, "path": p.path, "rule": p.rule, "message": p.message} for p in error.problems]


def explain(error: BaseException) -> str:
    """The error as a message for people."""
    if isinstance(error, NO_COMMAND):
        shown: str = error.format_message()
        return shown
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "upload-core"
        said = " ".join(error.format_message().split())  # click breaks and indents a list of choices
        return f"{said}\nTry: {command} --help"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted; nothing was started"
    if exit_code_of_error(error) == BUG:
        return (
            f"{type(error).__name__}: {error}\nThis is a bug in upload-core. Please report it with the line above; "
            f"{DEBUG_VARIABLE}=1 shows where it happened."
        )
    return str(error)


def code_of(error: BaseException) -> int:
    """The exit code of an error, those of click included."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        return INTERRUPTED
    return 2 if isinstance(error, click.ClickException) else exit_code_of_error(error)


def refuse(error: BaseException, *, as_json: bool, journal: str = "") -> int:
    """Say why a command ends here, to people and on request as JSON; returns its exit code."""
    if why := _output_refused(error):
        drop_output()
        show_error(error, f"standard output cannot be written: {why}; make room there, then run again")
        return OUTPUT_LOST
    code, message = code_of(error), explain(error)
    if isinstance(error, NO_COMMAND):
        # whoever names no command is told which there are, and made no mistake
        click.echo(message, err=True)
    elif message:
        show_error(error, message)
    if as_json:
        data = summary_json(empty_summary(code, message, journal))
        if isinstance(error, IndexProblemsError):
            data["problems"] = problems_json(error)
        write_json(data)
    return code


def _output_refused(error: BaseException) -> str:
    """Why standard output takes nothing more, or "" if that is not what the error is about."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS and error.filename is None and sys.stdout is not None:
        try:
            sys.stdout.flush()  # what could not be written is still to be written, unless nothing is kept back
            os.write(1, b"\n")
        except OSError as refused:
            return refused.strerror or str(refused)
    return ""


def show_error(error: BaseException, message: str) -> None:
    """The message on standard error; with UPLOAD_CORE_DEBUG the traceback before it."""
    console = TerminalConsole()
    if debugging():
        console.message("".join(traceback.format_exception(error)).rstrip(), "info")
    console.message(f"upload-core: {message}", "error")


def size(count: int) -> str:
    """Bytes for people.

    >>> size(0), size(1023), size(12_345_678), size(5 * 1024**4)
    ('0 B', '1,023 B', '11.8 MiB', '5.0 TiB')
    """
    if count < 1024:
        return f"{count:,} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1024 or unit == "PiB":
            break
    return f"{value:,.1f} {unit}"


def files(count: int) -> str:
    """A number of files for people.

    >>> files(1), files(1200)
    ('1 file', '1,200 files')
    """
    return "1 file" if count == 1 else f"{count:,} files"


def duration(seconds: float) -> str:
    """A time span for people.

    >>> duration(0.31), duration(75), duration(7320)
    ('0.3 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def span(seconds: float) -> str:
    """A time span that nobody needs to the second.

    >>> span(0.2), span(41), span(160), span(3 * 3600 + 600), span(200_000)
    ('1 s', '41 s', '3 min', '3 h 10 min', '2 d 8 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
