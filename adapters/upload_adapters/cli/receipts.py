"""What `upload-core verify --receipt` prints: how an archive differs from a receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from upload_adapters.cli.output import files, write_cells, write_json, write_line

SHOWN_MAX: Final = 1_000
"""Differences that are printed for people; JSON has them all."""


def verify_receipt(path: str, overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Compare the archive with a receipt and say how they differ; returns the exit code.

    Raises `ConfigurationError` if it is no whole receipt, `ArchiveError` if the archive cannot be asked.
    """
    from upload_adapters.report.comparing import Comparison
    from upload_adapters.report.receipt import Receipt
    from upload_adapters.wiring import wire_archive

    receipt = Receipt(path)
    compared = 0
    notes: list[str] = []
    found: list[dict[str, str]] = []
    kinds: Counter[str] = Counter()
    places: dict[tuple[str, str, str, str], list[int]] = {}
    for number, delivered in enumerate(receipt.head.deliveries):
        place = delivered.archive, delivered.dataset, delivered.delivery_id, delivered.transfer_type
        places.setdefault(place, []).append(number)  # indexes that share a place: what one lacks, another may list
    for place, numbers in places.items():
        comparison = Comparison(line for line in receipt.lines() if line.delivery in numbers)
        archive = wire_archive(receipt.created(numbers[0]), overrides)
        for difference in comparison.differences(archive):
            kinds[difference.kind] += 1
            row = {"kind": difference.kind, "relpath": difference.relpath, "message": difference.message}
            if as_json:
                found.append(row | {"delivery": "-".join(place[1:])})
            elif sum(kinds.values()) <= SHOWN_MAX:
                write_cells([f"{difference.relpath} {difference.message}"])
        compared += comparison.compared
        notes += comparison.notes
    code = 1 if kinds else 0
    if as_json:
        write_json({"exit_code": code, "compared": compared, "counts": kinds, "notes": notes, "different": found})
        return code
    if sum(kinds.values()) > SHOWN_MAX:
        write_line(f"and {sum(kinds.values()) - SHOWN_MAX:,} more; --json has them all")
    for note in notes:
        write_line(note)
    until = max(delivered.until for delivered in receipt.head.deliveries)
    differ = ", ".join(f"{count:,} {_WORDS[kind]}" for kind, count in sorted(kinds.items()))
    write_line(f"{files(compared)} of the receipt of {until} compared with the archive: {differ or 'all agree'}")
    if kinds.keys() - {"extra"}:
        write_line("next: deliver as before, with --journal NEW: a new journal has sent what the archive lacks")
    return code


_WORDS: Final = {
    "missing": "missing",
    "size": "of another size",
    "bytes": "with other bytes",
    "extra": "not in the receipt",
}
