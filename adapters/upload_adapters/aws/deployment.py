"""One archive in AWS as a delivery meets it: its places, asked for when somebody has signed in, and clients for them.

Rule: everything here is made once, at first use, and shared by all threads.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final, TypeVar

import boto3
from botocore.config import Config

from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.endpoint import endpoint_of
from upload_adapters.aws.errors import translated
from upload_adapters.aws.network import DEFAULT_PARAMETER, NetworkParameters, read_network_parameters
from upload_adapters.aws.s3_sessions import keep_sessions
from upload_adapters.aws.server_clock import ServerClock
from upload_core.wire import Keys

CONNECTIONS_MAX: Final = 64
"""Kept open per client; more workers than this wait for each other."""
T = TypeVar("T")


class _Machine:
    """The machine's own time, where nobody gave a clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    machine_ms = now_ms

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def s3_config(*, attempts: int) -> Config:
    """How we talk to S3: checksums assert the payload, so it need not be signed as well."""
    return Config(
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"mode": "standard", "total_max_attempts": attempts},
        s3={"payload_signing_enabled": False},
    )


def make_bucket(
    name: str, session: boto3.Session, client: Callable[[Config], Any], now_ms: Callable[[], int]
) -> Bucket:
    """A bucket with both its clients, made by `client` from their configuration; `now_ms` is the archive's time."""
    calls, once = client(s3_config(attempts=5)), client(s3_config(attempts=1))
    for made in (calls, once):
        keep_sessions(made, now_ms, repeats=made is calls)
    return Bucket(name, calls, once, endpoint_of(session, calls, name, now_ms), session)


def open_bucket(session: boto3.Session, name: str) -> Bucket:
    """A bucket outside of any delivery."""
    clock = ServerClock(_Machine())

    def client(config: Config) -> Any:
        made = session.client("s3", config=config)
        clock.watch(made)
        return made

    with translated("connecting to AWS s3"):
        return make_bucket(name, session, client, clock.now_ms)


class AwsDeployment:
    """The places of one delivery: `transfer` and `control` are what `S3Archive` and `S3ControlBucket` ask for."""

    def __init__(
        self,
        session: Callable[[], boto3.Session],
        keys: Keys,
        *,
        network_parameter: str = DEFAULT_PARAMETER,
        clock: ServerClock | None = None,
    ) -> None:
        """`session` is asked at first use; `clock` learns from every answer."""
        self._session = session
        self._keys = keys
        self._network_parameter = network_parameter
        self._clock = clock
        self._mutex = threading.RLock()
        self._made: dict[str, Any] = {}

    def parameters(self) -> NetworkParameters:
        """The archive's network parameters. Raises `ConfigurationError` and AWS's errors."""
        return self._once("parameters", self._read_parameters)

    def _read_parameters(self) -> NetworkParameters:
        config = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 5})
        with closing(self._client("ssm", config)) as ssm:
            return read_network_parameters(ssm, self._network_parameter)

    def transfer(self) -> Bucket:
        """The general purpose bucket of the delivered objects."""
        name = self._keys.transfer_bucket(self.parameters().bucket_stem)
        return self._once("transfer", lambda: self._bucket(name))

    def control(self) -> Bucket:
        """The directory bucket of locks, logs and index."""
        places = self.parameters()
        name = self._keys.control_bucket(places.bucket_stem, places.availability_zone_id)
        return self._once("control", lambda: self._bucket(name))

    def named(self, name: str) -> Bucket:
        """Any other bucket, by the same session: a source that the delivery's role may read."""
        return self._once(f"bucket {name}", lambda: self._bucket(name))

    def init_function(self) -> str:
        """The function that starts the validation pipeline."""
        return self.parameters().init_lambda_arn

    def connect_lambda(self, config: Config) -> Any:
        """A Lambda client with this configuration, a new one for each."""
        return self._client("lambda", config)

    def connect(self, service: str, config: Config) -> Any:
        """A client for any other service, a new one for each."""
        return self._client(service, config)

    def reconnect(self) -> None:
        """Have every later request open a new connection; what is under way is left alone."""
        for made in tuple(self._made.values()):  # without the lock: whoever holds it may be waiting for an answer
            for client in (made.calls, made.once) if isinstance(made, Bucket) else ():
                client.close()  # which only empties its pool

    def close(self) -> None:
        """Give back all connections."""
        with self._mutex:
            self.reconnect()
            self._made.clear()

    def _bucket(self, name: str) -> Bucket:
        now_ms = (self._clock or _Machine()).now_ms
        with self._mutex:  # a boto3 session is for one thread at a time
            return make_bucket(name, self._session(), functools.partial(self._client, "s3"), now_ms)

    def _client(self, service: str, config: Config) -> Any:
        with self._mutex, translated(f"connecting to AWS {service}"):  # a boto3 session is for one thread at a time
            client = self._session().client(service, config=config)
        if self._clock is not None:
            self._clock.watch(client)
        return client

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._mutex:
            if name not in self._made:
                self._made[name] = make()
            made: T = self._made[name]
            return made
