"""Plain AWS credentials as an identity, and the role that belongs to a delivery."""

import pytest

from upload_adapters.aws.credentials import role_for_delivery
from upload_adapters.aws.identity import AwsIdentity
from upload_adapters.aws.oauth import cognito_endpoints, login_provider
from upload_core.errors import ConfigurationError, IdentityError


def test_keys_of_the_environment_are_found_and_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "CANARY-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY-key")
    identity = AwsIdentity(region="eu-west-1")
    name = identity.sign_in()
    assert name == "AWS credentials (env)"
    assert identity.session().region_name == "eu-west-1"
    assert identity.session().get_credentials().access_key == "CANARY-id"
    assert "CANARY" not in repr(identity)
    assert identity.sign_out() == ""


def test_a_profile_is_used_by_its_name(monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text("[archive]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert AwsIdentity(profile="archive").sign_in() == "AWS credentials (shared-credentials-file) of profile archive"
    with pytest.raises(IdentityError, match=r"the AWS credentials cannot be used: .*missing"):
        AwsIdentity(profile="missing").session()


def test_without_credentials_it_says_where_they_could_be():
    with pytest.raises(IdentityError, match="no AWS credentials were found; set AWS_PROFILE"):
        AwsIdentity().sign_in()


def test_credentials_that_a_program_does_not_give_are_an_identity_error(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[default]\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(IdentityError, match="the AWS credentials cannot be used"):
        AwsIdentity().sign_in()


def arn(name):
    return f"arn:aws:iam::123456789012:role/{name}"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["stem-b-1-role"], "stem-b-1-role"),
        (["path/b-1-role", "stem-b-2-role", "stem-b-1-role-old"], "path/b-1-role"),
        (["stem_b-1-role"], "stem_b-1-role"),
        (["StemXb-1-role"], "StemXb-1-role"),
        (["stem-xb-1-role", "stem-b-1-role"], "stem-b-1-role"),
        (["stem-b-1-role", "stem-b-1-role"], "stem-b-1-role"),
        (["stem-b-1-role", "other-b-1-role"], None),
        (["stem-x-b-1-role", "stem-b-1-role"], None),
        (["stem-b-11-role", "b-1-role/x"], None),
        ([], None),
    ],
)
def test_the_role_of_a_delivery_is_the_one_whose_name_ends_in_it(names, chosen):
    roles = [arn(name) for name in names]
    if chosen is None:
        with pytest.raises(IdentityError, match=r"no role|several roles"):
            role_for_delivery(roles, "b", "1")
    else:
        assert role_for_delivery(roles, "b", "1") == arn(chosen)


def test_cognitos_places_follow_from_domain_and_user_pool():
    places = cognito_endpoints(domain="https://mast.auth.us-east-1.amazoncognito.com/", user_pool_id="us-east-1_Ab1")
    assert places.issuer == "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab1"
    assert places.authorize == "https://mast.auth.us-east-1.amazoncognito.com/oauth2/authorize"
    assert places.token == "https://mast.auth.us-east-1.amazoncognito.com/oauth2/token"
    assert places.revoke == "https://mast.auth.us-east-1.amazoncognito.com/oauth2/revoke"
    assert places.jwks == f"{places.issuer}/.well-known/jwks.json"


def test_a_pool_names_its_region():
    assert login_provider("us-gov-west-1_Ab1") == "cognito-idp.us-gov-west-1.amazonaws.com/us-gov-west-1_Ab1"
    assert login_provider("cn-north-1_Ab1") == "cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_Ab1"
    with pytest.raises(ConfigurationError, match="looks like"):
        login_provider("us-east-1:Ab1")
