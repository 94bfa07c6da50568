"""The network parameter: read from SSM, checked, and what it says of the places."""

import json

import pytest

from tests.emulator import Fault
from upload_adapters.aws.deployment import AwsDeployment
from upload_adapters.aws.network import parse_network_parameters
from upload_adapters.aws.server_clock import ServerClock
from upload_core.errors import ArchiveUnavailableError, ConfigurationError
from upload_core.wire import Keys

GIVEN = {
    "AVAILABILITY_ZONE_ID": "use1-az4",
    "BUCKET_STEM": "mast_fast",
    "CONFIG_BUCKET": "mast-config",
    "INIT_LAMBDA_ARN": "arn:aws:lambda:us-east-1:0:function:init",
    "LOCK_STALENESS_THRESHOLD": 1800,
    "TASK_CONFIG_PREFIX": "tasks/",
}
KEYS = Keys("my_data", "d_1", "staging")


class StoppedClock:
    def now_ms(self):
        return 1_000_000

    machine_ms = monotonic_ms = now_ms

    def sleep(self, seconds):
        """No time passes."""


@pytest.fixture
def deployment(aws, archive_places, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.parameters.values["/mast-fast/delivery"] = ("SecureString", json.dumps(GIVEN))
    made = AwsDeployment(lambda: archive_places.session, KEYS, clock=ServerClock(StoppedClock()))
    yield made
    made.close()


def test_the_parameter_says_where_everything_is():
    found = parse_network_parameters(json.dumps({**GIVEN, "SOMETHING_NEW": 1}))
    assert (found.bucket_stem, found.availability_zone_id) == ("mast_fast", "use1-az4")
    assert (found.init_lambda_arn, found.lock_staleness_threshold) == (GIVEN["INIT_LAMBDA_ARN"], 1800)
    assert (
        parse_network_parameters(json.dumps({**GIVEN, "LOCK_STALENESS_THRESHOLD": "90"})).lock_staleness_threshold == 90
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        json.dumps({**GIVEN, "BUCKET_STEM": " "}),
        json.dumps({**GIVEN, "INIT_LAMBDA_ARN": None}),
        json.dumps({**GIVEN, "LOCK_STALENESS_THRESHOLD": 0}),
        json.dumps({**GIVEN, "LOCK_STALENESS_THRESHOLD": "soon"}),
    ],
)
def test_a_parameter_that_makes_no_sense_is_the_archives_fault(text):
    with pytest.raises(ConfigurationError, match="archive's staff"):
        parse_network_parameters(text)


def test_the_places_are_named_after_the_delivery(deployment, aws):
    assert deployment.transfer().name == "mast-fast-my-data-d-1-staging"
    assert deployment.control().name == "mast-fast-my-data-d-1-control--use1-az4--x-s3"
    assert deployment.init_function() == GIVEN["INIT_LAMBDA_ARN"]
    assert len(aws.log("GetParameter")) == 1, "it is asked once"
    assert deployment.control() is deployment.control()


def test_nothing_is_asked_before_it_is_needed(deployment, aws):
    assert aws.log() == []


def test_a_parameter_that_is_missing_is_named(deployment, aws):
    aws.parameters.values.clear()
    with pytest.raises(ConfigurationError, match="/mast-fast/delivery"):
        deployment.transfer()


def test_after_a_failure_it_is_asked_again(deployment, aws):
    aws.order(Fault("refused", operation="GetParameter", code="InternalError", times=5))
    with pytest.raises(ArchiveUnavailableError):
        deployment.transfer()
    assert deployment.transfer().name


def test_an_answer_that_was_cut_on_its_way_is_asked_for_again(deployment, aws):
    aws.order(Fault("truncated", operation="GetParameter"))
    with pytest.raises(ArchiveUnavailableError, match="cut on its way"):
        deployment.transfer()
    assert deployment.transfer().name


def test_a_machine_whose_clock_is_wrong_is_told_so(deployment, aws):
    aws.settings.skew_s = 1_200.0
    with pytest.raises(ArchiveUnavailableError, match="clock is wrong"):
        deployment.transfer()


def test_after_reconnecting_each_client_opens_a_new_connection(deployment, aws):
    aws.store.create_bucket("mast-fast-my-data-d-1-staging")
    bucket = deployment.transfer()

    def ask() -> None:
        bucket.calls.list_objects_v2(Bucket=bucket.name)
        bucket.once.list_objects_v2(Bucket=bucket.name)

    ask()
    before = aws.connections
    ask()
    assert aws.connections == before
    deployment.reconnect()
    ask()
    assert aws.connections == before + 2
    ask()
    assert aws.connections == before + 2
