"""How bytes get to S3: by libcurl where it is installed, by boto3 everywhere and always on request.

Rule: both store under the same names, checksums and conditions, and both fail with the same errors.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

import attrs

from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.errors import AwsConfigurationError
from upload_adapters.aws.s3_part import Boto3Sender, S3Sender
from upload_core.ports import Channel

AUTO: Final = "auto"
CURL: Final = "curl"
BOTO3: Final = "boto3"
TRANSPORTS: Final = (AUTO, CURL, BOTO3)


@attrs.frozen
class Transport:
    """What carries whole bodies and parts, and what carries many small objects at once, if anything does."""

    sender: S3Sender
    channel: Callable[[Endpoint], Channel] | None = None
    reconnect: Callable[[], None] = lambda: None
    """Has every later request open a new connection; may be called from any thread."""


def transport(name: str = AUTO) -> Transport:
    """The transport of that name; raises `ConfigurationError` if it is unknown or not installed."""
    if name not in TRANSPORTS:
        raise AwsConfigurationError(f"the transport {name!r} is none of {', '.join(TRANSPORTS)}")
    there = find_spec("pycurl") is not None
    if name == CURL and not there:
        raise AwsConfigurationError("the transport curl needs the package pycurl; install it, or choose boto3")
    if name == BOTO3 or not there:
        return Transport(Boto3Sender())
    from upload_adapters.aws.curl_channel import CurlChannel
    from upload_adapters.aws.curl_sender import CurlSender

    sender = CurlSender()
    generation = [0]

    def reconnect() -> None:
        generation[0] += 1
        sender.reconnect()

    return Transport(sender, lambda endpoint: CurlChannel(endpoint, lambda: generation[0]), reconnect)
