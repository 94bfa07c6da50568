"""S3 Batch Operations as they are asked: manifest, job, status, end (S3 User Guide, "Performing object operations in bulk").

Rule: a job is asked for under its token, with parameters that follow from what the journal holds; asking again gives the
same job. One that was taken already is looked for first, since nothing says for how long S3 remembers tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import attrs
from botocore.config import Config

from upload_adapters.aws.bucket import Place, patiently
from upload_adapters.aws.errors import AwsError, AwsIdentityError, AwsPreconditionFailedError, translated
from upload_adapters.aws.portable import is_own
from upload_core.jobs import CopyJob
from upload_core.text import printable

DESCRIPTION: Final = "upload-core {token}"
"""By which a job is found among those of the account."""
LISTED_MAX: Final = 20
"""Pages of a thousand jobs that are looked through for one: the newest come first."""
MANIFEST_FORMAT: Final = "S3BatchOperations_CSV_20180820"
REPORT_FORMAT: Final = "Report_CSV_20180820"


NOT_KNOWN: Final = frozenset({"NoSuchJob", "NoSuchJobException", "NotFoundException"})
"""What S3 calls a job that it does not know (S3 User Guide, "Troubleshooting S3 Batch Operations", and the API's model)."""


class Phase(Enum):
    """What a job's status means for whoever waits for it."""

    GOING = "going on"
    HELD = "waits for somebody in AWS"
    DONE = "over, with a report of every task that ran"
    BROKEN = "over; a report is there if any task ran"


class Status(NamedTuple):
    """One row of the table of statuses."""

    phase: Phase
    meaning: str


STATUSES: Final[Mapping[str, Status]] = {
    "New": Status(Phase.GOING, "S3 has taken the job"),
    "Preparing": Status(Phase.GOING, "S3 reads the manifest"),
    "Suspended": Status(Phase.HELD, "somebody has to confirm it in the S3 console"),
    "Ready": Status(Phase.GOING, "other jobs of the account go first"),
    "Active": Status(Phase.GOING, "S3 copies"),
    "Pausing": Status(Phase.GOING, "a job of higher priority takes its place"),
    "Paused": Status(Phase.GOING, "it waits for a job of higher priority"),
    "Completing": Status(Phase.GOING, "S3 writes the report"),
    "Complete": Status(Phase.DONE, "all tasks ran"),
    "Cancelling": Status(Phase.GOING, "it was cancelled, and ends"),
    "Cancelled": Status(Phase.BROKEN, "it was cancelled"),
    "Failing": Status(Phase.GOING, "too many tasks failed, or it cannot run, and it ends"),
    "Failed": Status(Phase.BROKEN, "too many tasks failed, or it could not run"),
}
"""Status of a job -> what it means (S3 User Guide, "Tracking job status and completion reports")."""

UNKNOWN: Final = Status(Phase.GOING, "a status that this release does not know")


@attrs.frozen
class Progress:
    """A job as S3 describes it."""

    status: str
    copied: int
    failed: int
    total: int
    reasons: str = ""

    @property
    def phase(self) -> Phase:
        """What that means for whoever waits."""
        return STATUSES.get(self.status, UNKNOWN).phase


class BatchJobs(Protocol):
    """What a dispatcher needs of S3 Batch Operations; each method raises AWS's errors in our words."""

    def write_manifest(self, job: CopyJob, keys: Iterable[str]) -> str:
        """Put the list of objects unless it is there already; returns its etag."""

    def find(self, job: CopyJob) -> str | None:
        """The id of the job that was asked for under this token, if it can be found."""

    def create(self, job: CopyJob, etag: str) -> str:
        """Ask for the job; returns its id, which is the same whenever it is asked for again."""

    def describe(self, job_id: str) -> Progress | None:
        """How far it is; None if S3 does not know it: not yet, or 90 days after its end not any more."""

    def cancel(self, job_id: str, why: str) -> None:
        """Have it begin nothing more; one that is over is left alone."""

    def report_place(self, job_id: str) -> tuple[str, str]:
        """Bucket and key of the job's report: of its own list of files."""

    def read_text(self, bucket: str, key: str) -> Iterator[str] | None:
        """The lines of an object, None if there is none."""


@attrs.frozen
class BatchSettings:
    """How jobs are to be made; `role` is the ARN of the role that S3 takes on for them."""

    role: str
    bucket: str
    prefix: str
    priority: int
    objects_max: int

    @property
    def account(self) -> str:
        """The account that the jobs belong to: the role's, which only that account can hand to S3."""
        return self.role.split(":")[4]

    @property
    def partition(self) -> str:
        """`aws`, or that of a region apart."""
        return self.role.split(":")[1]


def control_client(session: Callable[[str, Config], Any], account: str) -> Any:
    """The client for S3 Control, made by `session(service, config)`.

    An endpoint that is not AWS's own has no names of its own for accounts: the account's id is left out there.
    """
    config = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5})
    client = session("s3control", config)
    if not is_own(client.meta.endpoint_url):

        def without_account(params: dict[str, Any], **_: Any) -> None:
            params["url"] = params["url"].replace(f"//{account}.", "//", 1)

        client.meta.events.register("before-call.s3-control", without_account)
    return client


class S3BatchJobs:
    """Jobs that copy objects of one bucket into another under the same keys; safe to use by many threads."""

    def __init__(
        self, settings: BatchSettings, connect: Callable[[], Any], place: Place, *, source: str, target: Place
    ) -> None:
        """`connect` makes the client for S3 Control, `place` gives the bucket of manifests and reports, `target` the
        bucket that is copied to, `source` is the name of the bucket copied from.
        """
        self._settings = settings
        self._client = functools.cache(connect)
        self._place = place
        self._source = source
        self._target = target

    def manifest_key(self, job: CopyJob) -> str:
        """Where the job's manifest lies."""
        return f"{self._settings.prefix}/manifests/{job.token}.csv"

    def write_manifest(self, job: CopyJob, keys: Iterable[str]) -> str:
        """One row per object, its key URL-encoded (S3 User Guide, "Specifying a manifest")."""
        bucket, key = self._place(), self.manifest_key(job)
        body = "".join(f"{self._source},{quote(name)}\n" for name in keys).encode()

        def put() -> str:
            try:
                with translated(f"writing the manifest s3://{bucket.name}/{key}"):
                    answer = bucket.once.put_object(Bucket=bucket.name, Key=key, Body=body, IfNoneMatch="*")
            except AwsPreconditionFailedError:
                with translated(f"looking at the manifest s3://{bucket.name}/{key}"):
                    answer = bucket.calls.head_object(Bucket=bucket.name, Key=key)
            return str(answer["ETag"])

        return patiently(put)

    def find(self, job: CopyJob) -> str | None:
        wanted, more = DESCRIPTION.format(token=job.token), dict[str, str]()
        try:
            for _ in range(LISTED_MAX):
                with translated("listing the jobs of S3 Batch Operations"):
                    answer = self._client().list_jobs(AccountId=self._settings.account, MaxResults=1000, **more)
                for found in answer.get("Jobs", ()):
                    if found.get("Description") == wanted:
                        return str(found["JobId"])
                if not answer.get("NextToken"):
                    break
                more = {"NextToken": answer["NextToken"]}
        except AwsIdentityError:  # who may not list jobs relies on the token alone
            return None
        return None

    def create(self, job: CopyJob, etag: str) -> str:
        settings, arn = self._settings, f"arn:{self._settings.partition}:s3:::"
        with translated("asking S3 Batch Operations for a job"):
            answer = self._client().create_job(
                AccountId=settings.account,
                ConfirmationRequired=False,
                ClientRequestToken=job.token,
                Description=DESCRIPTION.format(token=job.token),
                Priority=settings.priority,
                RoleArn=settings.role,
                Operation={
                    "S3PutObjectCopy": {
                        "TargetResource": f"{arn}{self._target().name}",
                        "ChecksumAlgorithm": "CRC32",
                        "UnModifiedSinceConstraint": datetime.fromtimestamp(job.unmodified_since, UTC),
                        # the bytes alone are copied: tags would need further permissions, and mean nothing there
                        "NewObjectTagging": [],
                    }
                },
                Manifest={
                    "Spec": {"Format": MANIFEST_FORMAT, "Fields": ["Bucket", "Key"]},
                    "Location": {"ObjectArn": f"{arn}{self._place().name}/{self.manifest_key(job)}", "ETag": etag},
                },
                Report={
                    "Bucket": f"{arn}{self._place().name}",
                    "Prefix": settings.prefix,
                    "Format": REPORT_FORMAT,
                    "Enabled": True,
                    "ReportScope": "AllTasks",
                },
            )
        return str(answer["JobId"])

    def describe(self, job_id: str) -> Progress | None:
        try:
            with translated(f"looking at the job {job_id}"):
                answer = self._client().describe_job(AccountId=self._settings.account, JobId=job_id)["Job"]
        except AwsError as error:
            if error.code in NOT_KNOWN:
                return None
            raise
        counts = answer.get("ProgressSummary") or {}
        reasons = (
            f"{r.get('FailureCode', '')}: {r.get('FailureReason', '')}" for r in answer.get("FailureReasons") or ()
        )
        return Progress(
            str(answer["Status"]),
            int(counts.get("NumberOfTasksSucceeded", 0)),
            int(counts.get("NumberOfTasksFailed", 0)),
            int(counts.get("TotalNumberOfTasks", 0)),
            printable("; ".join(reasons), 500),
        )

    def cancel(self, job_id: str, why: str) -> None:
        with suppress(AwsError), translated(f"cancelling the job {job_id}"):
            self._client().update_job_status(
                AccountId=self._settings.account,
                JobId=job_id,
                RequestedJobStatus="Cancelled",
                StatusUpdateReason=why[:256],
            )

    def report_place(self, job_id: str) -> tuple[str, str]:
        return self._place().name, f"{self._settings.prefix}/job-{job_id}/manifest.json"

    def read_text(self, bucket: str, key: str) -> Iterator[str] | None:
        place = self._place()
        try:
            with translated(f"reading s3://{bucket}/{key}"):
                answer = place.calls.get_object(Bucket=bucket, Key=key)
        except AwsError as error:
            if error.code == "NoSuchKey":
                return None
            raise
        return _lines(answer["Body"], f"reading s3://{bucket}/{key}")


def _lines(body: Any, doing: str) -> Iterator[str]:
    with translated(doing):
        for line in body.iter_lines(1 << 16, keepends=True):
            yield line.decode("utf-8")
