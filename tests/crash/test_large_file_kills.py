"""A process that sends a large file to S3, killed by SIGKILL on the way: what S3 has by then is never sent again.

The judge counts bytes where they arrive, in the emulator, and reads the journal's lines itself.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import pytest

from tests import promises
from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, EmulatedArchive
from tests.command_line import environment
from tests.emulator import Emulator
from upload_adapters.aws.part_pool import AT_ONCE
from upload_adapters.aws.s3_multipart import PART_SIZE

PARTS = 20 if promises.SIZE == "pr" else 128
"""128 of them are a gigabyte, which would take a test of every change half a minute."""
SIZE = PARTS * PART_SIZE - 12345
BIG = "dir/big.fits"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    with Emulator() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        made = EmulatedArchive(aws, tmp_path, count=3)
        chance = random.Random(8)
        made.files[BIG] = b"".join(chance.randbytes(PART_SIZE) for _ in range(PARTS))[:SIZE]
        (made.source / BIG).write_bytes(made.files[BIG])
        pd.DataFrame(made.index()).to_csv(tmp_path / "index.csv", index=False)
        yield made
        made.close()


def deliver(archive) -> "subprocess.Popen[bytes]":
    command = [
        *(
            sys.executable,
            "-m",
            "upload_adapters.cli",
            "deliver",
            str(archive.source),
            "index.csv",
            "--to",
            "mast.toml",
        ),
        *("--dataset", DATASET, "--delivery-id", DELIVERY, "--journal", "journal", "-q"),
    ]
    env = environment(**archive.aws.environment())
    return subprocess.Popen(command, cwd=archive.root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def parts_that_came(aws) -> list[tuple[int, int]]:
    """Number and size of each part that S3 took, as often as it did."""
    return [(int(e.query["partNumber"]), e.size) for e in aws.log("UploadPart") if e.status == 200]


def kill_after(archive, parts: int) -> None:
    """Start a delivery and kill it once S3 has taken so many parts; returns when nobody talks to S3 any more."""
    process = deliver(archive)
    deadline = time.monotonic() + 300
    try:
        while len(parts_that_came(archive.aws)) < parts:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    while archive.aws._server._connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def records(archive) -> list[dict[str, object]]:
    lines = [line for p in sorted((archive.root / "journal").glob("events-*")) for line in p.read_bytes().splitlines()]
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the torn tail
        if record.get("kind"):
            found.append(record)
    return found


@contextmanager
def counted_reads(source) -> Iterator[list[int]]:
    """Counts the bytes that are read of the large file."""
    from upload_adapters.opened_file import OpenedFile

    reads: list[int] = []
    read_at, read = OpenedFile.read_at, OpenedFile.read

    def counted(method):
        def call(self, *arguments):
            data = method(self, *arguments)
            if self.size == SIZE:
                reads.append(len(data))
            return data

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenedFile, "read_at", counted(read_at))
        patch.setattr(OpenedFile, "read", counted(read))
        yield reads


@pytest.mark.crash
@pytest.mark.promise("R11")
@pytest.mark.parametrize("percent", [10, 30, 50, 70, 90])
def test_a_large_file_that_is_killed_costs_what_was_on_its_way(archive, percent, figure):
    aws = archive.aws
    kill_after(archive, PARTS * percent // 100)
    bucket = aws.store.bucket(archive.transfer_bucket)
    before = parts_that_came(aws)
    [upload] = bucket.uploads.values()
    there = {number: len(part.data) for number, part in upload.parts.items()}
    journaled = {record["number"] for record in records(archive) if record["kind"] == "PartStored"}
    puts = len(aws.log("PutObject"))
    done = {name for name in archive.files if archive.transfer.found(name) is not None}
    assert BIG not in done
    assert journaled <= there.keys(), "a part is journaled once S3 has it"

    with counted_reads(archive.source) as reads:
        assert archive.resumed().run().outcome == "complete"
    archive.judge()
    after = parts_that_came(aws)[len(before) :]
    assert sum(size for _, size in after) == SIZE - sum(there.values()), "nothing that S3 had is sent again"
    assert not there.keys() & {number for number, _ in after}
    assert sum(size for _, size in before) <= sum(there.values()) + AT_ONCE * PART_SIZE
    assert sum(reads) <= SIZE - PART_SIZE * (len(journaled) - (PARTS in journaled)), "nor read, if it was journaled"
    assert [e.query["uploadId"] for e in aws.log("CompleteMultipartUpload")] == [upload.id], "the same upload"
    assert len(aws.log("CreateMultipartUpload")) == 1
    sent_again = [e.key for e in aws.log("PutObject")[puts:] if e.bucket == archive.transfer_bucket and e.key in done]
    assert sent_again == [], "finished files cost nothing"
    figure(1, f"kills on the way of {SIZE >> 20} MiB")


@pytest.mark.crash
@pytest.mark.promise("R11")
def test_a_large_file_that_is_killed_again_and_again_is_sent_once(archive, figure):
    aws = archive.aws
    for parts in (3, 7, 11, 15):
        kill_after(archive, parts)
        figure(1, f"kills on the way of {SIZE >> 20} MiB")
    assert archive.resumed().run().outcome == "complete"
    archive.judge()
    numbers = [number for number, _ in parts_that_came(aws)]
    assert sorted(numbers) == list(range(1, PARTS + 1))
    assert len(aws.log("CreateMultipartUpload")) == 1


@pytest.mark.crash
def test_a_file_that_changes_while_nobody_sends_it_is_sent_whole_or_not_at_all(archive):
    kill_after(archive, PARTS // 2)
    changed = bytes([archive.files[BIG][0] ^ 1]) + archive.files[BIG][1:]
    (archive.source / BIG).write_bytes(changed)
    summary = archive.resumed().run()
    assert summary.outcome == "incomplete"
    [failed] = summary.failed
    assert failed.relpath == BIG
    assert "checksum" in str(failed.message)
    assert archive.transfer.found(BIG) is None
    assert archive.aws.open_uploads() == []
