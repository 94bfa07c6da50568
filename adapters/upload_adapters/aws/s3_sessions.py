"""Sessions of directory buckets, which boto3 opens by itself: kept by the archive's clock, and given up when S3 does.

Rule: a session lives five minutes ("CreateSession", docs.aws.amazon.com/AmazonS3/latest/API), and botocore renews it by
the machine's clock; a clock that is a minute behind would sign with one that has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from upload_adapters.aws.errors import AwsError

ENDED: Final = "ExpiredToken"
_ENDED_TO_HEAD: Final = "400"
"""What botocore makes of it where the answer has no body."""
T = TypeVar("T")


def keep_sessions(client: Any, now_ms: Callable[[], int], *, repeats: bool) -> None:
    """Have this S3 client renew its sessions in time by the archive's clock, and give up one that S3 calls ended.

    One that `repeats` makes the refused request once more, under a new session; the other leaves that to its caller.
    """

    def by_our_clock(parsed: Mapping[str, Any], **_: Any) -> None:
        keys = parsed.get("Credentials", {})
        if isinstance(ends := keys.get("Expiration"), datetime):
            left_s = ends.timestamp() - now_ms() / 1000
            keys["Expiration"] = datetime.fromtimestamp(time.time() + left_s, UTC)

    def once_more_at_once(attempts: int, response: Any, request_dict: Mapping[str, Any], **_: Any) -> float | None:
        return 0.0 if _given_up(response, request_dict) and repeats and attempts == 1 else None

    client.meta.events.register("after-call.s3.CreateSession", by_our_clock)
    client.meta.events.register("needs-retry.s3", once_more_at_once)


def _given_up(response: Any, request_dict: Mapping[str, Any]) -> bool:
    """Forget the session if S3 says that it has ended, so that the next request opens another one."""
    code = str(response[1].get("Error", {}).get("Code", "")) if response is not None else ""
    sessions = request_dict.get("context", {}).get("signing", {}).get("identity_cache")
    if sessions is None or code not in (ENDED, _ENDED_TO_HEAD):
        return False
    sessions.get_credentials.cache_clear()  # those of other buckets and clients are opened anew, too
    return True


def once_more(call: Callable[[], T]) -> T:
    """What `call` returns; called again if the session that signed its request had ended: nothing took effect."""
    try:
        return call()
    except AwsError as error:
        if error.code != ENDED:
            raise
    return call()
