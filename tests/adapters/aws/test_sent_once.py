"""What libcurl sends it sends once: it repeats nothing by itself, whatever becomes of the connection."""

import contextlib
import socket
import sys
import threading
import time
from collections import namedtuple
from typing import Any

import pytest

from tests.contracts.bodies import Body
from upload_adapters.aws import curl_sender
from upload_adapters.aws.bucket import Bucket, Endpoint
from upload_adapters.aws.curl_channel import CurlChannel
from upload_adapters.aws.curl_sender import CurlSender
from upload_adapters.aws.errors import AwsUnavailableError
from upload_adapters.aws.s3_part import Upload
from upload_core.attempt import FreeAttempt
from upload_core.errors import LockLostError

Keys = namedtuple("Keys", "access_key secret_key token")
CHECKSUM = "AAAAAA=="
NOBODY: Any = None
"""In the place of boto3's clients, which are not asked."""


class Closing:
    """A server that stores every object, and under the name "lost" closes the connection instead of answering."""

    def __init__(self):
        self.puts = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listening.getsockname()[1]}/b/"
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                path = line.split()[1].decode()
                fields = {}
                while header := stream.readline().strip():
                    name, _, value = header.decode().partition(":")
                    fields[name.lower()] = value.strip()
                stream.read(int(fields["content-length"]))
                self.puts.append(path)
                if path.startswith("/b/lost"):
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                checksum = fields.get("x-amz-checksum-crc32", CHECKSUM)
                answer = (
                    f'HTTP/1.1 200 OK\r\nETag: "e"\r\nx-amz-checksum-crc32: {checksum}\r\nContent-Length: 0\r\n\r\n'
                )
                connection.sendall(answer.encode())

    def close(self):
        for each in (self._listening, *self._open):
            each.close()


@pytest.fixture
def server():
    made = Closing()
    yield made
    made.close()


@pytest.fixture
def endpoint(server):
    return Endpoint(server.base, "us-east-1", lambda: Keys("a", "b", None), lambda: time.time_ns() // 10**6)


def always():
    """What is sent here may be."""


SIZES = [0, 1, 100_000, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_body_whose_answer_is_lost_is_sent_once(server, endpoint, size):
    bucket, sender = Bucket("b", NOBODY, NOBODY, endpoint), CurlSender()
    for number in range(3):
        assert sender.send_whole(bucket, f"warm{number}", b"x" * size, CHECKSUM, always)["ETag"] == '"e"'
        with pytest.raises(AwsUnavailableError, match="closed before"):
            sender.send_whole(bucket, f"lost{number}", b"x" * size, CHECKSUM, always)
    assert server.puts == [f"/b/{name}{number}" for number in range(3) for name in ("warm", "lost")]


def test_a_body_that_was_sent_is_held_no_longer(server, endpoint):
    bucket, sender, data = Bucket("b", NOBODY, NOBODY, endpoint), CurlSender(), b"x" * 100_000
    before = sys.getrefcount(data)
    sender.send_whole(bucket, "warm", data, CHECKSUM, always)
    assert sys.getrefcount(data) == before


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_a_whole_body_that_may_no_longer_go_breaks_off(server, endpoint, asked):
    bucket, sender, questions = Bucket("b", NOBODY, NOBODY, endpoint), CurlSender(), []

    def commit():
        questions.append(1)
        if len(questions) > asked:
            raise LockLostError("taken over")

    with pytest.raises(LockLostError):
        sender.send_whole(bucket, "a", b"x" * 3_000_000, CHECKSUM, commit)
    assert sender.send_whole(bucket, "warm", b"x", CHECKSUM, always)["ETag"] == '"e"'
    assert "/b/warm" in server.puts


@pytest.mark.parametrize("size", SIZES)
def test_an_object_of_many_whose_answer_is_lost_is_sent_once(server, endpoint, size):
    channel = CurlChannel(endpoint)
    found: dict[int, Any] = {}
    for number in range(6):
        channel.start(number, f"{'lost' if number % 2 else 'warm'}{number}", b"x" * size, CHECKSUM)
        while channel.under_way:
            found.update(channel.finished(5))
    channel.close()
    assert [isinstance(found[number], AwsUnavailableError) for number in range(6)] == [False, True] * 3
    assert server.puts == [f"/b/{'lost' if number % 2 else 'warm'}{number}" for number in range(6)]


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
def test_a_part_whose_answer_is_lost_is_sent_again_only_after_another_commit(server, endpoint, size, monkeypatch):
    monkeypatch.setattr(curl_sender, "PART_ATTEMPTS", 2)
    committed = []
    attempt, sender = FreeAttempt(lambda: committed.append(len(server.puts))), CurlSender()
    bucket, body = Bucket("b", NOBODY, NOBODY, endpoint), Body(b"x" * size)
    assert sender.send_whole(bucket, "warm", b"x", CHECKSUM, always)["ETag"] == '"e"'
    with pytest.raises(AwsUnavailableError, match="closed before"):
        sender.send(Upload(bucket, "lost", "id", size, size), 1, body, 0, size, attempt)
    assert list(dict.fromkeys(committed)) == [1, 2]
    assert len(server.puts) == 3
