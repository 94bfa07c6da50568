"""The pages about AWS are true: an emulated archive, somebody with a browser, a proxy that opens TLS, a source bucket."""

import os
import time
import urllib.parse

import pytest

from tests.adapters.aws.cognito_stand_in import CLIENT_ID, CognitoStandIn
from tests.adapters.aws.emulated_archive import ROLE, SIGNED_IN, EmulatedArchive
from tests.adapters.aws.test_signed_in_delivery import ADDRESS, sign_in_at
from tests.pages import DOCS, Desk
from tests.proxies import OpeningProxy

LABEL = "dataset: my_set\ndelivery_id: d1\n"
ELSEWHERE = "127.0.0.2"
"""Where nobody listens: whoever gets an answer went through the proxy."""


def made(aws, root, **options):
    archive = EmulatedArchive(aws, root, **options)
    rows = archive.index()
    lines = [f"{path},{crc}" for path, crc in zip(rows["path"], rows["checksum"], strict=True)]
    (root / "index.csv").write_text("\n".join(["path,checksum", *lines, ""]))
    (root / "label.yaml").write_text(LABEL)
    return archive


@pytest.fixture(autouse=True)
def _no_network_settings_of_this_machine(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def follow(page, root, *, answer=None, **env):
    env |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    desk = Desk(root, answer=answer, env=env)
    try:
        wrong = desk.follow((DOCS / "how-to" / page).read_text("utf-8"))
        assert not wrong, "\n".join(wrong)
    finally:
        desk.close()


@pytest.mark.slow
def test_signing_in_without_a_browser_is_as_the_page_says(aws, tmp_path):
    with CognitoStandIn() as cognito:
        cognito.roles = [ROLE]
        settings = SIGNED_IN.format(issuer=cognito.url, client_id=CLIENT_ID)
        archive = made(aws, tmp_path, settings=settings)
        pasted = []

        def paste(line):
            found = ADDRESS.search(line)
            if found:
                pasted.append(sign_in_at(found[0]))
            return pasted[-1] if found else ""

        try:
            keys = {name: value for name, value in aws.environment().items() if "KEY" not in name}
            follow("headless-login.md", tmp_path, answer=paste, **keys)
            archive.judge()
        finally:
            archive.close()
        assert len(pasted) == 2
        assert all(address.startswith("http://localhost:3000") for address in pasted)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["auto", "boto3"])
def test_the_way_through_a_proxy_is_as_the_page_says(aws, tmp_path, transport):
    archive = made(aws, tmp_path)
    port = urllib.parse.urlsplit(aws.url).port
    with OpeningProxy(ELSEWHERE, port, tmp_path) as proxy:
        env = aws.environment() | {
            "AWS_ENDPOINT_URL": f"https://{ELSEWHERE}",
            "HTTPS_PROXY": proxy.url,
            "NO_PROXY": "localhost,127.0.0.1",
            "AWS_CA_BUNDLE": str(proxy.trust),
            "UPLOAD_CORE_DEPLOYMENT_TRANSPORT": transport,
        }
        try:
            follow("proxy.md", tmp_path, **env)
            archive.judge()
        finally:
            archive.close()
        assert {*proxy.asked} == {f"{ELSEWHERE}:443"}
        assert len(proxy.asked) > 3


@pytest.mark.slow
def test_a_delivery_from_bucket_to_bucket_is_as_the_page_says(aws, tmp_path):
    archive = made(aws, tmp_path)
    aws.store.create_bucket("observatory")
    archive.files = {f"file {number:02d}.fits": os.urandom(5760) for number in range(4)}
    for relpath, data in archive.files.items():
        aws.place("observatory", f"m31/{relpath}", data)
    try:
        follow("bucket-to-bucket.md", tmp_path, **aws.environment())
        archive.judge()
        assert aws.log("PutObject") == [e for e in aws.log("PutObject") if e.bucket != archive.transfer_bucket]
        assert len([e for e in aws.log("CopyObject") if e.bucket == archive.transfer_bucket]) == 4
    finally:
        archive.close()


@pytest.mark.slow
def test_copies_by_s3_batch_operations_are_as_the_page_says(aws, tmp_path):
    aws.settings.account = "123456789012"
    archive = made(aws, tmp_path)
    for bucket in ("observatory", "observatory-jobs"):
        aws.store.create_bucket(bucket)
    archive.files = {f"m31/file {number:02d}.fits": bytes([number]) * 5760 for number in range(4)}
    for relpath, data in archive.files.items():
        aws.place("observatory", relpath, data)
    rows = archive.index()
    lines = [f"{path},{crc}" for path, crc in zip(rows["path"], rows["checksum"], strict=True)]
    (tmp_path / "index.csv").write_text("\n".join(["path,checksum", *lines, ""]))
    time.sleep(2)  # what was written within this second is not left to a job
    try:
        follow("s3-batch.md", tmp_path, **aws.environment())
        archive.judge()
        [job] = aws.batch.jobs.values()
        assert len(job.copied) == 4
    finally:
        archive.close()
