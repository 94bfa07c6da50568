"""What a sign-in leaves in our hands, and how an id token is judged.

Rule: a token is shown to nobody. Whatever holds one masks it in its `repr` and cannot be pickled, and no error raised
here carries a token or is chained to one that does. The access token is not kept: nothing here needs it.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

import attrs
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from upload_adapters.aws.errors import AwsIdentityError
from upload_core.errors import IdentityError
from upload_core.text import printable

MASK: Final = "***"
ALGORITHMS: Final = ["RS256", "ES256"]
"""Asymmetric ones only: with an HMAC algorithm the public key would do as a forger's secret."""
CLOCK_LEEWAY_S: Final = 60
SKEW_S_MIN: Final = 2.0
"""Clocks that differ by less count as equal."""
TEXT_MAX: Final = 300
"""Characters of a server's own words that we repeat."""


def masked(_: object) -> str:
    """What stands for a secret wherever it would be shown."""
    return MASK


def without(text: str, secrets: Iterable[str | None]) -> str:
    """The text, printable and short, with every given secret masked: servers like to quote what they were sent.

    >>> without("bad token abcdefgh!", ["abcdefgh", None])
    'bad token ***!'
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return printable(text, TEXT_MAX)


def server_time(date: str | None, ours: float) -> float:
    """The time of a server's clock, from the Date of its answer; ours where it says none, or nothing different.

    A Date is cut to whole seconds: counting the cut second as over makes a life look shorter, never longer.

    >>> server_time("Thu, 01 Jan 1970 00:10:00 GMT", 5.0), server_time("Thu, 01 Jan 1970 00:10:00 GMT", 600.7)
    (601.0, 600.7)
    """
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return ours
    return ours if abs(theirs - ours) <= SKEW_S_MIN else theirs + 1.0


class Unpicklable:
    """Base of what must not leave this process by accident: pickling it raises `TypeError`."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and stays in its process")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__reduce__()

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


@attrs.frozen
class Claims:
    """What a verified id token says of a person; `lifetime_s` is what was left of it when it was verified."""

    subject: str
    name: str
    roles: tuple[str, ...]
    lifetime_s: float


@attrs.frozen(getstate_setstate=False)
class Tokens(Unpicklable):
    """One verified sign-in; `expires_at` is epoch seconds by *our* clock, whatever the server's clock shows."""

    id_token: str = attrs.field(repr=masked)
    refresh_token: str | None = attrs.field(repr=masked)
    claims: Claims = attrs.field(repr=lambda claims: repr(claims.name))
    expires_at: float


class IdTokenVerifier:
    """Believes an id token only if the issuer signed it, for us, for now, and for the sign-in that asked for it."""

    def __init__(self, *, issuer: str, client_id: str, fetch_keys: Callable[[], Mapping[str, Any]]) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._fetch_keys = fetch_keys
        self._keys: KeySet | None = None
        self._lock = threading.Lock()

    def verify(self, id_token: str, *, now: float, nonce: str | None = None, subject: str | None = None) -> Claims:
        """The claims of a valid token; `now` is the server's time. Raises `IdentityError` for any other token.

        `nonce` is that of the sign-in, None for a refreshed token; `subject` is who a refreshed token must be of.
        """
        claims = self._signed_claims(id_token)
        registry = jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=CLOCK_LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise self._refusal(f"{error.error}, {error.description}") from None
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and not _same(claims.get("azp"), self._client_id):
            raise self._refusal("it was made for several clients and not at the request of this one")
        if nonce is not None and not _same(claims.get("nonce"), nonce):
            raise self._refusal("its nonce is not the one of this sign-in")
        if subject is not None and not _same(claims["sub"], subject):
            raise self._refusal("it is another person's")
        # Cognito says what a token is for; an access token must never pass as an id token.
        if claims.get("token_use", "id") != "id":
            raise self._refusal("it is no id token")
        name = next((str(claims[key]) for key in ("email", "cognito:username", "name") if claims.get(key)), None)
        roles = claims.get("cognito:roles", [])
        return Claims(
            subject=str(claims["sub"]),
            name=printable(name or str(claims["sub"]), TEXT_MAX),
            roles=tuple(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else (),
            lifetime_s=float(claims["exp"]) - now,
        )

    def _signed_claims(self, id_token: str) -> dict[str, Any]:
        with self._lock:
            keys, fresh = self._keys, False
            if keys is None:
                keys, fresh = self._import_keys(), True
            try:
                try:
                    return dict(jwt.decode(id_token, keys, algorithms=ALGORITHMS).claims)
                except InvalidKeyIdError:
                    # The issuer may have changed its keys since we looked; look once more, not as often as asked to.
                    if fresh:
                        raise
                    return dict(jwt.decode(id_token, self._import_keys(), algorithms=ALGORITHMS).claims)
            except JoseError as error:
                raise self._refusal(error.error) from None
            except (ValueError, TypeError, KeyError, RecursionError):
                raise self._refusal("it is malformed") from None

    def _import_keys(self) -> KeySet:
        answer = self._fetch_keys()
        try:
            self._keys = KeySet.import_key_set(dict(answer))  # type: ignore[arg-type]
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise AwsIdentityError(
                f"the keys of {self._issuer} are unusable; check the user pool id, or ask the archive's staff"
            ) from None
        return self._keys

    def _refusal(self, reason: str) -> IdentityError:
        return AwsIdentityError(
            f"the id token from {self._issuer} was refused: {printable(reason, TEXT_MAX)}; sign in again, and if it "
            "happens again check client_id and user_pool_id"
        )


def _same(claim: object, expected: str) -> bool:
    return isinstance(claim, str) and hmac.compare_digest(claim.encode("utf-8", "replace"), expected.encode())
