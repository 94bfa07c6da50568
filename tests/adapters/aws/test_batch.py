"""S3 Batch Operations, piece by piece: statuses, reports, what a copy is worth, settings, and the dispatcher."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import botocore
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.dispatcher import DispatcherContract, order
from tests.crash.job_world import CopyService
from upload_adapters.aws.batch import batch_dispatcher, batch_settings
from upload_adapters.aws.batch_check import failed_task
from upload_adapters.aws.batch_dispatcher import BatchDispatcher
from upload_adapters.aws.batch_jobs import STATUSES, Phase, Progress
from upload_adapters.aws.batch_report import TaskResult, read_report
from upload_adapters.clock import SystemClock
from upload_adapters.configuration import load
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.memory import MemoryArchive, MemorySource
from upload_core import ConfigurationError
from upload_core.effects import (
    Fault,
    FileNotStored,
    FileStored,
    InspectFile,
    JobCreated,
    JobEnded,
    JobProgressed,
    JobRequested,
    OpenUpload,
)
from upload_core.errors import ArchiveError, ArchiveUnavailableError, IdentityError
from upload_core.jobs import CopyJob, ranges, runs_of
from upload_core.wire import Keys

KEYS = Keys("my_set", "d1", "staging")
ROLE = "arn:aws:iam::123456789012:role/copies"


# --- the table of statuses -----------------------------------------------------------------------


def test_each_status_that_s3_knows_has_its_row_and_no_other():
    [model] = Path(botocore.__file__).parent.joinpath("data", "s3control").glob("*/service-2.json.gz")
    known = json.loads(gzip.decompress(model.read_bytes()))["shapes"]["JobStatus"]["enum"]
    assert set(known) == set(STATUSES)
    assert {status.phase for status in STATUSES.values()} == set(Phase)


def test_a_status_that_nobody_knows_is_waited_through():
    assert Progress("Thinking", 0, 0, 0).phase is Phase.GOING


# --- runs of rows --------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 400)))
def test_rows_come_back_from_their_runs(rows):
    written = ranges(sorted(rows))
    assert [row for run in runs_of(written) for row in run] == sorted(rows)


# --- reports -------------------------------------------------------------------------------------

LISTING = {
    "Format": "Report_CSV_20180820",
    "ReportCreationDate": "2019-04-05T17:48:39.725Z",
    "Results": [
        {"TaskExecutionStatus": "succeeded", "Bucket": "b", "MD5Checksum": "83b1", "Key": "p/job-1/results/1.csv"},
        {"TaskExecutionStatus": "failed", "Bucket": "b", "MD5Checksum": "22ee", "Key": "p/job-1/results/2.csv"},
    ],
    "ReportSchema": "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
}


def report(objects):
    return read_report("b", "list", lambda _, key: iter(objects[key]) if key in objects else None)


def test_every_row_of_every_file_is_read_whichever_order_code_and_status_are_in():
    rows = list(
        report(
            {
                "list": [json.dumps(LISTING)],
                "p/job-1/results/1.csv": ["src,a%20b,,succeeded,200,,\n", "src,c,,succeeded,,200,Successful\n"],
                "p/job-1/results/2.csv": [
                    'src,d,,failed,412,PreconditionFailed,"said ""no"""\n',
                    "src,e,,failed,SlowDown,503,\n",
                ],
            }
        )
    )
    assert rows == [
        TaskResult("a%20b", True, "", 200, ""),
        TaskResult("c", True, "", 200, "Successful"),
        TaskResult("d", False, "PreconditionFailed", 412, 'said "no"'),
        TaskResult("e", False, "SlowDown", 503, ""),
    ]


def test_there_may_be_no_report_yet():
    assert report({}) is None


@pytest.mark.parametrize("listing", ["<html>", '{"Results": 7}'])
def test_a_list_that_cannot_be_understood_is_as_none(listing):
    assert report({"list": [listing]}) is None


@pytest.mark.parametrize("first", [None, ["src,a,,succeeded\n"], ['src,"a\n']])
def test_tasks_in_a_file_that_is_gone_or_cannot_be_understood_are_left_out(first):
    """Else no session could ever end that job: of their copies the archive itself is asked."""
    objects = {"list": [json.dumps(LISTING)], "p/job-1/results/2.csv": ["src,c,,failed,SlowDown,503,\n"]}
    if first is not None:
        objects["p/job-1/results/1.csv"] = first
    assert list(report(objects)) == [TaskResult("c", False, "SlowDown", 503, "")]


# --- tasks that failed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "fault", "said"),
    [
        ("PreconditionFailed", 412, Fault.FILE, "replaced"),
        ("NoSuchKey", 404, Fault.FILE, "taken away"),
        ("InvalidObjectState", 403, Fault.FILE, "archive tier"),
        ("InvalidRequest", 400, Fault.FILE, "refused"),
        ("SlowDown", 503, Fault.STOPPED, "SlowDown"),
        ("InternalError", 500, Fault.STOPPED, "InternalError"),
        ("AccessDenied", 403, Fault.STOPPED, "AccessDenied"),
        ("", 503, Fault.STOPPED, "503"),
        ("PermanentFailure", 200, Fault.STOPPED, "PermanentFailure"),
    ],
)
def test_only_what_the_file_is_to_blame_for_spends_a_retry(code, status, fault, said):
    outcome = failed_task(order(3, b"x"), TaskResult("f3", False, code, status, "words"))
    assert (outcome.file, outcome.fault) == (3, fault)
    assert said in outcome.message
    assert outcome.message.isprintable()


# --- settings ------------------------------------------------------------------------------------


def settings(**changed):
    given = {"role": ROLE, "bucket": "jobs", **changed}
    flags = {f"batch.{name}": value for name, value in given.items() if value is not None}
    return load(None, environ={}, flags=flags)


def test_the_settings_of_a_delivery_name_its_own_place():
    made = batch_settings(settings(), KEYS)
    assert (made.account, made.partition, made.prefix) == ("123456789012", "aws", "upload-core/my_set-d1-staging")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"role": None}, "needs role under"),
        ({"bucket": None}, "needs bucket under"),
        ({"role": "copies"}, "ARN of a role"),
        ({"bucket": "control--use1-az4--x-s3"}, "directory bucket"),
        ({"prefix": "a//b"}, "prefix"),
        ({"prefix": "a b"}, "prefix"),
        ({"prefix": "x" * 300}, "prefix"),
    ],
)
def test_a_setting_that_cannot_work_is_named(changed, said):
    with pytest.raises(ConfigurationError, match=said):
        batch_settings(settings(**changed), KEYS)


# --- the dispatcher ------------------------------------------------------------------------------


def stored_as_ordered(order, source, archive, until, commit):
    found = archive.stat(order.relpath)
    if found is None or found.checksum != order.checksum:
        return FileNotStored(order.file, Fault.STOPPED, "it is not there")
    return FileStored(order.file, found.size, found.checksum, found.etag)


class TestBeside(DispatcherContract):
    """What no job can do is carried out as by the dispatcher beside."""

    @pytest.fixture
    def clock(self):
        return SystemClock()

    @pytest.fixture
    def dispatcher(self, clock):
        service = CopyService(lambda _: None)
        return BatchDispatcher(clock, service, ChannelDispatcher(clock), objects_max=100, object_max=-1)

    def test_slots_fall_with_each_order_and_come_back_with_each_outcome(self, opened, orders):
        assert opened.slots > self.N_THREADS, "orders are gathered, however many run"

    def test_a_level_moves_the_slots(self, opened):
        opened.set_level(0)
        assert opened.slots == 0

    def test_what_an_archive_tells_of_a_file_comes_before_its_outcome_and_ends_no_order(
        self, dispatcher, files, archive
    ):
        before = dispatcher.slots
        assert before == 0, "not open yet"


class Bench:
    """A dispatcher with its service, as one session has it."""

    def __init__(self, files, service=None, **options):
        self.files, self.archive = files, MemoryArchive()
        self.service = service or CopyService(self.copy)
        self.clock = SystemClock()
        self.dispatcher = BatchDispatcher(
            self.clock,
            self.service,
            ChannelDispatcher(self.clock),
            check=stored_as_ordered,
            **{"objects_max": 100, "gather_s": 0.05, "poll_s": 0.01} | options,
        )
        self.news = []

    def copy(self, path):
        with MemorySource(self.files).open(path) as body:
            self.archive.put(path, body, checksum=None)

    def open(self, *, held=True):
        self.dispatcher.open(MemorySource(self.files), self.archive, 4)
        if held:
            self.dispatcher.hold_until(self.clock.now_ms() + 60_000)
        return self

    def orders(self):
        return [order(int(name[1:]), data) for name, data in self.files.items()]

    def until(self, wanted, timeout_s=20.0):
        """Collect until what was told is as wanted."""
        end_s = time.monotonic() + timeout_s
        while not wanted(self.news):
            assert time.monotonic() < end_s, self.news
            self.news += self.dispatcher.collect(0.05)
        return self.news

    def of(self, *kinds):
        return [told for told in self.news if isinstance(told, kinds)]


def files(count):
    return {f"f{number}": b"%d" % number * 9 for number in range(count)}


@pytest.fixture
def bench():
    made = Bench(files(20)).open()
    yield made
    made.dispatcher.close(0)


def ended(news):
    return any(isinstance(told, JobEnded) for told in news)


def test_orders_become_a_job_and_each_is_answered_once_before_its_end(bench):
    bench.dispatcher.submit(bench.orders())
    news = bench.until(ended)
    assert isinstance(news[0], JobRequested)
    assert list(runs_of(news[0].files)) == [range(20)]
    assert len(bench.of(JobCreated)) == len(bench.of(JobEnded)) == 1
    assert isinstance(news[-1], JobEnded)
    assert sorted(told.file for told in bench.of(FileStored)) == list(range(20))
    assert bench.of(JobProgressed)[-1].copied == 20
    assert bench.dispatcher.collect(0) == []


def test_nothing_is_asked_of_the_service_before_its_request_was_taken_to_the_journal(bench):
    bench.dispatcher.submit(bench.orders())
    while not bench.of(JobRequested):
        bench.news += bench.dispatcher.collect(0.05)
    time.sleep(0.2)
    assert bench.service.manifests == {}
    assert bench.service.jobs == {}
    bench.until(ended)


def test_many_orders_are_jobs_of_bounded_size(bench):
    bench.dispatcher._objects_max = 8
    bench.dispatcher.submit(bench.orders())
    bench.until(lambda news: sum(isinstance(told, JobEnded) for told in news) == 3)
    assert sorted(len(job.keys) for job in bench.service.jobs.values()) == [4, 8, 8]


def test_a_single_order_a_question_a_large_object_and_an_open_upload_go_beside():
    bench = Bench(files(4), object_max=9).open()
    one, two, three, _ = bench.orders()
    large = msgspec.structs.replace(two, size=len(bench.files["f1"]))
    bench.files["f1"] = b"1" * 9
    resumed = msgspec.structs.replace(three, upload=OpenUpload("id", 5, "print"))
    bench.dispatcher.submit([one, InspectFile(3, "f3", 9, None)])
    bench.dispatcher.submit([msgspec.structs.replace(large, size=10), resumed])
    bench.until(lambda news: len(news) == 4)
    assert bench.service.jobs == {}
    bench.dispatcher.close(0)


def test_a_file_whose_task_failed_goes_beside_when_it_comes_again(bench):
    bench.service.failing = {"f7", "f8"}
    bench.dispatcher.submit(bench.orders())
    bench.until(ended)
    assert [(told.file, told.fault) for told in bench.of(FileNotStored)] == [(7, Fault.STOPPED), (8, Fault.STOPPED)]
    told = [type(told) for told in bench.news[-3:]]
    assert told == [FileNotStored, FileNotStored, JobEnded], "they are told with the job's end"
    bench.dispatcher.submit(bench.orders()[7:9])
    bench.until(lambda news: len([told for told in news if isinstance(told, FileStored)]) == 20)
    assert len(bench.service.jobs) == 1


def test_a_job_of_an_earlier_session_is_not_touched_before_the_lock_is_ours():
    bench = Bench(files(20)).open(held=False)
    new, taken = CopyJob("new", "0-9", 0), CopyJob("taken", "10-19", 0)
    bench.service.write_manifest(taken, list(bench.files)[10:])
    number = bench.service.create(taken, "")
    bench.dispatcher.adopt(
        [(new, bench.orders()[:10]), (msgspec.structs.replace(taken, job_id=number), bench.orders()[10:])]
    )
    assert bench.dispatcher.collect(0.2) == []
    assert list(bench.service.jobs) == [number]
    assert bench.service.copied == [], "nobody looked at it"
    bench.dispatcher.hold_until(bench.clock.now_ms() + 60_000)
    bench.until(lambda news: sum(isinstance(told, JobEnded) for told in news) == 2)
    assert [made.token for made in bench.service.jobs.values()] == ["taken", "new"]
    bench.dispatcher.close(0)


def test_a_job_of_which_everything_was_told_but_its_end_ends():
    bench = Bench(files(20)).open()
    made = CopyJob("token", "0-19", 0)
    bench.service.write_manifest(made, bench.files)
    number = bench.service.create(made, "")
    bench.dispatcher.adopt([(msgspec.structs.replace(made, job_id=number), [])])
    bench.until(ended)
    assert bench.of(FileStored, FileNotStored) == []
    bench.dispatcher.close(0)


class Unsteady(CopyService):
    """A service that fails so many times first."""

    def __init__(self, error, times):
        super().__init__(lambda _: None)
        self.error, self.left = error, times

    def describe(self, job_id):
        if self.left:
            self.left -= 1
            raise self.error
        return super().describe(job_id)


def test_a_service_that_is_out_of_reach_is_asked_again_and_the_journal_hears_of_it_once():
    service = Unsteady(ArchiveUnavailableError("no route to host"), 5)
    bench = Bench(files(20), service).open()
    service._copy = bench.copy
    bench.dispatcher.submit(bench.orders())
    bench.until(ended)
    assert len([told for told in bench.of(JobProgressed) if "no route to host" in told.status]) == 1
    assert len(bench.of(FileStored)) == 20
    bench.dispatcher.close(0)


@pytest.mark.parametrize("error", [IdentityError("sign in again"), ConfigurationError("no such bucket")])
def test_what_nobody_can_wait_for_is_raised_to_whoever_collects(error):
    bench = Bench(files(20), Unsteady(error, 1)).open()
    bench.dispatcher.submit(bench.orders())
    with pytest.raises(type(error)):
        bench.until(ended)
    bench.dispatcher.close(0)


def test_what_the_service_refuses_for_good_is_a_matter_of_its_settings():
    bench = Bench(files(20), Unsteady(ArchiveError("IdempotencyException"), 1)).open()
    bench.dispatcher.submit(bench.orders())
    with pytest.raises(ConfigurationError, match="check \\[batch\\]"):
        bench.until(ended)
    bench.dispatcher.close(0)


class Slow(CopyService):
    """A service that does not know its jobs, for so many looks."""

    def __init__(self, looks):
        super().__init__(lambda _: None)
        self.looks = looks

    def describe(self, job_id):
        self.looks -= 1
        return None if self.looks >= 0 else super().describe(job_id)


def test_a_job_that_is_not_known_yet_is_asked_for_again():
    service = Slow(3)
    bench = Bench(files(20), service).open()
    service._copy = bench.copy
    bench.dispatcher.submit(bench.orders())
    bench.until(ended)
    assert len(bench.of(FileStored)) == 20
    bench.dispatcher.close(0)


def test_a_job_that_is_not_known_any_more_leaves_its_files_to_be_looked_at(monkeypatch):
    monkeypatch.setattr("upload_adapters.aws.batch_job.UNKNOWN_WAIT_S", 0.05)
    bench = Bench(files(20), Slow(10_000)).open()
    bench.dispatcher.submit(bench.orders())
    bench.until(ended)
    assert {told.fault for told in bench.of(FileNotStored)} == {Fault.STOPPED}
    assert len(bench.of(FileNotStored)) == 20
    assert bench.of(JobEnded)[0].status == "unknown"
    bench.dispatcher.close(0)


class Broken(CopyService):
    """A service whose jobs cannot run: its role may not read the manifest."""

    def describe(self, job_id):
        return Progress("Failed", 0, 0, 0, "AccessDenied: the manifest cannot be read")


def test_a_job_that_could_not_run_is_told_first_and_then_raised():
    bench = Bench(files(20), Broken(lambda _: None)).open()
    bench.dispatcher.submit(bench.orders())
    bench.until(ended)
    assert len(bench.of(FileNotStored)) == 20
    with pytest.raises(ConfigurationError, match="the manifest cannot be read"):
        bench.until(lambda _: False)
    bench.dispatcher.close(0)


def test_what_was_gathered_and_not_asked_for_is_answered_when_it_closes():
    bench = Bench(files(20), gather_s=60.0).open()
    bench.dispatcher.submit(bench.orders())
    bench.dispatcher.collect(0)
    assert sorted(told.file for told in bench.dispatcher.close(0)) == list(range(20))


def slow(bench):
    """The service takes its time; the job is at work."""
    bench.service.work = lambda *_: None
    bench.dispatcher.submit(bench.orders())
    bench.until(lambda news: any(isinstance(told, JobProgressed) for told in news))
    [job] = bench.service.jobs.values()
    return job


def test_a_session_that_ends_leaves_its_job_at_work(bench):
    job = slow(bench)
    assert [told for told in bench.dispatcher.close(0) if not isinstance(told, JobProgressed)] == []
    assert not job.cancelled


def test_a_lock_that_is_lost_ends_the_job(bench):
    job = slow(bench)
    bench.dispatcher.hold_until(0)
    bench.dispatcher.close(0)
    assert job.cancelled


def test_whoever_never_had_the_lock_ends_no_job():
    bench = Bench(files(20)).open(held=False)
    job = CopyJob("token", "0-19", 0)
    bench.service.write_manifest(job, bench.files)
    number = bench.service.create(job, "")
    bench.dispatcher.adopt([(msgspec.structs.replace(job, job_id=number), bench.orders())])
    bench.dispatcher.hold_until(0)
    bench.dispatcher.close(0)
    assert not bench.service.jobs[number].cancelled


def test_at_level_0_no_job_is_begun(bench):
    bench.dispatcher.set_level(0)
    bench.dispatcher.submit(bench.orders())
    for _ in range(5):
        assert bench.dispatcher.collect(0.05) == []
    bench.dispatcher.set_level(2)
    bench.until(ended)


def test_the_slots_bound_what_is_kept(bench):
    bench.dispatcher._objects_max = 5
    assert bench.dispatcher.slots == 20
    bench.dispatcher.submit(bench.orders()[:12])
    assert bench.dispatcher.slots == 8


def test_only_a_whole_bucket_can_be_copied_by_jobs():
    made = batch_settings(settings(), KEYS)
    clock = SystemClock()

    deployment: Any = None  # nobody is asked

    with pytest.raises(ConfigurationError, match="is none"):
        batch_dispatcher(made, deployment, MemorySource({}), ChannelDispatcher(clock), clock)
