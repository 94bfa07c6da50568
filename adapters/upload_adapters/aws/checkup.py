"""Whether AWS can be reached from here, and how far the clocks are apart: asked without any credentials."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

import attrs
import boto3
import botocore.exceptions
from botocore import UNSIGNED
from botocore.config import Config

from upload_adapters.aws.errors import translated
from upload_adapters.aws.server_clock import ServerClock
from upload_core.ports import Clock

TIMEOUT_S: Final = 10


@attrs.frozen
class Reached:
    """What came of asking."""

    url: str
    answer_s: float
    ahead_s: float
    """How far the archive's clock is ahead of the machine's."""


def reach(region: str | None, clock: Clock) -> Reached:
    """Ask S3 in that region a question that it refuses; raises `ArchiveUnavailableError` if nobody answers at all."""
    config = Config(
        signature_version=UNSIGNED,
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    server_clock = ServerClock(clock)
    with (
        translated("reaching AWS"),
        closing(boto3.Session().client("s3", region_name=region or "us-east-1", config=config)) as s3,
    ):
        server_clock.watch(s3)
        began_s = time.monotonic()
        try:
            s3.list_buckets()
        except botocore.exceptions.ClientError as error:
            if not error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"):
                raise
        return Reached(s3.meta.endpoint_url, time.monotonic() - began_s, server_clock.offset_ms / 1000)
