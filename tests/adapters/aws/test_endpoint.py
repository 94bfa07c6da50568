"""Where libcurl finds a bucket: exactly where boto3's own requests for it go."""

from typing import Any

import boto3
import pytest
from botocore.config import Config

from upload_adapters.aws.deployment import s3_config
from upload_adapters.aws.endpoint import endpoint_of

REGIONS = (
    *("us-east-1", "us-west-2", "eu-central-1", "ap-east-1", "il-central-1", "af-south-1"),
    *("us-gov-west-1", "us-gov-east-1", "cn-north-1", "aws-global"),
)
BUCKETS = ("my-bucket", "my.bucket", "My_Bucket")
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "by path": {"addressing_style": "path"},
    "virtual": {"addressing_style": "virtual"},
    "dualstack": {"use_dualstack_endpoint": True},
    "accelerated": {"use_accelerate_endpoint": True},
    "regional": {"us_east_1_regional_endpoint": "regional"},
}
CUSTOM = ("http://127.0.0.1:9000", "https://store.example.org/s3", "https://s3.us-west-2.amazonaws.com")


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture(scope="module")
def session():
    return boto3.Session("AKIATEST", "not-a-secret", region_name="us-east-1")


class TakenError(Exception):
    """Ends a request that was only looked at."""


def client_of(session, region="us-east-1", endpoint_url=None, fips=False, **s3):
    config = s3_config(attempts=1).merge(Config(s3={"payload_signing_enabled": False, **s3}, use_fips_endpoint=fips))
    return session.client("s3", region_name=region, endpoint_url=endpoint_url, config=config)


def sent_by_boto3(client, bucket):
    """URL and signing region of a real PutObject, taken at the last moment before it would go out."""

    def take(request, **_):
        raise TakenError(request.url, request.headers["Authorization"].decode().split("/")[2])

    client.meta.events.register_first("before-send.s3.PutObject", take)
    with pytest.raises(TakenError) as taken:
        client.put_object(Bucket=bucket, Key="a/b")
    client.meta.events.unregister("before-send.s3.PutObject", take)
    return taken.value.args


def same_place(session, client, bucket):
    endpoint = endpoint_of(session, client, bucket, lambda: 0)
    assert endpoint is not None
    assert (endpoint.base + "a/b", endpoint.region) == sent_by_boto3(client, bucket)
    return endpoint


@pytest.mark.parametrize("region", REGIONS)
def test_a_bucket_is_where_boto3_sends_its_puts_in_every_region(session, region):
    client = client_of(session, region)
    for bucket in BUCKETS:
        endpoint = same_place(session, client, bucket)
        if region not in ("us-east-1", "aws-global"):
            assert f"s3.{region}." in endpoint.base, "the global endpoint would redirect or refuse"


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_settings_of_boto3_hold_for_libcurl_too(session, region, settings):
    client = client_of(session, region, **SETTINGS[settings])
    for bucket in BUCKETS[:1] if settings == "accelerated" else BUCKETS:  # which takes names of this kind only
        same_place(session, client, bucket)


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2", "us-gov-west-1"])
def test_a_fips_endpoint_is_one_for_libcurl_too(session, region):
    endpoint = same_place(session, client_of(session, region, fips=True), "my-bucket")
    assert "s3-fips" in endpoint.base


@pytest.mark.parametrize("style", ["auto", "virtual", "path"])
@pytest.mark.parametrize("url", CUSTOM)
def test_an_endpoint_of_ones_own_is_found_as_boto3_finds_it(session, url, style):
    client = client_of(session, "us-west-2", url, addressing_style=style)
    for bucket in BUCKETS:
        same_place(session, client, bucket)


@pytest.mark.parametrize("bucket", ["stem--use1-az4--x-s3", "point--use1-az4--xa-s3"])
def test_a_directory_bucket_is_left_to_boto3(session, bucket):
    assert endpoint_of(session, client_of(session), bucket, lambda: 0) is None


def test_finding_out_sends_nothing_and_leaves_no_hook_behind(session):
    client = client_of(session)
    client.meta.events.register_first("request-created.s3", lambda **_: pytest.fail("a request was made"))
    assert endpoint_of(session, client, "my-bucket", lambda: 0) is not None
    with pytest.raises(pytest.fail.Exception):
        client.put_object(Bucket="my-bucket", Key="a")
