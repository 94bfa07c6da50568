"""What the emulator claims of S3 Batch Operations, each rule driven through boto3."""

import csv
import io
import json
import time
from datetime import UTC, datetime

import attrs
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.emulator import Emulator, Fault
from tests.emulator.batch import OVER
from upload_adapters.aws.batch_jobs import control_client

ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/copies"
KEYS = [f"dir/file {number}.txt" for number in range(6)]


@pytest.fixture(scope="module")
def server():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def aws(server):
    server.reset()
    for name in ("source", "target", "jobs", "fast--use1-az4--x-s3"):
        server.store.create_bucket(name)
    for key in KEYS:
        server.place("source", key, key.encode())
    return server


@pytest.fixture(scope="module")
def client(server):
    session = boto3.Session("AKIATEST", "secret", region_name="us-east-1")
    return control_client(lambda name, config: session.client(name, endpoint_url=server.url, config=config), ACCOUNT)


def manifest(aws, rows=None):
    body = rows if rows is not None else "".join(f"source,{key.replace(' ', '%20')}\n" for key in KEYS)
    aws.place("jobs", "list.csv", body.encode())
    return aws.object("jobs", "list.csv").etag


def request(aws, *, token="token", etag=None, **changes):
    copy = {"TargetResource": "arn:aws:s3:::target", "ChecksumAlgorithm": "CRC32", **changes.pop("copy", {})}
    return {
        "AccountId": ACCOUNT,
        "ConfirmationRequired": False,
        "ClientRequestToken": token,
        "Priority": 1,
        "RoleArn": ROLE,
        "Description": "words",
        "Operation": {"S3PutObjectCopy": copy},
        "Manifest": {
            "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]},
            "Location": {"ObjectArn": "arn:aws:s3:::jobs/list.csv", "ETag": etag or manifest(aws)},
        },
        "Report": {
            "Bucket": "arn:aws:s3:::jobs",
            "Prefix": "here",
            "Format": "Report_CSV_20180820",
            "Enabled": True,
            "ReportScope": "AllTasks",
        },
        **changes,
    }


def described(client, job_id):
    return client.describe_job(AccountId=ACCOUNT, JobId=job_id)["Job"]


def until(client, job_id, *statuses):
    found = None
    for _ in range(500):
        found = described(client, job_id)
        if found["Status"] in (statuses or OVER):
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def report(aws, job_id):
    found = aws.object("jobs", f"here/job-{job_id}/manifest.json")
    if found is None:
        return None
    rows: list[list[str]] = []
    for part in json.loads(found.data)["Results"]:
        rows += csv.reader(io.StringIO(aws.object(part["Bucket"], part["Key"]).data.decode(), newline=""))
    return rows


def refusal(call, *args, **kwargs):
    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    return caught.value.response["Error"]["Code"]


def test_a_job_copies_each_object_of_its_list_under_its_key_with_the_checksum_asked_for(aws, client):
    job_id = client.create_job(**request(aws))["JobId"]
    found = until(client, job_id)
    assert found["Status"] == "Complete"
    assert found["ProgressSummary"] == {
        "TotalNumberOfTasks": 6,
        "NumberOfTasksSucceeded": 6,
        "NumberOfTasksFailed": 0,
    } | {key: value for key, value in found["ProgressSummary"].items() if key == "Timers"}
    for key in KEYS:
        copy = aws.object("target", key)
        assert copy.data == key.encode()
        assert (copy.checksum.algorithm, copy.checksum.kind) == ("CRC32", "FULL_OBJECT")


def test_a_prefix_is_a_folder_that_copies_go_to(aws, client):
    until(client, client.create_job(**request(aws, copy={"TargetKeyPrefix": "new"}))["JobId"])
    assert aws.object("target", f"new/{KEYS[0]}") is not None


def test_the_same_token_is_the_same_job_and_with_other_parameters_none(aws, client):
    asked = request(aws)
    first = client.create_job(**asked)["JobId"]
    assert client.create_job(**asked)["JobId"] == first
    assert refusal(client.create_job, **asked | {"Priority": 2}) == "IdempotencyException"
    assert client.create_job(**asked | {"ClientRequestToken": "another"})["JobId"] != first


def test_a_lost_answer_is_a_job_all_the_same(aws, client):
    aws.order(Fault("lost", "CreateJob"))
    client.create_job(**request(aws))
    assert len(aws.batch.jobs) == 1


@pytest.mark.parametrize("status_first", [True, False])
def test_a_report_has_a_row_for_each_task_with_keys_as_in_the_list(aws, client, status_first):
    aws.settings.batch_status_first = status_first
    aws.settings.batch_report_rows = 2
    aws.batch.fail(KEYS[1], "SlowDown", 503)
    job_id = client.create_job(**request(aws))["JobId"]
    until(client, job_id)
    rows = report(aws, job_id)
    assert sorted(row[1] for row in rows) == sorted(key.replace(" ", "%20") for key in KEYS)
    [failed] = [row for row in rows if row[3] == "failed"]
    pair = ["503", "SlowDown"]
    assert failed[4:6] == (pair if status_first else pair[::-1])
    names = [key for key in aws.store.buckets["jobs"].objects if "/results/" in key]
    assert len(names) == 4, "no file has more rows than it may"


def test_what_was_written_after_the_time_named_is_not_copied(aws, client):
    objects = aws.store.buckets["source"].objects
    for key in KEYS[1:]:
        objects[key] = attrs.evolve(objects[key], modified=aws.settings.now() - 100)
    until_time = datetime.fromtimestamp(int(aws.settings.now()) - 50, UTC)
    job_id = client.create_job(**request(aws, copy={"UnModifiedSinceConstraint": until_time}))["JobId"]
    assert until(client, job_id)["ProgressSummary"]["NumberOfTasksFailed"] == 1
    assert [row[1] for row in report(aws, job_id) if "412" in row] == [KEYS[0].replace(" ", "%20")]
    assert aws.object("target", KEYS[0]) is None


def test_an_object_that_is_missing_or_too_large_fails_alone(aws, client):
    del aws.store.buckets["source"].objects[KEYS[0]]
    aws.settings.batch_object_max = 20
    aws.place("source", KEYS[1], bytes(21))
    job_id = client.create_job(**request(aws))["JobId"]
    assert until(client, job_id)["Status"] == "Complete"
    assert {tuple(row[4:6]) for row in report(aws, job_id) if row[3] == "failed"} == {
        ("404", "NoSuchKey"),
        ("400", "InvalidRequest"),
    }


def test_a_job_of_which_more_than_half_fails_ends_once_enough_tasks_ran(aws, client):
    aws.settings.batch_threshold_tasks = 4
    for key in KEYS[:3]:
        aws.batch.fail(key, "AccessDenied", 403)
    job_id = client.create_job(**request(aws))["JobId"]
    found = until(client, job_id)
    assert found["Status"] == "Failed"
    assert "50 %" in found["FailureReasons"][0]["FailureReason"]
    assert len(report(aws, job_id)) == 4, "those that ran are reported, the others never ran"


@pytest.mark.parametrize(
    "rows", ["source\n", "source,a\nother,b\n", "", 'source,"a\n'], ids=["columns", "two buckets", "no rows", "a quote"]
)
def test_a_list_that_cannot_be_used_fails_the_job_without_a_report(aws, client, rows):
    job_id = client.create_job(**request(aws, etag=manifest(aws, rows)))["JobId"]
    assert until(client, job_id)["Status"] == "Failed"
    assert report(aws, job_id) is None


def test_a_list_that_changed_or_that_the_role_may_not_read_fails_the_job(aws, client):
    changed = client.create_job(**request(aws, etag='"another"'))["JobId"]
    assert until(client, changed)["FailureReasons"]
    aws.batch.refuse_manifest("copies")
    refused = client.create_job(**request(aws, token="second"))["JobId"]
    assert until(client, refused)["FailureReasons"][0]["FailureCode"] == "AccessDenied"


def test_a_job_goes_through_its_statuses_and_is_cancelled_with_a_report_of_what_ran(aws, client):
    aws.batch.hold(after=2)
    job_id = client.create_job(**request(aws))["JobId"]
    until(client, job_id, "Active")
    while described(client, job_id)["ProgressSummary"]["NumberOfTasksSucceeded"] < 2:
        time.sleep(0.01)
    client.update_job_status(AccountId=ACCOUNT, JobId=job_id, RequestedJobStatus="Cancelled", StatusUpdateReason="why")
    found = until(client, job_id)
    assert (found["Status"], found["StatusUpdateReason"]) == ("Cancelled", "why")
    assert len(report(aws, job_id)) == 2
    again = {"AccountId": ACCOUNT, "JobId": job_id, "RequestedJobStatus": "Cancelled"}
    assert refusal(client.update_job_status, **again) == "JobStatusException"


def test_a_job_that_wants_to_be_confirmed_waits_for_that(aws, client):
    job_id = client.create_job(**request(aws, ConfirmationRequired=True))["JobId"]
    until(client, job_id, "Suspended")
    client.update_job_status(AccountId=ACCOUNT, JobId=job_id, RequestedJobStatus="Ready")
    assert until(client, job_id)["Status"] == "Complete"


def test_jobs_are_listed_by_pages_and_by_status(aws, client):
    made = []
    for number in range(3):
        made.append(client.create_job(**request(aws, token=f"t{number}"))["JobId"])
        until(client, made[-1])
    first = client.list_jobs(AccountId=ACCOUNT, MaxResults=2)
    second = client.list_jobs(AccountId=ACCOUNT, MaxResults=2, NextToken=first["NextToken"])
    assert [job["JobId"] for job in (*first["Jobs"], *second["Jobs"])] == made[::-1]
    assert "NextToken" not in second
    assert client.list_jobs(AccountId=ACCOUNT, JobStatuses=["Active"])["Jobs"] == []


def test_neither_list_nor_report_can_lie_in_a_directory_bucket(aws, client):
    asked = request(aws)
    report = asked["Report"] | {"Bucket": "arn:aws:s3:::fast--use1-az4--x-s3"}
    assert refusal(client.create_job, **asked | {"Report": report}) == "InvalidRequest"
    location = asked["Manifest"]["Location"] | {"ObjectArn": "arn:aws:s3:::fast--use1-az4--x-s3/list.csv"}
    manifest = asked["Manifest"] | {"Location": location}
    assert refusal(client.create_job, **asked | {"Manifest": manifest}) == "InvalidRequest"


def test_what_it_does_not_know_is_refused(aws, client):
    asked = request(aws)
    assert refusal(client.create_job, **request(aws, copy={"StorageClass": "GLACIER"})) == "NotImplemented"
    assert refusal(client.create_job, **asked | {"Operation": {"S3DeleteObjectTagging": {}}}) == "NotImplemented"
    assert refusal(client.create_job, **asked | {"RoleArn": ROLE.replace(ACCOUNT, "1" * 12)}) == "AccessDenied"
    assert refusal(client.describe_job, AccountId=ACCOUNT, JobId="nobody") == "NoSuchJob"


def test_another_account_has_no_jobs_here(aws, server):
    session = boto3.Session("AKIATEST", "secret", region_name="us-east-1")
    other = control_client(
        lambda name, config: session.client(name, endpoint_url=server.url, config=config), "111111111111"
    )
    assert refusal(other.list_jobs, AccountId="111111111111") == "AccessDenied"


def test_an_endpoint_that_is_not_aws_own_is_asked_without_the_accounts_name(aws, client):
    plain = boto3.Session("AKIATEST", "secret", region_name="us-east-1").client(
        "s3control", endpoint_url=aws.url, config=Config(retries={"total_max_attempts": 1}, connect_timeout=1)
    )
    with pytest.raises(Exception, match=ACCOUNT):  # boto3 alone puts it before any host
        plain.list_jobs(AccountId=ACCOUNT)
    assert client.list_jobs(AccountId=ACCOUNT)["Jobs"] == []
