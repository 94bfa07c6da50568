"""How each program that transfers are measured with is called: the peers, and a delivery of ours with all that it needs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import work_sets
from deliver_to_sink import TRANSPORTS, start_validator
from figures import ROOT
from work_sets import WorkSet

BUCKET: Final = "bucket"
PEERS: Final = Path(os.environ.get("PEERS", ROOT / ".venv-peers")).absolute()
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "RCLONE_CONFIG": os.devnull,
}
THREADS: Final[Mapping[str, Mapping[str, int]]] = {
    "curl": {"small": 64, "tiny": 64, "medium": 8, "large": 4, "latency": 384},
    "boto3": {"small": 2, "tiny": 2, "medium": 4, "large": 2, "latency": 64},
}
"""Transfers at a time, by transport and kind of work; boto3's small files get slower with each thread."""


def environment(**more: str) -> dict[str, str]:
    """Ours with the keys, in which Python may keep what it compiled: nobody compiles a program at each start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | KEYS | more


# --- the peers -----------------------------------------------------------------------------------


def _peer(name: str) -> str:
    found = PEERS / "bin" / name
    if name == "s5cmd":  # what lies in bin/ is a script of Python's that starts it
        found = next(PEERS.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"), found)
    if not found.exists():
        raise RuntimeError(f"{found} is missing; `make {PEERS.name}/.installed` installs the peers")
    return str(found)


def s5cmd(work: WorkSet, url: str, workers: int | None = None) -> list[str]:
    """With so many workers, or its own 256."""
    chosen = () if workers is None else ("--numworkers", str(workers))
    command = [_peer("s5cmd"), "--endpoint-url", url, "--log", "error", *chosen]
    return [*command, "cp", f"{work.source}/", f"s3://{BUCKET}/"]


def rclone(work: WorkSet, url: str) -> list[str]:
    """With as many transfers as suit two cores, and without the requests that it can do without."""
    store = f":s3,provider=Other,env_auth,force_path_style,no_check_bucket,no_head,endpoint='{url}':{BUCKET}"
    return [_peer("rclone"), "copy", "--transfers", "16", "--checkers", "16", str(work.source), store]


def aws_cli(work: WorkSet, url: str) -> list[str]:
    """As it comes."""
    command = [_peer("aws"), "--endpoint-url", url, "s3", "cp", "--recursive", "--quiet"]
    return [*command, str(work.source), f"s3://{BUCKET}/"]


def boto3(work: WorkSet, url: str, how: str, threads: int) -> list[str]:
    """`put_object` or `upload_file` on so many threads."""
    what = ["--source", str(work.source), "--index", str(work.index), "--threads", str(threads)]
    return [sys.executable, str(ROOT / "benchmarks" / "peer_boto3.py"), how, *what, "--url", url, "--bucket", BUCKET]


# --- ours ----------------------------------------------------------------------------------------


class Ours:
    """One delivery of ours: a directory for journal and control bucket, and a validator that waits for it.

    What `command` starts may be killed and started again: it is the same delivery.
    """

    def __init__(self, kind: str, transport: str = TRANSPORTS[-1]) -> None:
        self._how = ["--transport", transport, "--threads", str(THREADS[transport][kind])]
        self._directory = tempfile.mkdtemp(prefix="run-", dir=work_sets.PLACE)  # on a real disk: the syncs count
        self._place = tempfile.mkdtemp()
        self._socket = os.path.join(self._place, "socket")
        self.validator = start_validator(self._directory, self._socket)

    def command(self, work: WorkSet, url: str, journal: str = "journal") -> list[str]:
        """What delivers that work there; with a journal of its own it is another machine's client."""
        what = ["--source", str(work.source), "--index", str(work.index), "--directory", self._directory]
        what += ["--journal", journal]
        where = ["--url", url, "--bucket", BUCKET, "--validator", self._socket]
        return [sys.executable, str(ROOT / "benchmarks" / "deliver_to_sink.py"), *what, *where, *self._how]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.validator.kill()
        self.validator.wait()
        if self.validator.stdout is not None:
            self.validator.stdout.close()
        shutil.rmtree(self._directory)
        shutil.rmtree(self._place)
