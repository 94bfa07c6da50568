"""A sign-in with Cognito, from the browser to renewed credentials, over real HTTP with a strict stand-in."""

import copy
import hmac
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from base64 import urlsafe_b64encode
from collections import deque

import pytest
import requests
from botocore.exceptions import ClientError

from tests.adapters.aws.cognito_stand_in import CLIENT_ID, KEY, LATER_KEY, ROLE, CognitoStandIn
from tests.adapters.aws.test_identity_callback import free_port
from upload_adapters.aws import credentials as credentials_module
from upload_adapters.aws.identity_cognito import CognitoIdentity, cognito_identity
from upload_adapters.aws.identity_signin import BrowserSignIn, PastedSignIn
from upload_core.errors import ArchiveUnavailableError, ConfigurationError, IdentityError

DELIVERY = ("spectra", "d1")


@pytest.fixture
def cognito(monkeypatch):
    with CognitoStandIn() as cognito:
        monkeypatch.setenv("AWS_ENDPOINT_URL_COGNITO_IDENTITY", cognito.url)
        yield cognito


def browse(url):
    """A browser whose person agrees to everything."""
    # Not requests: what it logs of its own requests would be taken for ours.
    threading.Thread(target=lambda: urllib.request.urlopen(url, timeout=10).close()).start()
    return True


class Person:
    """Answers the question whether to sign in again, and remembers why it was asked."""

    def __init__(self, *, willing: bool) -> None:
        self.willing = willing
        self.asked: list[str] = []

    def __call__(self, error: IdentityError) -> bool:
        self.asked.append(f"{error} {error!r}")
        return self.willing


def sign_in_by_code(attempt):
    """The shortest way: no browser in between."""
    back = requests.get(attempt.url, allow_redirects=False, timeout=10).headers["Location"]
    return PastedSignIn(tell=lambda _: None, prompt=lambda _: back)(attempt)


def identity_with(cognito, **options) -> CognitoIdentity:
    given = {
        "way": sign_in_by_code,
        "client_id": CLIENT_ID,
        "redirect_uri": "http://localhost:3000",
        "issuer": cognito.url,
        "identity_pool_id": "us-east-1:pool",
        "region": "us-east-1",
        "delivery": DELIVERY,
    }
    return cognito_identity(**(given | options))


def answers(*given):
    return deque(given)


def keys(identity):
    return identity.session().get_credentials().get_frozen_credentials()


# ── signing in ───────────────────────────────────────────────────────────────────────────────────


def test_a_browser_signs_in_and_the_delivery_gets_its_roles_credentials(cognito):
    told: list[str] = []
    way = BrowserSignIn(tell=told.append, open_browser=browse)
    identity = identity_with(cognito, way=way, redirect_uri=f"http://localhost:{free_port()}/back")
    assert identity.sign_in() == "ada@example.org"
    assert "CANARY-secret-key" in keys(identity).secret_key
    assert identity.session().region_name == "us-east-1"
    assert cognito.roles_asked == [ROLE]
    assert cognito.url in told[0]


def test_without_a_browser_the_page_is_told_and_the_wait_goes_on(cognito):
    def tell(text):
        assert "No browser could be opened" in text
        browse(text.split("\n")[1])

    way = BrowserSignIn(tell=tell, open_browser=lambda _: False)
    assert (
        identity_with(cognito, way=way, redirect_uri=f"http://localhost:{free_port()}").sign_in() == "ada@example.org"
    )


@pytest.mark.parametrize(
    "form", ["{back}", "  {back}\n", "code={code}&state={state}", "?code={code}&state={state}", "{code}"]
)
def test_the_redirect_or_the_code_can_be_pasted(cognito, form):
    told: list[str] = []

    def prompt(question):
        url = told[0].split("\n")[1]
        back = requests.get(url, allow_redirects=False, timeout=10).headers["Location"]
        fields = dict(field.split("=") for field in back.partition("?")[2].split("&"))
        return form.format(back=back, **fields)

    assert identity_with(cognito, way=PastedSignIn(told.append, prompt)).sign_in() == "ada@example.org"


def test_a_paste_that_is_no_answer_may_be_mended_twice(cognito):
    told: list[str] = []
    answers = iter(["http://localhost:3000/?code=x&state=wrong", "http://[", "code=", "unreached"])
    with pytest.raises(IdentityError, match="given up"):
        identity_with(cognito, way=PastedSignIn(told.append, lambda _: next(answers))).sign_in()
    assert [text for text in told if "no answer to this sign-in" in text] == told[1:]
    assert len(told) == 3


def test_an_empty_paste_or_a_closed_terminal_gives_up(cognito):
    def closed(question):
        raise EOFError

    for prompt in (closed, lambda _: ""):
        with pytest.raises(IdentityError, match="given up"):
            identity_with(cognito, way=PastedSignIn(lambda _: None, prompt)).sign_in()


def test_a_code_of_another_attempt_is_refused(cognito):
    first = []

    def way(attempt):
        first.append(sign_in_by_code(attempt))
        return first[0]  # the second attempt is given the first one's code: its verifier does not fit

    cognito.answers["/oauth2/token"] = answers((503, b""))
    identity = identity_with(cognito, way=way)
    with pytest.raises(ArchiveUnavailableError):
        identity.sign_in()
    with pytest.raises(IdentityError, match=r"refused \(invalid_grant\); sign in again"):
        identity.sign_in()


def signed_with_the_public_key():
    """What passes where a verifier lets the token choose between HMAC and RSA."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "first"}, {"sub": "x"})]
    text = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    digest = hmac.digest(KEY.as_pem(private=False), text, "sha256")
    return b".".join([text, urlsafe_b64encode(digest).rstrip(b"=")]).decode()


# ── the id token ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"aud": "another"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": [CLIENT_ID, "another"]}, "several clients"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": time.time() + 9_000}, "future"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"sub": None}, "sub"),
        ({"token_use": "access"}, "no id token"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(cognito, claims, reason):
    cognito.claims = claims
    with pytest.raises(IdentityError, match=rf"the id token from .* was refused: .*{reason}.*; sign in again"):
        identity_with(cognito).sign_in()


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token[:-8] + "AAAAAAAA",
        lambda token: token.rpartition(".")[0] + ".",
        lambda _: "x",
        lambda _: "",
        lambda _: "\udcff.x.y",
        lambda _: 7,
        lambda _: signed_with_the_public_key(),
    ],
)
def test_a_token_that_the_issuer_did_not_sign_is_refused(cognito, forge):
    answer = json.dumps({"id_token": forge(cognito.id_token()), "access_token": "x", "token_type": "Bearer"}).encode()
    cognito.answers["/oauth2/token"] = answers((200, answer))
    with pytest.raises(IdentityError):
        identity_with(cognito).sign_in()


def test_a_key_that_the_issuer_changed_is_fetched_and_a_strangers_is_not_believed(cognito):
    identity = identity_with(cognito)
    cognito.id_token_lifetime_s = 0.5
    identity.sign_in()
    cognito.key, cognito.published = LATER_KEY, [LATER_KEY]
    time.sleep(0.5)
    identity._role_credentials()
    assert cognito.requests["/jwks"] == 2
    cognito.key = KEY
    time.sleep(0.5)
    with pytest.raises(IdentityError, match="was refused: invalid_key_id"):
        identity._role_credentials()
    assert cognito.requests["/jwks"] == 3


@pytest.mark.parametrize("skew_s", [-7200, 7200])
def test_a_clock_that_differs_from_the_servers_does_not_matter(cognito, skew_s):
    cognito.skew_s = skew_s
    identity = identity_with(cognito)
    identity.sign_in()
    before = keys(identity)
    assert keys(identity) == before
    assert cognito.requests["GetCredentialsForIdentity"] == 1
    assert cognito.requests["/oauth2/token"] == 1


# ── the role ─────────────────────────────────────────────────────────────────────────────────────


def test_a_sign_in_without_a_role_for_the_delivery_says_which_it_has(cognito):
    cognito.roles = ["arn:aws:iam::1:role/stem-other-d1-role"]
    with pytest.raises(IdentityError, match=r"no role for the delivery d1 of spectra .*stem-other-d1-role"):
        identity_with(cognito).sign_in()


def test_a_role_can_be_named_where_names_do_not_tell(cognito):
    cognito.roles = [ROLE, "arn:aws:iam::1:role/other"]
    identity_with(cognito, role="arn:aws:iam::1:role/other").sign_in()
    assert cognito.roles_asked == ["arn:aws:iam::1:role/other"]


# ── renewal ──────────────────────────────────────────────────────────────────────────────────────


def test_credentials_and_tokens_are_renewed_before_they_expire_and_rotation_is_honoured(cognito):
    cognito.rotate, cognito.id_token_lifetime_s, cognito.credentials_lifetime_s = True, 1.0, 1.0
    identity = identity_with(cognito)
    identity.sign_in()
    begun, seen = time.monotonic(), set()
    while time.monotonic() - begun < 3.5:
        given = keys(identity)
        seen.add(given)
        assert identity.session().get_credentials()._seconds_remaining() > 0
        time.sleep(0.01)
    assert 5 <= len(seen) <= 12
    assert cognito.requests["/oauth2/token"] == len(
        [form for form in cognito.forms if form["place"] == "/oauth2/token"]
    )
    used = [form["refresh_token"] for form in cognito.forms if form.get("grant_type") == "refresh_token"]
    assert len(used) == len(set(used)) >= 3


def test_many_threads_that_need_new_tokens_ask_once(cognito):
    cognito.rotate, cognito.id_token_lifetime_s = True, 1.0
    identity = identity_with(cognito)
    identity.sign_in()
    cognito.id_token_lifetime_s = 3600.0
    time.sleep(1.0)
    cognito.slow.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(identity._role_credentials())) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    cognito.slow.set()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert cognito.requests["/oauth2/token"] == 2


def test_a_network_that_is_away_asks_nobody_and_the_work_goes_on(cognito):
    person = Person(willing=True)
    cognito.id_token_lifetime_s = 2.0
    identity = identity_with(cognito, ask_again=person)
    identity.sign_in()
    time.sleep(1.6)
    cognito.answers["/oauth2/token"] = answers(
        (503, b"{}"), (0, b""), (429, b'{"error": "slow_down"}'), (500, b"<html>")
    )
    identity._role_credentials()  # early enough: the old token still does
    time.sleep(0.5)
    for _ in range(3):
        with pytest.raises(ArchiveUnavailableError):
            identity._role_credentials()
    identity._role_credentials()
    assert person.asked == []


def test_a_refused_renewal_asks_once_and_the_run_goes_on(cognito):
    person = Person(willing=True)
    cognito.id_token_lifetime_s = 0.5
    identity = identity_with(cognito, ask_again=person)
    identity.sign_in()
    cognito.refresh_tokens.clear()
    time.sleep(0.5)
    found = []
    threads = [threading.Thread(target=lambda: found.append(identity._role_credentials())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(person.asked) == 1
    assert "invalid_grant" in person.asked[0]
    # A later refusal is a new one.
    cognito.refresh_tokens.clear()
    time.sleep(0.5)
    identity._role_credentials()
    assert len(person.asked) == 2


def test_a_person_who_says_no_is_not_asked_again(cognito):
    person = Person(willing=False)
    cognito.id_token_lifetime_s = 0.5
    identity = identity_with(cognito, ask_again=person)
    identity.sign_in()
    cognito.refresh_tokens.clear()
    time.sleep(0.5)
    for _ in range(3):
        with pytest.raises(IdentityError, match="invalid_grant"):
            identity._role_credentials()
    assert len(person.asked) == 1
    assert cognito.requests["/oauth2/token"] == 2


def test_without_anybody_to_ask_a_refused_renewal_reaches_whoever_uses_the_session(cognito):
    cognito.id_token_lifetime_s = cognito.credentials_lifetime_s = 1.0
    identity = identity_with(cognito)
    identity.sign_in()
    cognito.refresh_tokens.clear()
    time.sleep(1.0)
    client = identity.session().client("s3", endpoint_url=cognito.url)
    with pytest.raises(IdentityError, match="invalid_grant"):
        client.list_buckets()


def test_another_person_cannot_take_over_a_delivery(cognito):
    cognito.id_token_lifetime_s = 0.5
    identity = identity_with(cognito, ask_again=lambda _: True)
    identity.sign_in()
    cognito.refresh_tokens.clear()
    cognito.subject, cognito.email = "eve-sub", "eve@example.org"
    time.sleep(0.5)
    with pytest.raises(
        IdentityError, match=r"eve@example\.org signed in, but this delivery was begun by another person"
    ):
        identity._role_credentials()


def test_a_login_that_the_pool_rejects_is_renewed_and_tried_once_more(cognito):
    refusal = json.dumps({"__type": "NotAuthorizedException", "message": "Invalid login token."}).encode()
    cognito.answers["GetCredentialsForIdentity"] = answers((400, refusal))
    identity_with(cognito).sign_in()
    assert cognito.requests["/oauth2/token"] == 2
    cognito.answers["GetId"] = answers((400, refusal), (400, refusal))
    with pytest.raises(
        IdentityError, match=r"refused \(NotAuthorizedException: Invalid login token\.\); sign in again"
    ):
        identity_with(cognito).sign_in()


def test_other_answers_of_the_pool_say_whose_turn_it_is(cognito):
    wrong = json.dumps({"__type": "ResourceNotFoundException", "message": "no such pool"}).encode()
    busy = json.dumps({"__type": "TooManyRequestsException", "message": "later"}).encode()
    cognito.answers["GetId"] = answers((400, wrong), *[(400, busy)] * 4)
    with pytest.raises(IdentityError, match=r"no such pool\); check identity_pool_id") as refused:
        identity_with(cognito).sign_in()
    with pytest.raises(ArchiveUnavailableError, match="TooManyRequestsException") as unavailable:
        identity_with(cognito).sign_in()
    for caught, code in ((refused, "ResourceNotFoundException"), (unavailable, "TooManyRequestsException")):
        assert isinstance(caught.value, ClientError)
        assert caught.value.response["Error"]["Code"] == code


def test_while_the_old_credentials_work_a_failing_renewal_is_tried_now_and_then(cognito):
    cognito.credentials_lifetime_s = 4.0
    identity = identity_with(cognito)
    identity.sign_in()
    time.sleep(2.1)
    cognito.answers["GetId"] = answers((400, b'{"__type": "ResourceNotFoundException"}'))
    for _ in range(20):
        keys(identity)
    assert cognito.requests["GetId"] == 2
    assert credentials_module.RETRY_S >= 10


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_is_in_a_log_a_repr_an_error_or_on_the_screen(cognito, capfd):
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(self.format(record))

    handler, root = Keep(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    shown: list[str] = []
    person = Person(willing=False)

    def open_browser(url):
        shown.append(url)
        return browse(url)

    try:
        cognito.rotate, cognito.id_token_lifetime_s = True, 0.5
        way = BrowserSignIn(tell=lambda _: None, open_browser=open_browser)
        identity = identity_with(
            cognito,
            way=way,
            redirect_uri=f"http://localhost:{free_port()}",
            ask_again=person,
        )
        shown.append(identity.sign_in())
        time.sleep(0.5)
        identity._role_credentials()
        shown += [repr(identity), repr(identity._tokens), str(identity._tokens), repr(identity._role_credentials())]
        assert identity._tokens is not None
        pool_answer = json.dumps({"__type": "NotAuthorizedException", "message": f"no: {identity._tokens.id_token}"})
        quoting = json.dumps({"error": "invalid_grant", "error_description": f"no: {identity._tokens.refresh_token}"})
        cognito.answers["GetId"] = answers((400, pool_answer.encode()))
        cognito.answers["/oauth2/token"] = answers((0, b""), (400, quoting.encode()))
        for _ in range(3):
            try:
                time.sleep(0.5)
                identity._role_credentials()
            except (IdentityError, ArchiveUnavailableError) as error:
                shown += ["".join(traceback.format_exception(error)), repr(error)]
                context = error.__context__
                while context is not None:
                    shown.append(f"{context} {context!r}")
                    context = context.__context__
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    everything = "\n".join([*shown, *person.asked, *records, *capfd.readouterr()])
    assert records
    assert len(cognito.secrets) > 10
    assert [secret for secret in cognito.secrets if secret in everything] == []


def test_what_holds_secrets_cannot_be_pickled_or_copied(cognito):
    identity = identity_with(cognito)
    identity.sign_in()
    for holder in (identity._tokens, identity._role_credentials(), identity._oauth.begin()):
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="holds secrets"):
                take(holder)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ring(monkeypatch):
    import keyring
    import keyring.backend

    class Ring(keyring.backend.KeyringBackend):
        priority = 1

        def __init__(self):
            super().__init__()
            self.held = {}

        def get_password(self, service, username):
            return self.held.get((service, username))

        def set_password(self, service, username, password):
            self.held[service, username] = password

        def delete_password(self, service, username):
            del self.held[service, username]

    before = keyring.get_keyring()
    ring = Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def nobody(attempt):
    raise AssertionError("a person was asked")


def test_a_sign_in_kept_in_the_keyring_needs_no_person_the_next_time(cognito, ring):
    cognito.rotate = True
    identity_with(cognito, tokens="keyring").sign_in()
    assert identity_with(cognito, tokens="keyring", way=nobody).sign_in() == "ada@example.org"
    assert list(ring.held.values()) == list(cognito.refresh_tokens)
    cognito.refresh_tokens.clear()
    assert identity_with(cognito, tokens="keyring").sign_in() == "ada@example.org"
    assert list(ring.held.values()) == list(cognito.refresh_tokens)


def test_a_token_that_another_process_rotated_is_taken_from_the_keyring(cognito, ring):
    cognito.rotate, cognito.id_token_lifetime_s = True, 0.5
    one = identity_with(cognito, tokens="keyring")
    one.sign_in()
    identity_with(cognito, tokens="keyring", way=nobody).sign_in()
    time.sleep(0.5)
    one._role_credentials()


def test_signing_out_revokes_and_forgets(cognito, ring):
    identity = identity_with(cognito, tokens="keyring")
    identity.sign_in()
    url = identity.sign_out()
    assert url == f"{cognito.url}/logout?client_id=client&logout_uri=http%3A%2F%2Flocalhost%3A3000"
    assert (ring.held, cognito.refresh_tokens) == ({}, {})
    assert identity_with(cognito, tokens="keyring", way=sign_in_by_code).sign_out() == url
    cognito.answers["/oauth2/revoke"] = answers((503, b""))
    identity.sign_in()
    with pytest.raises(ArchiveUnavailableError, match="did not revoke"):
        identity.sign_out()
    assert ring.held == {}


def test_by_default_nothing_is_kept(cognito, ring):
    identity_with(cognito).sign_in()
    assert ring.held == {}


def test_a_locked_keyring_is_an_error_that_shows_no_secret(cognito, ring, monkeypatch):
    import keyring.errors

    def locked(*args):
        raise keyring.errors.KeyringLocked(f"cannot store {args}")

    monkeypatch.setattr(ring, "set_password", locked)
    with pytest.raises(IdentityError, match=r"could not be written \(KeyringLocked\); unlock it") as caught:
        identity_with(cognito, tokens="keyring").sign_in()
    assert "CANARY" not in str(caught.value)


def test_a_system_without_a_keyring_or_the_library_is_told_what_to_do(cognito, ring, monkeypatch):
    import keyring
    import keyring.backends.fail

    keyring.set_keyring(keyring.backends.fail.Keyring())
    with pytest.raises(ConfigurationError, match='set tokens = "memory"'):
        identity_with(cognito, tokens="keyring")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="needs the extra `keyring`: pip install"):
        identity_with(cognito, tokens="keyring")


# ── what cannot work ─────────────────────────────────────────────────────────────────────────────


def test_only_login_needs_no_delivery(cognito):
    identity = identity_with(cognito, delivery=None)
    assert identity.sign_in() == "ada@example.org"
    with pytest.raises(ConfigurationError, match="no AWS credentials"):
        identity.session()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"issuer": "", "domain": "x.example"}, "needs domain and user_pool_id, or issuer"),
        ({"issuer": "http://example.org"}, "must be an https URL"),
        ({"issuer": "https://["}, "must be an https URL"),
        ({"issuer": "", "domain": "x.example", "user_pool_id": "pool"}, "looks like us-east-1_Ab12Cd34E"),
        ({"issuer": "", "domain": "x.example/y", "user_pool_id": "us-east-1_x"}, "is no host name"),
        ({"identity_pool_id": ""}, "needs identity_pool_id"),
        ({"identity_pool_id": "pool"}, "identity_pool_id 'pool' is none"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_asked(cognito, options, message):
    with pytest.raises(ConfigurationError, match=message):
        identity_with(cognito, **options)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b"", ConfigurationError),
        (200, b"[]", ConfigurationError),
        (200, b"{}", ConfigurationError),
        (200, b"<html>", ConfigurationError),
        (503, b"", ArchiveUnavailableError),
        (0, b"", ArchiveUnavailableError),
    ],
)
def test_an_issuer_that_says_nothing_usable_of_itself_is_named(cognito, status, body, error):
    cognito.answers["/.well-known/openid-configuration"] = answers((status, body))
    with pytest.raises(error, match=r"127\.0\.0\.1"):
        identity_with(cognito)


def test_a_redirect_of_the_token_endpoint_is_not_followed(cognito):
    cognito.answers["/oauth2/token"] = answers((307, b""))
    with pytest.raises(IdentityError, match="gave an answer that is none"):
        identity_with(cognito).sign_in()


def test_an_answer_without_an_id_token_is_refused(cognito):
    cognito.answers["/oauth2/token"] = answers((200, b'{"access_token": "x", "token_type": "Bearer"}'))
    with pytest.raises(IdentityError, match="gave no id token"):
        identity_with(cognito).sign_in()


def test_a_private_ca_is_taken_from_boto3s_variable(cognito, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError, match=r"AWS_CA_BUNDLE names .*missing\.pem"):
        identity_with(cognito, issuer="https://127.0.0.1:1")


def test_the_core_and_the_settings_import_nothing_of_the_sign_in():
    code = "import sys, upload_core, upload_adapters.configuration; print(*sys.modules)"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert {"authlib", "joserfc", "requests", "keyring", "boto3"} & set(found.stdout.split()) == set()
