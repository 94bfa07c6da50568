"""Where a bucket's objects are, as boto3 itself would reach them: its rules for endpoints, trust, proxies and keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

import boto3
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.errors import translated
from upload_adapters.aws.signing import Keys
from upload_core.errors import IdentityError

_KEY: Final = "key"
_DIRECTORY_BUCKET: Final = "--x-s3"
"""What their names end in; requests to them need a session, which only boto3 makes."""


def endpoint_of(session: boto3.Session, client: Any, bucket: str, now_ms: Callable[[], int]) -> Endpoint | None:
    """The endpoint of the bucket for this client of the session; None if only boto3 knows how to talk to it."""
    if bucket.endswith(_DIRECTORY_BUCKET) or ":" in bucket:  # an ARN names an access point, with rules of its own
        return None
    credentials = session.get_credentials()
    region = client.meta.region_name
    if credentials is None or not region:
        return None
    # Nothing is sent or signed with effect: the URL shows what boto3's rules make of bucket, region and settings.
    url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": _KEY})
    parts = urlsplit(url)
    path = parts.path.removesuffix(_KEY)
    if not path.endswith("/") or parts.scheme not in ("http", "https") or quote(path) != path:
        return None
    base = f"{parts.scheme}://{parts.netloc}{path}"

    def keys() -> Keys:
        with translated("renewing the credentials"):
            frozen: Keys | None = credentials.get_frozen_credentials()
        if frozen is None or not frozen.access_key:
            raise IdentityError("there are no AWS credentials any more; sign in again, then resume")
        return frozen

    return Endpoint(
        base,
        region,
        keys,
        now_ms,
        trusted=_trusted(session) if parts.scheme == "https" else None,
        proxy=get_environ_proxies(base).get(parts.scheme, ""),
    )


def _trusted(session: boto3.Session) -> str:
    """The file of certificate authorities that boto3 would trust: one that is configured, else the one it ships with."""
    configured = session._session.get_config_variable("ca_bundle")  # boto3 has no public way to ask
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE") or get_cert_path(True))
