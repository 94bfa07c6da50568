"""P1: what one small file costs our client, step by step, each step alone in one thread; the dearest is the next to go.

What a whole delivery costs beyond their sum are start-up, threads that wait for each other's interpreter lock, and syncs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import deliveries
import work_sets
from figures import Figure, Scale, cpu, per
from sink_server import Sink

from upload_adapters.aws.bucket import Endpoint
from upload_adapters.aws.curl_channel import CurlChannel
from upload_adapters.aws.signing import UNSIGNED_PAYLOAD, Form, Signer, quoted
from upload_adapters.crc32 import crc32
from upload_adapters.index_file import read_index
from upload_adapters.indexing import build_table
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import crc32_base64
from upload_core.effects import TransferFile
from upload_core.files import FileTable
from upload_core.journal import encode_batch
from upload_core.worker import read_whole

AT_ONCE: Final = 64
BUCKET: Final = "bucket"


class _Keys:
    access_key = "AKIAIOSFODNN7EXAMPLE"
    secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    token = None


def p1(scale: Scale) -> Iterator[Figure]:
    """Index and check, reading under the source fence, CRC32, signature, request and answer, events and journal."""
    work = work_sets.small(scale(10_000, 500))
    source = DirectorySource(work.source)
    table = build_table(read_index(work.index), source)
    orders = [TransferFile(f, table.path(f), table.size(f), table.checksum(f)) for f in range(len(table))]
    data = read_whole(orders[0], source) or b""
    with Sink(buckets=[BUCKET]) as sink:
        endpoint = Endpoint(f"{sink.url}/{BUCKET}/", "us-east-1", _Keys, lambda: time.time_ns() // 1_000_000)
        steps: dict[str, Callable[[], object]] = {
            "index read and checked against the files": lambda: build_table(read_index(work.index), source),
            "file opened, read whole, found unchanged": lambda: [read_whole(order, source) for order in orders],
            "CRC32": lambda: [crc32_base64(crc32(data)) for _ in orders],
            "signature": lambda: _sign(endpoint, orders),
            "request and answer, signature included": lambda: _send(endpoint, orders, data),
            "five events: decided, checked, encoded, applied": lambda: _live(table),
        }
        spent = {name: min(cpu(step) for _ in range(scale.rounds)) for name, step in steps.items()}
    total = sum(seconds for name, seconds in spent.items() if name != "signature")
    for name, seconds in spent.items():
        yield Figure(
            "P1",
            f"{name}: share of all steps",
            None,
            100 * seconds / total,
            "%",
            note=per(seconds, len(orders), "file"),
        )


def _sign(endpoint: Endpoint, orders: list[TransferFile]) -> None:
    signer = Signer(endpoint.host, endpoint.region, endpoint.keys, endpoint.now_ms)
    form = Form(signer, "PUT", UNSIGNED_PAYLOAD, ["x-amz-checksum-crc32"])
    for order in orders:
        form.headers(endpoint.prefix + quoted(order.relpath), "", "yH2GHg==")


def _send(endpoint: Endpoint, orders: list[TransferFile], data: bytes) -> None:
    channel = CurlChannel(endpoint)
    checksum = crc32_base64(crc32(data))
    waiting = iter(orders)
    done = 0
    while done < len(orders):
        while channel.under_way < AT_ONCE and (order := next(waiting, None)) is not None:
            channel.start(order.file, order.relpath, data, checksum)
        done += len(channel.finished(1.0))
    channel.close()


def _live(table: FileTable) -> None:
    delivery, position = deliveries.running(table), deliveries.START
    for events in deliveries.batches(deliveries.lives(len(table)), 64):
        delivery.check(events)
        _, position = encode_batch(events, deliveries.TIME_MS, position)
        for event in events:
            delivery.apply(event, deliveries.TIME_MS)


FIGURES: Final = {"P1": p1}
TITLE: Final = "Where a small file's time goes"
