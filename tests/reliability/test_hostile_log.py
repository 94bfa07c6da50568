"""The validator's log with one byte wrong, anywhere: nothing leaves `update()`, and no other row is lost."""

import pytest

from tests.crash.odd_validator import KEYS, OddPipeline
from tests.crash.world import World
from upload_core import commands as cmd
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.ports import Limits
from upload_core.validation import LogParser
from upload_core.wire import encode_rows

NOON_MS = 1_795_332_276_959
PROBE = "the probe"
VERDICTS = [
    # Paths that differ by more than a byte: a wrong byte must not make one of another.
    ("plain/a.fits", "ok", ""),
    ("bb.fits", "failure", 'problems:\n- header: "SIMPLE" missing\n- size: 0\n'),
    ("quoted c.txt", "ok", "\tall\tis\nwell\n"),
    ('odd"name".bin', "error", '"quoted" at once'),
    ("back\\slash", "ok", ""),
    ("näme/größe", "failure", "C:\\data\n"),
]
SPECIAL = b'"\t\n\\\0 '


def log(now_ms):
    """The rows of a run after its first verdict, one by one."""
    rows = [("validation", path, status, message) for path, status, message in VERDICTS]
    rows.insert(3, ("keepalive", "self", "ok", "3 / 9"))
    rows.append(("keepalive", "self", "ok", "6 / 9"))
    return [encode_rows([(now_ms, *row, "odd-validator")], backslash_escapes=True) for row in rows]


def owners(rows):
    """For each byte of the log the path that its row is about, or None."""
    paths = [path for path, _, _ in VERDICTS]
    about = [*paths[:3], None, *paths[3:], None]
    return [path for path, row in zip(about, rows, strict=True) for _ in row]


def expected(states, touched):
    """The verdicts of all files but the one whose row is wrong."""
    wanted = {path: "valid" if status == "ok" else "invalid" for path, status, _ in VERDICTS}
    return {path: state for path, state in wanted.items() if path != touched} == {
        path: state for path, state in states.items() if path in wanted and path != touched
    }


def mutations(data, count):
    """So many other bytes in the place of each, those with a meaning first."""
    for at, byte in enumerate(data):
        others = [*(value for value in SPECIAL if value != byte), *(byte ^ 1 << bit for bit in range(8))]
        if count > len(others):
            others += [value for value in range(256) if value != byte and value not in others]
        for turn in range(min(count, len(others))):
            yield at, others[(at + turn) % len(others)]


def running():
    """A delivery whose files are all announced to a run at work."""
    paths = [path for path, _, _ in VERDICTS]
    table = FileTable.from_columns(paths, [1] * len(paths))
    created = ev.DeliveryCreated("d", "1", "staging", "me", "/data", "file:///archive", table.digest, len(paths))
    delivery = Delivery.begin(created, table)
    kinds = (
        ev.TransferQueued,
        ev.TransferStarted,
        lambda file: ev.TransferCompleted(file, 1, "AAAAAA=="),
        ev.FileReported,
    )
    for event in (
        *(created, ev.SessionOpened(1, "me", 1, 3), ev.LockAcquired("etag"), ev.PipelineRequested("key", 0)),
        ev.ValidatorStarted(""),
        *(kind(file) for file in range(len(paths)) for kind in kinds),
    ):
        delivery.apply(event, NOON_MS)
    return delivery


@pytest.mark.promise("R17")
def test_one_wrong_byte_costs_no_other_row(size, figure):
    rows = log(NOON_MS)
    data, owner = b"".join(rows), owners(rows)
    state = running()
    before, table = state.canonical(), state.table
    count = size(pr=6, nightly=100)
    wrong = []
    tried = 0
    for at, value in mutations(data, count):
        parser = LogParser()
        found = parser.feed(data[:at] + bytes([value]) + data[at + 1 :])
        found += parser.finish()
        delivery = Delivery.from_canonical(before, table)
        decision = delivery.decide(cmd.ValidatorLogFound(found, len(data)), NOON_MS)
        delivery.check(decision.events)
        for event in decision.events:
            delivery.apply(event, NOON_MS)
        tried += 1
        states = {path: delivery.state_of(number) for number, path in enumerate(table.paths())}
        if not expected(states, owner[at]):
            wrong.append((at, bytes([value])))
    assert wrong == []
    figure(tried, "logs with one wrong byte")


def client_that_waits():
    """A real client whose files are all announced; its validator has judged the first and says nothing more by itself."""
    files = {PROBE: b"0"} | {path: b"x" for path, _, _ in VERDICTS}
    world = World(files, bad=[], limits=Limits(report_interval_s=1.0))
    pipeline = OddPipeline(
        world.real["control"],
        world.ports.clock,
        lambda validator, path: [validator.row("validation", path)] if path == PROBE else [],
    )
    world.ports.pipeline = pipeline  # type: ignore[assignment]  # a port like the other
    client = world.client(n_threads=8)
    client.connect()
    client.initiate_transfer()
    for _ in files:
        client.transfer_next_file()
    while sum(row[1] == "transfer" for row in world.rows()) < len(files):
        assert not client.update()
        world.ports.clock.advance(1.1)
    return world, client


def judged_by(world, client, data):
    """What the client's files are after it heard these bytes, and then nothing for a while."""
    control = world.real["control"]
    control.append(KEYS.validator_log, data, offset=control.size(KEYS.validator_log))
    for pause in (1.1, world.ports.limits.validator_silence_s * 0.6, 1.1):
        world.ports.clock.advance(pause)
        client.update()
    return {file.relpath: file.state for file in client.files()}


@pytest.mark.promise("R17")
def test_nothing_leaves_update_whatever_byte_is_wrong(size, figure):
    count = size(pr=1, nightly=14)
    world, client = client_that_waits()
    data = b"".join(log(world.ports.clock.now_ms()))
    assert expected(judged_by(world, client, data), None)
    wrong, tried = [], 0
    for at, value in mutations(data, count):
        world, client = client_that_waits()
        rows = log(world.ports.clock.now_ms())
        data = b"".join(rows)
        states = judged_by(world, client, data[:at] + bytes([value]) + data[at + 1 :])
        tried += 1
        if not expected(states, owners(rows)[at]) or states[PROBE] != "valid" or client.summary().reason == "error":
            wrong.append((at, bytes([value])))
    assert wrong == []
    figure(tried, "clients that read a log with one wrong byte")
