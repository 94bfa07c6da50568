"""`upload-core index`: the files of a directory with size and CRC32, as an index."""

from __future__ import annotations

import csv
import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from upload_adapters.checksums import index as measure
from upload_adapters.checksums.cache import ChecksumCache
from upload_adapters.cli.exit_codes import INTERRUPTED
from upload_adapters.cli.options import no_color_option
from upload_adapters.cli.output import files, size
from upload_adapters.cli.reading import CHECKSUMS
from upload_adapters.console import TerminalConsole
from upload_adapters.durable import unfinished
from upload_adapters.index_file import is_index, write_index
from upload_adapters.journal_reader import segment_name
from upload_adapters.local.control import PRIVATE
from upload_adapters.outputs import place_of
from upload_adapters.source_directory import DirectorySource
from upload_adapters.wiring import JOURNALS
from upload_core.errors import ConfigurationError
from upload_core.index_check import IndexColumns
from upload_core.text import printable

INTERVAL_S: Final = {True: 0.2, False: 30.0}
"""Between two lines of progress, on a terminal and elsewhere."""
CONTROL: Final = f"-control/{PRIVATE}/"
"""What the path of a lock in a local archive's control directory has in it."""
NAMES_MAX: Final = 20


@click.command()
@click.argument("source", type=click.Path())
@click.option(
    "-o", "output", type=click.Path(), help="Write here (CSV, or Parquet by its name); otherwise CSV to stdout."
)
@click.option(
    "--checksums/--no-checksums",
    "with_checksums",
    default=True,
    help="Read the files for their CRC32s, or list names and sizes alone.  [default: checksums]",
)
@click.option("--fresh", is_flag=True, help="Read unchanged files again as well.")
@click.option("--jobs", type=click.IntRange(min=1), help="Files read at a time; one per processor by default.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors only.")
@no_color_option
def command(source: str, output: str | None, with_checksums: bool, fresh: bool, jobs: int | None, quiet: bool) -> int:
    """List the files of SOURCE with size and CRC32.

    With -o it may be killed at any time: the same command goes on where it ended. Later, too, it reads only files whose
    size, times or inode have changed.

    Files that cannot be delivered (links out of SOURCE, devices, unreadable ones) are named on standard error and left
    out, with exit code 1. The index itself, journals, and archives that are directories are no
    part of the data, wherever they lie.
    """
    console = TerminalConsole(quiet=quiet)
    if output is not None:
        output = place_of(output, "the index", is_index, otherwise=", or leave out -o to have it on standard output")
    cache = ChecksumCache(_beside(output)) if output is not None and with_checksums else None
    with DirectorySource(source) as root:
        scan = root.scan(_own_files(root.name, output))
        if ours := written_by_us(scan.relpaths):
            for folder in ours:
                console.message(
                    f"{printable(folder, 300)} was written by upload-core, as journal or archive, and is left out; "
                    "better keep it outside of the data",
                    "warning",
                )
            scan = scan.without(ours)
        meter = _Meter(console, len(scan.relpaths))
        try:
            columns, unreadable, believed = measure(
                root,
                scan.relpaths,
                jobs=jobs,
                with_checksums=with_checksums,
                progress=meter.show,
                cache=cache,
                fresh=fresh,
            )
        except KeyboardInterrupt:
            meter.end()
            if cache is None or cache.problem:
                raise
            console.message("interrupted; the same command goes on from here", "warning")
            return INTERRUPTED
        meter.end()
    if cache is not None and cache.problem:
        console.message(
            f"what was read cannot be remembered in {printable(str(cache.path), 300)}: {cache.problem}; "
            "another time everything is read again",
            "warning",
        )
    if output is None:
        _to_stdout(columns)
    else:
        try:
            write_index(output, columns)
        except OSError as error:
            raise ConfigurationError(
                f"the index {printable(output, 300)} cannot be written: {error.strerror}"
            ) from error
    left_out = [(s.relpath, s.reason) for s in scan.skipped if s.reason != "is excluded"] + list(map(tuple, unreadable))
    for relpath, reason in left_out[:NAMES_MAX]:
        console.message(f"left out: {printable(relpath)}: {reason}", "error")
    if len(left_out) > NAMES_MAX:
        console.message(f"left out: {len(left_out) - NAMES_MAX:,} more", "error")
    if not columns.paths:
        console.message(f"{printable(source, 300)} has no file to deliver; an index of none is refused", "warning")
    told = f"{files(len(columns.paths))}, {size(sum(s for s in columns.sizes or () if isinstance(s, int)))}"
    console.message(told + (f"; {believed:,} unchanged, not read again" if believed else ""), "info")
    return 1 if left_out else 0


def _beside(output: str) -> Path:
    """Where the CRC32s of an index's files are remembered."""
    place = Path(output).absolute()
    return place.parent / JOURNALS / f"{place.name}{CHECKSUMS}"


def _own_files(root: str, output: str | None) -> frozenset[str]:
    """What we put beside an index, if that is inside the source: the index, also one half written, and the journals."""
    places = [Path(root) / JOURNALS]
    if output is not None:
        place = Path(output).absolute()
        places += [place, place.parent / JOURNALS, *unfinished(place)]
    real = Path(root).resolve()
    return frozenset(
        place.resolve().relative_to(real).as_posix() for place in places if place.resolve().is_relative_to(real)
    )


def written_by_us(relpaths: Sequence[str]) -> list[str]:
    """Folders among these (sorted) paths that are a journal, or belong to an archive that is a directory."""
    found: set[str] = set()
    for relpath in relpaths:
        if relpath.endswith("/journal.lock"):
            folder = relpath.removesuffix("/journal.lock")
            if _is_among(f"{folder}/{segment_name(1)}", relpaths):
                found.add(folder)
        elif CONTROL in relpath:
            delivery = relpath.partition(CONTROL)[0]
            found.update(f"{delivery}-{part}" for part in ("control", "staging", "sample"))
    return [folder for folder in sorted(found) if _is_among(f"{folder}/", relpaths, begins=True)]


def _is_among(relpath: str, relpaths: Sequence[str], *, begins: bool = False) -> bool:
    place = bisect_left(relpaths, relpath)
    there = relpaths[place] if place < len(relpaths) else ""
    return there.startswith(relpath) if begins else there == relpath


def _to_stdout(columns: IndexColumns) -> None:
    cells = {"path": columns.paths, "size": columns.sizes, "checksum": columns.checksums}
    there = {name: column for name, column in cells.items() if column is not None}
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]  # names arrive byte-exact
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(there)
    writer.writerows(zip(*there.values(), strict=True))


class _Meter:
    """Progress of reading: a line that is written over on a terminal, one every half minute elsewhere."""

    def __init__(self, console: TerminalConsole, total: int) -> None:
        self._console, self._total = console, total
        self._live = console.is_terminal and not console.quiet
        self._began = self._last = time.monotonic()

    def show(self, done: int, done_bytes: int) -> None:
        now = time.monotonic()
        if now - self._last < INTERVAL_S[self._live]:
            return
        self._last = now
        rate = size(round(done_bytes / max(0.001, now - self._began)))
        text = f"{done:,} of {files(self._total)} read, {size(done_bytes)}, {rate}/s"
        if self._live:
            self._console.overwrite(text)
        else:
            self._console.message(text, "info")

    def end(self) -> None:
        if self._live:
            self._console.overwrite("")
