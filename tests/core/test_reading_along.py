"""Reading a journal while it is written: whatever a writer does between any two looks, what is read is whole and in order."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.recordings import SCENARIOS, Recording, recording
from upload_adapters import journal_reader
from upload_adapters.journal_reader import JournalReader
from upload_core.errors import JournalDamagedError

SEEDS = 15


class Writer:
    """Writes a recorded journal once more, some bytes at each step; a segment appears with its first batch, as in life."""

    def __init__(self, written: Path, path: Path, chance: random.Random):
        self.path, self._chance = path, chance
        shutil.copytree(written, path, ignore=shutil.ignore_patterns("events-*", "snapshot-*"))
        self._segments = [(file.name, file.read_bytes()) for file in sorted(written.glob("events-*"))]
        self._begun: tuple[str, bytes] = ("", b"")
        self.step()

    @property
    def done(self) -> bool:
        return not self._segments and not self._begun[1]

    def work(self) -> None:
        """Rest, or take some steps."""
        if self._chance.random() < 0.2:
            for _ in range(self._chance.randrange(1, 5)):
                self.step()

    def step(self) -> None:
        """Write nothing, a piece of a batch, or some of them; or begin a segment once the one before it is whole."""
        name, rest = self._begun
        if not rest:
            if not self._segments:
                return
            name, rest = self._segments.pop(0)
            size = rest.index(b"\n", rest.index(b',"crc":"', rest.index(b"\n"))) + 1
        else:
            size = self._chance.choice((0, 1, 90, 300, len(rest)))
        with (self.path / name).open("ab") as file:
            file.write(rest[:size])
        self._begun = name, rest[size:]


@pytest.fixture(params=SCENARIOS)
def recorded(request) -> Recording:
    return recording(request.param)


@pytest.fixture
def written(recorded: Recording, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr("os.fsync", lambda _: None)  # what is tested here is what is read, not what survives
    monkeypatch.setattr("os.fdatasync", lambda _: None, raising=False)
    recorded.write(tmp_path / "written", segment_bytes=700).close()
    return tmp_path / "written"


@pytest.fixture
def between(monkeypatch) -> list[Writer]:
    """Whoever stands in here works before and after each look of a reader."""
    at_work: list[Writer] = []
    last, tail = JournalReader._last_segment, JournalReader._tail

    def step() -> None:
        for writer in at_work:
            writer.work()

    def read(path: Path, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
        step()
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(257 if end is None else min(257, end - file.tell())):
                step()
                yield chunk

    def look(original):
        def looking(*arguments):
            step()
            found = original(*arguments)
            step()
            return found

        return looking

    monkeypatch.setattr(journal_reader, "_chunks", read)
    monkeypatch.setattr(JournalReader, "_last_segment", look(last))
    monkeypatch.setattr(JournalReader, "_tail", look(tail))
    return at_work


def test_a_journal_that_grows_and_begins_segments_between_any_two_looks_is_read_right(
    recorded, written, between, tmp_path
):
    states = {
        recorded.state_after(number).facts.seq: recorded.live[number - 1]
        for number in range(1, len(recorded.batches) + 1)
    }
    for seed in range(SEEDS):
        writer = Writer(written, tmp_path / str(seed), random.Random(seed))
        between[:] = [writer]
        reader = JournalReader(writer.path, snapshots=False)
        whole = False
        while not (writer.done and whole):
            whole = reader.advance()
            assert reader.delivery.canonical() == states[reader.position.seq], f"seed {seed}"
        reader.advance()
        assert reader.position.seq == max(states), f"seed {seed}"


def test_records_that_are_read_while_more_are_written_lack_none(recorded, written, between, tmp_path):
    events = [event for event, _ in recorded.events]
    for seed in range(SEEDS):
        writer = Writer(written, tmp_path / str(seed), random.Random(seed))
        between[:] = [writer]
        seen: list[object] = []
        while len(seen) < len(events):
            found: list[object] = [record.event for record in JournalReader(writer.path).records()]
            assert found[: len(seen)] == seen, f"seed {seed}"
            assert found == events[: len(found)], f"seed {seed}"
            seen = found


def read_to_the_end(reader: JournalReader, writer: Writer) -> None:
    """Until nothing more comes."""
    while not writer.done or reader.advance():
        reader.advance()


def test_damage_is_found_although_the_writer_goes_on(written, between, tmp_path):
    first = written / "events-000001.ndjson"
    data = bytearray(first.read_bytes())
    data[-20] ^= 1
    first.write_bytes(data)
    for seed in range(SEEDS):
        writer = Writer(written, tmp_path / str(seed), random.Random(seed))
        between[:] = [writer]
        reader = JournalReader(writer.path, snapshots=False)
        with pytest.raises(JournalDamagedError, match=r"events-000001\.ndjson|first record"):
            read_to_the_end(reader, writer)
