"""Where a bucket's objects are, as boto3 itself would reach them: its rules for endpoints, trust, proxies and keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.errors import AwsIdentityError, translated
from upload_adapters.aws.signing import Keys

_KEY: Final = "key"
_SERVICE: Final = "s3"
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
    url, signing = _put_request(client, bucket)
    if signing.get("signing_name", _SERVICE) != _SERVICE:  # a session's, an outpost's: our signature is S3's own
        return None
    region = signing.get("region", region)
    parts = urlsplit(url)
    path = parts.path.removesuffix(_KEY)
    if not path.endswith("/") or parts.scheme not in ("http", "https") or quote(path) != path:
        return None
    base = f"{parts.scheme}://{parts.netloc}{path}"

    def keys() -> Keys:
        with translated("renewing the credentials"):
            frozen: Keys | None = credentials.get_frozen_credentials()
        if frozen is None or not frozen.access_key:
            raise AwsIdentityError("there are no AWS credentials any more; sign in again, then resume")
        return frozen

    return Endpoint(
        base,
        region,
        keys,
        now_ms,
        trusted=trusted(session) if parts.scheme == "https" else None,
        proxy=get_environ_proxies(base).get(parts.scheme, ""),
    )


def _put_request(client: Any, bucket: str) -> tuple[str, Mapping[str, Any]]:
    """Where this client would send a PutObject, and how it would sign it; nothing is sent or signed.

    Nobody else may use the client meanwhile. A presigned URL would not do: botocore makes those for the global endpoint
    ("Virtual hosting of general purpose buckets", docs.aws.amazon.com), which answers to a bucket of another region with
    a redirect, or, where the region has to be opted into, with a refusal.
    """
    seen: dict[str, Any] = {}

    def stop(params: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        seen.update(url=params["url"], signing=context.get("signing", {}))
        return AWSResponse(
            params["url"], 200, {}, None
        ), {}  # an answer here ends the request, as in botocore's Stubber

    events = client.meta.events
    events.register_first("before-call.s3.PutObject", stop)
    try:
        client.put_object(Bucket=bucket, Key=_KEY)
    finally:
        events.unregister("before-call.s3.PutObject", stop)
    return seen["url"], seen["signing"]


def trusted(session: boto3.Session) -> str:
    """The file of certificate authorities that boto3 would trust: one that is configured, else the one it ships with."""
    configured = session._session.get_config_variable("ca_bundle")  # boto3 has no public way to ask
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE") or get_cert_path(True))
