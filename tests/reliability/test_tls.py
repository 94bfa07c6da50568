"""Whom nobody vouches for gets no byte of ours, on any way to an archive, and nothing turns that off."""

import ast
import datetime
import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import certifi
import pytest
import trustme

from tests.contracts.bodies import Body
from tests.emulator import Emulator
from tests.reliability.tls_front import TlsFront
from upload_adapters.aws import oauth
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.checkup import reach
from upload_adapters.aws.deployment import s3_config
from upload_adapters.aws.endpoint import endpoint_of
from upload_adapters.aws.errors import translated
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_control import S3ControlBucket
from upload_adapters.aws.transport import transport
from upload_adapters.clock import SystemClock
from upload_core.checksum import crc32_base64
from upload_core.errors import UploadClientError

ROOT = Path(__file__).resolve().parents[2]
DATA = b"data that exists nowhere else" * 20_000
CHECKSUM = crc32_base64(zlib.crc32(DATA))
BUCKET, CONTROL = "mast-tls-staging", "mast-tls-control--use1-az4--x-s3"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger():
    """A server that vouches for itself."""
    return trustme.CA().issue_cert("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def aws():
    with Emulator() as emulator:
        emulator.store.create_bucket(BUCKET)
        emulator.store.create_bucket(CONTROL)
        yield emulator


def port_of(aws):
    return int(aws.url.rsplit(":", 1)[1])


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """The file that makes the private authority known, set as boto3's own documentation says."""
    path = tmp_path / "private-ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    # A system may name its own for everybody; whoever names one for AWS means that one.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    return path


def bucket_at(url, name=BUCKET):
    session = boto3.Session("AKIATEST", "not-a-secret", region_name="us-east-1")
    with translated("connecting to AWS s3"):  # as the deployment does
        client = session.client("s3", endpoint_url=url, config=s3_config(attempts=1))
    return Bucket(name, client, client, endpoint_of(session, client, name, SystemClock().now_ms))


def store(url, name, single_max):
    bucket = bucket_at(url)
    archive = S3Archive(lambda: bucket, sender=transport(name).sender, single_max=single_max, part_size=5 << 20)
    stored = archive.put("a", Body(DATA), checksum=CHECKSUM)
    return stored.checksum


def store_by_channel(url):
    bucket = bucket_at(url)
    made = transport("curl")
    assert made.channel is not None
    assert bucket.endpoint is not None
    channel = made.channel(bucket.endpoint)
    try:
        channel.start(1, "a", DATA, CHECKSUM)
        [(_, result)] = channel.finished(30)
        if isinstance(result, Exception):
            raise result
        assert result is not None
        return result.checksum
    finally:
        channel.close()


def ask_control(url):
    bucket = bucket_at(url, CONTROL)
    control = S3ControlBucket(lambda: bucket)
    control.put("lock/client", b"me")
    return control.head("lock/client")


def sign_in_anew(url):
    endpoints = oauth.Endpoints(url, f"{url}/authorize", f"{url}/token", f"{url}/jwks")
    client = oauth.OAuthClient(endpoints, client_id="c", redirect_uri="http://localhost:3000")
    client.refresh("CANARY-refresh-token")


WAYS: dict[str, Callable[[str], Any]] = {
    "boto3, in one request": functools.partial(store, name="boto3", single_max=1 << 30),
    "boto3, in parts": functools.partial(store, name="boto3", single_max=1 << 10),
    "libcurl, in one request": functools.partial(store, name="curl", single_max=1 << 30),
    "libcurl, in parts": functools.partial(store, name="curl", single_max=1 << 10),
    "libcurl, many at once": store_by_channel,
    "the control bucket": ask_control,
    "the issuer's description": oauth.discovered_endpoints,
    "the issuer's token endpoint": sign_in_anew,
}
STORING = list(WAYS)[:6]


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_vouches_for_itself_gets_nothing(way, stranger, aws):
    with TlsFront(stranger, port_of(aws)) as front:
        with pytest.raises(UploadClientError):
            WAYS[way](front.url)
        assert front.greeted
        assert front.decrypted == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["another host's", "expired"])
def test_a_certificate_that_does_not_fit_is_none(way, fault, authority, trusted, aws):
    now = datetime.datetime.now(datetime.UTC)
    if fault == "expired":
        certificate = authority.issue_cert("127.0.0.1", not_after=now - datetime.timedelta(days=1))
    else:
        certificate = authority.issue_cert("archive.example", "127.0.0.2")
    with TlsFront(certificate, port_of(aws)) as front:
        with pytest.raises(UploadClientError):
            WAYS[way](front.url)
        assert front.greeted
        assert front.decrypted == 0


def test_asking_for_the_time_trusts_whom_all_others_trust(stranger, authority, trusted, aws, monkeypatch):
    with TlsFront(stranger, port_of(aws)) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
        with pytest.raises(UploadClientError, match="not trusted"):
            reach("us-east-1", SystemClock())
        assert front.decrypted == 0
    with TlsFront(authority.issue_cert("127.0.0.1"), port_of(aws)) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
        assert abs(reach("us-east-1", SystemClock()).ahead_s) < 30
        assert front.decrypted


@pytest.mark.parametrize("way", STORING)
def test_a_private_authority_works_once_it_is_named(way, authority, trusted, aws):
    with TlsFront(authority.issue_cert("127.0.0.1"), port_of(aws)) as front:
        found = WAYS[way](front.url)
        assert found is not None
        assert front.decrypted


def test_an_issuer_of_a_private_authority_is_reached(authority, trusted, aws):
    with TlsFront(authority.issue_cert("127.0.0.1"), port_of(aws)) as front:
        for way in ("the issuer's description", "the issuer's token endpoint"):
            before = front.decrypted
            with pytest.raises(UploadClientError):  # the emulator is no issuer, and that is all that is wrong
                WAYS[way](front.url)
            assert front.decrypted > before


@pytest.mark.parametrize("way", WAYS)
def test_nothing_in_the_environment_turns_it_off(way, stranger, aws, monkeypatch, tmp_path):
    """What other tools take for an off switch."""
    for name in (
        "PYTHONHTTPSVERIFY",
        "AWS_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_TLS_REJECT_UNAUTHORIZED",
    ):
        monkeypatch.setenv(name, "0" if name.endswith(("VERIFY", "UNAUTHORIZED")) else "")
    for name in ("AWS_VERIFY_SSL", "AWS_S3_VERIFY", "AWS_NO_VERIFY_SSL", "CURL_INSECURE", "UPLOAD_CORE_INSECURE"):
        monkeypatch.setenv(name, "false" if name == "AWS_VERIFY_SSL" else "1")
    config = tmp_path / "config"
    config.write_text("[default]\nverify_ssl = false\nno_verify_ssl = true\nca_bundle =\ns3 =\n  verify = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".curlrc").write_text("insecure\n")
    with TlsFront(stranger, port_of(aws)) as front:
        with pytest.raises(UploadClientError):
            WAYS[way](front.url)
        assert front.decrypted == 0


def test_no_line_of_ours_turns_it_off():
    """Neither a keyword nor an attribute nor an option whose value could be "do not look"."""
    allowed = (
        "verify=_ca_bundle()",
        "verify=True",
        "verify=None",
        "verify=self.trusted or None",
        "verify=trusted(session)",
    )
    wrong = []
    for path in sorted([*ROOT.glob("adapters/**/*.py"), *ROOT.glob("upload_core/**/*.py")]):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if (
                (isinstance(node, ast.keyword) and node.arg == "verify" and ast.unparse(node) not in allowed)
                or (isinstance(node, ast.keyword) and node.arg in ("use_ssl", "ssl_verify"))
                or (isinstance(node, ast.Attribute) and node.attr in ("CERT_NONE", "_create_unverified_context"))
                or (isinstance(node, ast.Attribute) and node.attr in ("check_hostname", "verify_mode"))
            ):
                wrong.append(f"{path.name}:{getattr(node, 'lineno', 0)}")
            if isinstance(node, ast.Assign) and ".verify =" in (line := ast.unparse(node)):
                wrong.append(f"{path.name}: {line}")
            if (
                isinstance(node, ast.Call)
                and "SSL_VERIFY" in (line := ast.unparse(node))
                and "set_option" in line.split("(")[0]
            ):
                if line not in {"set_option(pycurl.SSL_VERIFYPEER, 1)", "set_option(pycurl.SSL_VERIFYHOST, 2)"}:
                    wrong.append(f"{path.name}: {line}")
    assert wrong == []
