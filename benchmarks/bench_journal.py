"""J1 to J10: the journal and the core, beside the floor under them and beside what else a project could use."""

from __future__ import annotations

import functools
import itertools
import operator
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import deliveries
import msgspec
from figures import ROOT, Figure, Goal, Scale, Timed, child, cpu, interleave, number, per, wall

from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.index_check import check_columns
from upload_core.journal import encode_batch, replay
from upload_core.lifecycle import DONE, FILE_ROWS, FILE_STATES, FILE_TABLE, FILE_TABLE_SPENT, ILLEGAL, build_machine
from upload_core.validation import Entry


@contextmanager
def _directory() -> Iterator[Path]:
    # beside the project, not in /tmp, which may be memory and would make every sync free
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _compare(
    key: str, what: str, goal: Goal, seconds: dict[str, float], ours: str, peer: str, count: int, note: str = ""
) -> Figure:
    """How many times the peer's seconds ours are (`<=`), or how many times ours the peer's are (`>=`)."""
    ratio = seconds[ours] / seconds[peer] if goal.bound == "<=" else seconds[peer] / seconds[ours]
    beside = {name: per(seconds[name], count) for name in (ours, peer)}
    return Figure(key, what, goal, ratio, beside=beside, note=note)


# --- J1 ------------------------------------------------------------------------------------------


@functools.cache
def full_decoder() -> msgspec.json.Decoder[Any]:
    """Decodes every field of every record, the event's and the record's own, and nothing else."""
    kinds: list[Any] = []
    for kind in ev.EVENTS:
        own: list[Any] = []
        for known in msgspec.structs.fields(kind):
            if known.required:
                own.append((known.name, known.type))
            elif known.default is not msgspec.NODEFAULT:
                own.append((known.name, known.type, known.default))
            else:
                own.append((known.name, known.type, msgspec.field(default_factory=known.default_factory)))
        own += [("seq", int), ("time", str), ("batch", int | None, None), ("crc", str | None, None)]
        kinds.append(msgspec.defstruct(kind.__name__, own, tag_field="kind", tag=True, gc=False, kw_only=True))
    return msgspec.json.Decoder(functools.reduce(operator.or_, kinds))


def _replay(index: FileTable, chunks: list[bytes]) -> Timed:
    def run() -> float:
        delivery = Delivery.begin(deliveries.created(index), index)

        def take_up() -> None:
            replay(chunks, deliveries.START, delivery)
            delivery.refresh_derived()

        seconds = cpu(take_up)
        assert delivery.all_valid
        return seconds

    return run


def _decode_only(decoder: msgspec.json.Decoder[Any], data: bytes) -> Timed:
    pieces = deliveries.pieces(data)

    def decode() -> None:
        for piece in pieces:
            decoder.decode_lines(piece)

    return lambda: cpu(decode)


def j1(scale: Scale) -> Iterator[Figure]:
    """Replay beside a bare decode of the same bytes."""
    events_only: msgspec.json.Decoder[Any] = msgspec.json.Decoder(functools.reduce(operator.or_, ev.EVENTS))
    for events, batch in [(1_000_000, 64), (1_000_000, 1), (5_000_000, 64)]:
        files = scale(events, events // 10) // deliveries.EVENTS_PER_FILE
        count = files * deliveries.EVENTS_PER_FILE
        index, data = deliveries.table(files), deliveries.records(files, batch)
        seconds = interleave(
            {
                "replay": _replay(index, deliveries.chunks(data)),
                "bare decode": _decode_only(full_decoder(), data),
                "events only": _decode_only(events_only, data),
            },
            scale.rounds,
        )
        strict = 100 * seconds["events only"] / seconds["replay"]
        yield Figure(
            "J1",
            f"replay (verify, decode, apply) of {count:,} events in batches of {batch}, "
            "as a share of the speed of a bare msgspec decode of the same bytes",
            Goal(">=", 90, "%"),
            100 * seconds["bare decode"] / seconds["replay"],
            "%",
            {name: per(seconds[name], count) for name in ("replay", "bare decode")},
            note=f"{number(strict)} % of a decode that skips each record's number and time",
        )


# --- J2 ------------------------------------------------------------------------------------------


def _sqlite_replay(path: Path, index: FileTable) -> Timed:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(functools.reduce(operator.or_, ev.EVENTS))

    def fold() -> None:
        delivery = Delivery.begin(deliveries.created(index), index)
        connection = sqlite3.connect(path)
        for (data,) in connection.execute("select data from events order by seq"):
            delivery.apply(decoder.decode(data), deliveries.TIME_MS)
        connection.close()
        assert delivery.all_valid

    return lambda: cpu(fold)


def _fill_sqlite(path: Path, files: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table events (seq integer primary key, time text not null, data blob not null)")
    encode = msgspec.json.Encoder().encode
    rows = (("2026-11-22T07:24:36.959Z", encode(event)) for event in deliveries.lives(files))
    connection.executemany("insert into events (time, data) values (?, ?)", rows)
    connection.commit()
    connection.close()


def j2(scale: Scale) -> Iterator[Figure]:
    """Replay beside what else a project could take for an event log."""
    import peer_eventsourcing as peer

    with _directory() as directory:
        files = scale(100_000, 20_000)
        count = files * deliveries.EVENTS_PER_FILE
        index = deliveries.table(files)
        _fill_sqlite(directory / "plain.sqlite", files)
        ours = _replay(index, deliveries.chunks(deliveries.records(files, 64)))
        seconds = interleave(
            {"replay": ours, "sqlite3": _sqlite_replay(directory / "plain.sqlite", index)}, scale.rounds
        )
        yield _compare(
            "J2",
            "replay beside sqlite3 select + msgspec, the same fold",
            Goal(">=", 3),
            seconds,
            "replay",
            "sqlite3",
            count,
        )
        app = peer.application(directory)
        theirs = peer.fill(app, scale(10_000, 2_000))

        def fold() -> float:
            return cpu(lambda: peer.replay(app)) * count / theirs

        seconds = interleave({"replay": ours, "eventsourcing": fold}, scale.rounds)
        app.close()
    yield _compare(
        "J2", "replay beside eventsourcing 9.5 + SQLite", Goal(">=", 50), seconds, "replay", "eventsourcing", count
    )


# --- J3 and J4 -----------------------------------------------------------------------------------


def _new_journal(directory: Path, index: FileTable, **options: Any) -> DirectoryJournal:
    journal = DirectoryJournal(Path(tempfile.mkdtemp(dir=directory)) / "journal", **options)
    assert journal.open() is None
    journal.create(deliveries.created(index), index, time_ms=deliveries.TIME_MS)
    return journal


def _appending(directory: Path, index: FileTable, batches: Sequence[Sequence[ev.Event]]) -> Timed:
    def run() -> float:
        journal = _new_journal(directory, index)

        def append_all() -> None:
            for batch in batches:
                journal.append(batch, time_ms=deliveries.TIME_MS)

        seconds = cpu(append_all)
        journal.close()
        return seconds

    return run


def _raw_writing(directory: Path, lines: list[bytes]) -> Timed:
    def run() -> float:
        fd = os.open(directory / "raw", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)

        def write_all() -> None:
            for line in lines:
                os.write(fd, line)
                os.fdatasync(fd)

        seconds = cpu(write_all)
        os.close(fd)
        return seconds

    return run


def _saving(app: Any, batch: int, rounds: int) -> Timed:
    """eventsourcing: `rounds` saves of one new event on each of `batch` files."""
    import peer_eventsourcing as peer

    def run() -> float:
        files = [peer.File(path=f"file-{number}") for number in range(batch)]
        app.save(*files)

        def save_all() -> None:
            for _ in range(rounds):
                for file in files:
                    file.queue()
                app.save(*files)

        return cpu(save_all)

    return run


def j3(scale: Scale) -> Iterator[Figure]:
    """A durable append beside the bare system calls, and beside an event store."""
    import peer_eventsourcing as peer

    index = deliveries.table(20_000)
    single = [(event,) for event in itertools.islice(deliveries.lives(20_000), scale(2_000, 300))]
    batches = [
        tuple(batch) for batch in itertools.islice(deliveries.batches(deliveries.lives(20_000), 64), scale(400, 60))
    ]
    lines, position = [], deliveries.START
    for events in single:
        data, position = encode_batch(events, deliveries.TIME_MS, position)
        lines.append(data)
    with _directory() as directory:
        seconds = interleave(
            {"append": _appending(directory, index, single), "write + fdatasync": _raw_writing(directory, lines)},
            scale.rounds,
        )
        yield _compare(
            "J3",
            "durable append, one event per sync, beside the bare system calls",
            Goal("<=", 1.15),
            seconds,
            "append",
            "write + fdatasync",
            len(single),
        )
        app = peer.application(directory)
        one, sixty_four = scale(300, 60), scale(60, 10)
        spread = len(batches) * 64
        seconds = interleave(
            {
                "append": _appending(directory, index, batches),
                "save one": lambda: _saving(app, 1, one)() * spread / one,
                "save 64": lambda: _saving(app, 64, sixty_four)() * spread / (sixty_four * 64),
            },
            scale.rounds,
        )
        app.close()
    yield _compare(
        "J3",
        "batches of 64 beside eventsourcing saving each event",
        Goal(">=", 100),
        seconds,
        "append",
        "save one",
        spread,
    )
    yield _compare(
        "J3",
        "batches of 64 beside eventsourcing saving 64 at once",
        Goal(">=", 13),
        seconds,
        "append",
        "save 64",
        spread,
    )


def _producing(directory: Path, index: FileTable, producers: int, each: int) -> Timed:
    def run() -> float:
        journal = _new_journal(directory, index, sync=lambda _: time.sleep(0.005))

        def produce(number: int) -> None:
            for turn in range(each):
                journal.append([ev.TransferQueued(number * each + turn)], time_ms=deliveries.TIME_MS)

        threads = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]

        def all_of_them() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        seconds = wall(all_of_them)
        journal.close()
        return seconds

    return run


def j4(scale: Scale) -> Iterator[Figure]:
    """Group commit: many who wait for the disk share its syncs."""
    each = scale(100, 30)
    index = deliveries.table(16 * each)
    with _directory() as directory:
        seconds = interleave(
            {
                "16 producers": _producing(directory, index, 16, each),
                "1 producer": _producing(directory, index, 1, each),
            },
            scale.rounds,
        )
    rate = {"16 producers": 16 * each / seconds["16 producers"], "1 producer": each / seconds["1 producer"]}
    yield Figure(
        "J4",
        "events per second of 16 producers that wait for a disk with 5 ms syncs, beside one producer",
        Goal(">=", 9),
        rate["16 producers"] / rate["1 producer"],
        beside={name: f"{number(value)}/s" for name, value in rate.items()},
    )


# --- J5 ------------------------------------------------------------------------------------------


class _LiveCore:
    """The engine's way with events and nothing around it: decide, check, encode, apply."""

    def __init__(self, index: FileTable) -> None:
        self.delivery = deliveries.running(index)
        self.position = deliveries.START
        self.now_ms = deliveries.TIME_MS
        self.events = 0

    def take(self, what: object) -> cmd.Decision:
        self.now_ms += 1
        decision = self.delivery.decide(what, self.now_ms)
        if decision.events:
            self.delivery.check(decision.events)
            _, self.position = encode_batch(decision.events, self.now_ms, self.position)
            for event in decision.events:
                self.delivery.apply(event, self.now_ms)
            self.events += len(decision.events)
        return decision


def _living(files: int) -> Timed:
    """Every file through a whole life, 64 at a time; what the ports would hand in is made beforehand."""
    index = deliveries.table(files)
    index.find("")  # as on a resume: the path index is built once
    stored = [fx.FileStored(file, deliveries.SIZE, deliveries.CHECKSUM, deliveries.ETAG) for file in range(files)]
    stamp = "2026-11-22T07:24:36.959Z"
    entries = [Entry(0, stamp, "validation", path, "ok", "", "validator-1") for path in index.paths()]

    def run() -> float:
        core = _LiveCore(index)

        def live() -> None:
            done = 0
            while done < files:
                effects = core.take(cmd.Tick(deliveries.WORKERS)).effects
                sent = [effect.file for effect in effects if isinstance(effect, fx.TransferFile)]
                done += len(sent)
                core.take(cmd.OutcomesFound([stored[file] for file in sent]))
                core.take(cmd.FilesReported(core.delivery.take(DONE, deliveries.WORKERS), (), done))
                core.take(cmd.ValidatorLogFound([entries[file] for file in sent], done))

        seconds = cpu(live)
        assert core.delivery.all_valid
        return seconds / core.events

    return run


def j5(scale: Scale) -> Iterator[Figure]:
    """What one event costs a live core."""
    files = scale(100_000, 10_000)
    seconds = interleave({"live": _living(files)}, scale.rounds)["live"]
    yield Figure(
        "J5", "live core, per event: decide, check, encode, apply, counters", Goal("<=", 1.5, "us"), seconds * 1e6, "us"
    )


# --- J6 ------------------------------------------------------------------------------------------


class _Model:
    """What a `transitions` machine drives."""

    state: str
    retries_left = True


def _agree(machine: Any, model: Any) -> int:
    """Machine and table give the same in every state x trigger x guard; returns how many cases there are."""
    from transitions import MachineError

    names, cases = [state.name for state in FILE_STATES], 0
    for left, table in ((True, FILE_TABLE), (False, FILE_TABLE_SPENT)):
        model.retries_left = left
        for trigger, row in table.items():
            for code, name in enumerate(names):
                machine.set_state(name)
                try:
                    moved = getattr(model, trigger)()
                except MachineError:
                    moved = False
                assert (names.index(model.state) if moved else ILLEGAL) == row[code], (trigger, name, left)
                cases += 1
    model.retries_left = True
    machine.set_state("ready")
    return cases


def j6(scale: Scale) -> Iterator[Figure]:
    """The lifecycle by table beside the machine it was derived from."""
    model = _Model()
    machine = build_machine(FILE_ROWS, [state.name for state in FILE_STATES], "ready", model=model)
    cases = _agree(machine, model)
    life = ("TransferQueued", "TransferStarted", "TransferCompleted", "FileReported", "FileValidated")
    files = scale(20_000, 2_000)

    def by_machine() -> None:
        for _ in range(files):
            model.state = "ready"
            for trigger in life:
                getattr(model, trigger)()

    states = bytearray(files)

    def by_table() -> None:
        table = FILE_TABLE
        for file in range(files):
            states[file] = 0
            for trigger in life:
                states[file] = table[trigger][states[file]]

    seconds = interleave({"table": lambda: cpu(by_table), "machine": lambda: cpu(by_machine)}, scale.rounds)
    yield _compare(
        "J6",
        "lifecycle by the derived table beside a `transitions` trigger",
        Goal(">=", 40),
        seconds,
        "table",
        "machine",
        files * len(life),
        note=f"equal in all {cases} cases",
    )


# --- J7 ------------------------------------------------------------------------------------------

_MEMORY = """
import json, sys, tracemalloc
sys.path.insert(0, "benchmarks")
import deliveries
from upload_core.delivery import Delivery
from upload_core.files import FileTable
files = int(sys.argv[1])
def rows():
    for i in range(files):
        yield f"survey/field_{i // 1000:04}/image_{i:08}.fits"
tracemalloc.start()
index = FileTable.from_columns(rows(), (4096 for _ in range(files)), ("yH2GHg==" for _ in range(files)))
delivery = Delivery.begin(deliveries.created(index), index)
index.find("x")
held = tracemalloc.get_traced_memory()[0]
print(json.dumps(held / files - sum(map(len, rows())) / files))
"""


@dataclass
class _ClientFile:
    """What the public original makes of each row."""

    abspath: str
    relpath: str
    state: Literal["ready"]
    retries: int
    max_retries: int
    message: str | None = None
    checksum: str | None = None


def j7(scale: Scale) -> Iterator[Figure]:
    """What a file costs while nothing happens to it, and what it costs to begin."""
    files = scale(1_000_000, 100_000)
    held = child(_MEMORY, str(files))
    yield Figure(
        "J7",
        f"memory of {files:,} files: bytes per file besides its path",
        Goal("<=", 48, "B"),
        held,
        "B",
        note="index, states, retries and the hash index over paths",
    )
    yield from _index_to_ready(scale(1_000_000, 50_000), min(scale.rounds, 3))


def _index_to_ready(files: int, rounds: int) -> Iterator[Figure]:
    import pandas as pd

    from upload_adapters.frames import columns_of

    frame = pd.DataFrame({"path": deliveries.paths(files), "checksum": deliveries.CHECKSUM, "size": deliveries.SIZE})

    def ours() -> None:
        columns = columns_of(frame)
        index = FileTable.from_columns(columns.paths, columns.sizes, columns.checksums)  # type: ignore[arg-type]
        assert len(Delivery.begin(deliveries.created(index), index)) == files

    def judged() -> None:
        columns = columns_of(frame)
        assert not check_columns(columns)
        index = FileTable.from_columns(columns.paths, columns.sizes, columns.checksums)  # type: ignore[arg-type]
        assert len(Delivery.begin(deliveries.created(index), index)) == files

    def theirs() -> None:
        found = []
        for _, row in frame.iterrows():
            file = _ClientFile(str(Path("/data") / row["path"]), row["path"], "ready", 0, 2)
            file.checksum = row["checksum"]
            found.append(file)
        assert len(found) == files

    timed: dict[str, Timed] = {
        "columns": lambda: cpu(ours),
        "every rule": lambda: cpu(judged),
        "iterrows": lambda: cpu(theirs),
    }
    seconds = interleave(timed, rounds)
    beside = {name: per(value, files, "file") for name, value in seconds.items()}
    for name, what in (("columns", ""), ("every rule", ", every rule of an index checked")):
        yield Figure(
            "J7",
            f"index of {files:,} rows to a ready core (digest included){what}, beside `iterrows` + dataclass",
            Goal(">=", 25),
            seconds["iterrows"] / seconds[name],
            beside={key: beside[key] for key in (name, "iterrows")},
        )


# --- J8 ------------------------------------------------------------------------------------------


def _long_journal(directory: Path, files: int, tail: int) -> None:
    """A journal of five events a file, with a snapshot `tail` events before its end."""
    index = deliveries.table(files)
    journal = DirectoryJournal(directory / "journal", sync=lambda _: None)
    journal.open()
    delivery = journal.create(deliveries.created(index), index, time_ms=deliveries.TIME_MS)
    total, written, kept = files * deliveries.EVENTS_PER_FILE, 0, False
    for batch in deliveries.batches(deliveries.lives(files), 64):
        journal.append(batch, time_ms=deliveries.TIME_MS)
        for event in batch:
            delivery.apply(event, deliveries.TIME_MS)
        written += len(batch)
        if not kept and total - written <= tail:
            journal.snapshot(delivery)
            kept = True
    journal.close()


def j8(scale: Scale) -> Iterator[Figure]:
    """Resume: everything that stands between a killed process and one that goes on."""
    files, tail = scale(1_000_000, 100_000), scale(100_000, 10_000)
    with _directory() as directory:
        _long_journal(directory, files, tail)

        def resume(*, snapshots: bool) -> float:
            reader = JournalReader(directory / "journal", snapshots=snapshots)
            seconds = cpu(reader.advance)
            assert reader.delivery.all_valid
            return seconds

        def table_alone() -> float:
            return cpu(lambda: FileTable.decode([(directory / "journal" / "files-0000.ndjson").read_bytes()]))

        seconds = interleave(
            {
                "in full": lambda: resume(snapshots=False),
                "snapshot": lambda: resume(snapshots=True),
                "file table": table_alone,
            },
            scale.rounds,
        )
    beside = {name: f"{number(value)} s" for name, value in seconds.items()}
    events = files * deliveries.EVENTS_PER_FILE
    yield Figure(
        "J8",
        f"resume of {files:,} files and {events:,} events in full",
        Goal("<=", 1.5, "s"),
        seconds["in full"],
        "s",
        beside,
    )
    yield Figure(
        "J8",
        f"the same from a snapshot + {tail:,} events, beside in full",
        Goal(">=", 12),
        seconds["in full"] / seconds["snapshot"],
        beside=beside,
    )


# --- J9 ------------------------------------------------------------------------------------------


def _question_us(delivery: Delivery, ask: Callable[[Delivery], object]) -> float:
    timer = timeit.Timer(lambda: ask(delivery))
    return min(timer.repeat(5, 20_000)) / 20_000 * 1e6


def j9(scale: Scale) -> Iterator[Figure]:
    """What callers ask all the time costs the same for any number of files."""
    questions: dict[str, Callable[[Delivery], object]] = {
        "next_file": lambda delivery: delivery.next_file(deliveries.TIME_MS),
        "n_complete": lambda delivery: delivery.n_complete,
        "transfer_complete": lambda delivery: delivery.transfer_complete,
        "validation_complete": lambda delivery: delivery.validation_complete,
    }
    sizes = (1_000, scale(1_000_000, 100_000))
    found: dict[str, list[float]] = {name: [] for name in questions}
    for files in sizes:
        delivery = deliveries.running(deliveries.table(files))
        for file in range(files // 2):  # in the midst of the work: half of it is done
            for event in (ev.TransferQueued(file), ev.TransferStarted(file), ev.TransferCompleted(file, 1, "")):
                delivery.apply(event, 0)
        for name, ask in questions.items():
            found[name].append(_question_us(delivery, ask))
    worst = max(large / small for small, large in found.values())
    beside = {name: f"{small:.2f} -> {large:.2f} us" for name, (small, large) in found.items()}
    yield Figure(
        "J9", f"questions of callers, {sizes[1]:,} files beside {sizes[0]:,}", Goal("<=", 1.5), worst, beside=beside
    )


# --- J10 -----------------------------------------------------------------------------------------

_IMPORTED = """
import json, sys
import upload_core
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] in sys.argv[1].split())))
"""
_KEPT_OUT: Final = "boto3 botocore pandas polars pyarrow narwhals rich click upload_adapters"


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def j10(scale: Scale) -> Iterator[Figure]:
    """What a start costs."""
    pulled = child(_IMPORTED, _KEPT_OUT)
    yield Figure(
        "J10",
        f"modules that `import upload_core` pulls in of {_KEPT_OUT}",
        Goal("<=", 0, ""),
        len(pulled),
        "",
        note=", ".join(pulled),
    )
    command = Path(sys.executable).with_name("upload-core")

    def start(*arguments: str) -> Timed:
        def run() -> float:
            before = _children_cpu()
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return _children_cpu() - before

        return run

    seconds = interleave(
        {"--help": start(str(command), "--help"), "bare python": start(sys.executable, "-c", "pass")}, scale.rounds
    )
    beside = {name: f"{number(value)} s" for name, value in seconds.items()}
    yield Figure("J10", "`upload-core --help`, CPU", Goal("<=", 0.15, "s"), seconds["--help"], "s", beside)


FIGURES: Final = {
    "J1": j1, "J2": j2, "J3": j3, "J4": j4, "J5": j5, "J6": j6, "J7": j7, "J8": j8, "J9": j9, "J10": j10,
}  # fmt: skip
TITLE: Final = "Journal and core"
