"""A deployment's settings: what counts, where it came from, and what is refused."""

from pathlib import Path

import pytest

from upload_adapters.configuration import AWS_VARIABLES, SETTINGS, load
from upload_core.errors import ConfigurationError

COGNITO = """
[deployment]
name = "mast-dev"
region = "us-east-1"
network_parameter = "/mast-fast/delivery"
[identity]
kind = "cognito"
domain = "mast.auth.us-east-1.amazoncognito.com"
client_id = "client"
redirect_uri = "http://localhost:3000"
user_pool_id = "us-east-1_Ab12Cd34E"
identity_pool_id = "us-east-1:0123"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mast.toml"
    path.write_text(COGNITO)
    return path


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(file):
    environ = {"UPLOAD_CORE_DEPLOYMENT_REGION": "eu-west-1", "UPLOAD_CORE_DEPLOYMENT_NAME": "mine"}
    found = load(file, environ=environ, flags={"deployment.region": "ap-south-1", "deployment.name": None})
    assert [(found[name].value, found[name].origin) for name in ("deployment.region", "deployment.name")] == [
        ("ap-south-1", "flag --set deployment.region"),
        ("mine", "environment UPLOAD_CORE_DEPLOYMENT_NAME"),
    ]
    assert (found["identity.client_id"].origin, found["identity.wait_s"].origin) == (f"file {file}", "default")
    assert found.number("identity.wait_s") == 300
    assert found.text("identity.role") == ""


def test_a_directory_stands_for_the_file_in_it(file):
    assert load(file.parent, environ={}) == load(file, environ={})


def test_without_a_file_the_environment_is_enough():
    found = load(None, environ={"UPLOAD_CORE_DEPLOYMENT_REGION": "us-east-1"})
    assert (found.path, found.text("deployment.region"), found.text("identity.kind")) == (None, "us-east-1", "aws")


def test_every_setting_is_shown_with_its_origin(file):
    rows = {name: (value, origin) for name, value, origin in load(file, environ={}).show()}
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert rows["deployment.name"] == ("mast-dev", f"file {file}")
    assert rows["identity.role"] == ("", "default")


def test_what_boto3_reads_is_shown_and_its_secrets_are_masked():
    environ = dict.fromkeys(AWS_VARIABLES, "canary") | {
        "AWS_ENDPOINT_URL_S3": "http://ada:canary@localhost:9000/x",
        "HTTPS_PROXY": "http://canary:canary@proxy:8080",
        "AWS_PROFILE": "",
        "PATH": "/bin",
    }
    found = load(None, environ=environ)
    shown = {name: value for name, value, _ in found.show()}
    assert shown["AWS_ENDPOINT_URL_S3"] == "http://***@localhost:9000/x"
    assert shown["HTTPS_PROXY"] == "http://***@proxy:8080"
    assert {shown[f"AWS_{key}"] for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")} == {"***"}
    assert "PATH" not in shown
    assert "AWS_PROFILE" not in shown
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('regoin = "x"', r"mast\.toml: \[deployment\] regoin is unknown; did you mean region\?"),
        ('whatever = "x"', r"whatever is unknown; known keys: name, region, network_parameter"),
        ("region = 1", r'\[deployment\] region must be text; write it in quotes: region = "\.\.\."'),
        ('region = ""', r"region is empty"),
        ('region = "a\\u001b[2J"', r"region holds characters that cannot be printed"),
        ('[identiy]\nx = "y"', r"\[identiy\] is unknown; did you mean identity\?"),
        ('[identity]\nkind = "cognit"', r"kind must be one of aws, cognito, and is 'cognit'"),
        ('[identity]\nwait_s = "300"', r"wait_s must be a whole number, without quotes"),
        ("[identity]\nwait_s = true", r"wait_s must be a whole number, without quotes: wait_s = 300"),
        ("[identity]\nwait_s = 0", r"wait_s must be at least 1"),
        ("region = ", r"mast\.toml is not TOML: .*line 2"),
    ],
)
def test_a_line_that_cannot_work_is_named_with_its_remedy(tmp_path, line, message):
    path = tmp_path / "mast.toml"
    path.write_text(f"[deployment]\n{line}\n")
    with pytest.raises(ConfigurationError, match=message):
        load(path, environ={})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"identity = 3", "identity must be a section; write [identity]"),
        (b"\xff\xfe[", "is not TOML"),
        (b"a = " + b"[" * 20_000, "is not TOML"),
        (b"#" * ((1 << 20) + 1), "is no deployment file: it is larger than 1 MiB"),
    ],
)
def test_what_is_no_deployment_file_is_refused(tmp_path, content, message):
    path = tmp_path / "mast.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ={})
    assert message in str(caught.value)


def test_a_mark_that_windows_editors_write_is_no_error(tmp_path):
    (tmp_path / "mast.toml").write_bytes(b'\xef\xbb\xbf[deployment]\nname = "x"\n')
    assert load(tmp_path, environ={}).text("deployment.name") == "x"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no deployment file .*mast\.toml; name the archive's"):
        load(tmp_path, environ={})


def test_a_misspelt_variable_of_a_section_is_refused_and_others_are_left_alone(file):
    load(file, environ={"UPLOAD_CORE_OTHER": "x", "UPLOAD_CORE_IDENTITY_ROLE": ""})
    with pytest.raises(ConfigurationError, match="did you mean UPLOAD_CORE_IDENTITY_DOMAIN"):
        load(file, environ={"UPLOAD_CORE_IDENTITY_DOMIAN": "x"})


def test_the_environment_is_checked_as_the_file_is(file):
    assert load(file, environ={"UPLOAD_CORE_IDENTITY_WAIT_S": "60"}).number("identity.wait_s") == 60
    with pytest.raises(ConfigurationError, match="environment UPLOAD_CORE_IDENTITY_WAIT_S must be a whole number"):
        load(file, environ={"UPLOAD_CORE_IDENTITY_WAIT_S": "x"})
    with pytest.raises(ConfigurationError, match=r"flag --set identity\.kind must be one of"):
        load(file, environ={}, flags={"identity.kind": "x"})
    with pytest.raises(ConfigurationError, match=r"flag --set deployment\.regoin is unknown"):
        load(file, environ={}, flags={"deployment.regoin": "x"})


@pytest.mark.parametrize("key", ["domain", "client_id", "user_pool_id", "identity_pool_id"])
def test_cognito_needs_all_of_its_settings(tmp_path, key):
    lines = [line for line in COGNITO.splitlines() if not line.startswith(f"{key} ")]
    (tmp_path / "mast.toml").write_text("\n".join(lines))
    with pytest.raises(ConfigurationError, match=f"needs {key}: .*UPLOAD_CORE_IDENTITY_{key.upper()}"):
        load(tmp_path, environ={})
    load(tmp_path, environ={f"UPLOAD_CORE_IDENTITY_{key.upper()}": "x"})


def test_no_two_settings_share_a_name_or_a_variable():
    assert len({s.name for s in SETTINGS}) == len({s.variable for s in SETTINGS}) == len(SETTINGS)
