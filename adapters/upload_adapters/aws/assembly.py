"""The AWS adapters of one delivery, put together from a deployment's settings.

Rule: nothing is asked of AWS, and nobody to sign in, before `identity.sign_in()` or the first use of a bucket.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from upload_adapters.aws.deployment import AwsDeployment, open_bucket
from upload_adapters.aws.errors import AwsConfigurationError
from upload_adapters.aws.identity import AwsIdentity, AwsIdentityPort
from upload_adapters.aws.identity_cognito import CognitoIdentity, cognito_identity
from upload_adapters.aws.identity_signin import BrowserSignIn, PastedSignIn, SignInWay
from upload_adapters.aws.pipeline import LambdaPipeline
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_control import S3ControlBucket
from upload_adapters.aws.s3_source import S3Source, bucket_and_prefix
from upload_adapters.aws.server_clock import ServerClock
from upload_adapters.aws.transport import transport
from upload_core.errors import IdentityError
from upload_core.ports import Clock, Dispatcher, Identity, Limits, Source
from upload_core.text import printable
from upload_core.wire import Keys

if TYPE_CHECKING:
    import boto3

COGNITO: Final = "cognito"


class Settings(Protocol):
    """A deployment's settings by their names, `section.key`."""

    def text(self, name: str) -> str:
        """A text setting, "" where it is not set."""

    def number(self, name: str) -> int:
        """A number setting."""


class Person(Protocol):
    """Whoever signs in, as a terminal or a host's window reaches them."""

    def tell(self, text: str) -> None:
        """Show what has to be done."""

    def ask(self, question: str) -> str:
        """The person's answer. Raises `EOFError` if there is nobody."""

    def agrees(self, question: str) -> bool:
        """Whether the person says yes; False if there is nobody."""

    def waiting(self, way: Callable[[], str]) -> str:
        """What `way` returns; it waits for the person, who may interrupt it."""


@attrs.frozen
class AwsPorts:
    """What a delivery needs of one archive in AWS."""

    deployment: AwsDeployment
    keys: Keys
    identity: LateIdentity
    archive: S3Archive
    control: S3ControlBucket
    pipeline: LambdaPipeline
    clock: Clock
    reconnect: Callable[[], None]
    """What `Ports.reconnect` promises; besides, the archive's clock is learnt anew."""

    def source(self, url: str) -> S3Source:
        """The source `s3://NAME[/PREFIX]`, read as the delivery's identity, so that S3 can copy from it by itself.

        Its first use signs in. Raises `ConfigurationError` for another URL.
        """
        name, _ = bucket_and_prefix(url)
        return S3Source(url, functools.partial(self.deployment.named, name))

    def batch(self, settings: Settings, source: Source, beside: Dispatcher) -> Dispatcher:
        """Has S3 Batch Operations copy from this source; raises `ConfigurationError` if it cannot."""
        from upload_adapters.aws.batch import batch_dispatcher, batch_settings

        made = batch_settings(settings, self.keys)
        return batch_dispatcher(made, self.deployment, source, beside, self.clock)

    def limits(self, limits: Limits) -> Limits:
        """The limits with the archive's own staleness of locks. Raises what asking for the parameters may raise."""
        return attrs.evolve(limits, lock_staleness_s=self.deployment.parameters().lock_staleness_threshold)


class LateIdentity:
    """An identity that is made at its first use, since making one may need the network."""

    def __init__(self, make: Callable[[], CognitoIdentity | AwsIdentity]) -> None:
        self._make = make
        self._mutex = threading.Lock()
        self._made: CognitoIdentity | AwsIdentity | None = None

    def sign_in(self) -> str:
        """Sign in; returns a public name. Raises `IdentityError`, `ArchiveUnavailableError`, `ConfigurationError`."""
        return self._identity().sign_in()

    def session(self) -> boto3.Session:
        """The session, signed in first if it is not yet."""
        return self._identity().session()

    def expires_ms(self) -> int | None:
        """When the credentials end, None before the first use, or if they do not; waits for nobody."""
        made = self._made
        return None if made is None else made.expires_ms()

    def sign_out(self) -> str:
        """Forget the sign-in; returns the page that ends the browser's session, or ""."""
        return self._identity().sign_out()

    def _identity(self) -> CognitoIdentity | AwsIdentity:
        with self._mutex:
            if self._made is None:
                self._made = self._make()
            return self._made


def aws_identity(
    settings: Settings, person: Person, *, browser: bool, delivery: tuple[str, str] | None = None
) -> LateIdentity:
    """The identity that the settings describe, for a delivery or (None) to sign in only.

    Raises `ConfigurationError` for settings that cannot work.
    """
    region = settings.text("deployment.region") or None
    if settings.text("identity.kind") != COGNITO:
        return LateIdentity(lambda: AwsIdentity(region=region, profile=settings.text("identity.profile") or None))
    if delivery is not None and region is None:
        raise AwsConfigurationError("[deployment] needs region: a sign-in does not tell where the archive is")
    tokens: Literal["memory", "keyring"] = "keyring" if settings.text("identity.tokens") == "keyring" else "memory"

    def make() -> CognitoIdentity:
        return cognito_identity(
            way=_way(settings, person, browser=browser),
            client_id=settings.text("identity.client_id"),
            redirect_uri=settings.text("identity.redirect_uri"),
            domain=settings.text("identity.domain"),
            user_pool_id=settings.text("identity.user_pool_id"),
            identity_pool_id=settings.text("identity.identity_pool_id"),
            issuer=settings.text("identity.issuer"),
            scope=settings.text("identity.scope"),
            role=settings.text("identity.role") or None,
            region=region,
            delivery=delivery,
            tokens=tokens,
            ask_again=lambda error: _again(error, person),
        )

    return LateIdentity(make)


def _way(settings: Settings, person: Person, *, browser: bool) -> SignInWay:
    way: SignInWay
    if browser:
        way = BrowserSignIn(person.tell, wait_s=settings.number("identity.wait_s"))
    else:
        way = PastedSignIn(person.tell, person.ask)
    return lambda attempt: person.waiting(lambda: way(attempt))


def _again(error: IdentityError, person: Person) -> bool:
    person.tell(f"The sign-in could not be renewed: {printable(str(error))}")
    return person.agrees("Sign in again now, and go on? [Y/n] ")


def aws_ports(settings: Settings, keys: Keys, person: Person, clock: Clock, *, browser: bool = True) -> AwsPorts:
    """The ports of a delivery to the archive that the settings describe; `clock` is the machine's.

    Raises `ConfigurationError` for settings that cannot work.
    """
    identity = aws_identity(settings, person, browser=browser, delivery=(keys.dataset, keys.delivery_id))
    carrier = settings.text("deployment.transport")
    bulk = transport(carrier)
    server_clock = ServerClock(clock)
    deployment = AwsDeployment(
        identity.session, keys, network_parameter=settings.text("deployment.network_parameter"), clock=server_clock
    )
    control = S3ControlBucket(deployment.control)

    def reconnect() -> None:
        deployment.reconnect()
        bulk.reconnect()
        server_clock.relearn()

    return AwsPorts(
        deployment=deployment,
        keys=keys,
        identity=identity,
        archive=S3Archive(deployment.transfer, sender=bulk.sender, channel=bulk.channel, carrier=carrier),
        control=control,
        pipeline=LambdaPipeline(
            deployment.connect_lambda, deployment.init_function, control, keys, release=deployment.close
        ),
        clock=server_clock,
        reconnect=reconnect,
    )


def bucket_archive(url: str) -> S3Archive:
    """The bucket that `s3://NAME` names, by boto3's own credentials; raises `ConfigurationError` for another URL."""
    scheme, _, rest = url.partition("://")
    name = rest.rstrip("/")
    if scheme != "s3" or not name or "/" in name or not name.isprintable():
        raise AwsConfigurationError(f"{printable(url, 300)!r} names no bucket; write s3://NAME")
    identity = AwsIdentity()
    return S3Archive(functools.cache(lambda: open_bucket(identity.session(), name)))


def bucket_source(url: str) -> S3Source:
    """The source `s3://NAME[/PREFIX]`, by boto3's own credentials; raises `ConfigurationError` for another URL."""
    name, _ = bucket_and_prefix(url)
    identity = AwsIdentity()
    return S3Source(url, functools.cache(lambda: open_bucket(identity.session(), name)))


if TYPE_CHECKING:
    _late: type[Identity] = LateIdentity
    _late_session: type[AwsIdentityPort] = LateIdentity
