"""A person's sign-in with Cognito, kept alive for as long as a delivery takes.

Rule: one thread at a time renews, and the others take what it got. A refused renewal asks the person once; until the
answer is yes and a new sign-in succeeds, every request for credentials gets the same `IdentityError`, and nothing of
the work is lost. A network that is away refuses nothing and asks nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from upload_adapters.aws.credentials import (
    IdentityPool,
    LoginRejectedError,
    RoleCredentials,
    renewing_session,
    role_for_delivery,
)
from upload_adapters.aws.errors import AwsConfigurationError, AwsIdentityError, AwsSignInCutError
from upload_adapters.aws.identity import expiry_ms
from upload_adapters.aws.oauth import (
    SCOPE,
    OAuthClient,
    cognito_endpoints,
    discovered_endpoints,
    login_provider,
)
from upload_adapters.aws.tokens import Tokens
from upload_adapters.aws.tokens_store import KeyringTokenStore, MemoryTokenStore, TokenStore
from upload_core.errors import ArchiveUnavailableError, IdentityError

if TYPE_CHECKING:
    import boto3

    from upload_adapters.aws.identity_signin import SignInWay

RENEW_S: Final = 300.0
"""An id token that has less than this left (or less than a quarter of its life) is renewed before it is used."""


class CognitoIdentity:
    """Who a person is to the archive: one sign-in, its tokens, and the credentials of the delivery's role.

    Safe for threads. `ask_again` is called with the reason when a renewal is refused, at most once until the next
    successful sign-in; True means "sign in now". While the old credentials work it is called in a thread of its own, and
    the work goes on; once they are about to end, whoever needs credentials waits.
    """

    def __init__(
        self,
        oauth: OAuthClient,
        *,
        way: SignInWay,
        pool: IdentityPool | None = None,
        delivery: tuple[str, str] | None = None,
        role: str | None = None,
        region: str | None = None,
        store: TokenStore | None = None,
        ask_again: Callable[[IdentityError], bool] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._oauth = oauth
        self._way = way
        self._pool = pool
        self._delivery = delivery
        self._role = role
        self._region = region
        self._store = store if store is not None else MemoryTokenStore()
        self._ask_again = ask_again
        self._now = now
        self._lock = threading.RLock()
        self._tokens: Tokens | None = None
        self._refused: IdentityError | None = None
        self._session: boto3.Session | None = None

    def __repr__(self) -> str:
        return f"CognitoIdentity(client_id={self._oauth.client_id!r}, tokens={self._tokens!r})"

    def sign_in(self) -> str:
        """Sign in, by the stored refresh token if one works, else by a person; returns the person's public name.

        Raises `IdentityError` if nobody signed in or the identity has no role for the delivery, and
        `ArchiveUnavailableError` if the issuer cannot be reached.
        """
        with self._lock:
            self._refused = None
            if self._tokens is None and not self._resume_stored():
                self._ask_person(None)
            if self._pool is not None and self._session is None:
                self._session = renewing_session(self._role_credentials, region=self._region, now=self._now)
            return self._fresh_tokens().claims.name

    def session(self) -> boto3.Session:
        """The session for the delivery's role, signed in first if it is not yet."""
        if (made := self._session) is not None:  # without the lock: its holder may be asking a person
            return made
        with self._lock:
            if self._session is None:
                self.sign_in()
            if self._session is None:
                raise AwsConfigurationError("no identity_pool_id is set in [identity], so there are no AWS credentials")
            return self._session

    def expires_ms(self) -> int | None:
        """When the role's credentials end unless they are renewed, None before there are any; never waits for a person."""
        return expiry_ms(self._session)

    def sign_out(self) -> str:
        """Revoke and forget the sign-in, here and in the store; returns the page that ends the browser's session, or "".

        What can be forgotten is forgotten even if revoking fails, which raises `ArchiveUnavailableError` or
        `IdentityError` afterwards.
        """
        with self._lock:
            tokens, self._tokens, self._session, self._refused = self._tokens, None, None, None
            refresh_token = tokens.refresh_token if tokens is not None else None
            stored = self._store.load()
            self._store.forget()
            for token in {token for token in (refresh_token, stored) if token}:
                self._oauth.revoke(token)
            return self._oauth.logout_url()

    # --- renewal: everything below runs under the lock ---------------------------------------------

    def _role_credentials(self) -> RoleCredentials:
        """New keys of the delivery's role: what botocore calls before the old ones expire."""
        with self._lock:
            assert self._pool is not None  # only a session calls this, and only a pool makes one
            tokens = self._fresh_tokens()
            try:
                return self._pool.credentials(tokens.id_token, self._role_of(tokens))
            except LoginRejectedError:
                # A token that was revoked, or a clock that is wrong: a new token settles which.
                tokens = self._renew(tokens)
                return self._pool.credentials(tokens.id_token, self._role_of(tokens))

    def _role_of(self, tokens: Tokens) -> str:
        if self._role is not None:
            return self._role
        if self._delivery is None:
            raise AwsConfigurationError("without a delivery or a `role` in [identity] there are no AWS credentials")
        return role_for_delivery(tokens.claims.roles, *self._delivery)

    def _fresh_tokens(self) -> Tokens:
        if self._refused is not None:
            raise self._refused
        if self._tokens is None:
            raise AwsIdentityError("nobody is signed in; run `upload-core login`")
        margin_s = min(RENEW_S, self._tokens.claims.lifetime_s / 4)
        if self._tokens.expires_at - self._now() > margin_s:
            return self._tokens
        return self._renew(self._tokens)

    def _renew(self, tokens: Tokens) -> Tokens:
        try:
            return self._refresh(tokens)
        except ArchiveUnavailableError:
            if tokens.expires_at > self._now():
                return tokens  # early enough for another try
            raise
        except IdentityError as error:
            return self._sign_in_again(error, tokens)

    def _refresh(self, tokens: Tokens) -> Tokens:
        subject = tokens.claims.subject
        if tokens.refresh_token is None:
            raise AwsIdentityError(
                "the sign-in has expired, and the archive gave nothing to renew it with; sign in again"
            )
        try:
            return self._keep(self._oauth.refresh(tokens.refresh_token, subject=subject))
        except IdentityError:
            # Another process may have rotated the stored token; its successor is as good for us.
            stored = self._store.load()
            if stored is None or stored == tokens.refresh_token:
                raise
            return self._keep(self._oauth.refresh(stored, subject=subject))

    def _sign_in_again(self, error: IdentityError, tokens: Tokens) -> Tokens:
        """Ask the person once. While they think, threads that need no new credentials go on."""
        # Set first: whatever happens meanwhile, nobody is asked a second time.
        self._refused = error
        if self._ask_again is None or not self._ask_again(error):
            raise error
        try:
            renewed = self._ask_person(tokens.claims.subject)
        except IdentityError as failure:
            self._refused = failure
            raise
        except ArchiveUnavailableError:
            self._refused = None  # neither person nor issuer said no
            raise
        self._refused = None
        return renewed

    def _ask_person(self, subject: str | None) -> Tokens:
        attempt = self._oauth.begin()
        try:
            tokens = self._oauth.redeem(attempt, self._way(attempt))
        except ArchiveUnavailableError as error:
            raise AwsSignInCutError(str(error)) from error
        if subject is not None and tokens.claims.subject != subject:
            raise AwsIdentityError(
                f"{tokens.claims.name} signed in, but this delivery was begun by another person; sign in as that one, "
                "or stop and resume as yourself"
            )
        return self._keep(tokens)

    def _resume_stored(self) -> bool:
        stored = self._store.load()
        if stored is None:
            return False
        try:
            self._keep(self._oauth.refresh(stored))
        except IdentityError:
            return False  # too old: a person signs in, which replaces it
        return True

    def _keep(self, tokens: Tokens) -> Tokens:
        """Believe these tokens; a rotated refresh token is stored before anything else can go wrong."""
        self._tokens = tokens
        if tokens.refresh_token is not None and tokens.refresh_token != self._store.load():
            self._store.save(tokens.refresh_token)
        return tokens


def cognito_identity(
    *,
    way: SignInWay,
    client_id: str,
    redirect_uri: str,
    domain: str = "",
    user_pool_id: str = "",
    identity_pool_id: str = "",
    issuer: str = "",
    scope: str = SCOPE,
    role: str | None = None,
    region: str | None = None,
    delivery: tuple[str, str] | None = None,
    tokens: Literal["memory", "keyring"] = "memory",
    ask_again: Callable[[IdentityError], bool] | None = None,
) -> CognitoIdentity:
    """An identity from the settings of `[identity]`; `delivery` is dataset and delivery id, None to sign in only.

    With `issuer` the endpoints are what it publishes of itself, and `domain` is not needed. Raises
    `ConfigurationError` for settings that cannot work.
    """
    if issuer:
        endpoints = discovered_endpoints(issuer)
    elif domain and user_pool_id:
        endpoints = cognito_endpoints(domain=domain, user_pool_id=user_pool_id)
    else:
        raise AwsConfigurationError("[identity] needs domain and user_pool_id, or issuer")
    pool = None
    if delivery is not None:
        if not identity_pool_id:
            raise AwsConfigurationError("[identity] needs identity_pool_id: it is where AWS credentials come from")
        provider = login_provider(user_pool_id) if user_pool_id else endpoints.issuer.partition("://")[2]
        pool = IdentityPool(identity_pool_id=identity_pool_id, login_provider=provider)
    store: TokenStore | None = None
    if tokens == "keyring":
        store = KeyringTokenStore(issuer=endpoints.issuer, client_id=client_id)
    return CognitoIdentity(
        OAuthClient(endpoints, client_id=client_id, redirect_uri=redirect_uri, scope=scope),
        way=way,
        pool=pool,
        delivery=delivery,
        role=role,
        region=region,
        store=store,
        ask_again=ask_again,
    )
