"""`upload-core report`: one page that tells how a delivery went, and a receipt that proves what is stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upload_adapters.cli.output import files, write_json, write_line
from upload_adapters.cli.reading import is_alive, journals_among, open_reader
from upload_adapters.cli.several import said_of_shared
from upload_adapters.console import TerminalConsole
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.text import printable

if TYPE_CHECKING:
    from upload_adapters.report.answers import Standing


@click.command()
@click.argument("journals", metavar="JOURNAL...", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", default="report.html", show_default=True, metavar="FILE", help="The page to write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(journals: tuple[str, ...], output: str, as_json: bool) -> int:
    """Tell a delivery's story in one page, with a receipt.

    The page is a single HTML file that loads nothing and runs no script: outcome, timeline, failures by reason, slowest
    files, and what proves that the journal is whole. The receipt beside it (FILE.receipt.ndjson) lists every file with size,
    CRC32, etag and verdict; `verify --receipt` compares the archive with it, without the journal. Several journals make
    one page, for a delivery that was split in disjoint indexes. Also works while the delivery runs.
    """
    from upload_adapters.outputs import place_of
    from upload_adapters.report.page import IS_PAGE, IS_RECEIPT, demand_jinja, receipt_path, write_report
    from upload_adapters.report.reading import Reading, read

    demand_jinja()
    page = Path(output)
    if page.is_dir():
        raise click.UsageError(f"{output} is a directory; name the file to write, for example {output}/report.html")
    place_of(page, "the report", IS_PAGE)
    place_of(receipt_path(page), "the receipt", IS_RECEIPT)
    readings: list[Reading] = []
    standings: list[Standing] = []
    found, others = journals_among(list(map(os.path.normpath, journals)))
    for place in others:
        TerminalConsole().message(f"{printable(place, 300)} is no journal and is left out", "warning")
    for journal in found:
        reader = open_reader(journal, snapshots=False)
        readings.append(read(reader))
        standings.append(_standing(reader))
    try:
        receipt = write_report(page, readings, standings)
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror or error}") from error
    total = sum(len(reading.story.table) for reading in readings)
    valid = sum(reading.story.delivery.public_counts()["valid"] for reading in readings)
    if as_json:
        write_json({"exit_code": 0, "page": str(page), "receipt": str(receipt), "files": total, "valid": valid})
    else:
        write_line(f"{page}: {valid:,} of {files(total)} valid; the receipt is {receipt}")
        if (shared := said_of_shared([reading.story.table for reading in readings])) is not None:
            write_line(shared)
    return 0


def _standing(reader: JournalReader) -> Standing:
    """What is known of the process of a session that was not closed."""
    latest = reader.latest_session()
    if latest is None or not isinstance(latest.event, ev.SessionOpened):
        return "cut off"
    alive = is_alive(latest.event.host, latest.event.pid)
    return "unknown" if alive is None else "running" if alive else "cut off"
