"""`upload-core replay`: the state that a journal led to, now or at any moment of the past."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from upload_adapters.cli.gauge import bytes_by_state
from upload_adapters.cli.options import journal_argument
from upload_adapters.cli.output import paused_in_words, reason, size, write_cells, write_json, write_line, write_table
from upload_adapters.cli.reading import reader_at
from upload_core.delivery import Delivery
from upload_core.timestamps import iso


@click.command()
@journal_argument
@click.option(
    "--until",
    metavar="MOMENT",
    help="Up to this moment (UTC) or record: 12:34:56, 2026-11-22T12:34:56Z, 4711, session:2.",
)
@click.option("--files", "with_files", is_flag=True, help="Print a line per file first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(journal: str, until: str | None, with_files: bool, as_json: bool) -> int:
    """Show the state a journal led to, at any moment.

    Reads the journal and nothing else: no network, no lock, also while the delivery runs. A time of day is its latest
    occurrence in the journal, session:2 the end of that session. The same events give the same output, byte for byte,
    on every machine.
    """
    reader, seq, time = reader_at(journal, until)
    delivery = reader.delivery
    if with_files:
        for row in _rows(delivery):
            if as_json:
                sys.stdout.write(json.dumps(row) + "\n")
            else:
                write_cells(str(cell) for cell in row.values() if cell is not None)
    counts = {str(state): count for state, count in delivery.public_counts().items()}
    digest = delivery.digest
    if as_json:
        state = {"seq": seq, "time": time, "client_state": delivery.client_state, "counts": counts}
        write_json(state | {"files": len(delivery), "digest": digest})
        return 0
    write_line(f"record {seq:,} of {time}: the client is {delivery.client_state}")
    sizes = bytes_by_state(delivery)
    rows = [("state", "files", "bytes")]
    rows += [(name, f"{count:,}", size(sizes[name])) for name, count in counts.items() if count]
    rows.append(("in all", f"{len(delivery):,}", size(delivery.table.total_bytes)))
    write_table(rows, right=(1, 2))
    for line in _besides(delivery):
        write_line(line)
    write_line(f"state digest {digest}")
    return 0


def _besides(delivery: Delivery) -> Iterator[str]:
    """What else was the case then, where it explains what was going on."""
    facts = delivery.facts
    yield f"session {facts.session}, validation run {facts.run}, retries so far: {facts.retries_total:,}"
    if facts.outage_ms:
        yield f"the archive was out of reach since {iso(facts.outage_ms)}"
    if facts.paused:
        yield paused_in_words(facts.paused)
    if facts.lock_etag:
        yield f"the lock was ours, last renewed at {iso(facts.lock_ms)}"


def _rows(delivery: Delivery) -> Iterator[dict[str, object]]:
    for file, relpath in enumerate(delivery.table.paths()):
        yield {
            "relpath": relpath,
            "state": delivery.state_of(file),
            "retries": delivery.retries[file],
            "message": reason(delivery.message_of(file)),
        }
