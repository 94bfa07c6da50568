"""A real OpenID Connect server from PyPI and a real Chromium: the sign-in as a person sees it."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest
import requests

from tests.adapters.aws.test_identity_callback import free_port
from tests.chromium import running
from upload_adapters.aws.identity_cognito import cognito_identity
from upload_adapters.aws.identity_signin import BrowserSignIn, PastedSignIn
from upload_core.errors import IdentityError

ROLE = "arn:aws:iam::123456789012:role/stem-spectra-d1-role"


@pytest.fixture(scope="module")
def issuer():
    """oidc-provider-mock in a process of its own, told to accept what programs on people's machines are: public clients."""
    port = free_port()
    claims = json.dumps({"sub": "ada", "email": "ada@example.org", "cognito:roles": [ROLE]})
    script = (
        "from oidc_provider_mock import _app, __main__ as command\n"
        "_app.AuthorizationCodeGrant.TOKEN_ENDPOINT_AUTH_METHODS = ['none']\n"
        "command.run()"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, "--port", str(port), "--require-nonce", "true"]
    process = subprocess.Popen(
        [*command, "--user-claims", claims], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def identity_of(issuer, way, redirect_uri):
    return cognito_identity(way=way, client_id="client", redirect_uri=redirect_uri, issuer=issuer)


def test_the_paste_works_with_a_server_that_is_not_ours(issuer):
    def prompt(_):
        back = requests.post(told[0].split("\n")[1], data={"sub": "ada"}, allow_redirects=False, timeout=10)
        return back.headers["Location"]

    told: list[str] = []
    identity = identity_of(issuer, PastedSignIn(told.append, prompt), "http://localhost:3000")
    assert identity.sign_in() == "ada@example.org"
    assert identity._tokens is not None
    assert identity._tokens.claims.roles == (ROLE,)


def test_a_denial_there_is_reported_with_its_word(issuer):
    def prompt(_):
        back = requests.post(told[0].split("\n")[1], data={"action": "deny"}, allow_redirects=False, timeout=10)
        state, place = urllib.parse.parse_qs(told[0])["state"][0], back.headers["Location"]
        # Some releases of this server leave out the state, which RFC 6749 (4.1.2.1) demands.
        return place if "state=" in place else f"{place}&state={state}"

    told: list[str] = []
    with pytest.raises(IdentityError, match=r"the sign-in was refused \(access_denied"):
        identity_of(issuer, PastedSignIn(told.append, prompt), "http://localhost:3000").sign_in()


# ── Chromium ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def chromium(tmp_path):
    with running(tmp_path) as browser:
        yield browser


@pytest.mark.slow
def test_chromium_completes_a_sign_in_and_stray_requests_do_not(issuer, chromium):
    place = f"http://localhost:{free_port()}"
    pages: list[str] = []

    def person(url):
        chromium.open(url)
        chromium.until("document.body?.innerText", "Authorize Client")
        assert chromium.value("location.href").startswith(f"{issuer}/oauth2/authorize?")
        # While the person reads, others come by.
        strays = ("/favicon.ico", "/?code=forged&state=forged", "/?error=access_denied&state=x", "/")
        pages.extend(requests.get(place + stray, timeout=10).text for stray in strays)
        chromium.value("document.querySelector('button[value=ada]').click()")
        return True

    way = BrowserSignIn(tell=lambda _: None, open_browser=person, wait_s=30)
    identity = identity_of(issuer, way, place)
    assert identity.sign_in() == "ada@example.org"
    assert all("Nothing was changed" in page for page in pages)

    page = chromium.until("document.body?.innerText", "Sign-in received")
    assert "Go back to the program that asked for it" in page
    # No code is left where somebody could read or replay it: not in the address, not in the history.
    history = chromium.call("Page.getNavigationHistory")["entries"]
    assert not [entry for entry in history if "code=" in entry["url"]]
    assert chromium.value("location.href").startswith(f"{place}/received-")


@pytest.mark.slow
def test_chromium_shows_that_a_second_callback_came_too_late(issuer, chromium):
    place = f"http://localhost:{free_port()}"
    again: list[str] = []

    def person(url):
        attempt_url = requests.get(url, allow_redirects=False, timeout=10).headers["Location"]
        back = requests.post(attempt_url, data={"sub": "ada"}, allow_redirects=False, timeout=10).headers["Location"]
        requests.get(back, allow_redirects=False, timeout=10)
        chromium.open(back.replace("code=", "code=other"))
        again.append(chromium.until("document.body?.innerText", "Already received"))
        return True

    way = BrowserSignIn(tell=lambda _: None, open_browser=person, wait_s=30)
    assert identity_of(issuer, way, place).sign_in() == "ada@example.org"
    assert "Nothing was changed" in again[0]
