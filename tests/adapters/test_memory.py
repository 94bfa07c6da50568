"""The memory pipeline speaks the archive's protocol, and is killed by what kills the archive's validator."""

import csv
import io
import zlib

import pytest

from upload_adapters.memory import ManualClock, MemoryPorts, memory_ports
from upload_core.checksum import crc32_base64
from upload_core.effects import FileStored, TransferFile
from upload_core.errors import IdentityError, PipelineError
from upload_core.owner_lock import OwnerLock

INDEX, OURS, THEIRS = "d-1-staging-index.csv", "log/client_staging", "log/validator_staging"
FILES = {"a.txt": b"aaa", "b c.txt": b"b", "dir/é.txt": b""}


def crc(data):
    return crc32_base64(zlib.crc32(data))


class Session:
    """A client's half of the protocol, by hand."""

    def __init__(self, ports: MemoryPorts):
        self.ports = ports
        self.lock = OwnerLock(ports.control, "lock/client", "us", 3600)
        self.cursor = 0

    def put_all(self):
        self.ports.dispatcher.open(self.ports.source, self.ports.archive, 1)
        self.ports.dispatcher.submit([TransferFile(n, p, len(d), crc(d)) for n, (p, d) in enumerate(FILES.items())])
        assert all(isinstance(outcome, FileStored) for outcome in self.ports.dispatcher.collect(0))

    def begin(self, transfer=tuple(FILES), checksums=True):
        self.lock.acquire()
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["path", "will_transfer", *(["checksum"] if checksums else [])])
        for path, data in FILES.items():
            writer.writerow([path, path in transfer, *([crc(data)] if checksums else [])])
        self.ports.control.put(INDEX, text.getvalue().encode())
        answer = self.start()
        assert self.news() == [("init", "self", "ok", "validation pipeline started")]
        return answer

    def start(self, key="run-1"):
        return self.ports.pipeline.start(agent_id="us", idempotency_key=key, client_config={"x": 1})

    def tell(self, *rows):
        text = "".join("\t".join(("2027-01-15T08:00:00.000Z", *row, "us")) + "\n" for row in rows)
        self.ports.control.append(OURS, text.encode(), offset=self.ports.control.size(OURS))

    def report(self, *paths):
        self.tell(*(("transfer", path, "ok", "") for path in paths))

    def news(self):
        found = self.ports.control.read(THEIRS, self.cursor)
        if found is None:
            return []
        self.cursor += len(found[0])
        reader = csv.reader(io.StringIO(found[0].decode(), newline=""), delimiter="\t", escapechar="\\")
        return [tuple(row[1:5]) for row in reader]


@pytest.fixture
def make():
    return lambda **options: Session(memory_ports(FILES, dataset="d", **options))


@pytest.fixture
def session(make):
    made = make()
    made.put_all()
    return made


def test_what_is_stored_as_indexed_is_valid(session):
    session.begin()
    session.report(*FILES)
    assert session.news() == [("validation", path, "ok", "") for path in FILES]
    session.tell(("stop", "self", "ok", ""))
    [shutdown, stop] = session.news()
    assert (shutdown[:3], stop) == (("shutdown", "self", "ok"), ("stop", "self", "ok", ""))
    assert not session.ports.pipeline.is_running()
    assert session.ports.control.keys() == (INDEX, "lock/client", OURS, THEIRS)


def test_what_is_missing_or_different_is_a_failure_that_says_why(make):
    session = make()
    session.begin()
    session.report("a.txt")
    assert session.news() == [("validation", "a.txt", "failure", "- missing from the transfer bucket")]
    session.put_all()
    with session.ports.source.open("a.txt") as body:
        session.ports.archive.put("b c.txt", body, checksum=None)
    session.report("b c.txt")
    [(_, path, status, message)] = session.news()
    assert (path, status) == ("b c.txt", "failure")
    assert "checksum mismatch" in message


def test_a_hosts_check_can_reject_a_file_with_text_that_needs_quoting(make):
    problems = ['odd "header"\tin line\n2', "back\\slash"]
    session = make(check=lambda relpath, data: problems if (relpath, data) == ("a.txt", b"aaa") else [])
    session.put_all()
    session.begin()
    session.report(*FILES)
    news = session.news()
    assert [status for _, _, status, _ in news] == ["failure", "ok", "ok"]
    assert news[0][3] == "- " + "\n- ".join(problems)


def test_rows_written_before_it_began_are_never_read(session):
    session.report("a.txt")
    session.begin()
    assert session.news() == []
    session.report("a.txt")
    assert session.news() == [("validation", "a.txt", "ok", "")]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("transfer", "a.txt", "ok", "")] * 2, "twice"),
        ([("transfer", "unknown", "ok", "")], "does not expect"),
        ([("transfer", "b c.txt", "ok", "")], "does not expect"),  # will_transfer is False
        ([("stop", "self", "ok", "")] * 2, "two stop rows"),
        ([("transfer", "a.txt", "ok", "", "")], "fields"),
        ([("transfer", "", "ok", "")], "fields"),
    ],
)
def test_what_kills_the_archives_validator_kills_this_one_without_a_word(session, rows, why):
    session.begin(transfer=("a.txt", "dir/é.txt"))
    session.tell(*rows)
    assert session.news() == []
    validator = session.ports.pipeline.validator
    assert not validator.alive
    assert why in validator.killed
    assert session.ports.control.size("lock/validator")


def test_a_transfer_row_after_all_expected_files_are_done_kills_it(session):
    session.begin(transfer=("a.txt",))
    session.report("a.txt")
    session.news()
    session.tell(("transfer", "a.txt", "error", ""))
    session.news()
    assert "after all" in session.ports.pipeline.validator.killed


def test_failed_tries_and_unknown_categories_are_tolerated(session):
    session.begin()
    session.tell(("transfer", "a.txt", "error", "x"), ("info", "self", "ok", "hello"), ("keepalive", "self", "ok", ""))
    assert session.news() == []
    session.report("a.txt")
    assert session.news() == [("validation", "a.txt", "ok", "")]


def test_it_shows_a_sign_of_life_every_ten_seconds_of_quiet(session):
    session.begin()
    session.ports.clock.advance(9)
    assert session.news() == []
    session.ports.clock.advance(1)
    assert session.news() == [("keepalive", "self", "ok", "0 / 3")]
    assert session.news() == []


def test_it_gives_up_a_client_that_sends_nothing_but_keepalives(session):
    session.begin()
    news = []
    for _ in range(5):
        session.ports.clock.advance(50)
        session.tell(("keepalive", "self", "ok", ""))
        news = session.news()
    assert [row[:3] for row in news] == [("shutdown", "self", "error"), ("stop", "self", "ok")]


def test_it_is_started_only_for_the_owner_of_a_fresh_lock(session):
    for prepare in (lambda: None, session.lock.acquire, lambda: session.ports.clock.advance(3601)):
        prepare()
        if session.lock.held and session.ports.control.head("lock/client").age_s < 3600:
            session.start()
            session.ports.pipeline.validator.kill()
        else:
            with pytest.raises(PipelineError, match="lockfile invalid"):
                session.start("other run")


def test_asking_again_with_the_same_key_starts_nothing_new(session):
    session.begin()
    first = session.ports.pipeline.validator
    assert "already running" in session.start()
    assert "already running" in session.start("another key")
    first.end("over")
    assert "already running" not in session.start()
    assert session.ports.pipeline.validator is first
    assert [request.idempotency_key for request in session.ports.pipeline.requests] == [
        "run-1",
        "run-1",
        "another key",
        "run-1",
    ]
    assert session.ports.pipeline.requests[0].client_config == {"x": 1}


def test_a_killed_validators_lock_stands_in_the_way_until_it_is_stale(session):
    session.begin()
    session.ports.pipeline.validator.kill()
    session.start("run-2")
    assert session.news() == [("init", "self", "failure", "could not acquire lock"), ("stop", "self", "ok", "")]
    session.ports.clock.advance(3601)
    session.lock.acquire()
    session.start("run-3")
    assert session.news() == [("init", "self", "ok", "validation pipeline started")]


def test_without_an_index_it_does_not_begin(session):
    session.lock.acquire()
    session.start()
    assert [row[:3] for row in session.news()] == [("init", "self", "error"), ("stop", "self", "ok")]


def test_a_refusal_is_passed_on_in_its_own_words(session):
    session.ports.pipeline.refusal = "no capacity"
    with pytest.raises(PipelineError, match="no capacity"):
        session.start()


def test_closing_ends_the_run_in_order(session):
    session.begin()
    session.ports.pipeline.close()
    assert [row[0] for row in session.news()] == ["shutdown", "stop"]
    session.ports.pipeline.close()
    assert session.news() == []


def test_the_identity_counts_sign_ins_and_can_refuse(session):
    identity = session.ports.identity
    assert identity.sign_in() == "memory"
    identity.refusal = "expired"
    with pytest.raises(IdentityError, match="expired"):
        identity.sign_in()
    assert identity.sign_ins == 1


def test_the_console_remembers(session):
    console = session.ports.console
    console.message("hello", "info")
    console.print("table")
    assert (console.messages, console.printed) == ([("hello", "info")], ["table"])


def test_a_clock_of_ones_own_is_used(make):
    clock = ManualClock(1_700_000_000_000)
    assert make(clock=clock).ports.clock is clock
