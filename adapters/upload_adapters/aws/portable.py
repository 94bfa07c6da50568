"""Buckets that other machines open as well: what travels to them is how to reach a bucket, and short-lived keys apart.

Rule: keys travel beside the recipe, never in it; they hide themselves wherever they are shown.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import boto3
import botocore.session
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials

from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.deployment import make_bucket
from upload_adapters.aws.errors import AwsConfigurationError, AwsIdentityError, translated
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.aws.s3_source import S3Source
from upload_adapters.aws.server_clock import ServerClock
from upload_adapters.aws.tokens import masked
from upload_adapters.aws.transport import transport
from upload_core.ports import Clock

METHOD: Final = "carried"
_AWS_OWN: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


@attrs.frozen
class CarriedKeys:
    """One set of keys on its way to another machine; to be shown nowhere."""

    access_key: str = attrs.field(repr=masked)
    secret_key: str = attrs.field(repr=masked)
    token: str | None = attrs.field(repr=masked)


@attrs.frozen
class BucketRecipe:
    """How to reach one bucket as it is reached here."""

    name: str
    region: str | None
    endpoint_url: str | None
    """None where it is AWS's own for the region."""
    addressing: str | None
    trusted: str | bool | None

    def open(self, keys: Callable[[], CarriedKeys], clock: Clock) -> Bucket:
        """The bucket, by whatever `keys` says when a request is made."""
        session = _session(keys, self.region)
        server_clock = ServerClock(clock)

        def client(config: Any) -> Any:
            if self.addressing is not None:
                config = config.merge(type(config)(s3={**(config.s3 or {}), "addressing_style": self.addressing}))
            made = session.client("s3", config=config, endpoint_url=self.endpoint_url, verify=self.trusted or None)
            server_clock.watch(made)
            return made

        with translated("connecting to AWS s3"):
            return make_bucket(self.name, session, client, server_clock.now_ms)


@attrs.frozen
class ArchiveRecipe:
    """How to make an `S3Archive` elsewhere."""

    bucket: BucketRecipe
    carrier: str
    sizes: Mapping[str, int]

    def build(self, keys: Callable[[], CarriedKeys], clock: Clock) -> S3Archive:
        """The archive, opened at its first use."""
        bulk = transport(self.carrier)
        place = functools.cache(lambda: self.bucket.open(keys, clock))
        return S3Archive(
            place, sender=bulk.sender, channel=bulk.channel, carrier=self.carrier, **dict[str, Any](self.sizes)
        )


@attrs.frozen
class SourceRecipe:
    """How to make an `S3Source` elsewhere."""

    url: str
    bucket: BucketRecipe

    def build(self, keys: Callable[[], CarriedKeys], clock: Clock) -> S3Source:
        """The source, opened at its first use."""
        return S3Source(self.url, functools.cache(lambda: self.bucket.open(keys, clock)))


def portable_archive(archive: S3Archive) -> tuple[ArchiveRecipe, Callable[[], CarriedKeys]]:
    """The recipe of this archive, and what says its keys. Signs in if nobody has yet."""
    recipe, keys = _portable(archive.bucket)
    return ArchiveRecipe(recipe, archive.carrier, archive.sizes), keys


def portable_source(source: S3Source) -> tuple[SourceRecipe, Callable[[], CarriedKeys]]:
    """The recipe of this source, and what says its keys. Signs in if nobody has yet."""
    recipe, keys = _portable(source.bucket)
    return SourceRecipe(source.name, recipe), keys


def _portable(bucket: Bucket) -> tuple[BucketRecipe, Callable[[], CarriedKeys]]:
    session = bucket.session
    if session is None:
        raise AwsConfigurationError(f"the bucket {bucket.name} can be reached from this process only")
    client: Any = bucket.calls
    own = is_own(client.meta.endpoint_url)
    recipe = BucketRecipe(
        bucket.name,
        client.meta.region_name,
        None if own else client.meta.endpoint_url,
        (client.meta.config.s3 or {}).get("addressing_style"),
        session._session.get_config_variable("ca_bundle"),  # boto3 has no public way to ask
    )
    credentials = session.get_credentials()

    def keys() -> CarriedKeys:
        with translated("renewing the credentials"):
            frozen = None if credentials is None else credentials.get_frozen_credentials()
        if frozen is None or not frozen.access_key:
            raise AwsIdentityError("there are no AWS credentials any more; sign in again, then resume")
        return CarriedKeys(frozen.access_key, frozen.secret_key, frozen.token)

    return recipe, keys


def is_own(endpoint_url: str) -> bool:
    """Whether this is an endpoint of AWS itself."""
    return (urlsplit(endpoint_url).hostname or "").endswith(_AWS_OWN)


class _Carried(Credentials):  # type: ignore[misc]  # botocore has no types
    """Credentials that are whatever was carried here last."""

    def __init__(self, keys: Callable[[], CarriedKeys]) -> None:
        super().__init__("carried", "carried", method=METHOD)
        self._keys = keys

    def get_frozen_credentials(self) -> Any:
        now = self._keys()
        return ReadOnlyCredentials(now.access_key, now.secret_key, now.token)


def _session(keys: Callable[[], CarriedKeys], region: str | None) -> boto3.Session:
    class Provider(CredentialProvider):  # type: ignore[misc]  # botocore has no types
        METHOD = METHOD

        def load(self) -> Any:
            return _Carried(keys)

    session = botocore.session.get_session()
    # Those and no others: keys that lie around on a worker are somebody else's.
    session.register_component("credential_provider", CredentialResolver([Provider()]))
    return boto3.Session(botocore_session=session, region_name=region)
