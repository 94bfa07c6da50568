"""What is delivered in one simulation: a few small files, some of them in parts, some of them wrong."""

from __future__ import annotations

from typing import Final

import attrs

from upload_adapters.simulation.archive import PART_SIZE
from upload_adapters.simulation.chance import Chance
from upload_adapters.simulation.evidence import FileFact
from upload_core.checksum import crc32_base64, crc_of
from upload_core.ports import Limits

SCENARIO_LIMITS: Final = Limits(
    keepalive_interval_s=60.0,
    lock_staleness_s=400.0,
    validator_start_s=75.0,
    validator_silence_s=50.0,
    verdict_wait_s=120.0,
    validator_stop_s=20.0,
    outage_s=90.0,
)
"""Shorter than an archive's, so that a run meets them all; their proportions are the same."""

NAMES: Final = ("d/{:03}.dat", 'odd "name" {:03}.dat', "d/ümläut {:03}.dat", "d,e/{:03}.dat")


@attrs.frozen
class Options:
    """How the person starts the client."""

    n_threads: int
    max_retries: int
    label: bool
    lag_ms: int
    """How much longer than it asked for the client waits, each time: it runs on a slow machine."""


def draw_files(chance: Chance) -> tuple[list[FileFact], Options]:
    """The files and options of a seed."""
    checksums = chance.happens(0.85)
    name = chance.pick(NAMES) if chance.happens(0.3) else NAMES[0]
    facts = []
    for number in range(chance.between(3, 10)):
        large = chance.happens(0.3)
        size = chance.between(PART_SIZE + 1, 4 * PART_SIZE) if large else chance.between(0, PART_SIZE)
        facts.append(_fact(name.format(number), chance.data(size), checksums=checksums, chance=chance))
    return facts, Options(
        n_threads=chance.between(0, 4),
        max_retries=chance.pick([0, 1, 2, 2, 5]),
        label=chance.happens(0.3),
        lag_ms=chance.pick([0, 1_000, 3_000, 6_000]),
    )


def _fact(path: str, content: bytes, *, checksums: bool, chance: Chance) -> FileFact:
    checksum = crc32_base64(crc_of([content])) if checksums else None
    kind = chance.below(12)
    ends, bad = "valid", False
    if kind == 0:
        ends, bad = "invalid", True
    elif kind == 1 and checksums and content:
        # the index was made of other bytes than lie there now
        checksum, ends = crc32_base64(crc_of([content[:-1] + bytes([content[-1] ^ 1])])), "failed"
    return FileFact(
        path=path, size=len(content), checksum=checksum, content=content, ends=ends, versions=[content], bad=bad
    )
