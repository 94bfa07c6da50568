"""The OAuth side of a sign-in: authorization code with PKCE (S256), state and nonce; refresh; revocation.

Rule: what a person has to mend is an `IdentityError`; a server or a network that does not work now is an
`ArchiveUnavailableError` and never costs a sign-in. Tokens travel in bodies of requests that follow no redirect.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import attrs
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from upload_adapters.aws.errors import AwsConfigurationError, AwsIdentityError, AwsUnavailableError
from upload_adapters.aws.tokens import Claims, IdTokenVerifier, Tokens, Unpicklable, masked, server_time, without
from upload_core.errors import ArchiveUnavailableError, IdentityError, UploadClientError

TIMEOUT_S: Final = 15.0
SCOPE: Final = "openid email"
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_PASSING_ERRORS: Final = {"temporarily_unavailable", "server_error", "slow_down"}
_TOO_MANY_REQUESTS: Final = 429


@attrs.frozen
class Endpoints:
    """Where one issuer does what; `revoke` and `logout` are "" where it has no such place."""

    issuer: str
    authorize: str
    token: str
    jwks: str
    revoke: str = ""
    logout: str = ""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            if url := getattr(self, field.name):
                demand_https(url, f"the {field.name} endpoint")


def demand_https(url: str, what: str) -> None:
    """Raises `ConfigurationError` unless the URL is https, or http to this very machine."""
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        scheme, host = "", None
    if not host or not (scheme == "https" or (scheme == "http" and host in _LOOPBACK)):
        raise AwsConfigurationError(f"{what} must be an https URL, and {url!r} is not")


def cognito_endpoints(*, domain: str, user_pool_id: str) -> Endpoints:
    """The places of a Cognito user pool's hosted sign-in; a pool's id begins with its region."""
    host = domain.removeprefix("https://").rstrip("/")
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", host):
        raise AwsConfigurationError(
            f"domain {domain!r} is no host name; give it like mast.auth.us-east-1.amazoncognito.com"
        )
    issuer = f"https://{login_provider(user_pool_id)}"
    return Endpoints(
        issuer=issuer,
        authorize=f"https://{host}/oauth2/authorize",
        token=f"https://{host}/oauth2/token",
        jwks=f"{issuer}/.well-known/jwks.json",
        revoke=f"https://{host}/oauth2/revoke",
        logout=f"https://{host}/logout",
    )


def login_provider(user_pool_id: str) -> str:
    """The name by which identity pools know a user pool. Raises `ConfigurationError` for what is no pool's id."""
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d_[0-9A-Za-z]+", user_pool_id):
        raise AwsConfigurationError(f"user_pool_id {user_pool_id!r} is none; it looks like us-east-1_Ab12Cd34E")
    region, _, _ = user_pool_id.partition("_")
    # China's regions have a domain of their own.
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"cognito-idp.{region}.{suffix}/{user_pool_id}"


def discovered_endpoints(issuer: str) -> Endpoints:
    """The places that an OpenID Connect issuer publishes of itself. Raises `ConfigurationError` if they are unusable."""
    issuer = issuer.rstrip("/")
    demand_https(issuer, "the issuer")
    found = _get_json(f"{issuer}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise AwsConfigurationError(f"{issuer} calls itself {found.get('issuer')!r}; set issuer in [identity] to that")
    try:
        return Endpoints(
            issuer=issuer,
            authorize=str(found["authorization_endpoint"]),
            token=str(found["token_endpoint"]),
            jwks=str(found["jwks_uri"]),
            revoke=str(found.get("revocation_endpoint", "")),
            logout=str(found.get("end_session_endpoint", "")),
        )
    except KeyError as error:
        raise AwsConfigurationError(f"{issuer} does not say what its {error.args[0]} is; it cannot be used") from None


@attrs.frozen(getstate_setstate=False)
class Attempt(Unpicklable):
    """One sign-in under way: the page to open, and what must come back with the answer."""

    url: str = attrs.field(repr=masked)
    redirect_uri: str
    state: str = attrs.field(repr=masked)
    nonce: str = attrs.field(repr=masked)
    verifier: str = attrs.field(repr=masked)


class OAuthClient:
    """A public OAuth client (no secret of its own) of one issuer. Safe for threads: it keeps no state but the keys."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        client_id: str,
        redirect_uri: str,
        scope: str = SCOPE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.endpoints = endpoints
        self.client_id = client_id
        self.redirect_uri = redirect_uri
        self._scope = scope
        self._now = now
        self._verifier = IdTokenVerifier(
            issuer=endpoints.issuer, client_id=client_id, fetch_keys=lambda: _get_json(endpoints.jwks)
        )

    def begin(self) -> Attempt:
        """A new attempt; state, nonce and verifier are used for no other."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        with self._session(redirect_uri=self.redirect_uri, scope=self._scope, code_challenge_method="S256") as session:
            url, _ = session.create_authorization_url(
                self.endpoints.authorize, state=state, nonce=nonce, code_verifier=verifier
            )
        return Attempt(url=url, redirect_uri=self.redirect_uri, state=state, nonce=nonce, verifier=verifier)

    def redeem(self, attempt: Attempt, code: str) -> Tokens:
        """The tokens for a code; a code works once. Raises `IdentityError` if code or tokens are not accepted."""
        answer, server_now = self._ask(
            lambda session: session.fetch_token(
                self.endpoints.token,
                grant_type="authorization_code",
                code=code,
                code_verifier=attempt.verifier,
                redirect_uri=attempt.redirect_uri,
                **_options(),
            ),
            secret=(code, attempt.verifier, attempt.state, attempt.nonce),
        )
        return self._tokens(answer, server_now, nonce=attempt.nonce)

    def refresh(self, refresh_token: str, *, subject: str | None = None) -> Tokens:
        """New tokens of the same person; they hold the refresh token to use next, which may be another one.

        Raises `IdentityError` if the refresh token is no longer accepted.
        """
        answer, server_now = self._ask(
            lambda session: session.refresh_token(self.endpoints.token, refresh_token=refresh_token, **_options()),
            secret=(refresh_token,),
        )
        # A refreshed id token need not repeat the nonce (OpenID Connect Core, 12.2); its subject must be the same.
        return self._tokens(answer, server_now, subject=subject, refresh_token=refresh_token)

    def revoke(self, refresh_token: str) -> None:
        """Make the refresh token, and what came of it, worthless; without a place to ask, nothing happens."""
        if not self.endpoints.revoke:
            return
        failure: UploadClientError
        try:
            with self._session() as session:
                status = session.revoke_token(
                    self.endpoints.revoke,
                    token=refresh_token,
                    token_type_hint="refresh_token",  # noqa: S106 - the name of a kind of token
                    **_options(),
                ).status_code
            if status < 300:
                return
            kind = ArchiveUnavailableError if status >= 500 or status == _TOO_MANY_REQUESTS else IdentityError
            failure = kind(f"{self._host} did not revoke the sign-in (HTTP {status}); it ends by itself in time")
        except requests.RequestException as error:
            failure = self._unreachable(error)
        raise failure

    def logout_url(self) -> str:
        """The page that ends the browser's own session with the issuer, or ""."""
        if not self.endpoints.logout:
            return ""
        return f"{self.endpoints.logout}?{urlencode({'client_id': self.client_id, 'logout_uri': self.redirect_uri})}"

    @property
    def _host(self) -> str:
        return urlsplit(self.endpoints.token).hostname or self.endpoints.token

    def _session(self, **options: Any) -> Any:
        # One per use: such a session remembers the last token it saw.
        return OAuth2Session(self.client_id, token_endpoint_auth_method="none", **options)  # noqa: S106 - a method

    def _ask(
        self, request: Callable[[Any], Mapping[str, Any]], *, secret: tuple[str, ...]
    ) -> tuple[dict[str, Any], float]:
        """The token endpoint's answer, and the time of its clock."""
        seen: list[requests.Response] = []

        def remember(response: requests.Response) -> requests.Response:
            seen.append(response)
            return response

        try:
            with self._session() as session:
                session.register_compliance_hook("access_token_response", remember)
                session.register_compliance_hook("refresh_token_response", remember)
                answer = dict(request(session))
            return answer, server_time(seen[0].headers.get("Date"), self._now())
        except OAuthError as error:
            code, words = without(str(error.error), secret), without(str(error.description or ""), secret)
            if code in _PASSING_ERRORS or seen[0].status_code == _TOO_MANY_REQUESTS:
                failure: UploadClientError = AwsUnavailableError(f"{self._host} can sign in nobody now ({code})")
            else:
                reason = f"{code}: {words}" if words else code
                failure = AwsIdentityError(f"{self._host} refused ({reason}); sign in again")
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status >= 500 or status == _TOO_MANY_REQUESTS:
                failure = AwsUnavailableError(f"{self._host} does not work now (HTTP {status})")
            else:
                failure = AwsIdentityError(f"{self._host} refused (HTTP {status}); sign in again")
        except requests.RequestException as error:
            failure = self._unreachable(error)
        except ValueError:
            failure = AwsIdentityError(f"{self._host} gave an answer that is none; check `domain` in [identity]")
        # Raised out here so that it is chained to nothing: those errors hold the request, or the server's own words.
        raise failure

    def _tokens(
        self,
        answer: Mapping[str, Any],
        server_now: float,
        *,
        nonce: str | None = None,
        subject: str | None = None,
        refresh_token: str | None = None,
    ) -> Tokens:
        id_token = answer.get("id_token")
        if not isinstance(id_token, str):
            raise AwsIdentityError(f"{self._host} gave no id token; the scope must contain `openid`")
        claims: Claims = self._verifier.verify(id_token, now=server_now, nonce=nonce, subject=subject)
        following = answer.get("refresh_token")
        return Tokens(
            id_token=id_token,
            refresh_token=following if isinstance(following, str) and following else refresh_token,
            claims=claims,
            expires_at=self._now() + claims.lifetime_s,
        )

    def _unreachable(self, error: requests.RequestException) -> ArchiveUnavailableError:
        # Only the kind: the error holds the request, and the request a token.
        return AwsUnavailableError(
            f"{self._host} cannot be reached ({type(error).__name__}); check the network, proxy and CA settings"
        )


def _get_json(url: str) -> dict[str, Any]:
    """The JSON object at a public place. Raises `ArchiveUnavailableError`, or `ConfigurationError` if there is none."""
    try:
        with requests.Session() as session:
            answer = session.get(url, timeout=TIMEOUT_S, headers={"Accept": "application/json"}, verify=_ca_bundle())
    except requests.RequestException as error:
        raise AwsUnavailableError(
            f"{url} cannot be reached ({type(error).__name__}); check the network, proxy and CA settings"
        ) from None
    if answer.status_code >= 500 or answer.status_code == _TOO_MANY_REQUESTS:
        raise AwsUnavailableError(f"{url} does not work now (HTTP {answer.status_code})")
    try:
        found = answer.json() if answer.ok else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AwsConfigurationError(
            f"{url} holds nothing to verify a sign-in with (HTTP {answer.status_code}); check [identity]"
        )
    return found


def _options() -> dict[str, Any]:
    """What holds of every request that carries a secret."""
    return {"timeout": TIMEOUT_S, "allow_redirects": False, "verify": _ca_bundle()}


def _ca_bundle() -> str | bool:
    """The CAs to trust: those of boto3's own variable count here too, and where it is not set those of requests'.

    Said with each request: what a session alone says, requests' variable would override. Raises `ConfigurationError`
    for a file that is not there.
    """
    named = os.environ.get("AWS_CA_BUNDLE")
    if named and not os.path.exists(named):
        raise AwsConfigurationError(f"AWS_CA_BUNDLE names {named!r}, which does not exist; mend it, or unset it")
    return named or True
