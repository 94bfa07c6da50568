"""`upload-core doctor`: whether a delivery would work from here, and what to do where it would not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from upload_adapters.cli import checks, checks_archive
from upload_adapters.cli.checks import Check, Finding, fail
from upload_adapters.cli.config import chosen
from upload_adapters.cli.options import JournalPath
from upload_adapters.cli.output import write_hanging, write_json, write_line
from upload_adapters.wiring import JOURNALS, TO_VARIABLE
from upload_core.errors import ConfigurationError, UploadClientError
from upload_core.text import printable

MARKS: Final = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


@click.command()
@click.argument("journal", type=JournalPath(), required=False)
@click.option("--to", metavar="ARCHIVE", help=f"A deployment's mast.toml, or file:///DIR; otherwise ${TO_VARIABLE}.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(journal: str | None, to: str | None, as_json: bool) -> int:
    """Find out whether a delivery would work from here.

    Looks at Python, packages, limits and disk; with an archive (or a mast.toml here) at network, clock and sign-in as
    well, with JOURNAL at that. Changes nothing and asks nobody. Ends with 0 if nothing fails, else with the exit code
    that a delivery would end with.
    """
    found = list(_findings(journal, to))
    code = next((finding.code for finding in found if finding.verdict == "fail"), 0)
    if as_json:
        rows = [{"name": f.name, "verdict": f.verdict, "found": f.found, "remedy": f.remedy} for f in found]
        write_json({"exit_code": code, "checks": rows})
        return code
    width = max(len(finding.name) for finding in found)
    for finding in found:
        write_hanging(f"{MARKS[finding.verdict]}  {finding.name.ljust(width)}  ", finding.found)
        if finding.remedy:
            write_hanging(" " * (8 + width), f"-> {finding.remedy}")
    write_line(_verdict(found))
    return code


def _findings(journal: str | None, to: str | None) -> Iterator[Finding]:
    """Every finding; a check that breaks is one as well."""
    for check in _checks(journal, to):
        try:
            yield from check()
        except (UploadClientError, OSError) as error:
            yield fail("check", printable(f"{type(error).__name__}: {error}", 300), "see what it says", 8)


def _checks(journal: str | None, to: str | None) -> Iterator[Check]:
    yield from (checks.python, checks.packages, checks.open_files, checks.screen)
    yield checks.disk(Path(JOURNALS), "disk")
    try:
        yield from _archive_checks(journal, to)
    except ConfigurationError as error:
        message = str(error)
        yield lambda: iter([fail("settings", message, "mend what it names, or name another archive with --to", 2)])
    if journal is not None:
        yield checks_archive.journal(Path(journal))


def _archive_checks(journal: str | None, to: str | None) -> Iterator[Check]:
    if journal is not None and to is None:
        yield from checks_archive.recorded_archive(Path(journal))
        return
    named = to or os.environ.get(TO_VARIABLE) or chosen(None)[0]
    if named:
        yield from checks_archive.archive(named)
    else:
        none = f"none is named (--to, {TO_VARIABLE}): network and sign-in were not looked at"
        yield lambda: iter([checks.ok("archive", none)])


def _verdict(found: list[Finding]) -> str:
    failed = sum(finding.verdict == "fail" for finding in found)
    warned = sum(finding.verdict == "warn" for finding in found)
    if failed:
        return f"{failed} of {len(found)} checks failed: a delivery would not work from here"
    return f"{len(found)} checks, none failed" + (f", {warned} could be better" if warned else "")
