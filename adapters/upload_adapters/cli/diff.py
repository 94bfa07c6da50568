"""`upload-core diff`: what changed between two moments of a journal, or between two journals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import click

from upload_adapters.cli.options import JournalPath
from upload_adapters.cli.output import files, write_cells, write_json, write_line, write_table
from upload_adapters.cli.reading import reader_at
from upload_core.delivery import Delivery
from upload_core.lifecycle import FILE_STATES, PUBLIC_STATES

NAMES_MAX: Final = 3
ABSENT: Final = "not in the index"
"""What stands for a state where a file is not delivered at all."""

_SHOWN: Final = bytes(PUBLIC_STATES.index(state.shown_as) for state in FILE_STATES).ljust(256, b"\xff")


@attrs.frozen
class Change:
    """One file that differs: its states, and whether the index says something else of it."""

    relpath: str
    before: str
    after: str
    revised: bool
    message: str | None

    @property
    def words(self) -> str:
        """Before and after."""
        if self.before == self.after:
            return f"{self.before}, with another size or checksum"
        return f"{self.before} -> {self.after}" + (", with another size or checksum" if self.revised else "")


@attrs.frozen
class Side:
    """One of the two that are compared."""

    journal: str
    seq: int
    time: str
    delivery: Delivery

    @property
    def counts(self) -> dict[str, int]:
        """Files by state."""
        return {str(state): count for state, count in self.delivery.public_counts().items()}


def changes(before: Delivery, after: Delivery) -> Iterator[Change]:
    """Every file that is not the same on both sides, in the order of `after`, those that it lacks last."""
    shown_before, shown_after = before.states.translate(_SHOWN), after.states.translate(_SHOWN)
    same_index = before.table is after.table or before.table == after.table
    if same_index and shown_before == shown_after:
        return
    table = after.table
    for file in range(len(after)):
        earlier: int | None = file
        if same_index:
            if shown_before[file] == shown_after[file]:
                continue
        else:
            earlier = before.find(table.path(file))
        if earlier is None:
            yield Change(table.path(file), ABSENT, after.state_of(file), False, after.message_of(file))
            continue
        was, now = before.state_of(earlier), after.state_of(file)
        revised = not same_index and (
            table.size(file) != before.table.size(earlier) or table.checksum(file) != before.table.checksum(earlier)
        )
        if was != now or revised:
            yield Change(table.path(file), was, now, revised, after.message_of(file))
    if not same_index:
        for file, path in enumerate(before.table.paths()):
            if file < len(before) and after.find(path) is None:
                yield Change(path, before.state_of(file), ABSENT, False, None)


@click.command()
@click.argument("journal", type=JournalPath())
@click.argument("moments", metavar="(A [B] | JOURNAL)", nargs=-1, required=True)
@click.option("--files", "with_files", is_flag=True, help="Print a line per file that differs.")
@click.option("--exit-code", is_flag=True, help="End with 1 if anything differs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(journal: str, moments: Sequence[str], with_files: bool, exit_code: bool, as_json: bool) -> int:
    """Show what changed between two moments or journals.

    A and B are moments of the journal, as `replay --until` takes them: 12:34:56, a record's number, session:2, start,
    end (what B is if left out). Or name another journal instead: then the files of both are compared as they stand.
    Reads and nothing else.
    """
    first, second = _sides(journal, moments)
    found = list(changes(first.delivery, second.delivery))
    code = 1 if exit_code and found else 0
    if as_json:
        sides = [{"journal": s.journal, "seq": s.seq, "time": s.time, "counts": s.counts} for s in (first, second)]
        rows = [{"relpath": c.relpath, "before": c.before, "after": c.after, "revised": c.revised} for c in found]
        write_json({"before": sides[0], "after": sides[1], "changed": len(found), "files": rows})
        return code
    _show(first, second, found, with_files=with_files)
    return code


def _sides(journal: str, moments: Sequence[str]) -> tuple[Side, Side]:
    if len(moments) > 2:
        raise click.UsageError("too many moments: name one or two of them, or one other journal")
    if len(moments) == 1 and Path(moments[0]).is_dir():
        return _side(journal, "end"), _side(moments[0], "end")
    return _side(journal, moments[0]), _side(journal, moments[1] if len(moments) > 1 else "end")


def _side(journal: str, when: str) -> Side:
    reader, seq, time = reader_at(journal, when)
    return Side(journal, seq, time, reader.delivery)


def _show(first: Side, second: Side, found: Sequence[Change], *, with_files: bool) -> None:
    for name, side in (("before", first), ("after", second)):
        where = f" in {side.journal}" if first.journal != second.journal else ""
        write_line(f"{name}: record {side.seq:,} of {side.time}{where}")
    write_table(_count_rows(first.counts, second.counts), right=(1, 2, 3))
    if not found:
        write_line("no file differs")
        return
    if with_files:
        for change in found:
            write_cells([change.relpath, change.words, *([change.message] if change.message else [])])
        return
    groups: dict[str, list[str]] = defaultdict(list)
    for change in found:
        groups[change.words].append(change.relpath)
    for words, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        write_line(f"{files(len(names))}: {words}")
        for name in names[:NAMES_MAX]:
            write_line(f"    {name}")
        if len(names) > NAMES_MAX:
            write_line(f"    and {len(names) - NAMES_MAX:,} more")


def _count_rows(before: Mapping[str, int], after: Mapping[str, int]) -> list[tuple[str, str, str, str]]:
    rows = [("state", "before", "after", "change")]
    for state in before:
        if before[state] or after[state]:
            change = after[state] - before[state]
            rows.append((state, f"{before[state]:,}", f"{after[state]:,}", f"{change:+,}" if change else ""))
    total = sum(after.values()) - sum(before.values())
    rows.append(("in all", f"{sum(before.values()):,}", f"{sum(after.values()):,}", f"{total:+,}" if total else ""))
    return rows
