"""Who may ask: keys that were issued, until when they hold, and that requests come signed and in time."""

import re
import secrets
import threading
from datetime import UTC, datetime

import attrs

from tests.emulator.settings import REQUEST_SKEW_MAX_S, Settings
from tests.emulator.wire import Request, ServiceError

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/\d{8}/[^/]+/(?P<service>[^/]+)/aws4_request,\s*"
    r"SignedHeaders=[^,]+,\s*Signature=[0-9a-f]{64}"
)


@attrs.frozen
class Credentials:
    """Temporary credentials; `expires` is by the server's clock."""

    access_key: str
    secret_key: str
    token: str
    expires: float
    principal: str
    bucket: str = ""
    """The directory bucket whose session this is."""


class Keyring:
    """All temporary credentials ever issued."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._by_token: dict[str, Credentials] = {}

    def issue(self, principal: str, lifetime_s: float, bucket: str = "") -> Credentials:
        """New credentials that hold from now on."""
        issued = Credentials(
            access_key="ASIA" + secrets.token_hex(8).upper(),
            secret_key=secrets.token_hex(20),
            token=secrets.token_urlsafe(48),
            expires=self._settings.now() + lifetime_s,
            principal=principal,
            bucket=bucket,
        )
        with self._lock:
            self._by_token[issued.token] = issued
        return issued

    def expire_all(self, principal: str | None = None) -> None:
        """End every temporary credential issued so far, or those of one principal."""
        with self._lock:
            for token, issued in self._by_token.items():
                if principal in (None, issued.principal):
                    self._by_token[token] = attrs.evolve(issued, expires=0.0)

    def tokens(self) -> list[str]:
        """The secret tokens ever issued, to look for where they must not be."""
        with self._lock:
            return list(self._by_token)

    def principal(self, request: Request) -> str:
        """Who signed the request; raises `ServiceError` if nobody, too late, or with credentials that have ended.

        The signature itself is not verified.
        """
        found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if found is None:
            raise ServiceError(403, "AccessDenied", "Access Denied: the request is not signed")
        request.access_key = found["key"]
        self._check_time(request.headers.get("x-amz-date", ""))
        session = request.headers.get("x-amz-s3session-token")
        token = session if session is not None else request.headers.get("x-amz-security-token")
        if token is None:
            if request.access_key.startswith("ASIA") or not self._settings.accept_any_key:
                raise ServiceError(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")
            return request.access_key
        with self._lock:
            issued = self._by_token.get(token)
        if issued is None or issued.access_key != request.access_key:
            raise ServiceError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
        if bool(issued.bucket) != (session is not None) or (issued.bucket and issued.bucket != request.bucket):
            raise ServiceError(403, "AccessDenied", "Access Denied: these credentials are for something else")
        if issued.expires <= self._settings.now():
            raise ServiceError(400, "ExpiredToken", "The provided token has expired.")
        return issued.principal

    def _check_time(self, stamp: str) -> None:
        try:
            signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise ServiceError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date") from None
        if self._settings.check_request_time and abs(signed - self._settings.now()) > REQUEST_SKEW_MAX_S:
            raise ServiceError(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
