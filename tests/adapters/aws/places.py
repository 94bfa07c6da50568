"""An emulated archive for tests of the AWS adapters: its buckets, and the adapters that talk to it."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import boto3

from tests.emulator import Emulator, Settings
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.deployment import s3_config
from upload_adapters.aws.endpoint import endpoint_of
from upload_adapters.aws.s3_sessions import keep_sessions
from upload_adapters.clock import SystemClock

KIB, MIB = 1 << 10, 1 << 20
_numbers = itertools.count(1)


class Places:
    """One emulator and one pair of S3 clients for many tests; each test makes a bucket of a new name."""

    def __init__(self, aws: Emulator) -> None:
        self.aws = aws
        # Of many sessions each would read AWS's models anew.
        self.session = boto3.Session("AKIATEST", "not-a-secret", region_name="us-east-1")
        self.calls = self.session.client("s3", endpoint_url=aws.url, config=s3_config(attempts=5))
        self.once = self.session.client("s3", endpoint_url=aws.url, config=s3_config(attempts=1))
        for client in (self.calls, self.once):
            keep_sessions(client, SystemClock().now_ms, repeats=client is self.calls)

    def bucket(self, *, directory: bool = False, exists: bool = True) -> Bucket:
        """A bucket that no other test has, as the adapters see it."""
        name = f"mast-d-{next(_numbers)}-" + ("control--use1-az4--x-s3" if directory else "staging")
        if exists:
            self.aws.store.create_bucket(name)
        return Bucket(name, self.calls, self.once, endpoint_of(self.session, self.calls, name, SystemClock().now_ms))


@contextmanager
def places() -> Iterator[Places]:
    """Parts may be small here: what a file of a gigabyte meets, one of a megabyte shall meet too."""
    with Emulator(Settings(part_size_min=256 * KIB)) as aws:
        made = Places(aws)
        yield made
        made.calls.close()
        made.once.close()
