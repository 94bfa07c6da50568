"""A journal read for its report: its story, and what shows that the journal is whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs

from upload_adapters.journal_reader import JournalReader, segment_name
from upload_core.story import Story


@attrs.frozen
class Segment:
    """One file of the journal, as far as it was read."""

    name: str
    first_seq: int
    last_seq: int
    last_time: str
    size: int
    crc: str
    """The running CRC-32 at its end, which every record of it went into."""
    sha256: str


@attrs.frozen
class Reading:
    """A delivery's journal, read to its end."""

    path: str
    story: Story
    segments: tuple[Segment, ...]
    whole: bool
    """Whether nothing follows the last whole batch."""

    @property
    def records(self) -> int:
        """How many records it holds."""
        return self.segments[-1].last_seq

    @property
    def last_time(self) -> str:
        """When the last one was written."""
        return self.segments[-1].last_time

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over the lines `SHA-256  name` of all segments: what `sha256sum events-*.ndjson | sha256sum` says."""
        lines = "".join(f"{segment.sha256}  {segment.name}\n" for segment in self.segments)
        return hashlib.sha256(lines.encode()).hexdigest()


def read(reader: JournalReader) -> Reading:
    """Read all of a journal; every record's checksum is verified. Raises `JournalDamagedError`, `JournalVersionError`."""
    whole = reader.advance()
    story = Story(reader.delivery.created, reader.delivery.table)
    ends = {}
    for piece, after in reader.pieces():
        story.take(piece)
        ends[after.segment] = after
    story.finish()
    segments = []
    first_seq = 1
    for number, end in ends.items():
        path = reader.path / segment_name(number)
        sha256 = _sha256(path, end.offset)
        segments.append(Segment(path.name, first_seq, end.seq, end.time, end.offset, f"{end.crc:08x}", sha256))
        first_seq = end.seq + 1
    return Reading(str(reader.path), story, tuple(segments), whole)


def _sha256(path: Path, size: int) -> str:
    """Of the first `size` bytes: a journal may be written on meanwhile."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size and (chunk := file.read(min(size, 1 << 20))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()
