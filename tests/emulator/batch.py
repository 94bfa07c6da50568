"""S3 Batch Operations: jobs that copy the objects of a list, as far as a delivery uses them.

From the S3 User Guide: "Specifying a manifest", "Copy objects" (5 GiB, one source bucket, one destination), "Tracking job
status and completion reports" (statuses, the failure threshold of 1,000 tasks and 50 %, reports only where a task ran),
"Examples: S3 Batch Operations completion reports", "Using Batch Operations with directory buckets"; and from the S3 Control
API: CreateJob, DescribeJob, ListJobs, UpdateJobStatus; "Troubleshooting S3 Batch Operations" names some errors. Chosen here,
since not documented: HTTP statuses of errors, most codes of a job's failure, and that ListJobs begins with the newest.
"""

import csv
import hashlib
import io
import json
import threading
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from tests.emulator.credentials import Keyring
from tests.emulator.objects import Condition, ObjectStore, precondition_failed
from tests.emulator.payload import checksum, known_algorithm
from tests.emulator.settings import Settings
from tests.emulator.wire import (
    Handler,
    Request,
    Response,
    ServiceError,
    element,
    iso_date,
    text,
    texts,
    xml_response,
)

PATH: Final = "/v20180820/jobs"
MANIFEST: Final = "S3BatchOperations_CSV_20180820"
REPORT: Final = "Report_CSV_20180820"
SCHEMA: Final = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
OVER: Final = frozenset({"Complete", "Cancelled", "Failed"})
ARN: Final = "arn:aws:s3:::"
COPY_FIELDS: Final = frozenset(
    {"TargetResource", "TargetKeyPrefix", "ChecksumAlgorithm", "UnModifiedSinceConstraint", "NewObjectTagging"}
)
JOB_FIELDS: Final = frozenset(
    {
        *("ConfirmationRequired", "Operation", "Report", "ClientRequestToken", "Manifest", "Description", "Priority"),
        "RoleArn",
    }
)


@attrs.frozen
class Task:
    """One row of the manifest, as it stands there."""

    bucket: str
    key: str


@attrs.frozen
class Result:
    """What became of a task."""

    task: Task
    status: int = 200
    code: str = ""
    message: str = "Successful"

    @property
    def succeeded(self) -> bool:
        return not self.code


@attrs.define
class Job:
    """A job as it stands."""

    job_id: str
    asked: Mapping[str, Any]
    created: float
    status: str = "New"
    tasks: list[Task] = attrs.field(factory=list)
    results: list[Result] = attrs.field(factory=list)
    copied: list[str] = attrs.field(factory=list)
    """Keys in the destination, as often as they were written."""
    reason: tuple[str, str] | None = None
    update_reason: str = ""
    wanted: str = ""
    """What a person asked for: `Ready` or `Cancelled`."""
    ended: float = 0.0

    @property
    def failed(self) -> int:
        return sum(not result.succeeded for result in self.results)


class BatchOperations:
    """All jobs; each runs on a thread of its own. A test may hold them, and say which tasks fail."""

    def __init__(self, settings: Settings, store: ObjectStore, keyring: Keyring) -> None:
        self._settings, self._store, self._keyring = settings, store, keyring
        self.jobs: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._left: int | None = None
        """Tasks that may still begin; None is no limit."""
        self._failing: dict[str, tuple[str, int]] = {}
        self._refused_roles: set[str] = set()
        self.damaged: set[str] = set()
        """Keys of which the copy holds other bytes."""
        self._generation = 0

    def handlers(self) -> dict[str, Handler]:
        return {
            "CreateJob": self.create,
            "DescribeJob": self.describe,
            "ListJobs": self.list_jobs,
            "UpdateJobStatus": self.update,
        }

    # --- what a test says ---------------------------------------------------------------------------

    def hold(self, after: int = 0) -> None:
        """Let so many more tasks run, and then none until `release`."""
        with self._changed:
            self._left = after
            self._changed.notify_all()

    def release(self) -> None:
        with self._changed:
            self._left = None
            self._changed.notify_all()

    def fail(self, key: str, code: str, status: int) -> None:
        """Have the task of this object fail."""
        self._failing[key] = (code, status)

    def refuse_manifest(self, role: str) -> None:
        """A role of that name may not read manifests."""
        self._refused_roles.add(role)

    def reset(self) -> None:
        """Forget all; what still runs ends."""
        with self._changed:
            self._generation += 1
            self.jobs.clear()
            self._failing.clear()
            self._refused_roles.clear()
            self.damaged.clear()
            self._left = None
            self._changed.notify_all()

    # --- requests -----------------------------------------------------------------------------------

    @staticmethod
    def address(request: Request) -> None:
        """Find out which operation a request is for."""
        rest = [part for part in request.path.removeprefix(PATH).split("/") if part]
        request.service, request.key = "s3control", rest[0] if rest else ""
        match request.method, len(rest), rest[1:]:
            case "POST", 0, _:
                request.operation = "CreateJob"
            case "GET", 0, _:
                request.operation = "ListJobs"
            case "GET", 1, _:
                request.operation = "DescribeJob"
            case "POST", 2, ["status"]:
                request.operation = "UpdateJobStatus"
            case _:
                request.operation = "Unknown"

    def _admit(self, request: Request) -> None:
        self._keyring.principal(request)
        account = request.headers.get("x-amz-account-id", "")
        if account != self._settings.account:
            raise ServiceError(403, "AccessDenied", f"no such account: {account!r}")

    def _job(self, request: Request) -> Job:
        found = self.jobs.get(request.key)
        if found is None:
            raise ServiceError(404, "NoSuchJob", "The specified job does not exist.")
        return found

    def create(self, request: Request) -> Response:
        self._admit(request)
        asked = _tree(request.body)
        self._demand_known(asked)
        with self._changed:
            for job in self.jobs.values():
                if job.asked["ClientRequestToken"] == asked["ClientRequestToken"]:
                    if job.asked != asked:
                        raise ServiceError(400, "IdempotencyException", "the token was used with other parameters")
                    return xml_response("CreateJobResult", text("JobId", job.job_id))
            job = Job(str(uuid.uuid4()), asked, self._settings.now())
            self.jobs[job.job_id] = job
            threading.Thread(target=self._run, args=(job, self._generation), daemon=True, name="batch").start()
        return xml_response("CreateJobResult", text("JobId", job.job_id))

    def _demand_known(self, asked: dict[str, Any]) -> None:
        """Raises for what is missing, wrong, or nothing that this emulator does."""
        if unknown := set(asked) - JOB_FIELDS:
            raise ServiceError(501, "NotImplemented", f"unknown here: {sorted(unknown)}")
        for name in ("ClientRequestToken", "Operation", "Report", "Manifest", "Priority", "RoleArn"):
            if not asked.get(name):
                raise ServiceError(400, "InvalidRequest", f"{name} is missing")
        if not 1 <= len(asked["ClientRequestToken"]) <= 64 or len(asked.get("Description", "")) > 256:
            raise ServiceError(400, "InvalidRequest", "token or description is too long")
        if not asked["RoleArn"].startswith(f"arn:aws:iam::{self._settings.account}:role/"):
            raise ServiceError(403, "AccessDenied", "the role is another account's, and cannot be passed")
        [(operation, copy)] = asked["Operation"].items()
        if operation != "S3PutObjectCopy" or set(copy) - COPY_FIELDS or copy.get("NewObjectTagging"):
            raise ServiceError(501, "NotImplemented", f"unknown here: {operation} {copy}")
        report, spec = asked["Report"], asked["Manifest"]["Spec"]
        for name, bucket in (("report", report["Bucket"]), ("manifest", asked["Manifest"]["Location"]["ObjectArn"])):
            if bucket.removeprefix(ARN).partition("/")[0].endswith("--x-s3"):
                raise ServiceError(400, "InvalidRequest", f"a {name} cannot lie in a directory bucket")
        if report.get("Enabled") != "true" or report.get("Format") != REPORT or report.get("ReportScope") != "AllTasks":
            raise ServiceError(501, "NotImplemented", f"unknown here: {report}")
        if spec.get("Format") != MANIFEST or spec.get("Fields") != ["Bucket", "Key"]:
            raise ServiceError(501, "NotImplemented", f"unknown here: {spec}")

    def describe(self, request: Request) -> Response:
        self._admit(request)
        with self._changed:
            return xml_response("DescribeJobResult", element("Job", self._described(self._job(request))))

    def _described(self, job: Job) -> str:
        reasons = ""
        if job.reason is not None:
            code, why = job.reason
            reasons = element(
                "FailureReasons", element("member", text("FailureCode", code), text("FailureReason", why))
            )
        return (
            self._listed(job)
            + texts([("RoleArn", job.asked["RoleArn"]), ("StatusUpdateReason", job.update_reason)])
            + reasons
        )

    def _listed(self, job: Job) -> str:
        counts = (
            ("TotalNumberOfTasks", len(job.tasks)),
            ("NumberOfTasksSucceeded", len(job.results) - job.failed),
            ("NumberOfTasksFailed", job.failed),
        )
        return texts(
            [
                ("JobId", job.job_id),
                ("Description", job.asked.get("Description", "")),
                ("Priority", job.asked["Priority"]),
                ("Status", job.status),
                ("CreationTime", iso_date(job.created)),
                ("TerminationDate", iso_date(job.ended) if job.ended else ""),
            ]
        ) + element("ProgressSummary", *(text(name, count) for name, count in counts))

    def list_jobs(self, request: Request) -> Response:
        self._admit(request)
        with self._changed:
            found = list(reversed(self.jobs.values()))
            if "jobStatuses" in request.query:  # of several only the last would count: nobody asks for several here
                found = [job for job in found if job.status == request.query["jobStatuses"]]
            first, count = int(request.query.get("nextToken", 0)), int(request.query.get("maxResults", 1000))
            page = "".join(element("member", self._listed(job)) for job in found[first : first + count])
            more = str(first + count) if len(found) > first + count else ""
            return xml_response("ListJobsResult", texts([("NextToken", more)]), element("Jobs", page))

    def update(self, request: Request) -> Response:
        self._admit(request)
        wanted = request.query.get("requestedJobStatus", "")
        with self._changed:
            job = self._job(request)
            allowed = {"Ready": job.status == "Suspended", "Cancelled": job.status not in OVER}
            if not allowed.get(wanted):
                raise ServiceError(400, "JobStatusException", f"a job that is {job.status} cannot become {wanted!r}")
            job.wanted, job.update_reason = wanted, request.query.get("statusUpdateReason", "")
            if wanted == "Cancelled":
                job.status = "Cancelling"
            self._changed.notify_all()
            return xml_response("UpdateJobStatusResult", texts([("JobId", job.job_id), ("Status", job.status)]))

    # --- a job's life -------------------------------------------------------------------------------

    def _run(self, job: Job, generation: int) -> None:
        try:
            self._move(job, "Preparing")
            if not self._prepare(job):
                self._end(job, "Failed")
                return
            if job.asked.get("ConfirmationRequired") == "true":
                self._move(job, "Suspended")
                with self._changed:
                    self._changed.wait_for(lambda: job.wanted or generation != self._generation)
            self._move(job, "Ready")
            self._move(job, "Active")
            for task in job.tasks:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._left != 0 or job.wanted == "Cancelled" or generation != self._generation
                    )
                    if generation != self._generation or job.wanted == "Cancelled":
                        break
                    if self._left:
                        self._left -= 1
                    result = self._copy(job, task)
                    job.results.append(result)
                    if len(job.results) >= self._settings.batch_threshold_tasks and 2 * job.failed > len(job.results):
                        job.reason = ("JobFailed", "the failure rate of its tasks exceeded 50 %")
                        break
            if generation != self._generation:
                return
            self._move(job, "Failing" if job.reason else "Completing")
            self._report(job)
            self._end(job, "Failed" if job.reason else "Cancelled" if job.wanted == "Cancelled" else "Complete")
        except ServiceError as error:  # a bucket that is gone
            job.reason = (error.code, error.message)
            self._end(job, "Failed")

    def _move(self, job: Job, status: str) -> None:
        with self._changed:
            if job.wanted != "Cancelled":
                job.status = status

    def _end(self, job: Job, status: str) -> None:
        with self._changed:
            job.status, job.ended = status, self._settings.now()

    def _prepare(self, job: Job) -> bool:
        """Read the manifest; False, with the reason, for one that cannot be used."""
        location = job.asked["Manifest"]["Location"]
        bucket, _, key = location["ObjectArn"].removeprefix(ARN).partition("/")
        role = job.asked["RoleArn"].rpartition("/")[2]
        with self._store.lock:
            found = self._store.bucket(bucket).objects.get(key) if bucket in self._store.buckets else None
        if found is None or role in self._refused_roles:
            job.reason = ("AccessDenied", "the manifest cannot be read by the job's role")
        elif found.etag != location["ETag"]:
            job.reason = ("ManifestChanged", "the manifest has another ETag")
        else:
            try:
                rows = list(csv.reader(io.StringIO(found.data.decode(), newline=""), strict=True))
            except (UnicodeDecodeError, csv.Error):
                rows = []
            if any(len(row) != 2 for row in rows) or len({row[0] for row in rows}) > 1 or not rows:
                job.reason = ("InvalidManifestContent", "a row of the manifest cannot be used")
            job.tasks = [Task(row[0], row[1]) for row in rows if len(row) == 2]
        return job.reason is None

    def _copy(self, job: Job, task: Task) -> Result:
        copy = job.asked["Operation"]["S3PutObjectCopy"]
        key = urllib.parse.unquote(task.key)
        if (ordered := self._failing.get(key)) is not None:
            return Result(task, ordered[1], ordered[0], "ordered by a test")
        target = copy["TargetResource"].removeprefix(ARN)
        prefix = f"{copy['TargetKeyPrefix']}/" if copy.get("TargetKeyPrefix") else ""
        algorithm = known_algorithm(copy["ChecksumAlgorithm"]) if copy.get("ChecksumAlgorithm") else None
        try:
            with self._store.lock:
                found = self._store.bucket(task.bucket).object(key)
                if len(found.data) > self._settings.batch_object_max:
                    raise ServiceError(
                        400, "InvalidRequest", "The specified copy source is larger than the maximum size"
                    )
                until = copy.get("UnModifiedSinceConstraint")
                if until and int(found.modified) > datetime.fromisoformat(until.replace("Z", "+00:00")).timestamp():
                    raise precondition_failed()
                self._store.copy(found, target, prefix + key, Condition(), algorithm=algorithm, metadata=None)
                if key in self.damaged:
                    other = bytes(len(found.data))
                    sums = {"CRC32": checksum("CRC32", other)}
                    self._store.put(target, prefix + key, other, Condition(), checksums=sums, metadata={})
        except ServiceError as error:
            return Result(task, error.status, error.code, error.message)
        job.copied.append(prefix + key)
        return Result(task)

    def _report(self, job: Job) -> None:
        """Only where a task ran."""
        if not job.results:
            return
        report = job.asked["Report"]
        bucket, prefix = report["Bucket"].removeprefix(ARN), report.get("Prefix", "")
        root = f"{prefix}/job-{job.job_id}" if prefix else f"job-{job.job_id}"
        listing = []
        for outcome in ("succeeded", "failed"):
            rows = [result for result in job.results if result.succeeded == (outcome == "succeeded")]
            for first in range(0, len(rows), self._settings.batch_report_rows):
                data = "".join(self._rows(rows[first : first + self._settings.batch_report_rows])).encode()
                key = f"{root}/results/{hashlib.sha1(data, usedforsecurity=False).hexdigest()}.csv"
                self._store.put(bucket, key, data, Condition(), checksums={}, metadata={})
                digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
                listing.append({"TaskExecutionStatus": outcome, "Bucket": bucket, "MD5Checksum": digest, "Key": key})
        said = {
            "Format": REPORT,
            "ReportCreationDate": iso_date(self._settings.now()),
            "Results": listing,
            "ReportSchema": SCHEMA,
        }
        whole = json.dumps(said).encode()
        self._store.put(bucket, f"{root}/manifest.json", whole, Condition(), checksums={}, metadata={})

    def _rows(self, results: list[Result]) -> Iterator[str]:
        """As the examples show them, which name the status before the code, unlike the schema."""
        for result in results:
            written = io.StringIO(newline="")
            outcome = "succeeded" if result.succeeded else "failed"
            pair = [str(result.status), result.code]
            if not self._settings.batch_status_first:
                pair.reverse()
            csv.writer(written).writerow([result.task.bucket, result.task.key, "", outcome, *pair, result.message])
            yield written.getvalue()


def _tree(body: bytes) -> dict[str, Any]:
    """XML as dictionaries; what holds `member`s is a list."""

    def value(node: ET.Element) -> Any:
        children = list(node)
        if not children:
            return node.text or ""
        if all(_name(child) == "member" for child in children):
            return [value(child) for child in children]
        return {_name(child): value(child) for child in children}

    try:
        found = value(ET.fromstring(body))
    except ET.ParseError as error:
        raise ServiceError(400, "MalformedXML", str(error)) from error
    return found if isinstance(found, dict) else {}


def _name(node: ET.Element) -> str:
    return node.tag.rpartition("}")[2]
