"""`--set` goes before the environment and the file, and a resume remembers it."""

import click
import pytest
from click.testing import CliRunner

from tests.command_line import Desk
from upload_adapters import deployments
from upload_adapters.cli.options import setting_option, transport_option
from upload_core.errors import ConfigurationError

TOML = """
[deployment]
name = "mast-dev"
region = "us-east-1"
network_parameter = "/mast-fast/delivery"

[identity]
kind = "aws"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mast.toml"
    path.write_text(TOML)
    return path


def test_what_a_flag_set_still_holds_when_the_delivery_is_resumed_without_it(file):
    recorded = deployments.recorded_settings(deployments.load(str(file), {"deployment.region": "ap-south-1"}))
    assert deployments.load_recorded(recorded).text("deployment.region") == "ap-south-1"
    again = deployments.load_recorded(recorded, flags={"deployment.region": "eu-west-1"})
    assert again.text("deployment.region") == "eu-west-1"


def test_the_command_line_shows_the_flag_as_the_origin_and_names_what_it_does_not_know(file, tmp_path):
    desk = Desk(tmp_path, count=1)
    shown = desk.run("config", "show", "--to", str(file), "--set", "deployment.region=ap-south-1")
    assert "ap-south-1\tflag --set deployment.region" in shown.stdout
    for wrong in ("deployment.regin=x", "deployment.region"):
        assert desk.run("config", "show", "--to", str(file), "--set", wrong).returncode == 2


def test_a_local_archive_has_no_settings(tmp_path):
    desk = Desk(tmp_path, count=1)
    desk.index()
    refused = desk.run(*desk.deliver, "--set", "deployment.region=x")
    assert refused.returncode == 2
    assert "is a setting of a deployment" in refused.stderr


def test_a_setting_nobody_knows_is_refused(file):
    with pytest.raises(ConfigurationError, match="unknown"):
        deployments.load(str(file), {"deployment.colour": "red"})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--transport", "boto3"], {"deployment.transport": "boto3"}),
        (["--set", "a=b", "--transport", "curl"], {"a": "b", "deployment.transport": "curl"}),
        (["--transport", "curl", "--set", "a=b"], {"a": "b", "deployment.transport": "curl"}),
        ([], {}),
    ],
)
def test_the_transport_is_a_setting_wherever_it_stands(arguments, expected):
    seen = []

    @click.command()
    @setting_option
    @transport_option
    def command(settings):
        seen.append(settings)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    assert seen == [expected]
