"""The local validator as its client meets it: two logs, a lock, and the rules that end a session."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib

import pytest

from tests.contracts.bodies import Body
from upload_adapters.local import DirectoryPipeline, DirectoryValidator, LocalPlaces, run_validator
from upload_core.checksum import crc32_base64
from upload_core.errors import ConfigurationError, PipelineError
from upload_core.validation import LogParser
from upload_core.wire import encode_index, encode_rows

AGENT = "agent-1"
DATA = b"some bytes"


class Client:
    """The client's side of the protocol, by hand."""

    def __init__(self, places):
        self.keys = places.keys
        self.control = places.control()
        self.archive = places.archive()
        self.parser = LogParser()
        self.entries = []

    def lock(self, agent=AGENT):
        self.control.put(self.keys.client_lock, agent.encode())

    def index(self, *rows):
        """Rows of path, or of path and checksum, or of path, checksum and will_transfer."""
        full = [(path, True, None) if isinstance(path, str) else path for path in rows]
        checksums = bool(full) and all(checksum for _, _, checksum in full)
        self.control.put(self.keys.index, b"".join(encode_index(full, checksums=checksums)))

    def store(self, path, data=DATA):
        return self.archive.put(path, Body(data), checksum=None)

    def write(self, *rows):
        """Rows of category, ref and optionally status, in one append."""
        now = time.time_ns() // 1_000_000
        full = [(now, category, ref, status[0] if status else "ok", "", AGENT) for category, ref, *status in rows]
        self.append(encode_rows(full))

    def append(self, data):
        info = self.control.head(self.keys.client_log)
        self.control.append(self.keys.client_log, data, offset=info.size if info else 0)

    def report(self, *paths):
        self.write(*(("transfer", path) for path in paths))

    def read(self):
        found = self.control.read(self.keys.validator_log, self.parser.consumed)
        if found:
            self.entries += self.parser.feed(found[0])
        return [(entry.category, entry.ref, entry.status) for entry in self.entries]

    def wait_for(self, *row):
        """The message of that row, once it is there."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            rows = self.read()
            if row in rows:
                return self.entries[rows.index(row)].message
            time.sleep(0.01)
        raise AssertionError(f"{row} did not come; there is {self.read()}")


@pytest.fixture
def places(tmp_path):
    return LocalPlaces(tmp_path, "set", "7")


@pytest.fixture
def client(places):
    client = Client(places)
    client.lock()
    return client


@pytest.fixture
def pipeline(places):
    pipelines = []

    def make(**options):
        pipelines.append(DirectoryPipeline(places, **{"poll_interval_s": 0.01, **options}))
        return pipelines[-1]

    yield make
    for made in pipelines:
        made.close()


def start(pipeline, agent=AGENT, key="run-1"):
    return pipeline.start(agent_id=agent, idempotency_key=key, client_config=None)


def wait_until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ── a session ────────────────────────────────────────────────────────────────────────────────────


def test_a_session_from_start_to_stop(client, pipeline, places):
    client.index("a", "b/c.txt")
    local = pipeline()
    assert "already running" not in start(local)
    assert client.wait_for("init", "self", "ok") == "validation pipeline started"
    assert local.is_running()
    client.store("a")
    client.report("a")
    assert client.wait_for("validation", "a", "ok") == ""
    client.store("b/c.txt", b"")
    client.report("b/c.txt")
    client.write(("stop", "self"))
    client.wait_for("stop", "self", "ok")
    wait_until(lambda: not local.is_running())
    assert client.read() == [
        ("init", "self", "ok"),
        ("validation", "a", "ok"),
        ("validation", "b/c.txt", "ok"),
        ("shutdown", "self", "ok"),
        ("stop", "self", "ok"),
    ]
    assert client.entries[3].message == "expected: 2\nok: 2\nfailure: 0\nerror: 0"
    assert client.control.head(client.keys.validator_lock) is None


def test_objects_and_control_objects_lie_where_a_person_looks_for_them(client, pipeline, tmp_path):
    client.index("a")
    client.store("a")
    start(pipeline())
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "set-7-staging/a",
        "set-7-control/set-7-staging-index.csv",
        "set-7-control/log/validator_staging",
        "set-7-control/lock/client",
        "set-7-control/lock/validator",
    } <= files


@pytest.mark.parametrize(("dataset", "delivery"), [("", "7"), ("a/b", "7"), ("set", ".."), ("set", "7\n"), (".x", "7")])
def test_a_dataset_that_cannot_be_part_of_a_path_is_refused(tmp_path, dataset, delivery):
    with pytest.raises(ConfigurationError, match="one plain name"):
        LocalPlaces(tmp_path, dataset, delivery)


def test_a_missing_and_a_different_file_are_failures_that_say_why(client, pipeline):
    good = crc32_base64(zlib.crc32(DATA))
    client.index(("missing", True, good), ("different", True, good), ("good", True, good))
    start(pipeline())
    client.store("different", b"other bytes")
    client.store("good")
    client.report("missing", "different", "good")
    assert (
        client.wait_for("validation", "missing", "failure") == 'problems:\n- "missing: the archive holds no such file"'
    )
    assert f"the index says {good}" in client.wait_for("validation", "different", "failure")
    client.wait_for("validation", "good", "ok")
    client.write(("stop", "self"))
    assert client.wait_for("shutdown", "self", "failure") == "expected: 3\nok: 1\nfailure: 2\nerror: 0"


def test_a_hosts_check_adds_its_problems_and_its_own_failure_is_an_error(client, pipeline, places):
    def check(path, relpath):
        assert path == f"{places.archive_root}/{relpath}"
        if relpath == "bad":
            return ['header: "SIMPLE" missing', "two\nlines\t\\ and \ud800"]
        if relpath == "word":
            return "not a list"
        if relpath == "crash":
            raise SystemExit(3)
        return None

    client.index("bad", "word", "crash", "fine")
    start(pipeline(check=check))
    for name in ("bad", "word", "crash", "fine"):
        client.store(name)
    client.report("bad", "word", "crash", "fine")
    assert client.wait_for("validation", "bad", "failure") == (
        'problems:\n- "header: \\"SIMPLE\\" missing"\n- "two\\nlines\\t\\\\ and \\ud800"'
    )
    assert client.wait_for("validation", "word", "failure") == 'problems:\n- "not a list"'
    assert "SystemExit: 3" in client.wait_for("validation", "crash", "error")
    client.wait_for("validation", "fine", "ok")


def test_odd_names_are_judged_by_their_own_name(client, pipeline):
    names = ['quo"te', "tab\there", "line\nfeed", "back\\slash", "näme", "a b"]
    client.index(*names)
    start(pipeline())
    for name in names:
        client.store(name)
    client.report(*names)
    for name in names:
        client.wait_for("validation", name, "ok")


def test_keepalives_come_in_quiet_and_while_a_check_takes_long(client, pipeline):
    going_on = threading.Event()
    client.index("a")
    client.store("a")
    start(pipeline(check=lambda *_: going_on.wait(10) and None, keepalive_interval_s=0.05))
    assert client.wait_for("keepalive", "self", "ok") == "0 / 1"
    client.report("a")
    before = len(client.read())
    wait_until(lambda: len(client.read()) >= before + 3)
    assert {row[0] for row in client.read()[before:]} == {"keepalive"}
    going_on.set()
    client.wait_for("validation", "a", "ok")
    wait_until(lambda: client.entries[-1].message == "1 / 1" or not client.read())


def test_a_failed_try_is_not_judged_and_an_ok_may_follow(client, pipeline):
    client.index("a")
    client.store("a")
    start(pipeline())
    client.write(("transfer", "a", "error"), ("info", "self"), ("keepalive", "self"), ("weather", "x", "fine"))
    client.report("a")
    client.wait_for("validation", "a", "ok")


def test_rows_from_before_the_start_are_never_read(client, pipeline):
    client.index("a", "b")
    client.store("a")
    client.write(("transfer", "a"), ("stop", "self"), ("transfer", "unknown"))
    start(pipeline())
    client.report("a")
    client.wait_for("validation", "a", "ok")
    client.store("b")
    client.report("b")
    client.wait_for("validation", "b", "ok")


def test_the_stop_row_lets_everything_reported_be_judged_first(client, pipeline):
    names = [f"f{number}" for number in range(50)]
    client.index(*names)
    for name in names:
        client.store(name)
    local = pipeline(check=lambda *_: time.sleep(0.005))
    start(local)
    client.write(*(("transfer", name) for name in names), ("stop", "self"))
    local.close()
    assert client.wait_for("shutdown", "self", "ok").startswith("expected: 50\nok: 50")


# ── what ends a session ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("transfer", "a"), ("transfer", "a")], "reported twice"),
        ([("transfer", "unknown")], "does not expect"),
        ([("transfer", "not now")], "does not expect"),
        ([("stop", "self"), ("stop", "self")], "more than one stop row"),
    ],
)
def test_what_kills_the_archives_validator_ends_this_one(client, pipeline, rows, reason):
    client.index(("a", True, None), ("b", True, None), ("not now", False, None))
    client.store("a")
    local = pipeline()
    start(local)
    client.write(*rows)
    assert reason in client.wait_for("shutdown", "self", "error")
    client.wait_for("stop", "self", "ok")
    wait_until(lambda: not local.is_running())


@pytest.mark.parametrize("data", [b"no row\n", b"2026-11-22T07:24:36.959Z\ttransfer\ta\tok\t\t\n"])
def test_a_row_that_cannot_be_read_ends_it(client, pipeline, data):
    client.index("a")
    start(pipeline())
    client.append(data)
    assert "byte 0 of the client's log" in client.wait_for("shutdown", "self", "error")


def test_a_transfer_row_after_all_expected_files_are_done_ends_it(client, pipeline):
    client.index("a")
    client.store("a")
    start(pipeline())
    client.report("a")
    client.wait_for("validation", "a", "ok")
    client.report("a")
    assert "after all expected files are done" in client.wait_for("shutdown", "self", "error")


def test_a_client_that_says_nothing_but_keepalives_is_missing(client, pipeline):
    client.index("a")
    start(pipeline(client_silence_s=0.3))
    for _ in range(10):
        client.write(("keepalive", "self"), ("info", "self"))
        time.sleep(0.05)
    assert client.read() == [("init", "self", "ok")]
    assert "client missing" in client.wait_for("shutdown", "self", "error")


def test_closing_the_pipeline_ends_a_session_in_order(client, pipeline):
    client.index("a")
    local = pipeline()
    start(local)
    local.close()
    assert not local.is_running()
    assert client.read()[-2:] == [("shutdown", "self", "error"), ("stop", "self", "ok")]


@pytest.mark.parametrize("index", [None, b"no index", b"path,will_transfer\na,True\na,True\n", b"\xff"])
def test_a_start_that_fails_says_why_in_the_answer_and_in_the_log(client, pipeline, index):
    if index is not None:
        client.control.put(client.keys.index, index)
    local = pipeline()
    with pytest.raises(PipelineError, match="could not start"):
        start(local)
    assert [row[::2] for row in client.read()] == [("init", "error"), ("shutdown", "error"), ("stop", "ok")]
    assert client.entries[0].message
    assert not local.is_running()


# ── starting ─────────────────────────────────────────────────────────────────────────────────────


def test_only_the_owner_of_the_lock_may_start(client, pipeline):
    client.index("a")
    local = pipeline()
    with pytest.raises(PipelineError, match="lockfile invalid"):
        start(local, agent="somebody else")
    client.control.delete(client.keys.client_lock)
    with pytest.raises(PipelineError, match="lockfile invalid"):
        start(local)
    client.lock()
    time.sleep(0.05)
    with pytest.raises(PipelineError, match="lockfile invalid"):
        start(pipeline(lock_staleness_s=0.01))
    assert client.read() == []


def test_the_same_key_starts_one_run_however_often_it_is_asked(client, pipeline):
    client.index("a")
    local = pipeline()
    assert start(local) is not None
    assert "already running" not in start(local)
    client.write(("stop", "self"))
    client.wait_for("stop", "self", "ok")
    start(local)
    assert client.read().count(("init", "self", "ok")) == 1


def test_a_run_at_work_is_joined_not_doubled(client, pipeline):
    client.index("a")
    start(pipeline())
    other = pipeline()
    assert other.is_running()
    assert "already running" in start(other, key="run-2")
    assert client.read() == [("init", "self", "ok")]


def test_two_validators_of_one_delivery_cannot_run_at_once(client, pipeline, places):
    client.index("a")
    start(pipeline())
    second = DirectoryValidator(places)
    second.run()
    assert second.refusal == "could not acquire lock"
    assert client.read() == [("init", "self", "ok")]


def test_asking_whether_one_runs_makes_nothing(places, tmp_path):
    assert DirectoryPipeline(places).is_running() is False
    assert list(tmp_path.iterdir()) == []


# ── a validator that waits ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def waiting(places):
    """Run a waiting validator in a thread; whoever starts a session is served by it."""
    ending = threading.Event()
    lines: list[str] = []
    result: list[int] = []

    def wait():
        result.append(run_validator(places, poll_interval_s=0.01, ending=ending, notify=lines.append))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: lines)
    yield result
    ending.set()
    thread.join()


def test_a_waiting_validator_takes_up_sessions_until_one_ends_in_order(client, pipeline, waiting):
    client.index("a")
    client.store("a")
    local = pipeline()
    assert not local.is_running()
    assert start(local) == "a waiting validator took it up"
    assert local.is_running()
    client.report("a", "a")
    client.wait_for("shutdown", "self", "error")
    wait_until(lambda: not local.is_running())
    assert "already running" not in start(local, key="run-2")
    client.report("a")
    client.write(("stop", "self"))
    client.wait_for("shutdown", "self", "ok")
    wait_until(lambda: waiting == [2])


def test_closing_the_clients_pipeline_leaves_a_waiting_validator_at_work(client, pipeline, waiting):
    client.index("a")
    local = pipeline()
    start(local)
    local.close()
    assert local.is_running()
    client.write(("stop", "self"))
    wait_until(lambda: waiting == [1])


def test_one_waiting_validator_is_enough(places, waiting):
    with pytest.raises(ConfigurationError, match="waits to validate this delivery already"):
        run_validator(places)


# ── a validator that is killed ───────────────────────────────────────────────────────────────────

KILLED = """
    import os, signal, sys
    from upload_adapters.local import DirectoryPipeline, LocalPlaces

    def check(path, relpath):
        if relpath == "last":
            os.kill(os.getpid(), signal.SIGKILL)

    pipeline = DirectoryPipeline(LocalPlaces(sys.argv[1], "set", "7"), check=check, poll_interval_s=0.01)
    pipeline.start(agent_id="agent-1", idempotency_key="run-1", client_config=None)
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.mark.crash
def test_a_killed_validator_counts_as_gone_at_once_and_the_next_run_goes_on_in_its_log(client, pipeline, tmp_path):
    client.index("a", "last")
    client.store("a")
    client.store("last")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    with subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "started\n"
        local = pipeline()
        assert "already running" in start(local)
        client.report("a")
        client.wait_for("validation", "a", "ok")
        client.report("last")
        assert other.wait() == -signal.SIGKILL
    assert not local.is_running()
    assert client.control.head(client.keys.validator_lock) is not None  # it had no time to tidy up
    client.index(("a", False, None), ("last", True, None))
    assert "already running" not in start(local)
    client.report("last")
    client.wait_for("validation", "last", "ok")
    assert client.read().count(("init", "self", "ok")) == 2
