"""Journals as they come about: deliveries with all that can happen to them, and the live state after every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from tests.crash.job_world import JobWorld
from tests.crash.large_world import LargeWorld
from tests.crash.odd_validator import OddPipeline
from tests.crash.world import World
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.testing import Killed
from upload_core.delivery import Delivery
from upload_core.errors import ArchiveUnavailableError, ChecksumMismatchError, SourceChangedError
from upload_core.events import DeliveryCreated, Event, TransfersContinued, TransfersPaused
from upload_core.files import FileTable
from upload_core.journal import decode_record
from upload_core.timestamps import parse_iso


class Recorder:
    """Watches the live state of a world's clients: `live[seq]` is `canonical()` after the record of that number."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.live: dict[int, bytes] = {}
        world.calls.watcher = self.look

    def look(self, port: str, method: str) -> None:
        """Before the next batch is written, the state is that of the last one."""
        if port == "journal" and self.world.last is not None:
            delivery = self.world.last.delivery
            if delivery.facts.seq:
                self.live.setdefault(delivery.facts.seq, delivery.canonical())


@attrs.frozen
class Recording:
    """A journal's batches, and the live state after each: `live[n]` after the first `n + 1` batches."""

    name: str
    world: World
    table: FileTable
    batches: Sequence[tuple[Sequence[Event], int]]
    live: Sequence[bytes]
    revisions: dict[int, tuple[FileTable, bytes]]
    """Revision -> the table it leads to, and the rows that changed."""

    @property
    def created(self) -> DeliveryCreated:
        """The journal's first event."""
        first = self.batches[0][0][0]
        assert isinstance(first, DeliveryCreated)
        return first

    @property
    def events(self) -> list[tuple[Event, int]]:
        """All events with their times, one by one."""
        return [(event, time_ms) for events, time_ms in self.batches for event in events]

    def write(self, path: Path, *, segment_bytes: int = 2_000, batches: int | None = None) -> DirectoryJournal:
        """The same journal in a directory, still open."""
        journal = DirectoryJournal(path, segment_bytes=segment_bytes)
        journal.create(self.created, self.table, time_ms=self.batches[0][1])
        for revision, (table, rows) in self.revisions.items():
            journal.add_revision(revision, table, _rows_in(rows))
        for events, time_ms in self.batches[1:batches]:
            journal.append(events, time_ms=time_ms)
        return journal

    def state_after(self, batches: int) -> Delivery:
        """The live state after so many batches, as a delivery of its own."""
        table, state = self.table, self.live[batches - 1]
        delivery = Delivery.from_canonical(state, table)
        for revision in range(1, delivery.facts.index_revision + 1):
            delivery.table = self.revisions[revision][0]
        return delivery


def _rows_in(encoded: bytes) -> list[int]:
    import msgspec

    return [msgspec.json.decode(line)["file"] for line in encoded.splitlines()]


def fold(table: FileTable, batches: Sequence[tuple[Sequence[Event], int]]) -> list[bytes]:
    """The states after each batch, by applying one event after the other."""
    created = batches[0][0][0]
    assert isinstance(created, DeliveryCreated)
    delivery, states = Delivery.begin(created, table), []
    for events, time_ms in batches:
        for event in events:
            delivery.apply(event, time_ms)
        states.append(delivery.canonical())
    return states


def _record(name: str, world: World, act: Callable[[World], None]) -> Recording:
    recorder = Recorder(world)
    act(world)
    journal = world.real["journal"]
    batches: list[tuple[list[Event], int]] = []
    events: list[Event] = []
    ends: list[int] = []
    for line in journal.data.splitlines()[1:]:
        record = decode_record(line)
        events.append(record.event)
        if b',"crc":"' in line:
            batches.append((events, parse_iso(record.time)))
            ends.append(record.seq)
            events = []
    assert world.last is not None
    recorder.live.setdefault(ends[-1], world.last.delivery.canonical())
    revisions: dict[int, tuple[FileTable, bytes]] = {}
    table = journal._table
    for revision, rows in enumerate(journal._revisions, 1):
        table = table.revised([rows])
        revisions[revision] = (table, rows)
    # a process that dies right after an append, or takes up a revised index, shows no state in between
    folded = fold(journal._table, batches)
    live = [recorder.live.get(seq, state) for seq, state in zip(ends, folded, strict=True)]
    assert sum(seq in recorder.live for seq in ends) >= len(ends) - 4
    return Recording(name, world, journal._table, batches, live, revisions)


# --- what can happen -----------------------------------------------------------------------------


def _fail(world: World, *troubles: Callable[[str, int], None]) -> None:
    """Each trouble is asked, before a put of a path for the n-th time, whether it wants to raise."""
    tries: dict[str, int] = {}

    def before(port: str, method: str, args: tuple[Any, ...]) -> None:
        if (port, method) == ("archive", "put"):
            tries[args[0]] = tries.get(args[0], 0) + 1
            for trouble in troubles:
                trouble(args[0], tries[args[0]])

    world.calls.before = before


def _plain(world: World) -> None:
    world.deliver()


def _failures(world: World) -> None:
    def rewritten(path: str, attempt: int) -> None:
        if path == "d/001.dat" and attempt <= 2:
            raise SourceChangedError("it is being rewritten")
        if path == "d/005.dat":
            raise SourceChangedError('it is "always" rewritten')

    def wrong(path: str, attempt: int) -> None:
        if path == "d/002.dat":
            raise ChecksumMismatchError(path, expected="AAAAAA==", actual="//////==")

    _fail(world, rewritten, wrong)
    world.deliver()
    world.calls.disarm()
    world.bad.clear()
    world.deliver()


def _outages(world: World) -> None:
    down = [0]

    def slow(path: str, attempt: int) -> None:
        down[0] += 1
        if 3 <= down[0] <= 6 or 9 <= down[0] <= 10:
            raise ArchiveUnavailableError("SlowDown: please reduce your request rate")

    _fail(world, slow)
    world.deliver()


def _killed(world: World) -> None:
    for number, after, validator_too in ((25, True, False), (30, False, True), (22, True, True)):
        world.calls.kill_at(number, after=after)
        try:
            world.client().run()
        except Killed:
            world.die(validator_too=validator_too)
    world.deliver()


def _revised(world: World) -> None:
    world.calls.kill_at(30, after=True)
    try:
        world.client().run()
    except Killed:
        world.die(validator_too=True)
    world.files["d/000.dat"] = b"another one, and longer"
    world.files["d/new.dat"] = b"new"
    world.deliver()
    world.files["d/001.dat"] = b"again"
    world.deliver()


def _stopped(world: World) -> None:
    client = world.client(n_threads=1)
    client.subscribe(lambda record: client.stop("enough") if record.seq == 20 else None)
    client.run()
    world.deliver()


def _odd(world: World) -> None:
    def answer(validator: OddPipeline, path: str) -> list[bytes]:
        ok = validator.row("validation", path)
        match path:
            case "d/000.dat":
                return [ok, ok, validator.row("keepalive", "self", "ok", "1 / 8")]
            case "d/001.dat":
                return [ok, validator.row("validation", path, "failure", "problems:\n- on second thoughts\n")]
            case "d/002.dat":
                return [b"torn line, \xff\xfe not UTF-8\n", ok, validator.row("weather", "self", "ok", "fine")]
            case "d/003.dat":
                return [validator.row("validation", path, "failure", 'problems:\n- "no header"\t!')]
            case _:
                return [validator.row("validation", "d/unknown.dat"), ok]

    def first(validator: OddPipeline) -> list[bytes]:
        return [validator.row("validation", "d/006.dat"), validator.row("validation", "d/007.dat", "error", "no")]

    real = world.ports
    odd = OddPipeline(world.real["control"], real.clock, answer, first=first)
    setattr(world.ports, "pipeline", odd)  # noqa: B010 - its type is narrower than the port
    world.deliver(n_threads=1)


def _in_parts(world: World) -> None:
    for number, after in ((40, True), (36, False)):
        world.calls.kill_at(number, after=after)
        try:
            world.client().run()
        except Killed:
            world.die(validator_too=False)
    world.deliver()


def _paced(world: World) -> None:
    """Concurrency that finds its own level, and is pushed back once."""
    pushed = [2]

    def busy(port: str, method: str, args: tuple[Any, ...]) -> None:
        if (port, method) == ("archive", "put") and pushed[0] and len(world.calls.made) > 40:
            pushed[0] -= 1
            raise ArchiveUnavailableError("SlowDown")

    world.calls.before = busy
    world.deliver(n_threads=0)


def _paused(world: World) -> None:
    """Paused by two, continued one after the other; the second session is not paused by what the first one was."""
    client = world.client(n_threads=1)

    def notice(record: Any) -> None:
        if record.seq == 20:
            client.pause("lunch", by="user")
            client.pause("quota")
        elif isinstance(record.event, TransfersPaused) and record.event.by == "host":
            client.unpause(by="user")
        elif isinstance(record.event, TransfersContinued):
            client.stop("for today")

    client.subscribe(notice)
    client.run()
    world.deliver()


def _suspended(world: World) -> None:
    """The machine sleeps twice, the second time during an outage of everything but the journal."""
    puts = [0]

    def before(port: str, method: str, args: tuple[Any, ...]) -> None:
        puts[0] += (port, method) == ("archive", "put")
        if (port, method, puts[0]) == ("archive", "put", 2):
            world.ports.clock.suspend(60)
        if 6 <= puts[0] <= 9 and port in ("archive", "control"):
            if (port, method, puts[0]) == ("archive", "put", 7):
                world.ports.clock.suspend(3_000)
            raise ArchiveUnavailableError("no route to host")

    world.calls.before = before
    world.deliver()
    world.calls.disarm()
    world.deliver()


def _jobs(world: World) -> None:
    for number in (28, 45, 52):
        world.calls.kill_at(number, after=True)
        with suppress(Killed):
            world.client().run()
        world.die()
    world.deliver()


SCENARIOS: dict[str, Callable[[World], None]] = {
    "plain": _plain,
    "failures and retries": _failures,
    "outages": _outages,
    "killed three times": _killed,
    "a revised index": _revised,
    "stopped by the host": _stopped,
    "an odd validator": _odd,
    "large files in parts": _in_parts,
    "paced": _paced,
    "paused": _paused,
    "suspended": _suspended,
    "copied in jobs": _jobs,
}


def world_for(name: str) -> World:
    """A new world, of the kind that the scenario needs."""
    if name == "copied in jobs":
        return JobWorld(failing=("d/002.dat",))
    return LargeWorld() if name == "large files in parts" else World()


@cache
def recording(name: str) -> Recording:
    """The journal of that scenario."""
    return _record(name, world_for(name), SCENARIOS[name])


@cache
def long_recording() -> Recording:
    """A journal of more than 20 KiB."""
    files = {f"deeper/{n:04}.fits": bytes([n]) * 3 for n in range(40)}

    def act(world: World) -> None:
        for number, after, validator_too in ((40, True, False), (45, False, True)):
            world.calls.kill_at(number, after=after)
            try:
                world.client().run()
            except Killed:
                world.die(validator_too=validator_too)
        world.deliver()

    return _record("long", World(files, bad=["deeper/0005.fits"]), act)


@cache
def short_recording() -> Recording:
    """A journal as short as a whole delivery can be."""
    return _record("short", World({"a": b"", "b": b"b"}, bad=["b"]), _plain)
