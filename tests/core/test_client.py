"""What every property and method of `UploadClient` means, on memory ports and where threads matter on real ones."""

import threading
import time
from contextlib import suppress

import pytest

from tests.crash.odd_validator import OddPipeline
from tests.crash.world import FILES, LIMITS, World, table_of
from upload_adapters.clock import SystemClock
from upload_adapters.dispatch import ThreadDispatcher
from upload_adapters.memory import MemoryJournal
from upload_adapters.testing import Killed
from upload_core import (
    ClientFile,
    ConfigurationError,
    IdentityError,
    JournalError,
    JournalInUseError,
    LockHeldError,
    LockLostError,
    NothingToDoError,
    NotReadyError,
    UploadClient,
    ValidatorStoppedError,
)
from upload_core import events as ev
from upload_core.errors import ArchiveError, ArchiveUnavailableError, SourceChangedError
from upload_core.journal import Record
from upload_core.outcomes import EXIT_CODES
from upload_core.timestamps import iso

COUNTS = ("ready", "pending", "failed", "transferring", "done", "valid", "invalid")


@pytest.fixture
def world():
    return World(bad=[])


def connected(world: World, **options) -> UploadClient:
    client = world.client(**options)
    client.connect()
    client.initiate_transfer()
    return client


def drive(world: World, client: UploadClient) -> int:
    """The published loop."""
    turns = 0
    while not client.done:
        client.update()
        if client.state != "quit" and client.next_file is not None:
            client.transfer_next_file()
        world.ports.clock.advance(0.25)
        turns += 1
        assert turns < 5_000
    return turns


def failing(world: World, path: str, error: Exception, times: int = 10_000) -> list[str]:
    """Puts of that path raise, so many times."""
    tried: list[str] = []

    def before(port, method, args):
        if (port, method) == ("archive", "put"):
            tried.append(args[0])
            if args[0] == path and tried.count(path) <= times:
                raise error

    world.calls.before = before
    return tried


# --- driving -------------------------------------------------------------------------------------


def test_the_published_loop_delivers_everything(world):
    client = connected(world)
    drive(world, client)
    assert client.validation_complete
    assert client.summary().exit_code == 0
    world.judge()


def test_run_does_the_same_and_says_it_again_when_called_again(world):
    client = world.client()
    summary = client.run()
    assert (summary.outcome, summary.exit_code, summary.files, summary.bytes) == ("complete", 0, 8, 36)
    assert tuple(summary.counts) == COUNTS
    assert client.run() == summary


def test_before_it_is_connected_a_client_has_touched_nothing(world):
    client = world.client()
    assert world.calls.made == []
    assert client.done is client.transfer_complete is client.validation_complete is False
    assert client.n_complete == 0
    assert client.state == "unconnected"
    assert [file.state for file in client.files()] == ["ready"] * 8


def test_the_properties_follow_the_files(world):
    world.bad.add("d/001.dat")
    client = connected(world, n_threads=1)
    seen = []
    while not client.done:
        seen.append((client.n_complete, client.transfer_complete, client.validation_complete))
        if client.next_file is not None:
            client.transfer_next_file()
        client.update()
        world.ports.clock.advance(0.25)
    assert seen == sorted(seen), "they only grow"
    assert seen[0] == (0, False, False)
    assert (client.n_complete, client.transfer_complete, client.validation_complete) == (8, True, True)
    assert any(transferred and not validated for _, transferred, validated in seen)


def test_next_file_is_the_one_that_is_taken_next_however_often_it_is_asked(world):
    client = connected(world, n_threads=1)
    taken = []
    for _ in range(8):
        first = client.next_file
        assert first is not None
        assert client.next_file == client.next_file == first
        transferred = client.transfer_next_file()
        assert transferred is not None
        assert transferred.relpath == first.relpath
        assert transferred.state in ("pending", "transferring")
        taken.append(first.relpath)
    assert taken == list(FILES)
    assert client.next_file is None


def test_next_file_is_a_copy_that_changes_nothing(world):
    client = connected(world)
    file = client.next_file
    assert file == ClientFile("memory:/d/000.dat", "d/000.dat", "ready", 0, 2, None, client.file("d/000.dat").checksum)
    assert file is not None
    file.state = "valid"
    assert client.file("d/000.dat").state == "ready"
    with pytest.raises(KeyError):
        client.file("d/unknown.dat")


def test_transfer_next_file_warns_and_does_nothing_when_no_file_is_left(world):
    client = connected(world)
    for _ in range(8):
        client.transfer_next_file()
    before = client.delivery.facts.seq
    assert client.transfer_next_file() is None
    assert world.ports.console.messages[-1] == ("no file is left to transfer", "warning")
    assert client.delivery.facts.seq == before


@pytest.mark.parametrize("when", ["before it is connected", "after it crashed", "after it quit"])
def test_transfer_next_file_prints_an_error_and_raises(world, when):
    client = world.client()
    if when != "before it is connected":
        client.connect()
        client.crash(ValueError("x")) if when == "after it crashed" else client.quit()
    with pytest.raises(NotReadyError, match=f"while the client is {client.state}"):
        client.transfer_next_file()
    assert world.ports.console.messages[-1][1] == "error"


@pytest.mark.parametrize("when", ["before it is connected", "after it crashed", "after it quit", "after it finished"])
def test_update_warns_and_does_nothing_if_the_client_is_not_at_work(world, when):
    client = world.client()
    match when:
        case "after it crashed":
            client.connect()
            client.crash(ValueError("x"))
        case "after it quit":
            client.connect()
            client.quit()
        case "after it finished":
            client.run()
    calls = len(world.calls.made)
    assert client.update() is (when != "before it is connected")
    text, kind = world.ports.console.messages[-1]
    assert kind == "warning"
    assert client.state in text
    assert len(world.calls.made) == calls


def test_update_is_true_exactly_when_the_client_should_stop(world):
    client = connected(world)
    for _ in range(8):
        client.transfer_next_file()
    said = []
    while not client.done:
        said.append(client.update())
        world.ports.clock.advance(1)
    assert said == [False] * (len(said) - 1) + [True]


def test_a_second_connect_is_refused(world):
    client = world.client()
    client.connect()
    with pytest.raises(NotReadyError):
        client.connect()
    client.quit()
    with pytest.raises(NotReadyError):
        client.connect()


def test_a_lock_is_not_released_before_there_is_a_session(world):
    with pytest.raises(NotReadyError, match="connect first"):
        world.client().release_lock()


@pytest.mark.parametrize("steps", [("acquire_lock", "initiate_transfer"), ("initiate_transfer",)])
def test_the_published_methods_alone_deliver_and_connect_by_themselves(world, steps):
    client = world.client()
    for step in steps:
        getattr(client, step)()
    drive(world, client)
    assert client.summary().exit_code == 0
    world.judge()
    with pytest.raises(NotReadyError):
        client.acquire_lock()


def test_a_second_session_that_starts_its_own_run_writes_its_own_index():
    world = World({**FILES, "new": b"new"}, bad=[])
    world.table = lambda: table_of(FILES)
    world.client().run()
    world.table = lambda: table_of(world.files)
    client = world.client()
    client.initiate_transfer()
    drive(world, client)
    assert client.summary().exit_code == 0


def test_nothing_to_do_is_raised_by_connect_and_is_success_for_run(world):
    world.client().run()
    calls = len(world.calls.made)
    client = world.client()
    with pytest.raises(NothingToDoError):
        client.connect()
    assert client.done
    assert client.summary().exit_code == 0
    assert world.client().run().exit_code == 0
    assert not {call[0] for call in world.calls.made[calls:]} & {"archive", "control", "pipeline", "identity"}


# --- retries, threads, agent, configuration ------------------------------------------------------


@pytest.mark.parametrize("max_retries", [0, 1, 2, 5])
def test_a_file_gets_one_attempt_more_than_it_has_retries(world, max_retries):
    tried = failing(world, "d/003.dat", SourceChangedError("it is being rewritten"))
    client = world.client(max_retries=max_retries)
    summary = client.run()
    assert tried.count("d/003.dat") == 1 + max_retries
    file = client.file("d/003.dat")
    assert (file.state, file.retries, file.max_retries) == ("failed", max_retries, max_retries)
    assert file.message == "it is being rewritten"
    assert (file.no_retry, file.can_transfer, file.is_complete) == (True, False, True)
    assert (summary.exit_code, summary.retries) == (1, max_retries)
    assert client.n_complete == 8


def test_the_same_holds_when_the_host_drives(world):
    tried = failing(world, "d/007.dat", SourceChangedError("it is being rewritten"))
    client = connected(world, max_retries=3)
    drive(world, client)
    assert tried.count("d/007.dat") == 4
    assert client.summary().exit_code == 1


def test_a_file_that_succeeds_at_a_retry_is_valid_and_its_retries_are_told(world):
    failing(world, "d/003.dat", SourceChangedError("it is being rewritten"), times=2)
    client = world.client()
    assert client.run().exit_code == 0
    file = client.file("d/003.dat")
    assert (file.state, file.retries, file.message) == ("valid", 2, None)


def test_an_object_that_is_refused_for_good_is_not_tried_again(world):
    tried = failing(world, "d/003.dat", ArchiveError("the name is not allowed"))
    client = world.client(max_retries=9)
    assert client.run().exit_code == 1
    assert tried.count("d/003.dat") == 1
    file = client.file("d/003.dat")
    assert (file.state, file.retries, file.max_retries) == ("failed", 0, 0), "none was made, and none is allowed"
    assert (file.no_retry, file.can_transfer, file.is_complete) == (True, False, True)
    assert (client.file("d/004.dat").retries, client.file("d/004.dat").max_retries) == (0, 9)


def test_a_file_that_is_given_up_after_some_retries_tells_how_many_they_were(world):
    errors = [SourceChangedError("it is being rewritten")] * 2 + [ArchiveError("the name is not allowed")]

    def before(port, method, args):
        if (port, method) == ("archive", "put") and args[0] == "d/003.dat" and errors:
            raise errors.pop(0)

    world.calls.before = before
    client = world.client(max_retries=9)
    assert client.run().exit_code == 1
    file = client.file("d/003.dat")
    assert (file.state, file.retries, file.max_retries, file.no_retry) == ("failed", 2, 2, True)
    client.dump_state()
    [(_, rows)] = world.ports.dump.dumps.items()
    assert {row[0]: row[2] for row in rows}["d/003.dat"] == "2"


def test_n_threads_is_how_many_files_are_under_way_at_a_time(world):
    for n_threads in (1, 4):
        world = World(bad=[])
        at_once: list[int] = []
        client = world.client(n_threads=n_threads)
        client.subscribe(
            lambda _, at=at_once, client=client: at.append(client.delivery.public_counts()["transferring"])
        )
        client.run()
        assert max(at_once) == n_threads
        assert client.n_threads == n_threads


def test_own_agent_id_is_in_the_lock_the_logs_and_the_request(world):
    bodies = []
    client = world.client(own_agent_id="ada@observatory:7")
    client.subscribe(lambda _: bodies.append(world.real["control"].size("lock/client")))
    client.run()
    assert set(bodies) == {0, len("ada@observatory:7")}
    assert {row[5] for row in world.rows()} == {"ada@observatory:7"}
    assert {request.agent_id for request in world.real["pipeline"].requests} == {"ada@observatory:7"}
    assert client.own_agent_id == "ada@observatory:7"


def test_without_one_the_agent_of_the_journal_is_kept_so_that_the_lock_is_ours_again(world):
    client = world.client(own_agent_id="ada@observatory:7")
    client.connect()
    world.die(validator_too=True)
    again = world.client()
    again.connect()
    assert again.own_agent_id == "ada@observatory:7"
    again.quit()
    assert again.summary().exit_code == 130


def test_lambda_client_config_reaches_the_pipeline(world):
    world.client(lambda_client_config={"read_timeout": 5}).run()
    assert [request.client_config for request in world.real["pipeline"].requests] == [{"read_timeout": 5}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_threads": -1},
        {"max_retries": -1},
        {"max_retries": 201},
        {"own_agent_id": " "},
    ],
)
def test_settings_that_cannot_work_are_refused(world, wrong):
    with pytest.raises(ConfigurationError):
        world.client(**wrong).connect()
    assert world.ports.archive.contents() == {}


@pytest.mark.parametrize(
    "wrong",
    [{"dataset": ""}, {"dataset": "../x"}, {"delivery_id": "a b"}, {"delivery_id": ".x"}, {"transfer_type": "odd"}],
)
def test_names_that_cannot_be_part_of_a_key_are_refused(world, wrong):
    settings = {"dataset": "demo", "delivery_id": "1", "transfer_type": "staging", **wrong}
    with pytest.raises(ConfigurationError):
        UploadClient(file_index=None, source="memory:", ports=world.ports, **settings)


# --- the lock ------------------------------------------------------------------------------------


def test_acquire_lock_is_true_while_it_is_ours_and_writes_only_when_told_to(world):
    client = connected(world)

    def writes():
        return sum(call[:2] == ("control", "put") and call[2][0] == "lock/client" for call in world.calls.made)

    assert client.acquire_lock() is True
    assert writes() == 1
    assert client.acquire_lock(refresh=True) is True
    assert writes() == 2
    assert world.kinds("LockAcquired", "LockRenewed") == ["LockAcquired", "LockRenewed"]


def test_acquire_lock_raises_if_it_is_somebody_elses(world):
    client = connected(world)
    world.real["control"].put("lock/client", b"rival@elsewhere")
    with pytest.raises(LockLostError, match="rival@elsewhere"):
        client.acquire_lock(refresh=True)


def test_a_lock_that_a_refresh_finds_lost_ends_the_session_and_nothing_more_is_written(world):
    client = connected(world)
    for _ in range(5):
        client.transfer_next_file()
    world.real["control"].put("lock/client", b"rival@elsewhere")
    log = world.real["control"].size("log/client_staging")
    with pytest.raises(LockLostError, match="rival@elsewhere"):
        client.acquire_lock(refresh=True)
    assert client.done
    assert client.update() is True
    assert (client.summary().outcome, client.summary().exit_code) == ("interrupted", 4)
    assert world.ports.archive.contents() == {}
    assert world.real["control"].size("log/client_staging") == log
    with pytest.raises(NotReadyError):
        client.acquire_lock()
    assert world.real["control"].read("lock/client")[0] == b"rival@elsewhere"


def test_a_refresh_that_cannot_be_written_is_no_success(world):
    client = connected(world)
    away = iter([ArchiveUnavailableError("no route")] * 3)

    def before(port, method, args):
        if (port, method) == ("control", "put") and (error := next(away, None)) is not None:
            raise error

    world.calls.before = before
    renewals = len(world.kinds("LockRenewed"))
    assert client.acquire_lock(refresh=True) is True
    assert len(world.kinds("LockRenewed")) == renewals + 1, "it was true before the lock object was written"
    assert next(away, None) is None


def test_a_session_whose_lock_was_given_back_ends_before_its_next_side_effect(world):
    client = connected(world)
    for _ in range(5):
        client.transfer_next_file()
    client.release_lock()
    world.real["control"].put("lock/client", b"rival@elsewhere")
    log = world.real["control"].size("log/client_staging")
    drive(world, client)
    assert (client.summary().outcome, client.summary().exit_code) == ("interrupted", 4)
    assert "given back" in client.summary().message
    assert world.ports.archive.contents() == {}
    assert world.real["control"].size("log/client_staging") == log
    assert world.real["control"].read("lock/client")[0] == b"rival@elsewhere"


def test_a_lock_that_was_given_back_can_be_taken_again_and_the_session_goes_on(world):
    client = connected(world)
    client.release_lock()
    assert client.acquire_lock() is True
    drive(world, client)
    assert client.summary().exit_code == 0
    world.judge()


def test_release_lock_gives_it_up_once(world):
    client = connected(world)
    client.release_lock()
    assert world.real["control"].size("lock/client") == 0
    client.release_lock()
    assert world.kinds("LockReleased") == ["LockReleased"]


def test_a_rivals_lock_is_never_deleted(world):
    client = connected(world)
    world.real["control"].put("lock/client", b"rival@elsewhere")
    client.quit()
    assert world.real["control"].read("lock/client")[0] == b"rival@elsewhere"


# --- ends ----------------------------------------------------------------------------------------


def held_by_a_rival(world, client):
    world.real["control"].put("lock/client", b"rival")
    client.connect()


def refused_sign_in(world, client):
    world.real["identity"].refusal = "no"
    client.connect()


def refused_pipeline(world, client):
    world.real["pipeline"].refusal = "no"
    client.run()


def used_elsewhere(world, client):
    world.client().connect()
    client.connect()


def had_nothing_to_do(world, client):
    world.client().run()
    client.connect()


def crashed(_, client):
    client.connect()
    client.crash(ValueError("x"))


def stopped(_, client):
    client.stop()
    client.run()


def left(_, client):
    client.connect()
    client.quit()


def finished(_, client):
    client.run()


def never_connected(_, client):
    client.quit()


ENDS = [
    finished,
    left,
    never_connected,
    crashed,
    stopped,
    held_by_a_rival,
    refused_sign_in,
    refused_pipeline,
    had_nothing_to_do,
    used_elsewhere,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.replace("_", " "))
def test_done_is_true_in_every_terminal_state_and_stays_so(world, end):
    client = world.client()
    assert not client.done
    with suppress(LockHeldError, IdentityError, NothingToDoError, JournalInUseError):
        end(world, client)
    assert client.done
    client.quit()
    client.quit(ValueError("late"))
    assert client.done
    assert client.summary().exit_code in set(EXIT_CODES.values())


def test_a_client_that_found_the_journal_in_use_leaves_it_to_whoever_has_it(world):
    first, second = world.client(), world.client()
    first.connect()
    with pytest.raises(JournalInUseError):
        second.connect()
    second.quit()
    with pytest.raises(JournalInUseError):
        world.client().connect()
    first.quit()


def test_quit_logs_the_exit_stops_the_validator_releases_the_lock_and_is_idempotent(world):
    client = connected(world)
    client.update()
    world.ports.clock.advance(world.ports.limits.validator_blind_s)  # what the validator is told before, it never reads
    client.quit()
    events = len(world.events)
    assert [row[1] for row in world.rows()][-1] == "stop"
    assert world.kinds()[-2:] == ["LockReleased", "SessionClosed"]
    assert client.state == "quit"
    client.quit()
    client.quit(RuntimeError("x"))
    assert len(world.events) == events
    assert client.summary().exit_code == 130


def test_a_crash_is_logged_told_and_gives_everything_back(world):
    client = connected(world)
    client.crash(RuntimeError("the sky fell"))
    [crashed] = [event for event in world.events if event["kind"] == "ClientCrashed"]
    assert (crashed["error"], crashed["message"]) == ("RuntimeError", "the sky fell")
    assert ("the client crashed: RuntimeError: the sky fell", "error") in world.ports.console.messages
    assert world.real["control"].size("lock/client") == 0
    summary = client.summary()
    assert (summary.outcome, summary.exit_code, summary.message) == ("crashed", 70, "RuntimeError: the sky fell")
    world.client().run()
    world.judge()


def test_a_crash_stands_in_our_log_and_the_validator_is_told_to_stop(world):
    client = connected(world)
    client.update()
    world.ports.clock.advance(world.ports.limits.validator_blind_s)
    client.crash(RuntimeError("the sky fell\n\x1b[2J"))
    assert [tuple(row[1:5]) for row in world.rows()][-2:] == [
        ("client", "self", "error", "RuntimeError: the sky fell\\x0a\\x1b[2J"),
        ("stop", "self", "ok", ""),
    ]
    world.client().run()
    world.judge()


def test_a_crash_before_there_is_a_session_is_a_crash(world):
    client = world.client()
    client.crash(RuntimeError("early"))
    assert (client.summary().outcome, client.summary().exit_code) == ("crashed", 70)


def test_whatever_ends_a_session_gives_the_journal_back(world):
    with pytest.raises(ConfigurationError, match="agent id"):
        world.client(own_agent_id=" ").connect()
    client = world.client()
    client.connect()

    def broken(record):
        if isinstance(record.event, ev.SessionClosed):
            raise ZeroDivisionError("a bug in the host")

    client.subscribe(broken)
    with pytest.raises(ZeroDivisionError):
        client.quit()
    world.client().run()
    world.judge()


def test_a_delivery_that_was_killed_before_its_first_session_is_resumed_as_it_was_begun(world):
    def before(port, method, args):
        if (port, method) == ("journal", "append"):
            raise Killed("before the first session")

    world.calls.before = before
    with pytest.raises(Killed):
        world.client(n_threads=7, max_retries=9).connect()
    world.die()
    client = UploadClient.resume(ports=world.ports)
    assert (client.n_threads, client.max_retries) == (7, 9)


def test_an_error_inside_update_crashes_the_client_and_is_raised(world):
    client = connected(world)

    def broken(port, method, args):
        if (port, method) == ("control", "read"):
            raise ZeroDivisionError("a bug in an adapter")

    world.calls.before = broken
    world.ports.clock.advance(2)
    with pytest.raises(ZeroDivisionError):
        client.update()
    world.calls.disarm()
    assert client.done
    assert client.summary().outcome == "crashed"


@pytest.mark.parametrize(
    ("error", "outcome", "code"), [(ZeroDivisionError, "crashed", 70), (KeyboardInterrupt, "interrupted", 130)]
)
def test_as_a_context_manager_it_is_quit_whatever_happens(world, error, outcome, code):
    def fail(client):
        with client:
            client.connect()
            raise error

    with world.client() as client:
        client.connect()
    assert client.done
    failing_client = world.client()
    with pytest.raises(error):
        fail(failing_client)
    assert failing_client.done
    assert (failing_client.summary().outcome, failing_client.summary().exit_code) == (outcome, code)
    world.client().run()
    world.judge()


def test_ctrl_c_in_the_middle_of_a_run_ends_it_in_order_and_is_passed_on(world):
    client = world.client()

    def interrupt(record):
        if record.seq == 20:
            raise KeyboardInterrupt

    client.subscribe(interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.run()
    assert client.summary().exit_code == 130
    assert world.real["control"].size("lock/client") == 0
    world.client().run()
    world.judge()


@pytest.mark.parametrize(
    "error", [IdentityError("expired"), ArchiveError("access denied"), ArchiveUnavailableError("x")]
)
def test_a_lock_that_cannot_be_released_is_left_and_the_end_is_recorded_all_the_same(world, error):
    client = connected(world)

    def refuse(port, method, args):
        if (port, method) == ("control", "delete"):
            raise error

    world.calls.before = refuse
    client.quit()
    world.calls.disarm()
    assert client.done
    assert world.kinds()[-1] == "SessionClosed"
    world.client().run()
    world.judge()


def test_credentials_that_expire_for_good_end_the_session_with_their_own_code(world):
    client = connected(world)

    def expired(port, method, args):
        if port in ("control", "archive"):
            raise IdentityError("the session has expired; sign in again")

    world.calls.before = expired
    for _ in range(20):
        if not client.done:
            client.update()
            world.ports.clock.advance(1)
    world.calls.disarm()
    assert client.done
    assert client.summary().exit_code == 5
    world.client().run()
    world.judge()


# --- stop ----------------------------------------------------------------------------------------


def test_stop_before_the_start_starts_nothing_that_would_have_to_be_stopped(world):
    client = world.client()
    client.stop("not today")
    summary = client.run()
    assert (summary.exit_code, summary.message) == (130, "not today")
    assert world.ports.archive.contents() == {}


@pytest.mark.parametrize("reason", ["enough", ""])
def test_stop_from_an_observer_ends_the_run_in_order(world, reason):
    client = world.client(n_threads=1)
    client.subscribe(lambda record: client.stop(reason) if isinstance(record.event, ev.TransferCompleted) else None)
    assert client.run().exit_code == 130
    assert world.kinds("StopRequested") == ["StopRequested"]
    world.client().run()
    world.judge()


@pytest.mark.parametrize("hanging", [False, True], ids=["small files", "a transfer that hangs"])
def test_stop_from_another_thread_takes_effect_at_once(hanging):
    world = World({f"{n}": b"x" for n in range(500)}, bad=[])
    clock = SystemClock()
    world.ports.dispatcher = ThreadDispatcher(clock)
    setattr(world.ports, "clock", clock)  # noqa: B010 - real time, because real threads wait
    release, begun = threading.Event(), threading.Event()

    def slow(port, method, args):
        if (port, method) == ("archive", "put"):
            begun.set()
            if hanging:
                release.wait(30)
            time.sleep(0.01)

    world.calls.before = slow
    client = world.client(n_threads=2)
    thread = threading.Thread(target=client.run)
    thread.start()
    assert begun.wait(10)
    client.stop()
    thread.join(20)  # less than a transfer may hang
    release.set()
    assert not thread.is_alive()
    assert client.summary().exit_code == 130
    assert client.delivery.public_counts()["transferring"] == 0
    assert world.real["control"].size("lock/client") == 0


# --- observers -----------------------------------------------------------------------------------


def test_an_observer_of_some_kinds_is_told_of_nothing_else(world):
    client = world.client()
    seen: list[Record] = []
    every: list[Record] = []
    client.subscribe(seen.append, kinds=[ev.FileValidated, ev.SessionClosed])
    client.subscribe(every.append)
    client.run()
    assert seen == [record for record in every if isinstance(record.event, ev.FileValidated | ev.SessionClosed)]
    assert len(seen) > 1


def test_observers_get_each_record_once_after_it_is_journaled_and_applied(world):
    client = world.client()
    seen = []

    def look(record):
        assert world.real["journal"].data.count(b'{"seq":%d,' % record.seq) == 1
        assert client.delivery.facts.seq >= record.seq
        seen.append(record)

    client.subscribe(look)
    client.run()
    assert [record.seq for record in seen] == list(range(2, len(world.events) + 1))
    assert [type(record.event).__name__ for record in seen] == world.kinds()[1:]
    assert [record.time for record in seen] == [event["time"] for event in world.events][1:]


def test_whoever_unsubscribes_hears_no_more_even_from_inside_a_call_and_others_miss_nothing(world):
    client = world.client()
    first, second = [], []

    def once(record):
        first.append(record.seq)
        unsubscribe()

    unsubscribe = client.subscribe(once)
    client.subscribe(lambda record: second.append(record.seq))
    client.run()
    unsubscribe()
    assert first == [2]
    assert second == list(range(2, len(world.events) + 1))


@pytest.mark.parametrize("kind", [ev.TransferCompleted, ev.Event], ids=["once", "at everything"])
def test_an_observer_that_raises_crashes_the_client_which_still_gives_everything_back(world, kind):
    client = world.client()
    heard = []

    def broken(record):
        if isinstance(record.event, kind):
            raise ZeroDivisionError("a bug in the host")

    client.subscribe(broken)
    client.subscribe(lambda record: heard.append(record.seq))
    with pytest.raises(ZeroDivisionError):
        client.run()
    assert client.done
    assert client.summary().outcome == "crashed"
    assert world.kinds()[-1] == "SessionClosed"
    assert world.real["control"].size("lock/client") == 0
    assert heard == list(range(2, len(world.events) + 1))
    world.client().run()
    world.judge()


# --- telling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["warning", "error", "info", "complete", "success"])
def test_messages_go_to_the_console_with_their_category(world, kind):
    world.client().cmessage("[bold]text[/bold]", kind)
    assert world.ports.console.messages == [("[bold]text[/bold]", kind)]


def test_cprint_goes_to_the_console(world):
    world.client().cprint("text", padded=False)
    assert world.ports.console.printed == ["text"]


def test_excformat_is_a_line_and_with_debug_the_whole_traceback(world):
    with pytest.raises(ValueError, match="why") as caught:
        raise ValueError("why")
    assert world.client().excformat(caught.value) == "ValueError: why"
    long = world.client(debug=True).excformat(caught.value)
    assert long.startswith("Traceback")
    assert long.endswith("ValueError: why")


def test_debug_shows_every_event(world):
    client = world.client(debug=True)
    client.run()
    shown = [text for text, kind in world.ports.console.messages if kind == "info"]
    assert len(shown) >= len(world.events) - 1


def test_dump_state_writes_every_file_with_state_and_reason(world):
    world.bad.add("d/003.dat")
    client = world.client()
    client.run()
    client.dump_state()
    [(place, rows)] = world.ports.dump.dumps.items()
    assert place.startswith("memory:demo-1-staging-state")
    assert rows[0] == ("relpath", "state", "retries", "size", "checksum", "message")
    assert [row[:4] for row in rows[1:]] == [
        (path, "invalid" if path in world.bad else "valid", "0", str(len(data))) for path, data in FILES.items()
    ]
    assert "bad" in rows[4][5]
    assert place in world.ports.console.messages[-1][0]


def test_a_dump_that_cannot_be_written_is_a_warning(world):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    setattr(world.ports.dump, "write", refuse)  # noqa: B010 - a full disk
    world.client().dump_state()
    assert world.ports.console.messages[-1][1] == "warning"


def test_cognito_authenticate_signs_in(world):
    client = world.client()
    client.cognito_authenticate()
    assert world.real["identity"].sign_ins == 1
    client.connect()
    client.cognito_authenticate()
    assert world.kinds("SignedIn") == ["SignedIn"] * 2
    world.real["identity"].refusal = "no such user"
    with pytest.raises(IdentityError, match="no such user"):
        client.cognito_authenticate()


# --- resume --------------------------------------------------------------------------------------


def test_resume_goes_on_with_the_settings_of_the_last_session(world):
    client = world.client(n_threads=5, max_retries=7)
    client.connect()
    world.die(validator_too=True)
    again = UploadClient.resume(ports=world.ports)
    world.last = again
    assert (again.n_threads, again.max_retries, again.own_agent_id) == (5, 7, "memory-agent")
    assert [file.relpath for file in again.files()] == list(FILES)
    assert again.run().exit_code == 0
    world.judge()


def test_resume_takes_other_settings_where_they_are_given(world):
    world.client(n_threads=5, max_retries=7).connect()
    world.die(validator_too=True)
    again = UploadClient.resume(ports=world.ports, n_threads=2, max_retries=0)
    again.connect()
    assert (again.delivery.facts.n_threads, again.delivery.facts.max_retries) == (2, 0)


def test_there_is_nothing_to_resume_where_nothing_was_begun(world):
    with pytest.raises(JournalError, match="nothing to resume"):
        UploadClient.resume(ports=world.ports)
    with pytest.raises(ConfigurationError, match="name the journal"):
        UploadClient.resume()


def test_a_journal_of_another_delivery_is_refused(world):
    world.client().run()
    with pytest.raises(ConfigurationError, match="belongs to another delivery"):
        UploadClient(
            dataset="demo", delivery_id="2", file_index=None, transfer_type="staging", source="x", ports=world.ports
        ).connect()


def test_an_index_that_lacks_a_file_of_the_journal_is_refused_and_names_it(world):
    world.client().run()
    del world.files["d/005.dat"]
    client = world.client()
    with pytest.raises(ConfigurationError, match=r"no longer lists 1 file.*d/005\.dat"):
        client.connect()
    assert client.done


def test_after_a_finished_session_only_what_failed_is_sent_again(world):
    world.bad.add("d/003.dat")
    failing(world, "d/006.dat", SourceChangedError("x"))
    first = world.client().run()
    assert sorted(failed.relpath for failed in first.failed) == ["d/003.dat", "d/006.dat"]
    world.calls.disarm()
    world.bad.clear()
    world.files["d/003.dat"] = b"mend"
    before = len(world.puts)
    second = world.client().run()
    assert second.exit_code == 0
    assert sorted(path for path, _ in world.puts[before:]) == ["d/003.dat", "d/006.dat"]
    assert second.bytes == 4 + 7


def test_where_all_files_are_judged_no_run_is_started_only_to_be_stopped(world):
    world.bad.add("d/003.dat")
    client = world.client()

    def die(port, method, args):
        if (port, method) == ("journal", "append") and isinstance(args[0][-1], ev.SessionClosed):
            world.calls.kill_at(1)
            world.calls.before(port, method, args)

    world.calls.before = die
    with pytest.raises(Killed):
        client.run()
    world.die(validator_too=True)
    assert world.client().run().exit_code == 1
    assert len(world.started) == 1


def test_a_validator_that_ends_by_itself_ends_the_session(world):
    def answer(validator, path):
        validator.alive = False
        return [validator.row("shutdown", "self", "error", "reason: out of memory"), validator.row("stop", "self")]

    world.ports.pipeline = OddPipeline(world.real["control"], world.ports.clock, answer)
    summary = world.client().run()
    assert (summary.exit_code, summary.reason, summary.message) == (6, "validator", "reason: out of memory")


def test_a_validator_that_was_killed_leaves_a_lock_and_it_is_said_when_another_can_start():
    world = World(bad=[], limits=LIMITS)
    pipeline = world.real["pipeline"]
    seen = []

    def kill(record):
        if pipeline.validator is not None and isinstance(record.event, ev.FileValidated):
            pipeline.validator.kill()
            lock = world.ports.control.head("lock/validator")
            assert lock is not None
            seen.append(lock.modified)

    client = world.client()
    client.subscribe(kill)
    summary = client.run()
    assert (summary.exit_code, summary.reason) == (6, "validator")
    free_ms = round((seen[-1] + LIMITS.lock_staleness_s) * 1000)
    assert summary.message.endswith(
        f"left its lock: another can start at {iso(free_ms)[:19]}Z, or once the lock is gone"
    )


def test_a_validator_that_nobody_drives_and_that_does_not_end_is_reported():
    world = World(bad=[], limits=LIMITS)
    pipeline = OddPipeline(world.real["control"], world.ports.clock, lambda *_: [])
    pipeline.alive = True
    setattr(world.ports, "pipeline", pipeline)  # noqa: B010 - one of an earlier life
    setattr(pipeline, "is_running", lambda: True)  # noqa: B010 - deaf
    client = world.client()
    with pytest.raises(ValidatorStoppedError, match="still at work"):
        client.connect()
    assert client.summary().exit_code == 6


def test_memory_journals_are_real_journals(world):
    world.client().run()
    assert isinstance(world.real["journal"], MemoryJournal)
    assert world.events[0]["kind"] == "DeliveryCreated"
