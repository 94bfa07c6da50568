"""The few lines that end a session: what was delivered, what was not and why, where all of it is, and what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from upload_adapters.cli.output import duration, files, size
from upload_core.messages import plain
from upload_core.outcomes import FailedFile, Summary
from upload_core.ports import MessageType
from upload_core.tally import Groups

GROUPS_MAX: Final = 5
NAMES_MAX: Final = 3
RESUMABLE: Final = frozenset({4, 5, 6, 8, 70, 130})
"""Exit codes of sessions that `resume` goes on with, once their cause is gone."""

Line = tuple[str, MessageType]


def shown_path(path: str) -> str:
    """A path as short as it can be typed from here."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") or len(relative) > len(path) else relative


def resume_command(journal: str) -> str:
    """What to type to go on."""
    return f"upload-core resume {shlex.quote(shown_path(journal))}"


def ending(summary: Summary, *, again: str = "", full_list: str = "") -> Iterator[Line]:
    """The lines, each with its category; their first says whether all went well.

    `again` is the command that delivers what is mended, `full_list` the file with every file's state, where there is one. A
    summary without counts is of a session that could not open its journal: what that says of the files is not known.
    """
    counts = summary.counts
    sent = f"; {size(summary.bytes)} sent in {duration(summary.seconds)}" if summary.bytes else ""
    if summary.outcome == "complete":
        what = (
            "every file is valid; nothing had to be sent"
            if not sent and summary.files
            else f"{files(summary.files)} valid"
        )
        yield f"complete: {what}{sent}", "complete"
        return
    if counts:
        yield f"{summary.outcome}: {counts['valid']:,} of {files(summary.files)} valid{sent}", "error"
    else:
        yield f"{summary.outcome}: the journal could not be opened, so nothing was sent", "error"
    if summary.message:
        yield plain(summary.message), "error"
    yield from groups(summary.failed)
    waiting = summary.files - counts["valid"] - len(summary.failed) if counts else 0
    if waiting:
        yield f"{files(waiting)} still to be sent or judged", "info"
    if summary.copy_jobs:
        jobs = "1 copy job goes on" if summary.copy_jobs == 1 else f"{summary.copy_jobs} copy jobs go on"
        yield f"{jobs} in S3; the next session takes over what is copied", "info"
    there = bool(summary.journal) and Path(summary.journal).is_dir()
    if summary.failed and there:
        yield f"all of them: upload-core status --failed {shlex.quote(shown_path(summary.journal))}", "info"
    if full_list:
        yield f"every file's state: {shown_path(full_list)}", "info"
    if there:
        yield from _next(summary, again)


def groups(failed: Sequence[FailedFile]) -> Iterator[Line]:
    """What did not work, by reason, the most frequent first."""
    found = Groups()
    for file in failed:
        found.add(file.state, file.message or "", file.relpath)
    ordered = list(found)
    for group in ordered[:GROUPS_MAX]:
        others = " (numbers as for the first)" if group.varies else ""
        yield f"{files(group.count)} {group.state}: {group.reason}{others}", "warning"
        for name in group.names[:NAMES_MAX]:
            yield f"    {name}", "info"
        if group.count > NAMES_MAX:
            yield f"    and {group.count - NAMES_MAX:,} more", "info"
    if len(ordered) > GROUPS_MAX:
        rest = sum(group.count for group in ordered[GROUPS_MAX:])
        yield f"{files(rest)} for {len(ordered) - GROUPS_MAX:,} other reasons", "warning"


def _next(summary: Summary, again: str) -> Iterator[Line]:
    if summary.outcome == "incomplete":
        yield "next: mend them, and their rows of the index if they change; then only these are sent:", "info"
        yield f"    {again or resume_command(summary.journal)}", "info"
    elif summary.exit_code in RESUMABLE:
        yield f"next: {resume_command(summary.journal)}", "info"
