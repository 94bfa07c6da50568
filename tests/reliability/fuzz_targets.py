"""What reads bytes from outside, each as `target(data)`: atheris, hypothesis and our own mutators drive the same functions.

Rule: a target returns whether the bytes were accepted. It raises nothing but what the reader's contract names as an
answer, which it catches itself; whatever else leaves it is a fault. Beyond that it asserts what holds of any input.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import attrs
import msgspec

from tests.paths import HOSTILE, ODD
from tests.reliability import mutators
from tests.reliability.mutators import Mutate, any_bytes, fields, some_of
from upload_adapters.aws import callback, callback_http
from upload_adapters.aws.lambda_answer import parse_answer
from upload_adapters.aws.network import parse_network_parameters
from upload_adapters.checksums.cache import ChecksumCache, line_of
from upload_adapters.checksums.columns import SETTLED, State
from upload_adapters.index_file import read_index
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_adapters.label import read_label
from upload_adapters.state_dump import DirectoryStateDump
from upload_core import commands as cmd
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.errors import ConfigurationError, IndexProblemsError, JournalError, PipelineError
from upload_core.files import FileTable
from upload_core.index_check import check_columns, parse_size, path_problems
from upload_core.text import printable
from upload_core.validation import Entry, LogParser
from upload_core.wire import encode_index, encode_rows, parse_index

_CHECKSUM: Final = re.compile(r"[A-Za-z0-9+/]{6}==")
GOLDEN: Final = Path(__file__).resolve().parents[1] / "data" / "journal-v1"
NOON_MS: Final = 1_795_332_276_959


@attrs.frozen
class Target:
    """One format that comes from outside: what reads it, whole examples of it, and damage that knows it."""

    read: Callable[[bytes], bool]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate


@functools.cache
def place() -> Path:
    """A directory for what can only be read as a file; in memory where the machine has such a place."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    made = tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory)
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []  # they go with the process


def _free(pid: str) -> Path:
    path = place() / pid
    if path.exists():
        shutil.rmtree(path)
    return path


# --- the journal ----------------------------------------------------------------------------------


@functools.cache
def _journal_dir(golden: str) -> Path:
    path = _free(f"journal-{golden}")
    shutil.copytree(GOLDEN / golden, path)
    for one in [path, *path.iterdir()]:
        one.chmod(0o700)
    for extra in [*path.glob("snapshot-*"), *sorted(path.glob("events-*"))[1:]]:
        extra.unlink()
    return path


def _replayed(path: Path) -> Delivery:
    reader = JournalReader(path, snapshots=False)
    reader.advance()
    return reader.delivery


def journal(data: bytes) -> bool:
    """The first segment of a journal: replayed by table, replayed event by event, and opened to be written."""
    path = _journal_dir("every-kind")
    segment = path / "events-000001.ndjson"
    segment.write_bytes(data)
    fast = _fast_replay(path)
    _compare_replays(path, fast)
    assert segment.read_bytes() == data, "a reader wrote"
    if zlib.crc32(data) % 8 == 0:
        _go_on(path, data, fast)
    return fast is not None


def _fast_replay(path: Path) -> Delivery | None:
    try:
        delivery = _replayed(path)
    except JournalError as error:
        _assert_shown(error)
        return None
    again = Delivery.from_canonical(delivery.canonical(), delivery.table)
    assert again.canonical() == delivery.canonical()
    return delivery


def _compare_replays(path: Path, fast: Delivery | None) -> None:
    """The slow way, which shares no shortcut with the fast one, must come to the same state."""
    reader = JournalReader(path, snapshots=False)
    try:
        reader.replay_until(lambda _: False)
    except JournalError:
        return
    if fast is not None:
        assert fast.canonical() == reader.delivery.canonical(), "two ways to replay, two states"


def _go_on(path: Path, data: bytes, fast: Delivery | None) -> None:
    """Whoever takes the journal up either changes nothing, or goes on from exactly what a reader sees."""
    copy = _free("journal-taken-up")
    shutil.copytree(path, copy)
    one = DirectoryJournal(copy, sync=lambda _: None)
    try:
        delivery = one.open()
        assert delivery is not None
    except JournalError as error:
        _assert_shown(error)
        assert (copy / "events-000001.ndjson").read_bytes() == data, "a refused journal was touched"
        return
    assert fast is not None
    try:
        one.append([ev.StopRequested("fuzzed")], time_ms=NOON_MS)
    finally:
        one.close()
    delivery.apply(ev.StopRequested("fuzzed"), NOON_MS)
    assert _replayed(copy).canonical() == delivery.canonical()


def _journal_seeds() -> list[bytes]:
    whole = (GOLDEN / "every-kind" / "events-000001.ndjson").read_bytes()
    rest = [path.read_bytes() for path in sorted((GOLDEN / "every-kind").glob("events-*"))[1:]]
    lines = [line for one in rest for line in one.splitlines(keepends=True)[1:]]
    longer = mutators.resealed(whole + b"".join(lines))
    return [whole, longer, mutators.resealed(b"".join(longer.splitlines(keepends=True)[:9]))]


def snapshot(data: bytes) -> bool:
    """A snapshot beside its journal: believed or ignored, and never in anybody's way."""
    path = _snapshot_dir()
    next(iter(path.glob("snapshot-*"))).write_bytes(data)
    reader = JournalReader(path)
    try:
        reader.advance()
    except JournalError as error:  # one that was forged with a seal that holds may contradict what follows it
        _assert_shown(error)
        return False
    state = reader.delivery.canonical()
    assert Delivery.from_canonical(state, reader.delivery.table).canonical() == state
    return True


@functools.cache
def _snapshot_dir() -> Path:
    path = _free("journal-with-snapshot")
    shutil.copytree(GOLDEN / "delivered", path)
    for one in [path, *path.iterdir()]:
        one.chmod(0o700)
    return path


def _snapshot_seeds() -> list[bytes]:
    return [path.read_bytes() for path in (GOLDEN / "delivered").glob("snapshot-*")]


def file_table(data: bytes) -> bool:
    """A journal's file table, or a revision of it."""
    columns = FileTable.from_columns(["a", "b/c"], [1, 2])
    accepted = False
    for read in (lambda: FileTable.decode([data], sha256(data).hexdigest()), lambda: columns.revised([data])):
        try:
            table = read()
        except JournalError as error:
            _assert_shown(error)
            continue
        accepted = True
        encoded = b"".join(table.encode())
        assert FileTable.decode([encoded]) == table
        assert [table.find(path) for path in set(table.paths())] == [
            list(table.paths()).index(path) for path in set(table.paths())
        ] or len(set(table.paths())) < len(table)
    return accepted


def _table_seeds() -> list[bytes]:
    return [path.read_bytes() for name in ("every-kind", "delivered") for path in (GOLDEN / name).glob("files-*")]


# --- the validator's log --------------------------------------------------------------------------

_PATHS: Final = ("plain/a.fits", "b.fits", "c d.txt", 'odd"name\t.bin', "back\\slash", "näme", "self", "ok")
_LOG: Final = [
    ("init", "self", "ok", "validation pipeline started", "v1"),
    ("validation", "plain/a.fits", "ok", "", "v1"),
    ("validation", "b.fits", "failure", 'problems:\n- header: "SIMPLE" missing\n- size: 0\n', "v1"),
    ("keepalive", "self", "ok", "3 / 9", "v1"),
    ("validation", "c d.txt", "error", '\n"quoted" at once\n\n\ttabbed: yes\n', "v1"),
    ("validation", 'odd"name\t.bin', "ok", "", "v1"),
    ("validation", "back\\slash", "failure", "\tC:\\data\n", "v1"),
    ("validation", "nobody's", "ok", "", "v1"),
    ("validation", "plain/a.fits", "failure", "on second thoughts", "v1"),
    ("init", "lock", "error", "held", "v1"),
    ("shutdown", "self", "failure", "done: 9\nfailed:\n- b.fits\n", "v1"),
    ("stop", "self", "ok", "", "v1"),
]


@functools.cache
def _running() -> tuple[bytes, FileTable]:
    """A delivery with files in many states and a run under way, to be copied."""
    table = FileTable.from_columns(_PATHS, [1] * len(_PATHS))
    created = ev.DeliveryCreated("d", "1", "staging", "me", "/data", "file:///archive", table.digest, len(_PATHS))
    delivery = Delivery.begin(created, table)
    one = [ev.TransferQueued, ev.TransferStarted]
    stored = [kind(file) for file in range(5) for kind in one]
    for event in (
        created,
        ev.SessionOpened(1, "me", 1, 3),
        ev.LockAcquired("etag"),
        ev.PipelineRequested("key", 0),
        *stored,
        *(ev.TransferCompleted(file, 1, "AAAAAA==") for file in range(4)),
        *(ev.FileReported(file) for file in range(3)),
        ev.TransferFailed(4, "no"),
        ev.TransferQueued(5),
    ):
        delivery.apply(event, NOON_MS)
    return delivery.canonical(), table


def _running_again() -> Delivery:
    """A copy of it: building the client's machine anew would cost more than all the rest."""
    one = _one_running()
    one.client.restore("running")
    return attrs.evolve(
        one,
        states=bytearray(one.states),
        retries=bytearray(one.retries),
        counts=list(one.counts),
        facts=msgspec.structs.replace(one.facts, paused=dict(one.facts.paused)),
        messages=dict(one.messages),
        deferred=dict(one.deferred),
        retry_due_ms=one.retry_due_ms.copy(),
        hints=[0] * 10,
    )


@functools.cache
def _one_running() -> Delivery:
    return Delivery.from_canonical(*_running())


def validator_log(data: bytes) -> bool:
    """A log in one of the two dialects, cut anywhere; and what a client in the middle of a run makes of it."""
    crc = zlib.crc32(data)
    cut, escapes = crc % (len(data) + 1), crc >> 16 & 1 == 1
    parser, other = LogParser(backslash_escapes=escapes), LogParser(backslash_escapes=escapes)
    found = parser.feed(data)
    assert found == [*other.feed(data[:cut]), *other.feed(data[cut:])]
    assert parser.consumed + parser.pending == len(data)
    found += parser.finish()
    assert parser.consumed == len(data)
    offsets = [entry.offset for entry in found]
    assert offsets == sorted(set(offsets))
    delivery = _running_again()
    restarted = "replaced" if cut % 7 == 0 else ""
    decision = delivery.decide(cmd.ValidatorLogFound(found, len(data), restarted), NOON_MS)
    delivery.check(decision.events)
    for event in decision.events:
        assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event
        delivery.apply(event, NOON_MS)
    delivery.decide(cmd.Tick(2), NOON_MS + 1)
    return any(isinstance(entry, Entry) for entry in found)


def _log_seeds() -> list[bytes]:
    rows = [(NOON_MS + number, *row) for number, row in enumerate(_LOG)]
    return [encode_rows(rows, backslash_escapes=escapes) for escapes in (True, False)]


# --- the index ------------------------------------------------------------------------------------


def index_csv(data: bytes) -> bool:
    """An index as a person's file, checked row by row; what is left of it has safe names only."""
    path = place() / "index.csv"
    path.write_bytes(data)
    try:
        columns = read_index(path)
        problems = check_columns(columns)
        for problem in problems[:50]:
            assert str(problem).isprintable()
    except (ConfigurationError, IndexProblemsError) as error:
        _assert_shown(error)
        return False
    wrong = {problem.row for problem in problems}
    for row, cell in enumerate(columns.paths, 1):
        if row not in wrong:
            assert cell is not None
            assert not path_problems(cell)
            assert not os.path.isabs(cell)
            assert ".." not in cell.replace("\\", "/").split("/")
            if columns.sizes is not None:
                parse_size(columns.sizes[row - 1])
    return not problems


def _index_seeds() -> list[bytes]:
    hostile = [path for paths in HOSTILE.values() for path in paths]
    names = [
        path.encode("utf-8", "surrogateescape") if "\ud800" not in path and "\udfff" not in path else b"x"
        for path in (*hostile, *ODD)
    ]
    rows = b"".join(
        b'"%b",%d,yH2GHg==\n' % (name[:80].replace(b'"', b'""'), number) for number, name in enumerate(names)
    )
    return [
        b"path,size,checksum\na.txt,1,yH2GHg==\nb/c d.txt,22,AAAAAA==\n",
        b"path,size,checksum\n" + rows[:1_500],
        b'checksum,path\nyH2GHg==,"a,b"\nyH2GHg==,"c""d"\n',
        b"\xef\xbb\xbfpath\r\n\xc3\xa9\r\ne\xcc\x81\r\n",
    ]


def index_object(data: bytes) -> bool:
    """The index as it lies in the control bucket; `ValueError` is this reader's answer."""
    try:
        rows = list(parse_index(data))
    except ValueError:
        return False
    if all(row.checksum is None or _CHECKSUM.fullmatch(row.checksum) for row in rows):
        cells = [(row.path, row.will_transfer, row.checksum) for row in rows]
        some = {checksum is not None for _, _, checksum in cells}
        if len(some) < 2:
            assert list(parse_index(b"".join(encode_index(cells, checksums=some == {True})))) == rows
    return True


def _index_object_seeds() -> list[bytes]:
    rows = [("a", True, "yH2GHg=="), ('b,"c"', False, "AAAAAA=="), ("d\u2028e", True, "AAAAAA==")]
    return [b"".join(encode_index(rows, checksums=checksums)) for checksums in (True, False)]


def checksum_cache(data: bytes) -> bool:
    """The CRC32s that an index remembers: a damaged line of them is as none."""
    path = place() / "index.csv.checksums"
    path.write_bytes(data)
    cache = ChecksumCache(path)
    columns, _ = cache.open(["a", "größe"])
    cache.close()
    assert cache.problem == ""
    assert path.read_bytes().startswith(data[:9]) or path.read_bytes().count(b"\n") == 1
    return SETTLED in columns.kinds


def _cache_seeds() -> list[bytes]:
    path = place() / "some.checksums"
    cache = ChecksumCache(path)
    cache.open([])
    state = State(5, 1_700_000_000_000_000_000, 1_700_000_000_000_000_000, 12)
    cache.append(line_of([("a", state, 7), ("größe", state, 8)]))
    cache.append(line_of([("a", state, 9)], (0, 100)))
    cache.close()
    data = path.read_bytes()
    path.unlink()
    return [data]


# --- what an archive in AWS says ------------------------------------------------------------------


def lambda_answer(data: bytes) -> bool:
    """The pipeline's answer, as it came and as the JSON string that it ought to be."""
    accepted = False
    for payload in (data, json.dumps(data.decode("utf-8", "replace")).encode()):
        try:
            answer = parse_answer(payload)
        except PipelineError as error:
            _assert_shown(error, 2_000)
            continue
        accepted = True
        assert len(answer.details) <= len(payload)
    return accepted


def _answer_seeds() -> list[bytes]:
    texts = [
        "status: success\n",
        "status: error\ndetails: a validation task is already running for this transfer\nstep: task\n",
        "status: error\ndetails: |\n  Traceback:\n    no\nstep: 'begin'\n",
        '{status: error, details: [a, {b: c}], step: "x\\u0041"}',
        "a: &a [x, x]\nb: [*a, *a]\nstatus: success",
        "pipeline application failed to start",
    ]
    return [*(text.encode() for text in texts), *(json.dumps(text).encode() for text in texts)]


def network_parameter(data: bytes) -> bool:
    """The archive's places, from SSM."""
    try:
        found = parse_network_parameters(data.decode("utf-8", "replace"))
    except ConfigurationError as error:
        _assert_shown(error)
        return False
    assert 0 < found.lock_staleness_threshold < 1e9
    assert found.bucket_stem.strip()
    return True


def _parameter_seeds() -> list[bytes]:
    given = {
        "AVAILABILITY_ZONE_ID": "use1-az4",
        "BUCKET_STEM": "mast_fast",
        "CONFIG_BUCKET": "mast-config",
        "INIT_LAMBDA_ARN": "arn:aws:lambda:us-east-1:0:function:init",
        "LOCK_STALENESS_THRESHOLD": 1800,
        "TASK_CONFIG_PREFIX": "tasks/",
    }
    return [json.dumps(given).encode()]


def label(data: bytes) -> bool:
    """A delivery's label."""
    path = place() / "label.yaml"
    path.write_bytes(data)
    try:
        found = read_label(path)
    except ConfigurationError as error:
        _assert_shown(error)
        return False
    assert found.data == data
    assert found.dataset
    assert found.delivery_id
    return True


def _label_seeds() -> list[bytes]:
    return [
        b"dataset: my_set\ndelivery_id: d1\ncontact: {name: A, mail: [b, c]}\n",
        b"%YAML 1.2\n---\ndataset: &x a\ndelivery_id: *x\n",
        b"? dataset\n: |\n  a\n? delivery_id\n: >-\n  007\n",
    ]


# --- the browser that comes back ------------------------------------------------------------------

STATE: Final = "CANARY-state"


class _Wire:
    """A connection whose client has said everything at once."""

    def __init__(self, said: bytes) -> None:
        self._said, self.answered = said, b""

    def makefile(self, mode: str, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(self._said)

    def sendall(self, data: bytes) -> None:
        self.answered += bytes(data)


@functools.cache
def _servers() -> Iterator[callback.CallbackServer]:
    """Servers that listen at no port: what they are given is a request already."""
    listen = callback.CallbackServer._listen
    callback.CallbackServer._listen = lambda *_: []  # type: ignore[method-assign]
    try:
        model = callback.CallbackServer(
            redirect_uri="http://localhost:3000/back", state=STATE, authorize_url="https://issuer.example/?s=CANARY"
        )
    finally:
        callback.CallbackServer._listen = listen  # type: ignore[method-assign]
    return _copies(vars(model))


def _copies(fields_of: dict[str, Any]) -> Iterator[callback.CallbackServer]:
    while True:
        server = callback.CallbackServer.__new__(callback.CallbackServer)
        server.__dict__.update(fields_of, _ticket="/start-T", _last_page="/received-L")
        yield server


def oauth_callback(data: bytes) -> bool:
    """A request to the loopback server, as bytes on its wire: one with our state counts, and nobody is told anything."""
    server = next(_servers())
    wire = _Wire(data)
    handler: Callable[..., BaseHTTPRequestHandler] = callback_http._Handler
    handler(wire, ("127.0.0.1", 1), SimpleNamespace(responder=server))
    assert STATE.encode() not in wire.answered
    assert wire.answered.count(b"Content-Length:") <= 1
    answer, server._answer = server._answer, None
    server._answered.clear()
    server._last_page_sent.clear()
    if answer is not None:
        assert b"GET" in data
        assert (answer.code is None) == bool(answer.error)
        assert STATE not in answer.error
        assert printable(answer.error) == answer.error
        return True
    return False


def _request(target: str, method: str = "GET", host: str = "localhost:3000") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n".encode()


def _callback_seeds() -> list[bytes]:
    return [
        _request(f"/back?code=CODE&state={STATE}"),
        _request(f"/back?error=access_denied&error_description=No%1b%5b2J&state={STATE}"),
        _request("/start-T"),
        _request("/favicon.ico", "HEAD"),
        _request(f"//[::1/back?code=%ff&state={STATE}"),
    ]


# --- what is written for a spreadsheet ------------------------------------------------------------


def state_dump(data: bytes) -> bool:
    """A dump of names and messages: one private file in its directory that gives every cell back, and computes none."""
    text = data.decode("utf-8", "surrogateescape")
    pieces = text.split(",")
    rows = [tuple(pieces[at : at + 3]) for at in range(0, len(pieces), 3)]
    root = place() / "dumps"
    root.mkdir(exist_ok=True)
    written = Path(DirectoryStateDump(root).write(pieces[0], ("relpath", "state", "message"), rows))
    assert written.parent == root
    assert os.listdir(root) == [written.name]
    assert written.stat().st_mode & 0o777 == 0o600
    found = list(csv.reader(io.StringIO(written.read_bytes().decode(), newline="")))
    written.unlink()
    assert len(found) == len(rows) + 1
    for cell in itertools.chain(*found):
        assert cell.isprintable()
        assert not cell.startswith(("=", "+", "-", "@"))
    return True


def _dump_seeds() -> list[bytes]:
    return [
        b"a.txt,done,,b.txt,invalid,=HYPERLINK(1),c.txt,failed,\x1b[2J",
        "../../x,-1+1,\tcmd|' /C calc'!A0,é,\u202egnp,@SUM(1)".encode(),
    ]


# --- what a person typed --------------------------------------------------------------------------


def _assert_shown(error: Exception, limit: int = 1 << 20) -> None:
    """Messages are shown as they are: nothing in them may act on a terminal."""
    assert str(error).replace("\n  ", "").isprintable(), repr(str(error))
    assert len(str(error)) < limit


TARGETS: Final[dict[str, Target]] = {
    "journal": Target(journal, _journal_seeds, some_of([mutators.segment, mutators.segment, any_bytes])),
    "snapshot": Target(
        snapshot, _snapshot_seeds, mutators.sealed_end(some_of([mutators.json_lines, mutators.json_lines, any_bytes]))
    ),
    "file table": Target(file_table, _table_seeds, some_of([mutators.json_lines, any_bytes])),
    "validator log": Target(
        validator_log, _log_seeds, some_of([fields(b"\n", b"\t"), fields(b"\n", b"\t"), any_bytes])
    ),
    "index CSV": Target(index_csv, _index_seeds, some_of([fields(b"\n", b","), fields(b"\n", b","), any_bytes])),
    "index object": Target(index_object, _index_object_seeds, some_of([fields(b"\n", b","), any_bytes])),
    "checksum cache": Target(
        checksum_cache, _cache_seeds, some_of([mutators.sealed_lines, mutators.sealed_lines, any_bytes])
    ),
    "lambda answer": Target(
        lambda_answer, _answer_seeds, some_of([fields(b"\n", b":"), fields(b",", b" "), mutators.json_value, any_bytes])
    ),
    "network parameter": Target(network_parameter, _parameter_seeds, some_of([mutators.json_value, any_bytes])),
    "label": Target(label, _label_seeds, some_of([fields(b"\n", b":"), fields(b"\n", b" "), any_bytes])),
    "OAuth callback": Target(
        oauth_callback,
        _callback_seeds,
        some_of([fields(b"\r\n", b" "), fields(b"&", b"="), fields(b"?", b"/"), any_bytes]),
    ),
    "state dump": Target(state_dump, _dump_seeds, some_of([fields(b",", b" "), any_bytes])),
}
"""What is fuzzed; the first names of issue 5 are all among them. `IndexColumns` of a host's data frame come typed."""
