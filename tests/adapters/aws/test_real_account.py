"""The contract suites against buckets of a real account, where somebody names them:

    UPLOAD_CORE_TEST_TRANSFER_BUCKET=... UPLOAD_CORE_TEST_CONTROL_BUCKET=...--x-s3 pytest tests/adapters/aws/test_real_account.py

with credentials and region as for any boto3 program. Both buckets must be empty; each test removes what it made.
"""

import os
import re
import subprocess
import sys

import boto3
import pytest

from tests.command_line import ROOT, environment
from tests.contracts.archive import ArchiveContract
from tests.contracts.control_bucket import ControlBucketContract
from tests.contracts.logs import LogsContract
from tests.contracts.owner_lock import OwnerLockContract
from tests.emulator import Emulator, Settings
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.deployment import s3_config
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_control import S3ControlBucket

TRANSFER = "UPLOAD_CORE_TEST_TRANSFER_BUCKET"
CONTROL = "UPLOAD_CORE_TEST_CONTROL_BUCKET"


@pytest.fixture(scope="session")
def clients():
    session = boto3.Session()
    made = [session.client("s3", config=s3_config(attempts=attempts)) for attempts in (5, 1)]
    yield made
    for client in made:
        client.close()


def named_bucket(variable, clients):
    name = os.environ[variable]
    calls, once = clients
    held = calls.list_objects_v2(Bucket=name).get("KeyCount", 0)
    if held:
        pytest.skip(f"the bucket {name} is not empty; it must be one that nobody else uses")
    yield Bucket(name, calls, once)
    for page in calls.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page.get("Contents", []):
            calls.delete_object(Bucket=name, Key=found["Key"])


@pytest.fixture
def transfer_bucket(clients):
    yield from named_bucket(TRANSFER, clients)


@pytest.fixture
def control_bucket(clients):
    yield from named_bucket(CONTROL, clients)


class TestArchiveOfARealAccount(ArchiveContract):
    __test__ = TRANSFER in os.environ

    @pytest.fixture
    def archive(self, transfer_bucket):
        return S3Archive(lambda: transfer_bucket)

    @pytest.fixture
    def stored(self, transfer_bucket, clients):
        def stored(relpath):
            try:
                return clients[0].get_object(Bucket=transfer_bucket.name, Key=relpath)["Body"].read()
            except clients[0].exceptions.NoSuchKey:
                return None

        return stored


class TestControlBucketOfARealAccount(ControlBucketContract):
    __test__ = CONTROL in os.environ

    @pytest.fixture
    def control(self, control_bucket):
        return S3ControlBucket(lambda: control_bucket)


class TestLogsOfARealAccount(LogsContract):
    __test__ = CONTROL in os.environ

    @pytest.fixture
    def control(self, control_bucket):
        return S3ControlBucket(lambda: control_bucket)


class TestOwnerLockOfARealAccount(OwnerLockContract):
    __test__ = CONTROL in os.environ

    @pytest.fixture
    def control(self, control_bucket):
        return S3ControlBucket(lambda: control_bucket)

    @pytest.fixture
    def make_old(self):
        pytest.skip("nobody can make an object of a real account older than it is")


def test_these_suites_work_where_buckets_are_named(tmp_path):
    """Shown with the emulator in the account's place, reached as any boto3 program would reach it."""
    if TRANSFER in os.environ or CONTROL in os.environ:
        pytest.skip("they run against the buckets that are named")
    with Emulator(Settings()) as aws:
        names = {TRANSFER: "real-d-1-staging", CONTROL: "real-d-1-control--use1-az4--x-s3"}
        for name in names.values():
            aws.store.create_bucket(name)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__],
            cwd=ROOT,
            env=environment() | aws.environment() | names,
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 80, done.stdout[-500:]
        assert aws.open_uploads() == []
        assert all(not aws.store.bucket(name).objects for name in names.values())
