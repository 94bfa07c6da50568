"""`upload-core verify`: whether a journal is whole and agrees with itself, and the archive with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from upload_adapters import snapshot_file
from upload_adapters.cli.again import deliver_command, fresh_journal
from upload_adapters.cli.output import files, write_json, write_line
from upload_adapters.cli.reading import open_reader
from upload_adapters.cli.receipts import verify_receipt
from upload_adapters.journal_reader import JournalReader
from upload_adapters.wiring import recorded, wire_journal
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import JournalDamagedError
from upload_core.lifecycle import DONE, REPORTED, VALID


@click.command()
@click.argument("journal", type=click.Path(), required=False)
@click.option(
    "--receipt", metavar="FILE", help="Compare the archive with this receipt, or with the report that holds it."
)
@click.option("--to", metavar="ARCHIVE", help="With --receipt: where the archive, or its deployment file, is now.")
@click.option("--archive", "with_archive", is_flag=True, help="Compare every stored file with what the archive holds.")
@click.option("--no-browser", is_flag=True, help="Show the sign-in's address, and take the answer pasted here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    journal: str | None, receipt: str | None, to: str | None, with_archive: bool, no_browser: bool, as_json: bool
) -> int:
    """Check a journal, or the archive against it.

    Every record of every segment is read and its checksums verified; snapshots must agree with it. With --archive the
    size and CRC32 of every file that is valid or stored are compared with what the archive holds now: exit code 1, a
    list, and the command that sends these again if they differ. Changes nothing.

    With --receipt no journal is needed: every file that the receipt calls valid or done must be in the archive with its
    size and CRC32, and nothing else may be there.
    """
    if receipt is not None:
        if journal is not None or with_archive:
            raise click.UsageError("a receipt is compared with the archive alone: leave JOURNAL and --archive out")
        return verify_receipt(receipt, {"to": to, "browser": not no_browser}, as_json=as_json)
    if journal is None:
        raise click.UsageError("name a journal, or a receipt with --receipt FILE")
    if to is not None:
        raise click.UsageError("--to goes with --receipt; a journal says itself where its archive is")
    reader = open_reader(journal, snapshots=False)
    notes = list(_journal(reader))
    delivery = reader.delivery
    wrong: list[tuple[str, str]] = []
    compared = 0
    if with_archive:
        stored = _stored(reader)
        archive = wire_journal(journal, {"browser": not no_browser}).archive
        for file in sorted(delivery.files_in(VALID, DONE, REPORTED)):
            compared += 1
            relpath = delivery.table.path(file)
            size, checksum = stored.get(file, (delivery.table.size(file), delivery.table.checksum(file) or ""))
            found = archive.stat(relpath)
            if found is None:
                wrong.append((relpath, "is not in the archive"))
            elif found.size != size:
                wrong.append((relpath, f"has {found.size:,} bytes in the archive, {size:,} in the journal"))
            elif checksum and found.checksum != checksum:
                wrong.append((relpath, f"has the CRC32 {found.checksum} in the archive, {checksum} in the journal"))
    code = 1 if wrong else 0
    if as_json:
        data = {"exit_code": code, "seq": reader.position.seq, "digest": delivery.digest, "files": len(delivery)}
        differ = [{"relpath": relpath, "message": message} for relpath, message in wrong]
        write_json(data | {"notes": notes, "compared": compared, "different": differ})
        return code
    valid = f"{delivery.counts[VALID]:,} of {files(len(delivery))} valid"
    write_line(f"{reader.position.seq:,} records are whole (segments: {reader.position.segment}); {valid}")
    for note in notes:
        write_line(note)
    for relpath, message in wrong:
        write_line(f"{relpath} {message}")
    if with_archive:
        write_line(f"{files(compared)} compared with the archive: {_differ(len(wrong)) if wrong else 'all agree'}")
    if wrong:
        write_line(f"next: {_sent_again(journal, reader)}")
    return code


def _differ(count: int) -> str:
    return "1 differs" if count == 1 else f"{count:,} differ"


def _sent_again(journal: str, reader: JournalReader) -> str:
    """The command that puts back what the archive lost: only a new journal has the archive asked about every file."""
    created, source = recorded(reader.path)
    return deliver_command(created, source, fresh_journal(str(Path(journal).absolute())))


def _journal(reader: JournalReader) -> Iterator[str]:
    """Read all of it; what is odd but harmless is said. Raises `JournalDamagedError`, `JournalVersionError`."""
    whole = reader.advance()
    end = reader.position
    if not whole:
        tail = reader.unfinished_bytes()
        yield f"after record {end.seq:,} follow {tail:,} bytes of an unfinished batch: being written, or cut off at resume"
    for path in reversed(snapshot_file.newest_first(reader.path)):
        yield from _snapshot(reader, path)


def _snapshot(reader: JournalReader, path: Path) -> Iterator[str]:
    loaded = snapshot_file.load(path, reader.delivery.table)
    if loaded is None:
        yield f"{path.name} is no whole snapshot of this journal; it is ignored, and may be deleted"
        return
    seq = loaded[1].seq
    if _state_at(reader, seq).digest != loaded[0].digest:
        raise JournalDamagedError(
            f"{path} contradicts the journal at record {seq}; delete it: a snapshot only saves time"
        )


def _state_at(reader: JournalReader, seq: int) -> Delivery:
    if seq == reader.position.seq:
        return reader.delivery
    past = JournalReader(reader.path)
    past.replay_until(lambda record: record.seq > seq)
    return past.delivery


def _stored(reader: JournalReader) -> dict[int, tuple[int, str]]:
    """File -> size and CRC32 as the archive last acknowledged them."""
    found: dict[int, tuple[int, str]] = {}
    for record in reader.records():
        event = record.event
        if isinstance(event, ev.TransferCompleted | ev.FileFoundStored | ev.FileFoundValid):
            found[event.file] = event.size, event.checksum
    return found
