"""`upload-core replay`: the state that a journal led to, now or at any moment of the past."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from upload_adapters.cli.output import files, write_cells, write_json, write_line
from upload_adapters.cli.reading import moment, open_reader
from upload_adapters.journal_reader import JournalReader
from upload_core.delivery import Delivery
from upload_core.errors import ConfigurationError
from upload_core.journal import Record


@click.command()
@click.argument("journal", type=click.Path())
@click.option(
    "--until", metavar="TIME|SEQ", help="Up to this moment (UTC) or record: 12:34:56, 2026-11-22T12:34:56Z, 4711."
)
@click.option("--files", "with_files", is_flag=True, help="Print a line per file first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(journal: str, until: str | None, with_files: bool, as_json: bool) -> int:
    """Show the state a journal led to, at any moment.

    Reads the journal and nothing else: no network, no lock, also while the delivery runs. A time of day is its latest
    occurrence in the journal. The same events give the same output, byte for byte, on every machine.
    """
    reader = open_reader(journal, snapshots=False)
    if until is None:
        reader.advance()
        seq, time = reader.position.seq, reader.position.time
    else:
        last = _replay_until(reader, until)
        seq, time = last.seq, last.time
    delivery = reader.delivery
    if with_files:
        for row in _rows(delivery):
            if as_json:
                sys.stdout.write(json.dumps(row) + "\n")
            else:
                write_cells(str(cell) for cell in row.values() if cell is not None)
    counts = {str(state): count for state, count in delivery.public_counts().items()}
    state = {"seq": seq, "time": time, "client_state": delivery.client_state, "counts": counts}
    state |= {"files": len(delivery), "digest": delivery.digest}
    if as_json:
        write_json(state)
    else:
        write_line(f"record {seq:,} of {time}: the client is {delivery.client_state}")
        write_line(
            f"{files(len(delivery))}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        )
        write_line(f"state digest {state['digest']}")
    return 0


def _rows(delivery: Delivery) -> Iterator[dict[str, object]]:
    for file, relpath in enumerate(delivery.table.paths()):
        yield {
            "relpath": relpath,
            "state": delivery.state_of(file),
            "retries": delivery.retries[file],
            "message": delivery.message_of(file),
        }


def _replay_until(reader: JournalReader, until: str) -> Record:
    if until.isascii() and until.isdigit():
        seq = int(until)
        last = reader.replay_until(lambda record: record.seq > seq)
    else:
        time_ms = moment(until, _last_ms(reader))
        last = reader.replay_until(lambda record: record.time_ms > time_ms)
    if last is None:
        first = next(reader.records())
        raise ConfigurationError(f"the journal begins later: its first record is number 1 of {first.time}")
    return last


def _last_ms(reader: JournalReader) -> int:
    """The time of the last record, by the quick way."""
    from upload_core.timestamps import parse_iso

    ahead = JournalReader(reader.path)
    ahead.advance()
    return parse_iso(ahead.position.time)
