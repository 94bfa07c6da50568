#!/usr/bin/env python
"""Our own side of the transfer benchmarks: one delivery of a directory to a sink, as a process that is measured whole.

    python benchmarks/sink_server.py                                    # prints the URL
    python benchmarks/deliver_to_sink.py --source DIR --index CSV --url http://127.0.0.1:PORT --directory RUN

Everything of a real delivery is real: the index and its check, the journal and its syncs, the checksums, the archive's
adapter. The control bucket is a directory, and the validator is another process (`--validator` names the socket of one
that waits already; without it one is started here). Prints one line of JSON, and fails unless every file became valid.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any, Final

# Nothing else at module level: what is imported here is a part of every file's cost.
from sink_validator import SocketPipeline

from upload_adapters.clock import SystemClock
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.index_file import read_index
from upload_adapters.indexing import build_table
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.local.control import DirectoryControlBucket
from upload_adapters.local.identity import OperatingSystemIdentity
from upload_adapters.local.places import LOCAL_LIMITS
from upload_adapters.source_directory import DirectorySource
from upload_adapters.state_dump import DirectoryStateDump
from upload_core import UploadClient
from upload_core.ports import Archive, Clock, Dispatcher, Ports
from upload_core.wire import Keys

if TYPE_CHECKING:
    import subprocess

TRANSPORTS: Final[tuple[str, ...]] = ("boto3", "curl")
"""What `archive_for` knows; the last one is what is measured against the goals."""


def archive_for(transport: str, url: str, bucket: str, ca: str | None) -> Archive:
    """The archive's adapter over this transport; `ca` is the file of whom to trust over TLS."""
    if transport == "boto3":
        return _over_boto3(url, bucket, ca)
    if transport == "curl":
        return _over_curl(url, bucket, ca)
    raise SystemExit(f"no transport is called {transport}; there are {', '.join(TRANSPORTS)}")


def dispatcher_for(transport: str, clock: Clock) -> Dispatcher:
    """What runs the transfers of this transport."""
    return ChannelDispatcher(clock)  # by boto3 there is no channel, and all goes by its threads


def _over_boto3(url: str, bucket: str, ca: str | None) -> Archive:
    import functools

    import boto3

    from upload_adapters.aws.deployment import open_bucket
    from upload_adapters.aws.s3_archive import S3Archive

    os.environ["AWS_ENDPOINT_URL_S3"] = url
    if ca is not None:
        os.environ["AWS_CA_BUNDLE"] = ca
    session = boto3.Session(region_name="us-east-1")
    return S3Archive(functools.cache(lambda: open_bucket(session, bucket)))


class _Keys:
    """Keys of the environment, as a host hands them over that has its own."""

    def __init__(self) -> None:
        self.access_key = os.environ["AWS_ACCESS_KEY_ID"]
        self.secret_key = os.environ["AWS_SECRET_ACCESS_KEY"]
        self.token = os.environ.get("AWS_SESSION_TOKEN")


def _over_curl(url: str, bucket: str, ca: str | None) -> Archive:
    """libcurl for the bytes; a boto3 client is made when the first other request needs one."""
    import functools

    from upload_adapters.aws.bucket import Bucket, Endpoint
    from upload_adapters.aws.s3_archive import S3Archive
    from upload_adapters.aws.transport import transport

    keys = _Keys()
    endpoint = Endpoint(f"{url}/{bucket}/", "us-east-1", lambda: keys, SystemClock().now_ms, trusted=ca)

    class Late:
        @functools.cached_property
        def client(self) -> Any:
            import boto3

            from upload_adapters.aws.deployment import s3_config

            return boto3.client(
                "s3", endpoint_url=url, region_name="us-east-1", verify=ca, config=s3_config(attempts=5)
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self.client, name)

    late: Any = Late()
    by_curl = transport("curl")
    return S3Archive(lambda: Bucket(bucket, late, late, endpoint), sender=by_curl.sender, channel=by_curl.channel)


class SilentConsole:
    """Keeps what would have been shown, for the case that something goes wrong."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str, mtype: str) -> None:
        self.said.append(f"{mtype}: {text}")

    def print(self, renderable: object, *, padded: bool = True) -> None:
        self.said.append(str(renderable))


def ports_for(options: Any, validator: str, console: SilentConsole) -> Ports:
    """The ports of one delivery below `options.directory`."""
    clock = SystemClock()
    directory = options.directory
    control = DirectoryControlBucket(os.path.join(directory, "control"))
    return Ports(
        journal=DirectoryJournal(os.path.join(directory, options.journal)),
        source=DirectorySource(options.source),
        archive=archive_for(options.transport, options.url, options.bucket, options.ca),
        control=control,
        pipeline=SocketPipeline(validator, control, Keys("demo", "1", "staging").validator_lock),
        identity=OperatingSystemIdentity(),
        dispatcher=dispatcher_for(options.transport, clock),
        console=console,
        clock=clock,
        dump=DirectoryStateDump(),
        index=build_table,
        limits=LOCAL_LIMITS,
        archive_name=f"{options.url}/{options.bucket}",
        agent_id=f"bench:{os.getpid()}",
        pid=os.getpid(),
    )


def start_validator(directory: str, socket: str) -> subprocess.Popen[str]:
    """A validator that waits at that socket for a delivery below that directory."""
    import subprocess

    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sink_validator.py")
    control = os.path.join(directory, "control")
    command = [sys.executable, program, "--directory", control, "--socket", socket]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"the validator did not start (exit code {process.wait()})")
    return process


def rss_kib() -> int:
    """Memory of this process as it stands, in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * (resource.getpagesize() // 1024)


def deliver(options: Any, validator: str) -> dict[str, Any]:
    """Deliver everything; raises `SystemExit` unless every file became valid."""
    began = time.perf_counter()
    console = SilentConsole()
    ports = ports_for(options, validator, console)
    start_kib = rss_kib()
    client = UploadClient(
        dataset="demo",
        delivery_id="1",
        file_index=read_index(options.index),
        transfer_type="staging",
        source=options.source,
        n_threads=options.threads,
        ports=ports,
    )
    summary = client.run()
    files = len(client.delivery)
    if summary.counts["valid"] != files:
        raise SystemExit(f"not every file became valid: {summary}\n" + "\n".join(console.said[-20:]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "files": files,
        "seconds": round(time.perf_counter() - began, 4),
        "cpu_s": round(used.ru_utime + used.ru_stime, 4),
        "rss_start_kib": start_kib,
        "rss_kib": used.ru_maxrss,
    }


def _options(arguments: list[str]) -> Any:
    import argparse

    parser = argparse.ArgumentParser(description="Deliver a directory to a sink.")
    parser.add_argument("--source", required=True)
    parser.add_argument("--index", required=True, help="CSV with path, size and checksum")
    parser.add_argument("--url", required=True, help="the sink's, as it prints it")
    parser.add_argument("--bucket", default="bucket")
    parser.add_argument("--ca", help="whom to trust, where the URL is https")
    parser.add_argument("--directory", required=True, help="for journal and control bucket; new for each delivery")
    parser.add_argument(
        "--journal", default="journal", help="its place below the directory: another machine's is another"
    )
    parser.add_argument("--validator", help="socket of a validator that waits; one is started if none is named")
    parser.add_argument("--transport", choices=TRANSPORTS, default=TRANSPORTS[-1])
    parser.add_argument("--threads", type=int, default=0, help="transfers at a time; 0 lets it find its own level")
    return parser.parse_args(arguments)


def main() -> int:
    """Deliver, and print what it took."""
    import json

    gc.set_threshold(50_000)  # as the command line does
    options = _options(sys.argv[1:])
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    if options.validator:
        print(json.dumps(deliver(options, options.validator)))
        return 0
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        socket = os.path.join(place, "socket")
        validator = start_validator(options.directory, socket)
        try:
            print(json.dumps(deliver(options, socket)))
        finally:
            validator.terminate()
            validator.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
