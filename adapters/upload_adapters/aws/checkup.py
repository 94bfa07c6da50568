"""Whether AWS can be reached from here, and how far the clocks are apart: asked without any credentials."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

import attrs
import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from upload_adapters.aws.endpoint import trusted
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
    """Ask S3 in that region for its headers; raises `ArchiveUnavailableError` if nobody answers at all.

    Any answer will do, since each has a `Date` ("Common response headers", docs.aws.amazon.com). None of boto3's calls
    is made: S3 sends whoever asks it without a signature to a page about itself, and botocore takes that for a bucket
    that is in another region.
    """
    with translated("reaching AWS"):
        session = boto3.Session()
        unsigned = Config(signature_version=UNSIGNED)
        with closing(session.client("s3", region_name=region or "us-east-1", config=unsigned)) as s3:
            url = s3.meta.endpoint_url
        http = URLLib3Session(verify=trusted(session), proxies=get_environ_proxies(url), timeout=TIMEOUT_S)
        with closing(http):
            began_s, sent_ms = time.monotonic(), clock.now_ms()
            answer = http.send(AWSRequest("HEAD", url).prepare())
            answer_s, received_ms = time.monotonic() - began_s, clock.now_ms()
    server_clock = ServerClock(clock)
    server_clock.observe(answer.headers.get("date", ""), sent_ms=sent_ms, received_ms=received_ms)
    return Reached(url, answer_s, server_clock.offset_ms / 1000)
