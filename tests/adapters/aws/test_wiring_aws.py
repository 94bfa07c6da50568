"""Whole deliveries to an archive in AWS, wired from its deployment file: real client, real adapters, strict emulator."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, QUICK, EmulatedArchive
from tests.adapters.aws.places import KIB
from tests.emulator import Fault
from upload_adapters import deployments
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.journal_reader import JournalReader
from upload_adapters.wiring import wire, wire_journal
from upload_core import Bucket, DataRoot, UploadClient
from upload_core import events as ev
from upload_core.errors import ConfigurationError, IdentityError, IndexProblemsError, LockHeldError
from upload_core.wiring import WiringRequest


@pytest.fixture
def archive(aws, tmp_path, monkeypatch):
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("upload_core.retry.PROBE_FIRST_MS", 250)  # an outage is probed as always, only sooner
    made = EmulatedArchive(aws, tmp_path)
    yield made
    made.close()


# ── a delivery ───────────────────────────────────────────────────────────────────────────────────


def test_a_delivery_ends_with_every_file_stored_and_valid(archive):
    summary = archive.client().run()
    assert (summary.outcome, summary.exit_code) == ("complete", 0), summary
    archive.judge()


@pytest.mark.parametrize("after", [ev.SessionOpened, ev.LockAcquired, ev.PipelineRequested, ev.RunConfirmed])
def test_an_outage_of_everything_costs_time_and_nothing_else(archive, aws, after):
    ports = archive.ports()
    client = archive.client(ports=ports)
    reconnected: list[int] = []
    reconnect = ports.reconnect
    assert reconnect is not None

    def counted() -> None:
        reconnected.append(aws.connections)
        reconnect()

    ports.reconnect = counted
    ended: list[threading.Timer] = []

    def follow(record):
        if isinstance(record.event, after) and not ended:
            aws.order(Fault("refused", code="ServiceUnavailable", times=0))
        elif isinstance(record.event, ev.OutageBegan) and not ended:
            ended.append(threading.Timer(1.5, aws.faults.clear))
            ended[0].start()

    client.subscribe(follow)
    summary = client.run()
    assert ended
    assert (summary.outcome, summary.retries) == ("complete", 0)
    archive.judge(sent_twice=len(archive.files))
    assert reconnected
    assert aws.connections > reconnected[0]
    told = [type(record.event) for record in JournalReader(archive.root / "journal").records()]
    assert told.count(ev.OutageBegan) == told.count(ev.OutageEnded) >= 1


def test_repeating_a_finished_delivery_asks_nothing_of_aws(archive, aws):
    archive.client().run()
    before = len(aws.log())
    assert archive.client().run().outcome == "complete"
    assert len(aws.log()) == before


def test_a_lost_journal_costs_no_file_a_second_transfer(archive, aws):
    archive.client().run()
    assert archive.client(ports=archive.ports(journal="another")).run().outcome == "complete"
    archive.judge()


def test_files_that_somebody_else_stored_are_announced_and_judged_without_being_sent(archive, aws):
    archive.client().run()
    aws.store.bucket(archive.control_bucket).objects.clear()
    archive.validators.clear()
    archive.sessions.clear()
    archive.invocations.clear()
    assert archive.client(ports=archive.ports(journal="another")).run().outcome == "complete"
    archive.judge()


# ── large files ──────────────────────────────────────────────────────────────────────────────────

LARGE, PART = "dir/file 00.txt", 256 * KIB
PARTS = 6


def in_parts(archive, **request):
    """The wiring's own ports, for files of which most tests could not wait to be large."""
    ports = archive.ports(**request)
    place = ports.archive._place
    ports.archive = S3Archive(place, single_max=PART, part_size=PART, pool=PartPool(at_once=2))
    return ports


@pytest.fixture
def large(archive):
    archive.files[LARGE] = random.Random(3).randbytes(PARTS * PART - 1)
    (archive.source / LARGE).write_bytes(archive.files[LARGE])
    return archive


def parts_that_came(aws):
    return sorted(int(entry.query["partNumber"]) for entry in aws.log("UploadPart") if entry.status == 200)


def kinds(archive, name="journal"):
    return [type(record.event) for record in records_of(archive.root / name)]


def records_of(path):
    reader = JournalReader(path)
    reader.advance()
    return list(reader.records())


def test_files_in_parts_arrive_whole_and_their_parts_are_in_the_journal(large, aws):
    assert large.client(ports=in_parts(large)).run().outcome == "complete"
    large.judge()
    assert parts_that_came(aws) == list(range(1, PARTS + 1))
    told = kinds(large)
    assert told.count(ev.PartStored) == PARTS
    places = [told.index(kind) for kind in (ev.UploadBegun, ev.PartStored, ev.UploadEnded)]
    assert places == sorted(places)


def test_an_outage_in_the_middle_of_a_file_costs_no_part_and_no_retry(large, aws):
    outage = aws.order(Fault("refused", operation="UploadPart", code="ServiceUnavailable", nth=4, times=0))
    client = large.client(ports=in_parts(large))

    def relent(record):
        if isinstance(record.event, ev.OutageBegan):
            outage.times = outage.fired

    client.subscribe(relent)
    summary = client.run()
    assert (summary.outcome, summary.retries) == ("complete", 0)
    large.judge()
    assert parts_that_came(aws) == list(range(1, PARTS + 1))
    assert len(aws.log("CreateMultipartUpload")) == 1
    assert ev.OutageEnded in kinds(large)


def test_a_stop_in_the_middle_of_a_file_costs_no_part(large, aws):
    client = large.client(ports=in_parts(large))
    client.subscribe(lambda record: isinstance(record.event, ev.PartStored) and client.stop("enough"))
    aws.order(Fault("late", operation="UploadPart", nth=3, times=0, seconds=2.0))  # longer than a stop waits
    assert client.run().outcome == "interrupted"
    assert len(aws.open_uploads()) == 1
    aws.faults.clear()
    ports = wire_journal(large.root / "journal", {})
    ports.limits, ports.archive = QUICK, in_parts(large, journal="unused").archive
    resumed = UploadClient.resume(ports=ports)
    assert resumed.run().outcome == "complete"
    large.judge(sessions=2)
    assert parts_that_came(aws) == list(range(1, PARTS + 1))


def test_a_lost_journal_costs_no_part_a_second_transfer(large, aws):
    aws.order(Fault("refused", operation="UploadPart", code="AccessDenied", nth=5, times=0))
    assert large.client(ports=in_parts(large)).run().exit_code == 5
    aws.faults.clear()
    assert large.client(ports=in_parts(large, journal="another")).run().outcome == "complete"
    assert parts_that_came(aws) == list(range(1, PARTS + 1))
    assert aws.open_uploads() == []


def test_of_a_file_that_is_given_up_no_part_is_left(large, aws):
    ports = in_parts(large)
    index = large.index()
    (large.source / LARGE).write_bytes(bytes(len(large.files[LARGE])))
    large.index = lambda: index
    summary = large.client(ports=ports, max_retries=1).run()
    assert summary.outcome == "incomplete"
    assert [failed.relpath for failed in summary.failed] == [LARGE]
    assert aws.open_uploads() == []


def test_uploads_that_nobody_goes_on_with_are_ended_when_the_delivery_ends_and_foreign_ones_never(large, aws):
    bucket = large.transfer_bucket
    for key in ("dir/file 01.txt", LARGE, "foreign"):
        aws.store.create_upload(bucket, key, algorithm="", kind="", metadata={})
    assert large.client(ports=in_parts(large)).run().outcome == "complete"
    assert aws.open_uploads() == [(bucket, "foreign")]


def test_a_delivery_that_cannot_end_its_uploads_says_so_and_is_complete_all_the_same(large, aws):
    aws.order(Fault("refused", operation="AbortMultipartUpload", code="AccessDenied", times=0))
    aws.store.create_upload(large.transfer_bucket, "dir/file 01.txt", algorithm="", kind="", metadata={})
    summary = large.client(ports=in_parts(large)).run()
    assert (summary.outcome, summary.exit_code) == ("complete", 0)
    assert "abandoning the parts" in summary.message
    assert large.control.found(large.keys.client_lock) is None


def test_the_validators_refusal_ends_the_session_with_the_reason_from_its_log(archive):
    archive.control.put(archive.keys.validator_lock, b"a validator that was killed")
    found = archive.control.found(archive.keys.validator_lock)
    objects = archive.aws.store.bucket(archive.control_bucket).objects
    objects[archive.keys.validator_lock] = attrs.evolve(found, modified=found.modified - 600)
    summary = archive.client().run()
    assert (summary.outcome, summary.exit_code) == ("interrupted", 6)
    assert "could not acquire lock" in summary.message
    assert archive.control.found(archive.keys.client_lock) is None


def test_the_death_of_the_validator_is_noticed_by_its_silence(archive, aws):
    ports = archive.ports(limits=attrs.evolve(QUICK, validator_silence_s=1.0))
    client = archive.client(ports=ports)
    client.subscribe(lambda record: isinstance(record.event, ev.RunConfirmed) and archive.validator.kill())
    summary = client.run()
    assert (summary.outcome, summary.exit_code) == ("interrupted", 6)
    assert "nothing was heard" in summary.message
    assert len(archive.invocations) == 1


def test_the_archive_says_after_how_long_a_lock_is_stale(archive, aws):
    objects = aws.store.bucket(archive.control_bucket).objects
    archive.control.put("lock/client", b"somebody else")
    parameter = json.loads(aws.parameters.values["/mast-fast/delivery"][1])
    parameter["LOCK_STALENESS_THRESHOLD"] = archive.staleness_s = 50
    aws.parameters.values["/mast-fast/delivery"] = ("String", json.dumps(parameter))
    objects["lock/client"] = attrs.evolve(objects["lock/client"], modified=objects["lock/client"].modified - 40)
    with pytest.raises(LockHeldError, match="somebody else"):
        archive.client().run()
    objects["lock/client"] = attrs.evolve(objects["lock/client"], modified=objects["lock/client"].modified - 20)
    assert archive.client().run().outcome == "complete"


# ── what is refused before anything starts ───────────────────────────────────────────────────────


def test_wiring_and_making_a_client_asks_nothing_of_aws(archive, aws):
    archive.client().quit()
    assert aws.log() == []


@pytest.mark.parametrize("path", ["NA", "nan", "null"])
def test_names_that_the_validator_cannot_read_are_refused_up_front(archive, aws, path):
    (archive.source / path).write_bytes(b"x")
    archive.files[path] = b"x"
    with pytest.raises(IndexProblemsError, match=path):
        archive.client()
    assert aws.log() == []


def test_a_check_is_no_business_of_this_archive(archive):
    with pytest.raises(ConfigurationError, match="local archive"):
        archive.ports(check=print)


def test_a_parameter_that_does_not_exist_is_a_wrong_configuration(archive, aws):
    aws.parameters.values.clear()
    client = archive.client()
    with pytest.raises(ConfigurationError, match="/mast-fast/delivery"):
        client.run()
    assert client.summary().exit_code == 2


def test_without_credentials_the_identity_has_to_act(archive, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = archive.client()
    with pytest.raises(IdentityError, match="no AWS credentials"):
        client.run()
    assert client.summary().exit_code == 5


def test_an_s3_url_as_destination_asks_for_the_deployment_file(archive):
    with pytest.raises(ConfigurationError, match=r"mast\.toml"):
        archive.ports(to="s3://bucket")


def test_a_directory_that_holds_a_deployment_file_names_it(archive, monkeypatch):
    assert archive.ports(to=str(archive.root)).archive_name == f"aws:mast-test:{DATASET}-{DELIVERY}-staging"
    monkeypatch.setenv("UPLOAD_CORE_TO", "mast.toml")
    assert archive.ports(to=None).archive_name == f"aws:mast-test:{DATASET}-{DELIVERY}-staging"


def test_a_data_root_copies_a_file_into_any_bucket(archive, aws):
    aws.store.create_bucket("anywhere")
    file = archive.client().file("dir/file 03.txt")
    assert DataRoot(archive.source).cp(file, Bucket("s3://anywhere"))
    assert aws.object("anywhere", "dir/file 03.txt").data == archive.files["dir/file 03.txt"]


# ── going on ─────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process ends here, and tidies nothing up."""


def killed_at(client, kind, nth=1):
    """Run until the nth event of that kind is in the journal; leave everything as a kill leaves it."""
    left = [nth]

    def kill(record):
        left[0] -= isinstance(record.event, kind)
        if left[0] <= 0:
            raise Killed

    client.subscribe(kill)
    with pytest.raises(Killed):
        client.run()
    die(client)


def die(client):
    """Nothing more comes of its workers, and its journal is free."""
    client._ports.dispatcher.hold_until(0)
    client._ports.dispatcher.close(0)
    client._ports.journal.close()


MOMENTS = [
    ev.LockAcquired,
    ev.IndexWritten,
    ev.PipelineRequested,
    ev.PipelineAccepted,
    ev.ValidatorStarted,
    ev.TransferCompleted,
    ev.FileReported,
    ev.RunConfirmed,
    ev.FileValidated,
    ev.StopReported,
    ev.LockReleased,
]


@pytest.mark.parametrize("kind", MOMENTS, ids=lambda kind: kind.__name__)
def test_a_client_that_was_killed_goes_on_in_the_same_run(archive, monkeypatch, kind):
    client = archive.client(n_threads=1)
    for name in ("_close", "quit"):  # a process that is killed ends nothing in order
        monkeypatch.setattr(client, name, lambda *_: None)
    killed_at(client, kind)
    assert archive.resumed().run().outcome == "complete"
    archive.judge(sent_twice=1)


def test_a_run_that_was_told_to_stop_is_waited_for_and_never_told_twice(archive):
    client = archive.client(n_threads=1)
    client.subscribe(lambda record: isinstance(record.event, ev.RunConfirmed) and archive.hang())
    client.connect()
    client.initiate_transfer()
    begun = 0
    while not client.delivery.facts.run_confirmed:
        client.update()
        if begun < len(archive.files) // 2:  # or the first run may have been told of every file
            begun += client.transfer_next_file() is not None
    engine = client._engine
    engine.record([engine.conversation.say_stop(engine.now_ms()), ev.StopReported()])
    die(client)
    threading.Timer(1.0, archive.go_on).start()
    assert archive.resumed().run().outcome == "complete"
    archive.judge(sessions=2, sent_twice=1)


def test_resume_needs_nothing_but_the_journal(archive):
    client = archive.client()
    client.subscribe(lambda record: isinstance(record.event, ev.PipelineAccepted) and client.stop("later"))
    assert client.run().outcome == "interrupted"
    archive.toml.unlink()
    assert archive.resumed().run().outcome == "complete"


def test_the_journal_holds_what_was_configured_and_variables_rule_over_a_changed_file(archive, monkeypatch):
    monkeypatch.setenv("UPLOAD_CORE_DEPLOYMENT_NAME", "from-environment")
    archive.client().run()
    monkeypatch.delenv("UPLOAD_CORE_DEPLOYMENT_NAME")
    ports = wire_journal(archive.root / "journal", {})
    assert ports.archive_name == f"aws:from-environment:{DATASET}-{DELIVERY}-staging"
    assert ports.settings["deployment_file"] == str(archive.toml)


def test_a_deployment_file_of_another_archive_is_refused_for_a_journal(archive):
    archive.client().run()
    other = archive.root / "other.toml"
    other.write_text('[deployment]\nname = "other"\nregion = "us-east-1"\n')
    with pytest.raises(ConfigurationError, match=r"aws:mast-test:.*aws:other:"):
        wire_journal(archive.root / "journal", {"to": str(other)})


def test_a_deployment_file_that_has_moved_is_named_anew(archive):
    archive.client().run()
    moved = archive.root / "moved.toml"
    archive.toml.rename(moved)
    assert wire_journal(archive.root / "journal", {"to": str(moved)}).archive_name.startswith("aws:mast-test:")


# ── answers that are lost, and other trouble on the way ──────────────────────────────────────────

REQUESTS = {
    "parameter": ("GetParameter", "*"),
    "session": ("CreateSession", "*"),
    "reading the lock": ("GetObject", "lock/client"),
    "taking the lock": ("PutObject", "lock/client"),
    "releasing the lock": ("DeleteObject", "lock/client"),
    "size of our log": ("HeadObject", "log/client_staging"),
    "the validator's log": ("GetObject", "log/validator_staging"),
    "the validator's lock": ("HeadObject", "lock/validator"),
    "listing": ("ListObjectsV2", "*"),
    "index": ("PutObject", "*-index.csv"),
    "pipeline": ("Invoke", "*"),
    "file": ("PutObject", "dir/*"),
    "append": ("PutObject", "log/client_staging"),
}


@pytest.mark.promise("R10")
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_answer_that_is_lost_changes_nothing(archive, aws, request_, nth, figure):
    operation, key = request_
    fault = aws.order(Fault("lost", operation=operation, key=key, nth=nth))
    summary = archive.client().run()
    assert summary.outcome == "complete", summary
    archive.judge(sent_twice=1)
    assert fault.fired or nth == 2
    figure(fault.fired, "requests that the server spoiled")


@pytest.mark.promise("R10")
@pytest.mark.parametrize(
    ("kind", "code"),
    [("refused", "SlowDown"), ("refused", "InternalError"), ("reset", ""), ("truncated", ""), ("duplicate_last", "")],
)
@pytest.mark.parametrize(
    "name", ["taking the lock", "append", "file", "the validator's log", "pipeline", "index", "releasing the lock"]
)
def test_trouble_on_the_way_changes_nothing(archive, aws, name, kind, code, figure):
    operation, key = REQUESTS[name]
    fault = aws.order(Fault(kind, operation=operation, key=key, code=code or "InternalError", times=2))
    summary = archive.client().run()
    assert summary.outcome == "complete", summary
    archive.judge(sent_twice=2)
    assert fault.fired == 2 or name not in ("append", "file", "the validator's log")
    figure(fault.fired, "requests that the server spoiled")


def test_a_log_of_too_many_parts_is_compacted_without_a_word_lost(archive, aws):
    aws.settings.parts_max = 3
    ports = archive.ports(limits=attrs.evolve(QUICK, report_interval_s=0.0))
    assert archive.client(ports=ports, n_threads=1).run().outcome == "complete"
    archive.judge()
    assert [e for e in aws.log("CopyObject") if e.key == "log/client_staging"]


# ── who owns the delivery ────────────────────────────────────────────────────────────────────────


def start(archive, number):
    """A client of its own; its outcome, or who holds the lock."""
    client = archive.client(ports=archive.ports(journal=f"journal-{number}"), n_threads=1)
    try:
        return client.run().outcome
    except LockHeldError as error:
        return error.holder


@pytest.mark.promise("R12")
@pytest.mark.parametrize("count", [2, 8])
def test_of_clients_that_race_one_delivers_and_the_others_name_it(archive, count, figure):
    archive.hang()
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(start, archive, number) for number in range(count)]
        while sum(future.done() for future in futures) < count - 1:
            time.sleep(0.01)
        archive.go_on()
        ended = [future.result() for future in futures]
    assert ended.count("complete") == 1
    holders = {holder for holder in ended if holder != "complete"}
    assert holders == {archive.invocations[0]["agent_id"]}
    archive.judge()
    figure(1, "races of whole clients")


@pytest.mark.slow
def test_of_fifty_starters_one_wins_and_the_others_leave_within_seconds(archive):
    count, waited = 50, []
    archive.hang()

    def timed(number):
        began = time.monotonic()
        ended = start(archive, number)
        if ended != "complete":
            waited.append(time.monotonic() - began)
        return ended

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(timed, number) for number in range(count)]
        while len(waited) < count - 1:
            time.sleep(0.05)
        archive.go_on()
        ended = [future.result() for future in futures]
    assert ended.count("complete") == 1
    assert set(ended) == {"complete", archive.invocations[0]["agent_id"]}
    archive.judge()


def test_an_unknown_delivery_file_setting_is_found_before_anything_starts(archive):
    archive.toml.write_text('[deployment]\nnmae = "x"\n')
    with pytest.raises(ConfigurationError, match="did you mean name"):
        archive.ports()


def test_the_core_may_be_asked_without_ports(archive):
    client = UploadClient(
        dataset=DATASET,
        delivery_id=DELIVERY,
        file_index=__import__("pandas").DataFrame(archive.index()),
        transfer_type="staging",
        source=archive.source,
        to="mast.toml",
        journal=archive.root / "by name",
    )
    assert client.run().outcome == "complete"
    archive.judge()


def test_no_secret_of_the_environment_reaches_the_settings(archive, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "CANARY")
    settings = deployments.recorded_settings(deployments.load(str(archive.toml), {}))
    assert "CANARY" not in json.dumps(settings)


def test_a_request_names_what_wiring_has_to_know():
    with pytest.raises(ConfigurationError, match=r"mast\.toml"):
        wire(WiringRequest("d", "1", "staging", "."))


def test_an_id_is_not_meant_as_it_is_written_where_the_archive_reads_the_label(archive, aws):
    (archive.root / "label.yaml").write_text(f"dataset: {DATASET}\ndelivery_id: 2025_10\n")
    request = WiringRequest(DATASET, "2025_10", "staging", archive.source, str(archive.toml), label="label.yaml")
    with pytest.raises(ConfigurationError, match="so the archive reads '2025_10'"):
        wire(request)
    assert wire(attrs.evolve(request, delivery_id="202510")).label
    assert aws.log() == []
