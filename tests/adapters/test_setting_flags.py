"""`--set` goes before the environment and the file, and a resume remembers it."""

import re

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
    assert re.search(r"ap-south-1 *\tflag --set deployment.region\n", shown.stdout)
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


@pytest.mark.parametrize("named", ["--to", "UPLOAD_CORE_TO"])
def test_a_directory_as_the_archive_needs_no_sign_in_and_has_no_settings(tmp_path, named):
    desk, url = Desk(tmp_path), (tmp_path / "archive").as_uri()
    options = ["--to", url] if named == "--to" else []
    given = {} if options else {named: url}
    for command in ("login", "logout"):
        done = desk.run(command, *options, **given)
        assert done.returncode == 0, done.stderr
        assert f"{url} is a directory and needs no sign-in" in done.stderr
    shown = desk.run("config", "show", *options, **given)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"archive: {url} (")
    assert "deployment." not in shown.stdout
    assert desk.run("config", "show", *options, "--set", "deployment.region=x", **given).returncode == 2


def test_the_columns_of_what_is_configured_line_up(tmp_path):
    lines = Desk(tmp_path).run("config", "show").stdout.splitlines()[1:]
    short = [line for line in lines if len(line.split("\t")[1]) <= 40]
    assert len({tuple(map(len, line.split("\t")[:2])) for line in short}) == 1
