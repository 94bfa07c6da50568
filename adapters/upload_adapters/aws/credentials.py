"""AWS credentials for one delivery's role, from an identity pool, as a boto3 session that renews them.

Rule: they are renewed before they expire, by one thread at a time, and a renewal that fails, or waits for a person, while
the old ones still work stops nobody. botocore's own debug log, which would show tokens and keys, is silent while they
are fetched.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import boto3
import botocore.exceptions
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, RefreshableCredentials

from upload_adapters.aws.errors import AwsConfigurationError, AwsError, AwsIdentityError, AwsUnavailableError, cut_short
from upload_adapters.aws.tokens import Unpicklable, masked, server_time, without
from upload_core.text import printable

_log: Final = logging.getLogger("upload_core.credentials")
METHOD: Final = "cognito-identity-pool"
RENEW_S: Final = 900.0
"""From this long before expiry on one thread renews while the others go on with what they have."""
BLOCK_S: Final = 120.0
"""From this long before expiry on everybody waits: until then a person can be asked without stopping the work."""
SOON_S: Final = 1.0
"""What an ordinary renewal takes at most; whoever needs keys does not wait longer while the old ones work."""
RETRY_S: Final = 30.0
"""At most one failing renewal per this time, for as long as the old credentials work."""
_TOO_MANY_REQUESTS: Final = 429
_PASSING_CODES: Final = {
    "TooManyRequestsException",
    "InternalErrorException",
    "ExternalServiceException",
    "ConcurrentModificationException",
    "ThrottlingException",
    "ServiceUnavailable",
}


def role_for_delivery(roles: Sequence[str], dataset: str, delivery_id: str) -> str:
    """The one role (ARN) whose name ends in `<dataset>-<delivery_id>-role`. Raises `IdentityError` unless it is one."""
    suffix = f"{dataset}-{delivery_id}-role"
    names = {role: role.rpartition("/")[2] for role in roles}
    fitting = sorted(role for role, name in names.items() if name.endswith(suffix))
    if len(fitting) > 1:
        # "stem-xb-1-role" ends in "b-1-role" too; a name in which the dataset stands by itself goes before it.
        whole = [role for role in fitting if not names[role].removesuffix(suffix)[-1:].isalnum()]
        fitting = whole or fitting
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(printable(name, 100) for name in sorted(set(names.values()))[:20]) or "none"
    if not fitting:
        raise AwsIdentityError(
            f"this sign-in has no role for the delivery {printable(delivery_id)} of {printable(dataset)} "
            f"(wanted: ...{printable(suffix)}; its roles: {shown}); check the label, or ask the archive's staff"
        )
    raise AwsIdentityError(
        f"this sign-in has several roles that end in {printable(suffix)} ({shown}); "
        "name the right one (its ARN) as `role` in [identity]"
    )


@attrs.frozen(getstate_setstate=False)
class RoleCredentials(Unpicklable):
    """Temporary keys; `expires_at` is epoch seconds by *our* clock."""

    access_key: str = attrs.field(repr=masked)
    secret_key: str = attrs.field(repr=masked)
    session_token: str = attrs.field(repr=masked)
    expires_at: float

    def metadata(self) -> dict[str, str]:
        """As botocore's renewable credentials want it."""
        return {
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "token": self.session_token,
            "expiry_time": datetime.fromtimestamp(self.expires_at, UTC).isoformat(),
        }


class LoginRejectedError(AwsIdentityError):
    """The identity pool did not accept the id token; a fresher one may do."""


class IdentityPool:
    """Exchanges an id token for the keys of a role."""

    def __init__(self, *, identity_pool_id: str, login_provider: str, now: Callable[[], float] = time.time) -> None:
        """Raises `ConfigurationError` for an id that is none, or AWS settings that cannot work."""
        region, colon, _ = identity_pool_id.partition(":")
        if not colon or not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
            raise AwsConfigurationError(
                f"identity_pool_id {identity_pool_id!r} is none; it looks like us-east-1:01234567-89ab-..."
            )
        self._pool_id = identity_pool_id
        self._login_provider = login_provider
        self._now = now
        # These two calls are public: they prove themselves by the token, and must not wait for AWS credentials.
        config = Config(
            signature_version=UNSIGNED,
            connect_timeout=10,
            read_timeout=15,
            retries={"mode": "standard", "total_max_attempts": 4},
        )
        try:
            self._client = boto3.Session().client("cognito-identity", region_name=region, config=config)
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise AwsConfigurationError(f"the AWS settings cannot be used: {printable(str(error))}") from error

    def credentials(self, id_token: str, role: str) -> RoleCredentials:
        """Keys of the role. Raises `LoginRejectedError`, `IdentityError` or `ArchiveUnavailableError`."""
        logins = {self._login_provider: id_token}
        answer: Any = None
        failure: AwsError | None = None
        try:
            with _quiet_botocore():
                identity = self._client.get_id(IdentityPoolId=self._pool_id, Logins=logins).get("IdentityId")
                answer = identity and self._client.get_credentials_for_identity(
                    IdentityId=identity, Logins=logins, CustomRoleArn=role
                )
        except botocore.exceptions.ClientError as error:
            failure = _refusal(error, id_token, role)
        except botocore.exceptions.BotoCoreError as error:
            kind = type(error).__name__
            failure = AwsUnavailableError(
                f"the identity pool cannot be reached ({kind}); check network, proxy and CA settings",
                {"Error": {"Code": kind}, "ResponseMetadata": {}},
            )
        if failure is not None:
            # Raised out here so that it is chained to nothing: the server's own words may quote the token.
            raise failure
        given = (answer or {}).get("Credentials", {})
        if not given.keys() >= {"Expiration", "AccessKeyId", "SecretKey", "SessionToken"}:
            raise cut_short("asking the identity pool for credentials")
        # Expiry is by the server's clock; what counts here is how much is left, on ours.
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        left_s = given["Expiration"].timestamp() - server_time(date, self._now())
        if left_s <= 0:
            raise AwsIdentityError(
                "the identity pool gave credentials that have expired already; ask the archive's staff"
            )
        return RoleCredentials(
            access_key=given["AccessKeyId"],
            secret_key=given["SecretKey"],
            session_token=given["SessionToken"],
            expires_at=self._now() + left_s,
        )


class Renewal:
    """Newer keys in place of those that end soon: fetched aside for as long as the old ones do.

    `keys` is for one thread at a time, which botocore sees to. What it fetches aside ends with the process at the latest.
    """

    def __init__(self, fetch: Callable[[], RoleCredentials], now: Callable[[], float]) -> None:
        """Fetches the first keys; raises what `fetch` raises."""
        self._fetch = fetch
        self._now = now
        self.current = fetch()
        lifetime_s = self._left_s()
        # Of short-lived ones a fixed time would be all there is, and every request would fetch anew.
        self.renew_s, self.block_s = min(RENEW_S, lifetime_s / 2), min(BLOCK_S, lifetime_s / 4)
        self._failed_at = float("-inf")
        self._aside: threading.Thread | None = None

    def keys(self) -> RoleCredentials:
        """New keys if they come soon, or if the old ones cannot wait for them, which raises what `fetch` raises; else
        the old ones at once.
        """
        left_s = self._left_s()
        if left_s > self.block_s:
            self._fetch_aside(left_s)
            return self.current
        if self._aside is not None:
            self._aside.join()  # whoever is asked is not asked twice
        if self._left_s() <= self.block_s:
            self._renew()
        return self.current

    def _left_s(self) -> float:
        return self.current.expires_at - self._now()

    def _fetch_aside(self, left_s: float) -> None:
        """Begin to fetch, unless that is under way, or has failed just now, or is not needed."""
        under_way = self._aside is not None and self._aside.is_alive()
        # botocore would have every request try again; while the old ones work, now and then is enough.
        if under_way or left_s > self.renew_s or self._now() - self._failed_at < RETRY_S:
            return
        self._aside = threading.Thread(target=self._renew_quietly, name="upload-renewal", daemon=True)
        self._aside.start()
        self._aside.join(min(SOON_S, left_s - self.block_s))

    def _renew(self) -> None:
        try:
            self.current = self._fetch()
        except BaseException:
            self._failed_at = self._now()
            raise

    def _renew_quietly(self) -> None:
        try:
            self._renew()
        except Exception as error:  # noqa: BLE001 - whoever needs new keys at last fetches again, and hears of it then
            _log.info("new credentials could not be fetched (%s); the old ones still work", type(error).__name__)


def renewing_session(
    fetch: Callable[[], RoleCredentials], *, region: str | None, now: Callable[[], float] = time.time
) -> boto3.Session:
    """A boto3 session whose credentials are `fetch`ed now and again before they expire; passes on what `fetch` raises.

    Every client made from it shares them.
    """
    renewal = Renewal(fetch, now)
    credentials = RefreshableCredentials.create_from_metadata(
        renewal.current.metadata(),
        refresh_using=lambda: renewal.keys().metadata(),
        method=METHOD,
        advisory_timeout=renewal.renew_s,
        mandatory_timeout=renewal.block_s,
    )

    class Provider(CredentialProvider):  # type: ignore[misc]  # botocore has no types
        METHOD = METHOD

        def load(self) -> RefreshableCredentials:
            return credentials

    session = botocore.session.get_session()
    # Ours and no others: keys that happen to lie in the environment are somebody else's.
    session.register_component("credential_provider", CredentialResolver([Provider()]))
    try:
        return boto3.Session(botocore_session=session, region_name=region)
    except botocore.exceptions.BotoCoreError as error:
        raise AwsConfigurationError(f"the AWS settings cannot be used: {printable(str(error))}") from error


def _refusal(error: botocore.exceptions.ClientError, id_token: str, role: str) -> AwsError:
    detail = error.response.get("Error", {})
    code, words = printable(str(detail.get("Code", "")), 60), without(str(detail.get("Message", "")), [id_token])
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
    # What a host program may look at, without the server's own words: they may quote the token.
    response = {"Error": {"Code": code, "Message": words}, "ResponseMetadata": {"HTTPStatusCode": status}}
    if code in _PASSING_CODES or status >= 500 or status == _TOO_MANY_REQUESTS:
        message = f"the identity pool does not work now ({code}: {words})"
        return AwsUnavailableError(message, response, error.operation_name)
    reason = f"the identity pool refused ({code}: {words})"
    if code == "NotAuthorizedException":
        message = f"{reason}; sign in again, or ask the archive's staff about the role {printable(role)}"
        return LoginRejectedError(message, response, error.operation_name)
    message = f"{reason}; check identity_pool_id and user_pool_id in [identity]"
    return AwsIdentityError(message, response, error.operation_name)


_silent: Final = threading.local()


def _drop_if_silent(_: logging.LogRecord) -> bool:
    return not getattr(_silent, "on", False)


@contextmanager
def _quiet_botocore() -> Iterator[None]:
    """Nothing that botocore logs in this thread meanwhile is kept: at DEBUG it shows requests and answers whole."""
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("botocore", "urllib3")]:
        logging.getLogger(name).addFilter(_drop_if_silent)  # adding it again changes nothing
    _silent.on = True
    try:
        yield
    finally:
        _silent.on = False
