"""Deliveries to S3 by workers of a cluster, real processes that have no keys of their own: keys, parts, sources."""

import os
import random
import signal
import threading
import time

import distributed
import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from tests.adapters.aws.emulated_archive import EmulatedArchive
from tests.adapters.aws.places import KIB, MIB
from tests.reliability.dask_cluster import local_cluster, workers_of
from upload_adapters.aws.credentials import RoleCredentials, renewing_session
from upload_adapters.aws.identity import AwsIdentity
from upload_adapters.aws.s3_archive import S3Archive
from upload_core import events as ev

PART = 512 * KIB


@pytest.fixture(scope="module")
def cluster():
    assert not [name for name in os.environ if name.startswith("AWS_SECRET")]
    with local_cluster() as cluster:
        yield cluster


@pytest.fixture
def archive(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setattr("upload_adapters.dask.dispatcher.LOOK_S", 0.2)
    made = EmulatedArchive(aws, tmp_path, count=60)
    yield made
    made.close()


class Role:
    """Temporary keys, renewed before they expire; all that were ever given are remembered."""

    def __init__(self, aws, lifetime_s):
        self._aws, self._lifetime_s = aws, lifetime_s
        self.given = []

    def session(self):
        if not self.given:
            self._session = renewing_session(self._fetch, region="us-east-1")
        return self._session

    def _fetch(self):
        issued = self._aws.keyring.issue("role", self._lifetime_s)
        self.given.append(issued)
        return RoleCredentials(issued.access_key, issued.secret_key, issued.token, issued.expires)


@pytest.fixture
def role(aws, monkeypatch, request):
    role = Role(aws, getattr(request, "param", 3600.0))
    monkeypatch.setattr(AwsIdentity, "sign_in", lambda _: "a role")
    monkeypatch.setattr(AwsIdentity, "session", lambda _: role.session())
    return role


def dispatch_to(cluster):
    return cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.mark.promise("R19")
def test_keys_are_in_no_log_name_event_or_output_of_the_cluster(archive, aws, role, cluster, caplog, capfd):
    caplog.set_level("DEBUG", "distributed")
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as witness:
        witness.get_task_stream()
        archive.aws.settings.accept_any_key = False
        try:
            assert archive.client(ports=archive.ports(dispatch=dispatch_to(cluster))).run().outcome == "complete"
        finally:
            archive.aws.settings.accept_any_key = True
        archive.judge()
        shown = [
            *(repr(one) for one in witness.get_task_stream()),
            repr(witness.get_events()),
            repr(witness.get_worker_logs()),
            repr(witness.get_scheduler_logs()),
            repr(list(cluster.scheduler.transition_log)),
            repr(cluster.scheduler.tasks),
            caplog.text,
            *capfd.readouterr(),
        ]
    text = "\n".join(shown)
    assert "upload-" in shown[0], "the tasks were seen"
    assert len(role.given) == 1
    for secret in (role.given[0].secret_key, role.given[0].token):
        assert secret not in text
    assert "file 0" not in "\n".join(shown[:-3]), "no file is named where tasks are"


@pytest.mark.parametrize("role", [2.0], indirect=True)
def test_keys_that_expire_in_the_middle_are_renewed_on_the_workers(archive, aws, role, cluster):
    for relpath in archive.files:
        archive.files[relpath] = random.Random(relpath).randbytes(100 * KIB)
        (archive.source / relpath).write_bytes(archive.files[relpath])
    ports = archive.ports(dispatch=dispatch_to(cluster))
    ports.dispatcher.set_bandwidth(60 * 100 * KIB / 4)
    summary = archive.client(ports=ports).run()
    assert (summary.outcome, summary.retries) == ("complete", 0)
    archive.judge()
    assert len(role.given) >= 3
    refused = [entry for entry in aws.log("PutObject") if entry.status == 400]
    assert refused == [], "no request went out with keys that had expired"


@pytest.mark.promise("R11")
def test_a_large_file_of_a_worker_that_died_goes_on_by_parts(archive, aws, role, cluster, figure):
    large = "dir/file 00.txt"
    archive.files[large] = random.Random(3).randbytes(12 * MIB - 1)
    (archive.source / large).write_bytes(archive.files[large])
    ports = archive.ports(dispatch=dispatch_to(cluster))
    ports.archive = S3Archive(ports.archive._place, single_max=PART, part_size=PART)
    ports.dispatcher.set_bandwidth(6e6)
    client = archive.client(ports=ports)
    told = []
    client.subscribe(lambda record: told.append(record.event))
    killed = threading.Event()

    def kill():
        until = time.monotonic() + 30
        while sum(isinstance(event, ev.PartStored) for event in told) < 5 and time.monotonic() < until:
            time.sleep(0.01)
        for pid in workers_of(cluster):
            os.kill(pid, signal.SIGKILL)
        killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    summary = client.run()
    thread.join()
    assert killed.is_set()
    assert (summary.outcome, summary.retries) == ("complete", 0)
    archive.judge(sent_twice=len(archive.files))
    assert len(aws.log("CreateMultipartUpload")) == 1
    sent = [entry.query["partNumber"] for entry in aws.log("UploadPart") if entry.status == 200]
    assert len(set(sent)) == 24
    assert len(sent) - 24 <= 8, "only what was in flight, and not heard of, is sent again"
    figure(len(sent) - 24, "parts sent again after a worker died")
