"""Deliveries whose objects S3 Batch Operations copies, on an emulated archive: whole, disturbed, killed, and gone on with."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest

from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, EmulatedArchive
from tests.adapters.aws.test_s3_source import crc, keep
from tests.emulator import Fault
from upload_adapters.aws.batch_dispatcher import BatchDispatcher
from upload_adapters.cli import main
from upload_adapters.cli.ending import ending
from upload_adapters.journal_reader import JournalReader
from upload_core import ConfigurationError, UploadClient
from upload_core import events as ev

ROLE = "arn:aws:iam::000000000000:role/copies"
SETTINGS = {"batch.role": ROLE, "batch.bucket": "jobs"}
ROOT = Path(__file__).resolve().parents[3]


class BatchArchive(EmulatedArchive):
    """An archive whose delivery lies in a bucket of its own."""

    def __init__(self, aws, root, *, count=24):
        super().__init__(aws, root, count=count)
        aws.store.create_bucket("observatory")
        aws.store.create_bucket("jobs")
        for relpath, data in self.files.items():
            keep(aws, "observatory", relpath, data)
        self.age_sources()
        self.source = "s3://observatory"  # type: ignore[assignment]  # all that is asked of it is to be a source
        self.checksums = True
        self.settings = dict(SETTINGS)

    def age_sources(self):
        """The objects have been at rest for an hour."""
        objects = self.aws.store.buckets["observatory"].objects
        for relpath, found in objects.items():
            objects[relpath] = attrs.evolve(found, modified=self.aws.settings.now() - 3600)

    def enlarge(self, number):
        """Make that object a large one; its path."""
        path = sorted(self.files)[number]
        self.files[path] = os.urandom(4096)
        keep(self.aws, "observatory", path, self.files[path])
        self.age_sources()
        return path

    def index(self, **changes):
        index = super().index(**changes)
        return index if self.checksums else {"path": index["path"]}

    def ports(self, *, journal="journal", **request):
        ports = super().ports(journal=journal, **{"dispatch": "s3-batch", "settings": self.settings} | request)
        if isinstance(ports.dispatcher, BatchDispatcher):
            ports.dispatcher._gather_s, ports.dispatcher._poll_s = 0.1, 0.05
        return ports

    def client(self, *, ports=None, n_threads=3, **options):
        return UploadClient(
            dataset=DATASET,
            delivery_id=DELIVERY,
            file_index=self.index(),
            transfer_type="staging",
            source=self.source,
            ports=ports or self.ports(),
            n_threads=n_threads,
            **options,
        )

    # --- what a third person sees ------------------------------------------------------------------

    @property
    def jobs(self):
        return list(self.aws.batch.jobs.values())

    def copies(self):
        """How often each object was copied by a job."""
        return Counter(key for job in self.jobs for key in job.copied)

    def copied_by_us(self):
        return [e.key for e in self.aws.log("CopyObject") if e.bucket == self.transfer_bucket and e.status in (0, 200)]

    def events(self, *kinds):
        reader = JournalReader(self.root / "journal", snapshots=False)
        reader.advance()
        return [record.event for record in reader.records() if isinstance(record.event, kinds)]

    def judge_jobs(self, *, jobs=1, alone=()):
        """Raises `AssertionError` unless every job was asked for once and is over, and each object was copied once."""
        assert len(self.jobs) == jobs
        assert {job.status for job in self.jobs} <= {"Complete", "Cancelled", "Failed"}
        asked, ended = self.events(ev.CopyJobRequested), self.events(ev.CopyJobEnded)
        assert sorted(event.token for event in asked) == sorted(event.token for event in ended)
        assert max(self.copies().values(), default=1) == 1
        assert sorted(self.copied_by_us()) == sorted(alone)


@pytest.fixture
def archive(aws, tmp_path, monkeypatch):
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    made = BatchArchive(aws, tmp_path)
    yield made
    aws.batch.release()
    made.close()


def test_a_bucket_is_copied_by_one_job_and_everything_is_judged(archive):
    assert archive.client().run().outcome == "complete"
    archive.judge()
    archive.judge_jobs()
    assert sum(archive.copies().values()) == len(archive.files)
    [job] = archive.jobs
    assert [event.job_id for event in archive.events(ev.CopyJobCreated)] == [job.job_id]
    assert archive.events(ev.CopyJobProgressed)[-1].copied == len(archive.files)
    assert not [e for e in archive.aws.log("HeadObject") if e.bucket == "observatory"], "the index has checksums"


def test_without_checksums_in_the_index_both_sides_are_compared(archive):
    archive.checksums = False
    assert archive.client().run().outcome == "complete"
    archive.judge()
    archive.judge_jobs()
    heads = [e for e in archive.aws.log("HeadObject") if e.bucket == "observatory"]
    assert len(heads) == len(archive.files)


def test_an_index_is_split_into_jobs_of_bounded_size(archive):
    archive.settings["batch.objects"] = "10"
    assert archive.client().run().outcome == "complete"
    archive.judge()
    archive.judge_jobs(jobs=3)


def test_what_is_too_large_for_a_job_is_copied_beside_it(archive):
    large = archive.enlarge(5)
    ports = archive.ports()
    ports.dispatcher._object_max = 1024
    assert archive.client(ports=ports).run().outcome == "complete"
    archive.judge()
    archive.judge_jobs(alone=[large])


def test_an_object_that_was_replaced_after_the_job_was_asked_for_is_not_copied_by_it(archive):
    """Its index has checksums, so what is there now is refused; nothing of it is left in the archive."""
    path = sorted(archive.files)[3]
    archive.aws.batch.hold()
    client = archive.client()

    def replace(_):
        time.sleep(2.1)  # S3 keeps times by the second
        keep(archive.aws, "observatory", path, b"something else")
        archive.aws.batch.release()

    client.subscribe(replace, kinds=[ev.CopyJobCreated])
    summary = client.run()
    assert summary.outcome == "incomplete"
    assert [failed.relpath for failed in summary.failed] == [path]
    assert archive.transfer.found(path) is None
    failed = [event.message for event in archive.events(ev.TransferFailed)]
    assert "replaced" in failed[0]
    assert archive.copies()[path] == 0


@pytest.mark.parametrize("checksums", [True, False], ids=["by the index", "by the source"])
def test_a_copy_that_is_not_the_indexed_file_is_taken_away_again(archive, checksums):
    path = sorted(archive.files)[3]
    archive.checksums = checksums
    real, data = archive.files[path], bytes(len(archive.files[path]))
    index = archive.index()
    if checksums:
        index["checksum"][index["path"].index(path)] = crc(data)
        archive.index = lambda: index
    else:
        archive.aws.batch.damaged = {path}
    summary = archive.client().run()
    assert (summary.outcome, [failed.relpath for failed in summary.failed]) == (
        ("incomplete", [path]) if checksums else ("complete", [])
    )
    found = archive.transfer.found(path)
    assert found is None if checksums else found.data == real
    assert crc(data) in archive.events(ev.TransferFailed)[0].message


def test_a_copy_whose_source_is_gone_before_it_was_compared_is_taken_away_again(archive):
    path = sorted(archive.files)[3]
    archive.checksums = False
    client = archive.client()

    def take_away(record):
        if record.event.copied == len(archive.files):
            archive.aws.store.buckets["observatory"].objects.pop(path, None)

    client.subscribe(take_away, kinds=[ev.CopyJobProgressed])
    archive.aws.order(Fault("late", "GetObject", bucket="jobs", seconds=0.5))  # the report comes after that
    summary = client.run()
    assert [failed.relpath for failed in summary.failed] == [path]
    assert archive.transfer.found(path) is None


@pytest.mark.parametrize(
    ("code", "status", "retries"), [("SlowDown", 503, 0), ("AccessDenied", 403, 0), ("InvalidRequest", 400, 2)]
)
def test_objects_whose_task_failed_are_copied_alone(archive, code, status, retries):
    failing = sorted(archive.files)[4:6]
    for path in failing:
        archive.aws.batch.fail(path, code, status)
    summary = archive.client().run()
    assert (summary.outcome, summary.retries) == ("complete", retries)
    archive.judge()
    archive.judge_jobs(alone=failing)


def test_a_job_of_which_too_many_tasks_fail_ends_and_its_files_are_copied_alone(archive):
    for path in archive.files:
        archive.aws.batch.fail(path, "AccessDenied", 403)
    assert archive.client().run().outcome == "complete"
    archive.judge()
    archive.judge_jobs(alone=list(archive.files))


def test_a_role_that_may_not_read_the_manifest_ends_the_session_with_what_s3_says(archive):
    archive.settings["batch.role"] = ROLE.replace("copies", "nobody")
    archive.aws.batch.refuse_manifest("nobody")
    with pytest.raises(ConfigurationError, match="could not run"):
        archive.client().run()
    assert archive.events(ev.CopyJobEnded)[0].status == "Failed"
    archive.settings["batch.role"] = ROLE
    assert archive.client().run().outcome == "complete"
    archive.judge(sessions=2)
    archive.judge_jobs(jobs=2)


@pytest.mark.parametrize("operation", ["CreateJob", "DescribeJob", "PutObject", "GetObject"])
@pytest.mark.parametrize("kind", ["lost", "refused"])
def test_a_request_that_goes_wrong_makes_no_second_job(archive, operation, kind):
    bucket = {"PutObject": "jobs", "GetObject": "jobs"}.get(operation, "*")
    fault = Fault(kind, operation, times=2) if bucket == "*" else Fault(kind, operation, bucket=bucket, times=2)
    archive.aws.order(fault)
    assert archive.client().run().outcome == "complete"
    archive.judge()
    archive.judge_jobs()


def test_a_job_that_s3_does_not_know_at_first_is_looked_at_again(archive):
    """S3 says so where a job is asked for right after it was made."""
    fault = archive.aws.order(Fault("refused", "DescribeJob", code="NoSuchJob", status=404, times=2))
    assert archive.client().run().outcome == "complete"
    assert fault.fired == 2
    archive.judge()
    archive.judge_jobs()


def test_a_session_that_is_stopped_leaves_its_job_at_work(archive, capsys):
    archive.aws.batch.hold(after=5)
    client = archive.client()
    client.subscribe(lambda record: record.event.copied and client.stop("enough"), kinds=[ev.CopyJobProgressed])
    summary = client.run()
    assert (summary.outcome, summary.copy_jobs) == ("interrupted", 1)
    assert "1 copy job goes on in S3" in "\n".join(text for text, _ in ending(summary))
    assert main(["status", str(archive.root / "journal"), "--json"]) == 0
    [job] = json.loads(capsys.readouterr().out)["copy_jobs"]
    assert (job["status"], job["copied"], job["total"]) == ("Active", 5, len(archive.files))
    assert main(["status", str(archive.root / "journal")]) == 0
    assert f"copy job {job['job_id']}: Active, 5 of 24 copied" in capsys.readouterr().out
    archive.aws.batch.release()
    resumed = archive.resumed(settings=archive.settings)
    assert resumed.run().outcome == "complete"
    archive.judge(sessions=2)
    archive.judge_jobs()


def test_its_report_shows_throughput_states_and_the_slowest_files(archive, capsys):
    """Story 20: what is copied by jobs and what is copied beside them is one delivery."""
    large = archive.enlarge(5)
    ports = archive.ports()
    ports.dispatcher._object_max = 1024
    assert archive.client(ports=ports).run().outcome == "complete"
    archive.judge()
    archive.judge_jobs(alone=[large])
    page, receipt = archive.root / "report.html", archive.root / "report.receipt.ndjson"
    assert main(["report", str(archive.root / "journal"), "-o", str(page)]) == 0
    assert "24 of 24 files valid" in capsys.readouterr().out
    text = page.read_text()
    assert all(title in text for title in ("How fast it went", "The slowest", "Bytes per second"))
    assert sum(path in text for path in archive.files) >= 10
    assert "the copy job is" in text
    assert len(receipt.read_text().splitlines()) >= len(archive.files)


# --- killed ----------------------------------------------------------------------------------------


class Host:
    """The client in a process of its own."""

    def __init__(self, archive):
        self.archive = archive
        (archive.root / "index.json").write_text(json.dumps(archive.index()))

    def start(self):
        arguments = [f"{name}={value}" for name, value in self.archive.settings.items()]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.adapters.aws.batch_host", str(self.archive.root), *arguments],
            env=os.environ | self.archive.aws.environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def killed_when(self, wanted):
        """Start it, and kill it once that is so."""
        process = self.start()
        deadline = time.monotonic() + 60
        while not wanted():
            assert process.poll() is None, process.communicate()
            if time.monotonic() > deadline:
                process.kill()
                raise AssertionError(
                    f"it never came to that: {self.archive.events(ev.Event)[-8:]}, {self.archive.jobs}"
                )
            time.sleep(0.01)
        process.kill()
        process.communicate()

    def finish(self):
        output, errors = self.start().communicate(timeout=120)
        assert output, errors
        return json.loads(output)


@pytest.mark.slow
@pytest.mark.promise("R6")
def test_killed_before_during_and_after_its_job_nothing_is_asked_for_copied_or_told_twice(archive, aws, figure):
    """Five kills: the list is out, the job is asked for (its answer late), it is at work, it is over, its copies are checked."""
    host = Host(archive)
    late = aws.order(Fault("late", "CreateJob", seconds=1.5))
    aws.batch.hold()
    host.killed_when(lambda: [e for e in aws.log("PutObject") if e.bucket == "jobs"])
    host.killed_when(lambda: archive.jobs)
    assert late.times == 0 or archive.jobs
    aws.batch.hold(after=7)
    host.killed_when(lambda: any(event.copied for event in archive.events(ev.CopyJobProgressed)))
    aws.batch.release()
    aws.order(Fault("late", "HeadObject", bucket=archive.transfer_bucket, seconds=0.3, times=0))
    host.killed_when(lambda: [e for e in aws.log("GetObject") if e.bucket == "jobs"])
    host.killed_when(lambda: archive.events(ev.TransferCompleted))
    assert host.finish() == {"outcome": "complete", "code": 0, "retries": 0}
    archive.judge(sessions=len(archive.sessions))
    archive.judge_jobs()
    assert sum(archive.copies().values()) == len(archive.files)
    told = Counter(path for told in archive.told() for path in told)
    assert max(told.values()) <= len(archive.sessions)
    figure(5, "kills while a job of S3 Batch Operations is at work")
