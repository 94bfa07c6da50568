"""A journal that was cut, flipped, zeroed, robbed or mixed: it opens to what was acknowledged, or refuses and is untouched.

Whatever opens is the state after some whole batch, and of what was acknowledged it lacks the last batch at most.
"""

from __future__ import annotations

import os
import random
import tempfile
import zlib
from pathlib import Path

import pytest

from tests.crash.recordings import SCENARIOS, Recording, long_recording, recording, short_recording, world_for
from tests.crash.world import World
from upload_adapters import snapshot_file
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import (
    JournalDamagedError,
    JournalError,
    JournalInUseError,
    JournalVersionError,
    JournalWriteError,
)
from upload_core.events import Event, JournalRepaired
from upload_core.journal import encode_batch, is_torn
from upload_core.story import Story


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch):
    # Tens of thousands of journals are opened here; that syncs happen is test_journal_durability's business.
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None, raising=False)


class Victim:
    """A journal on disk that is damaged and restored over and over."""

    def __init__(self, recorded: Recording, path: Path, segment_bytes: int):
        self.recorded, self.path = recorded, path
        recorded.write(path, segment_bytes=segment_bytes).close()
        self.whole = contents(path)
        self.segments = sorted(name for name in self.whole if name.startswith("events-"))
        self.ends = self._batch_ends()
        self._touched: set[str] = set()
        self._now = dict(self.whole)
        self._canonical: dict[bytes, int] = {live: number for number, live in enumerate(recorded.live, 1)}

    def _batch_ends(self) -> list[tuple[str, int]]:
        """Segment and offset at which each batch ends."""
        ends = []
        for name in self.segments:
            offset = 0
            for line in self.whole[name].splitlines(keepends=True):
                offset += len(line)
                if b',"crc":"' in line and b'"seq":' in line:
                    ends.append((name, offset))
        assert len(ends) == len(self.recorded.batches)
        return ends

    def restore(self, **changed: bytes | None) -> None:
        """Put everything back, except for these files, which get other bytes or are taken away."""
        for name in os.listdir(self.path):
            if name not in self.whole and name != "journal.lock":
                os.unlink(self.path / name)
        for name in {*self._touched, *changed}:
            data = changed.get(name, self.whole.get(name))
            if data is not None:
                with open(self.path / name, "wb") as file:
                    file.write(data)
            elif name in self.whole:
                os.unlink(self.path / name)
        self._now = {name: data for name, data in {**self.whole, **changed}.items() if data is not None}
        self._touched = {name for name in (*changed, self.segments[-1]) if name in self.whole}

    def open(self) -> tuple[Delivery, JournalRepaired | None] | JournalError:
        """What opening gives: the state and, if the tail was cut, the event that says so; or the error."""
        journal, before = DirectoryJournal(self.path), self._now
        refusal: JournalError | None = None
        try:
            delivery = journal.open()
        except JournalError as error:
            refusal, delivery = error, None
        if refusal is not None:
            assert contents(self.path) == before, f"refused, but not left alone: {refusal}"
            named = str(self.path) in str(refusal) or "segment" in str(refusal)
            assert named or isinstance(refusal, JournalVersionError)
            return refusal
        journal.close()
        assert delivery is not None
        return delivery, self._repaired(before)

    def _repaired(self, before: dict[str, bytes]) -> JournalRepaired | None:
        after = contents(self.path)
        torn = {name: data for name, data in after.items() if ".torn" in name}
        if not torn:
            assert after == before, "opening a whole journal changes nothing"
            return None
        [(name, kept)] = torn.items()
        segment = name.partition(".torn")[0]
        assert kept == before[segment], "the torn segment is kept as it was"
        last = list(JournalReader(self.path).records())[-1].event
        assert isinstance(last, JournalRepaired)
        assert last.kept_as == name
        assert last.offset + last.lost_bytes == len(kept)
        assert after[segment].startswith(kept[: last.offset])
        return last

    def batches_in(self, delivery: Delivery, repaired: JournalRepaired | None) -> int:
        """How many batches the state holds; raises `AssertionError` if it is not the state after any of them."""
        state = delivery.canonical()
        if repaired is not None:  # it has a number of its own and changes nothing else
            facts = delivery.facts
            facts.seq -= 1
            state = delivery.canonical()
            facts.seq += 1
        assert state in self._canonical, "the state after no batch at all"
        return self._canonical[state]

    def open_to(self, wanted: int) -> int | None:
        """Open; None if it is refused, else how many batches are there: `wanted`, or one less."""
        found = self.open()
        if isinstance(found, JournalError):
            return None
        number = self.batches_in(*found)
        assert wanted - 1 <= number <= wanted, f"{number} batches of {wanted} are left"
        assert found[1] is not None or number == wanted, "a batch vanished without a word"
        return number


def contents(path: Path) -> dict[str, bytes]:
    found = {}
    for name in os.listdir(path):
        if name != "journal.lock":
            with open(path / name, "rb") as file:
                found[name] = file.read()
    return found


@pytest.fixture
def place(tmp_path):
    """A directory in memory where there is one: a disk flushes a file that is written again and again each time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture
def victim(place):
    return lambda recorded, segment_bytes: Victim(recorded, place / "journal", segment_bytes)


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1 :]


# --- cut -----------------------------------------------------------------------------------------


@pytest.mark.promise("R4")
def test_a_long_journal_cut_at_any_byte_is_read_to_its_last_whole_batch_and_mended(victim, size, figure):
    """A reader that follows sees every cut; at every eighth (larger sizes: at every one) the journal is opened to write."""
    one = victim(long_recording(), 1 << 20)
    [name] = one.segments
    data, ends = one.whole[name], [end for _, end in one.ends]
    assert len(data) >= 20 * 1024
    with open(one.path / name, "wb", buffering=0) as file:
        file.write(data[: ends[0]])
        reader, batches = JournalReader(one.path), 1
        for cut in range(ends[0], len(data) + 1):
            whole = reader.advance()
            assert whole == (cut in ends), cut
            batches += whole and cut > ends[0]
            assert reader.position.offset == ends[batches - 1], cut
            if whole:
                assert reader.delivery.canonical() == one.recorded.live[batches - 1]
            else:
                assert is_torn(data[ends[batches - 1] : cut], reader.position.seq), "it would be taken for damage"
            file.write(data[cut : cut + 1])
    assert batches == len(ends)
    figure(len(data) - ends[0], "cuts")
    step = size(pr=8, nightly=1)
    around = {end + off for end in ends[:-1] for off in (-1, 0, 1)}
    opened = sorted({*range(ends[0], len(data), step), *around} - {ends[0] - 1})
    for cut in opened:
        one.restore(**{name: data[:cut]})
        found = one.open()
        assert not isinstance(found, JournalError), found
        assert one.batches_in(*found) == sum(end <= cut for end in ends)
        assert (found[1] is not None) == (cut not in ends)
    figure(len(opened), "cuts mended")


@pytest.mark.promise("R4")
def test_cut_in_the_header_of_its_last_segment_it_is_refused(victim, figure):
    """A segment appears with its header, or not at all: this was no crash."""
    one = victim(short_recording(), 2_000)
    last = one.segments[-1]
    data, earlier = one.whole[last], sum(name != last for name, _ in one.ends)
    header = data.index(b"\n") + 1
    for cut in range(len(data) + 1):
        one.restore(**{last: data[:cut]})
        found = one.open()
        if cut < header:
            assert isinstance(found, JournalDamagedError)
            continue
        assert not isinstance(found, JournalError), found
        whole = [end for name, end in one.ends if name == last and end <= cut]
        assert one.batches_in(*found) == earlier + len(whole)
        assert (found[1] is not None) == (cut not in (header, *whole))
    figure(len(data) + 1, "cuts")


@pytest.mark.promise("R4")
def test_cut_at_any_byte_of_a_single_segment_it_holds_every_batch_that_was_whole(victim, figure):
    one = victim(short_recording(), 1 << 20)
    [name] = one.segments
    first = one.ends[0][1]
    for cut in range(len(one.whole[name])):
        one.restore(**{name: one.whole[name][:cut]})
        found = one.open()
        if cut < first:  # it was begun with its first record
            assert isinstance(found, JournalDamagedError)
        else:
            assert not isinstance(found, JournalError)
            assert one.batches_in(*found) == sum(end <= cut for _, end in one.ends)
    figure(len(one.whole[name]), "cuts mended")


@pytest.mark.promise("R4")
def test_cut_at_any_byte_of_an_earlier_segment_it_is_refused(victim, figure):
    one = victim(short_recording(), 1_000)
    assert len(one.segments) >= 4
    for name in one.segments[:-1]:
        for cut in range(len(one.whole[name])):
            one.restore(**{name: one.whole[name][:cut]})
            assert isinstance(one.open(), JournalDamagedError)
        figure(len(one.whole[name]), "cuts")


# --- flipped -------------------------------------------------------------------------------------


@pytest.mark.promise("R5")
def test_no_flipped_bit_of_a_small_journal_is_believed(victim, size, figure):
    """One bit of every byte; in larger sizes every bit."""
    one = victim(short_recording(), 2_000)
    for name, data in one.whole.items():
        for offset in range(len(data)):
            for turn in range(size(pr=1, nightly=8)):
                one.restore(**{name: flipped(data, offset, (offset + turn) % 8)})
                number = one.open_to(len(one.recorded.batches))
                if number is not None:
                    assert name == one.segments[-1]
                    assert offset >= one.ends[-2][1]
        figure(len(data) * size(pr=1, nightly=8), "bits flipped")


@pytest.mark.promise("R5")
def test_no_flipped_bit_of_a_long_journal_is_believed(victim, size, figure):
    """A bit of every eighth byte; in larger sizes of every byte."""
    one = victim(long_recording(), 16 * 1024)
    chance = random.Random(8)
    for name in one.segments:
        data = one.whole[name]
        offsets = range(0, len(data), size(pr=8, nightly=1))
        for offset in offsets:
            one.restore(**{name: flipped(data, offset, chance.randrange(8))})
            one.open_to(len(one.recorded.batches))
        figure(len(offsets), "bits flipped")


@pytest.mark.promise("R5")
def test_zeroed_sectors_are_noticed(victim, figure):
    one = victim(long_recording(), 16 * 1024)
    for name, data in one.whole.items():
        for offset in range(0, len(data), 512):
            end = min(offset + 512, len(data))
            one.restore(**{name: data[:offset] + bytes(end - offset) + data[end:]})
            found = one.open()
            if isinstance(found, JournalError):
                continue
            # only where nothing but zeros follows can it have been a single batch that never reached the disk
            assert (name, end) == (one.segments[-1], len(data))
            assert found[1] is not None
            assert one.batches_in(*found) == sum((place, at) <= (name, offset) for place, at in one.ends)
        figure(-(-len(data) // 512), "sectors zeroed")


# --- robbed and mixed ----------------------------------------------------------------------------


@pytest.fixture
def many(victim):
    one = victim(recording("a revised index"), 1_500)
    assert len(one.segments) >= 6
    return one


def test_a_missing_segment_is_noticed_wherever_it_is(many):
    for name in many.segments[:-1]:
        many.restore(**{name: None})
        assert isinstance(many.open(), JournalDamagedError), name


def test_a_missing_last_segment_leaves_the_state_at_the_end_of_the_one_before(many):
    many.restore(**{many.segments[-1]: None})
    found = many.open()
    assert not isinstance(found, JournalError)
    assert many.batches_in(*found) == sum(name != many.segments[-1] for name, _ in many.ends)


def test_swapped_segments_are_noticed(many):
    for first, second in zip(many.segments, many.segments[1:], strict=False):
        many.restore(**{first: many.whole[second], second: many.whole[first]})
        assert isinstance(many.open(), JournalDamagedError)


def test_a_segment_of_another_journal_of_the_same_delivery_is_noticed(many, place):
    many.recorded.write(place / "twin", segment_bytes=1_500).close()
    twin = contents(place / "twin")
    for name in many.segments[1:]:
        assert twin[name] != many.whole[name], "they have nonces"
        many.restore(**{name: twin[name]})
        assert isinstance(many.open(), JournalDamagedError)


@pytest.mark.promise("R22")
def test_a_newer_format_is_refused_and_untouched(many):
    for name in many.segments:
        data = many.whole[name]
        header = data[: data.index(b"\n")].replace(b'"version":1', b'"version":2', 1)
        many.restore(**{name: header + data[len(header) :]})
        assert isinstance(many.open(), JournalVersionError)


@pytest.mark.parametrize("table", ["files-0000.ndjson", "files-0001.ndjson", "files-0002.ndjson"])
def test_a_missing_or_altered_file_table_is_refused(many, table):
    data = many.whole[table]
    for changed in (None, b"", data[: len(data) // 2], data[:-2], data.replace(b'"size":', b'"size":9'), b"\n"):
        many.restore(**{table: changed})
        assert isinstance(many.open(), JournalDamagedError), changed


def test_any_flipped_bit_of_a_revision_is_refused(many):
    data = many.whole["files-0001.ndjson"]
    for offset in range(len(data)):
        many.restore(**{"files-0001.ndjson": flipped(data, offset, offset % 8)})
        assert isinstance(many.open(), JournalDamagedError)


# --- snapshots -----------------------------------------------------------------------------------


def snapshots_of(one: Victim, *numbers: int) -> dict[str, bytes]:
    """The snapshots that are written after so many batches, taken from the same journal's own life."""
    found = {}
    for number in numbers:
        journal = DirectoryJournal(one.path)
        name, offset = one.ends[number - 1]
        later = {segment: None for segment in one.segments if segment > name}
        one.restore(**{**later, name: one.whole[name][:offset]})
        delivery = journal.open()
        journal.close(delivery)
        found.update({name: data for name, data in contents(one.path).items() if name.startswith("snapshot")})
    one.restore()
    assert len(found) == len(numbers)
    return found


def test_any_damage_to_a_snapshot_is_ignored(victim):
    one = victim(recording("plain"), 3_000)
    [(name, data)] = snapshots_of(one, 15).items()
    wanted = one.recorded.live[-1]
    damaged = [flipped(data, offset, offset % 8) for offset in range(len(data))]
    for snapshot in [b"", b"\n", data[:-1], data + b"x", data.replace(b"\n", b""), *damaged]:
        one.restore(**{name: snapshot})
        found = one.open()
        assert not isinstance(found, JournalError)
        assert found[0].canonical() == wanted


def test_a_snapshot_of_another_journal_is_ignored(victim, place):
    one = victim(recording("plain"), 1 << 20)
    other = Victim(recording("outages"), place / "other", 1 << 20)
    one.restore(**snapshots_of(other, 10))
    found = one.open()
    assert not isinstance(found, JournalError)
    assert found[0].canonical() == one.recorded.live[-1]


def test_a_snapshot_of_what_was_lost_is_ignored_for_good(victim):
    """The journal was cut before it, grows beyond its place again, and is never read through it."""
    one = victim(recording("plain"), 1 << 20)
    last = len(one.recorded.batches)
    stale = snapshots_of(one, last)
    [name] = one.segments
    for number in range(2, last):
        cut = one.ends[number - 1][1]
        for size in (cut, cut + 10):
            one.restore(**stale, **{name: one.whole[name][:size]})
            journal = DirectoryJournal(one.path)
            delivery = journal.open()
            assert delivery is not None
            for events, time_ms in one.recorded.batches[number:]:
                journal.append(events, time_ms=time_ms)
                for event in events:
                    delivery.apply(event, time_ms)
            journal.close()  # killed: no snapshot of the new end
            again = JournalReader(one.path)
            assert again.advance()
            assert again.delivery.canonical() == delivery.canonical()


def test_two_snapshots_are_kept_and_the_older_one_helps_when_the_newer_is_damaged(victim):
    one = victim(recording("plain"), 1 << 20)
    snapshots = snapshots_of(one, 5, 10, 20)
    one.restore(**snapshots)
    journal = DirectoryJournal(one.path)
    delivery = journal.open()
    journal.close(delivery)
    kept = sorted(name for name in contents(one.path) if name.startswith("snapshot"))
    assert len(kept) == 2
    one.restore(**{kept[0]: contents(one.path)[kept[0]], kept[1]: b"damaged"})
    found = one.open()
    assert not isinstance(found, JournalError)
    assert found[0].canonical() == one.recorded.live[-1]


# --- going on ------------------------------------------------------------------------------------


# The odd validator judges by rote: whoever tells it of a file again gets another row.
RESUMABLE = [name for name in SCENARIOS if name != "an odd validator"]


@pytest.mark.parametrize("name", RESUMABLE)
def test_whatever_part_of_a_journal_is_left_the_delivery_ends_the_same(name, place):
    """The world has moved on, the journal was set back: as after a restored backup, or a disk that lied about syncs."""
    recorded = recording(name)
    for number in range(1, len(recorded.batches)):
        world = world_for(name)
        SCENARIOS[name](world)
        expected = {file.relpath: file.state for file in world.client().files()} and _states(world)
        path = place / f"{name}-{number}"
        journal = recorded.write(path, batches=number)
        journal.close()
        world.ports.journal = DirectoryJournal(path)  # type: ignore[assignment]  # a port like the other
        world.deliver(sessions=3)
        world.deliver(sessions=3)
        reader = JournalReader(path)
        assert reader.advance()
        found = {p: reader.delivery.state_of(n) for n, p in enumerate(reader.delivery.table.paths())}
        assert found == expected, f"after {number} batches"
        world.judge_runs()


def _states(world: World) -> dict[str, str]:
    delivery = world.real["journal"].replayed()
    return {path: str(delivery.state_of(n)) for n, path in enumerate(delivery.table.paths())}


class Forger:
    """Somebody who knows the seals, and writes what was never recorded at the end of a journal."""

    def __init__(self, victim: Victim):
        self.victim = victim
        [self._name] = victim.segments
        self.reader = JournalReader(victim.path)
        self.reader.advance()

    def batch(self, *events: Event) -> bytes:
        return encode_batch(events, 1_800_000_000_000, self.reader.position)[0]

    def resealed(self, data: bytes, old: bytes = b"", new: bytes = b"") -> bytes:
        return _resealed(data, self.reader.position.crc, old, new)

    def append(self, data: bytes) -> None:
        self.victim.restore(**{self._name: self.victim.whole[self._name] + data})


@pytest.fixture
def forger(victim):
    return Forger(victim(recording("plain"), 1 << 20))


def test_every_forged_but_sealed_record_gives_a_typed_error(forger):
    """The CRC finds accidents; a record that somebody made up is refused by what it says."""
    for forged in (
        ev.TransferStarted(0),
        ev.TransferStarted(999),
        ev.TransferFailed(999, "x"),
        ev.FileRevised(999),
        ev.SessionClosed("complete"),
        ev.IndexRevised(7, "digest", 9),
    ):
        data = forger.batch(forged)
        for line in (data, forger.resealed(data, b'"time":"2027', b'"time":"junk')):
            forger.append(line)
            assert isinstance(forger.victim.open(), JournalDamagedError), line


@pytest.mark.parametrize(("what", "instead"), [(b"}\n{", b"}{"), (b"}\n{", b"}\n\n{"), (b',"kind"', b',\n"kind"')])
def test_each_record_has_a_line_of_its_own_though_the_decoder_would_not_mind(forger, what, instead):
    """A journal that is gone on with must be readable afterwards, and other readers go by its lines."""
    data = forger.batch(ev.FileRevised(0), ev.TransferQueued(0), ev.TransferStarted(0))
    forger.append(data)
    assert not isinstance(forger.victim.open(), JournalError)
    before, _, after = data.rpartition(what)
    forger.append(forger.resealed(before + instead + after))
    assert isinstance(forger.victim.open(), JournalDamagedError)


def test_a_sealed_record_whose_number_cannot_be_read_is_damage(forger):
    data = forger.batch(ev.StopRequested("a"))
    forger.append(forger.resealed(data, b'{"seq":', b'{"seq":"x'))
    assert isinstance(forger.victim.open(), JournalDamagedError)


def test_a_sealed_record_of_no_time_is_damage(forger):
    """Whoever mends a torn tail writes the time of the record before it; nothing was read of that one's time till then."""
    data = forger.batch(ev.FileRevised(0), ev.TransferQueued(0), ev.TransferStarted(0))
    before, _, after = data.rpartition(b'"time":"2027')
    wrong = forger.resealed(before + b'"time":"junk' + after)
    for tail in (b"", b'{"seq":'):
        forger.append(wrong + tail)
        assert "junk" in str(forger.victim.open())


def test_whoever_tells_of_a_sealed_record_of_no_time_says_damage(forger):
    data = forger.batch(ev.FileRevised(0), ev.TransferQueued(0), ev.TransferStarted(0))
    queued = data.splitlines(keepends=True)[1]
    wrong = data.replace(queued, queued.replace(b'"time":"2027', b'"time":"\\u001b[2J'))
    wrong = forger.resealed(wrong)
    forger.append(wrong)
    assert forger.reader.advance(), "the state does not hang on it"
    with pytest.raises(JournalDamagedError, match="at no time") as refused:
        list(forger.reader.records())
    assert str(refused.value).isprintable()
    story = Story(forger.victim.recorded.created, forger.victim.recorded.table)
    with pytest.raises(JournalDamagedError, match="at no time") as refused:
        list(map(story.take, [piece for piece, _ in forger.reader.pieces()]))
    assert str(refused.value).isprintable()


def test_a_disk_that_cannot_read_the_journal_is_named_and_no_bug(tmp_path):
    recording("plain").write(tmp_path / "j", segment_bytes=1 << 20).close()
    (tmp_path / "j" / "events-000002.ndjson").mkdir()  # which cannot be read, whoever asks
    for read in (lambda reader: reader.advance(), lambda reader: list(reader.records())):
        with pytest.raises(JournalWriteError, match=r"events-000002\.ndjson cannot be read"):
            read(JournalReader(tmp_path / "j"))


def test_the_latest_session_is_found_before_a_segment_without_a_header(tmp_path):
    recording("plain").write(tmp_path / "j", segment_bytes=1 << 20).close()
    before = JournalReader(tmp_path / "j").latest_session()
    assert before is not None
    (tmp_path / "j" / "events-000002.ndjson").touch()
    assert JournalReader(tmp_path / "j").latest_session() == before


def test_a_journal_that_another_process_began_meanwhile_is_not_begun_again(tmp_path):
    recorded = recording("plain")
    late, early = DirectoryJournal(tmp_path / "j"), DirectoryJournal(tmp_path / "j")
    assert late.open() is None
    assert early.open() is None
    early.create(recorded.created, recorded.table, time_ms=1_800_000_000_000)
    early.close()
    before = contents(tmp_path / "j")
    with pytest.raises(JournalInUseError, match="meanwhile"):
        late.create(recorded.created, recorded.table, time_ms=1_800_000_000_001)
    assert contents(tmp_path / "j") == before
    again = DirectoryJournal(tmp_path / "j")
    assert again.open() is not None
    again.close()


def test_a_sealed_snapshot_of_no_time_is_ignored(tmp_path):
    path = tmp_path / "j"
    recording("plain").write(path).close()
    reader = JournalReader(path)
    reader.advance()
    snapshot_file.write(path, reader.delivery, reader.position, reader.header.nonce)
    [snapshot] = path.glob("snapshot-*")
    again = JournalReader(path)
    assert again.advance()
    assert again.position == reader.position
    body = snapshot.read_bytes()[:-8].replace(reader.position.time.encode(), b"junk")
    snapshot.write_bytes(body + b"%08x" % zlib.crc32(body))
    with next(iter(sorted(path.glob("events-*"))[-1:])).open("ab") as segment:
        segment.write(b'{"seq":')
    journal = DirectoryJournal(path)
    assert journal.open() is not None
    journal.close()


@pytest.mark.parametrize("files", [1_000_000, 2**62])
def test_a_revision_of_more_files_than_there_can_be_takes_no_memory_for_them(forger, files):
    data = forger.batch(ev.IndexRevised(1, "digest", files))
    forger.append(data)
    too_many = f"speaks of {files} files, which is more than its file tables can hold"
    with pytest.raises(JournalDamagedError, match=too_many):
        forger.reader.advance()
    with pytest.raises(JournalDamagedError, match=too_many):
        JournalReader(forger.victim.path).replay_until(lambda _: False)
    assert too_many in str(forger.victim.open())


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_revision_of_another_number_of_files_than_its_table_is_damage(tmp_path, wrong):
    recorded = recording("plain")
    journal = recorded.write(tmp_path / "j")
    table = recorded.table
    revised = table.revised([b'{"file":%d,"path":"one-more","size":1}\n' % len(table)])
    journal.add_revision(1, revised, [len(table)])
    journal.close()
    reader = JournalReader(tmp_path / "j")
    reader.advance()
    event = ev.IndexRevised(1, revised.digest, len(revised) + wrong)
    data, _ = encode_batch([event], 1_800_000_000_000, reader.position)
    with sorted((tmp_path / "j").glob("events-*"))[-1].open("ab") as segment:
        segment.write(data)
    with pytest.raises(JournalDamagedError, match=rf"{event.files} files, .*holds {len(revised)}"):
        JournalReader(tmp_path / "j").advance()


def _resealed(data: bytes, crc: int, old: bytes, new: bytes) -> bytes:
    body = data[: data.rindex(b',"crc":"')].replace(old, new)
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body, crc)
