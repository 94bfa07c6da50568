"""Every kind of request of a delivery x every way in which a request goes wrong: whole deliveries through a proxy.

The client, its adapters and its transports are the real ones; only what waits a minute waits a second.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import attrs
import pytest
from botocore.config import Config

from tests.adapters.aws.emulated_archive import QUICK, EmulatedArchive
from tests.emulator import Emulator, Settings
from tests.reliability.proxy import FAULTS, Fault, Order, Proxy, Seen
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.wiring import wire_journal
from upload_core import NothingToDoError, UploadClient
from upload_core.errors import UploadClientError

PART = 64 << 10
LARGE = "dir/large.fits"
LEFT_OPEN = "dir/file 01.txt"
"""A small file of which somebody left a multipart upload open, as an earlier life may have."""
ATTEMPTS = 12
"""Requests of one kind beyond those of an undisturbed delivery."""


def _s3(method: str, query: str = "", key: str = "", header: str = "") -> Callable[[Seen], bool]:
    """Requests to S3 of that method whose query, key and headers hold these words."""
    return lambda request: (
        not request.is_json
        and request.method == method
        and (query in request.query if query else "upload" not in request.query.lower())
        and key in request.path
        and (not header or header in request.headers)
    )


@attrs.frozen
class Kind:
    """A kind of request: which ones they are, and what the delivery needs to make one."""

    fits: Callable[[Seen], bool]
    transport: str = "curl"
    resumed: bool = False
    """Whether only a second session, of a large file half sent, makes such a request."""
    slow_lock: bool = True


KINDS = {
    "small file by curl": Kind(_s3("PUT", key="/dir/file")),
    "small file by boto3": Kind(_s3("PUT", key="/dir/file"), transport="boto3"),
    "begin a large file": Kind(_s3("POST", query="uploads")),
    "part": Kind(_s3("PUT", query="partNumber")),
    "complete a large file": Kind(_s3("POST", query="uploadId")),
    "abort what was left": Kind(_s3("DELETE", query="uploadId")),
    "list parts": Kind(_s3("GET", query="uploadId"), resumed=True),
    "head of a log": Kind(_s3("HEAD", key="log/")),
    "read a log": Kind(_s3("GET", key="log/validator")),
    "take the lock": Kind(_s3("PUT", key="lock/client", header="if-none-match")),
    "renew the lock": Kind(_s3("PUT", key="lock/client", header="if-match"), slow_lock=False),
    "give the lock back": Kind(_s3("DELETE", key="lock/client")),
    "append to the log": Kind(_s3("PUT", key="log/client")),
    "start validation": Kind(lambda request: request.path.startswith("/2015-03-31/")),
    "read the parameter": Kind(lambda request: "x-amz-target" in request.headers),
}


@pytest.fixture(scope="module")
def server():
    with Emulator(Settings(part_size_min=PART)) as aws, Proxy(aws.url) as proxy:
        yield aws, proxy


@pytest.fixture
def impatient(monkeypatch):
    """Timeouts of a second instead of a minute, and probes that come sooner."""
    init = Config.__init__

    def shorter(self: Config, *arguments: object, **options: object) -> None:
        if "read_timeout" in options:
            options["read_timeout"] = 0.7
        init(self, *arguments, **options)

    monkeypatch.setattr(Config, "__init__", shorter)
    monkeypatch.setattr("upload_adapters.aws.curl_handle.SILENCE_S", 1)
    monkeypatch.setattr("upload_core.retry.PROBE_FIRST_MS", 200)
    for name in ("WIND_DOWN_POLL_S", "SILENCE_S"):
        monkeypatch.setattr(f"upload_adapters.aws.pipeline.{name}", 1.0)


def judge_archive(archive: EmulatedArchive, *, sessions: int) -> None:
    """What a third person sees in the emulator after at most so many sessions: everything there once, nothing left."""
    stored = {path: found and found.data for path in archive.files for found in [archive.transfer.found(path)]}
    assert stored == archive.files
    verdicts = [row for row in archive.rows(archive.keys.validator_log) if row[1] == "validation"]
    assert Counter(row[2] for row in verdicts) == dict.fromkeys(archive.files, 1)
    assert {row[3] for row in verdicts} == {"ok"}
    assert all(len(told) == len(set(told)) for told in archive.told()), "a file was told twice in one run"
    assert len(archive.validators) <= sessions
    keys = [asked["idempotency_key"] for asked in archive.invocations]
    assert len(set(keys)) == len(archive.validators), "one accepted start for each run"
    log = archive.rows(archive.keys.client_log)
    assert len(set(map(tuple, log))) == len(log), "a row was written twice"


class Cell:
    """One delivery that meets one fault."""

    def __init__(self, server, root, monkeypatch, kind: Kind) -> None:
        self.aws, self.proxy = server
        self.kind = kind
        self.said: list[str] = []
        self.aws.reset()
        self.proxy.order = None
        for name, value in {**self.aws.environment(), "AWS_ENDPOINT_URL": self.proxy.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(root)
        self.archive = EmulatedArchive(self.aws, root, count=4, staleness_s=3600 if kind.slow_lock else 6)
        self.archive.files[LARGE] = random.Random(1).randbytes(3 * PART - 5)
        (self.archive.source / LARGE).write_bytes(self.archive.files[LARGE])
        self.aws.store.create_upload(self.archive.transfer_bucket, LEFT_OPEN, algorithm="", kind="", metadata={})

    def small_parts(self, ports):
        place = ports.archive._place
        ports.archive = S3Archive(place, single_max=PART, part_size=PART, pool=PartPool(at_once=1))
        return ports

    def first(self) -> UploadClient:
        settings = {"deployment.transport": self.kind.transport}
        return self.archive.client(ports=self.small_parts(self.archive.ports(settings=settings)))

    def resumed(self) -> UploadClient:
        ports = wire_journal(self.archive.root / "journal", {})
        ports.limits = QUICK
        return UploadClient.resume(ports=self.small_parts(ports))

    def half_sent(self) -> None:
        """A session that ends once two parts of the large file are journaled."""
        client = self.first()
        parts = []

        def stop(record) -> None:
            if type(record.event).__name__ == "PartStored":
                parts.append(record)
                client.stop("for now")

        client.subscribe(stop)
        client.run()
        assert parts

    def deliver(self, fault: Fault, times: int = 1) -> tuple[Order, int, list[int]]:
        """Deliver through the fault; the order, how many sessions it took, and their exit codes."""
        if self.kind.resumed:
            self.half_sent()
        order = self.proxy.order = Order(fault, self.kind.fits, times)
        codes: list[int] = []
        make = self.resumed if self.kind.resumed else self.first
        for sessions in range(1, 4):
            client = make()
            if not self.kind.slow_lock:
                self.hold_up()
            try:
                client.run()
            except NothingToDoError:
                return order, sessions, codes
            except UploadClientError:
                pass  # its exit code says which
            codes.append(client.summary().exit_code)
            self.said.append(client.summary().message)
            if codes[-1] == 0:
                return order, sessions, codes
            make = self.resumed
        raise AssertionError(f"not at its end after sessions that ended with {codes}: {self.said}")

    def hold_up(self) -> None:
        """Let the validator wait until the lock was renewed."""
        self.archive.hang()

        def wait() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and (self.proxy.order is None or not self.proxy.order.came):
                time.sleep(0.02)
            self.archive.go_on()

        threading.Thread(target=wait, daemon=True).start()

    def judge(self, sessions: int) -> None:
        judge_archive(self.archive, sessions=sessions + self.kind.resumed)
        # For want of credentials the last things were not given back, and it said so.
        if "ExpiredToken" not in "".join(self.said[-1:]):
            assert self.aws.open_uploads() == []
            assert self.archive.control.found(self.archive.keys.client_lock) is None

    def close(self) -> None:
        self.archive.go_on()
        self.archive.close()


@pytest.mark.promise("R15")
@pytest.mark.usefixtures("impatient")
def test_whatever_becomes_of_its_answer_validation_is_started_once(server, tmp_path, size, figure):
    """Lost, late beyond all patience, cut or given twice, and that up to three times in a row."""
    faults: list[Fault] = ["answer lost", "duplicate", "hang", "truncated", "500"]
    cases = [(fault, times) for times in (1, 3, 2) for fault in faults]
    with pytest.MonkeyPatch.context() as patch:
        for fault, times in cases[: size(pr=4, nightly=len(cases))]:
            root = tmp_path / f"{fault} {times}"
            root.mkdir()
            cell = Cell(server, root, patch, KINDS["start validation"])
            try:
                order, sessions, _ = cell.deliver(fault, times=times)
                cell.judge(sessions)
                starts = len(cell.archive.validators)
                assert starts == len({asked["idempotency_key"] for asked in cell.archive.invocations}) <= sessions
                assert order.met >= 1
            finally:
                cell.close()
            figure(1, "runs started once")


@pytest.mark.promise("R10")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_goes_wrong_with_one_request_the_delivery_ends_right(server, kind, tmp_path, figure):
    with pytest.MonkeyPatch.context() as patch:
        for fault in FAULTS:
            meet(server, tmp_path / f"{kind} {fault}", patch, kind, fault)
            figure(1, "cells of kind and fault")


def meet(server, root, patch, kind: str, fault: Fault) -> tuple[int, list[int]]:
    root.mkdir()
    cell = Cell(server, root, patch, KINDS[kind])
    try:
        order, sessions, codes = cell.deliver(fault)
        assert order.met == 1, f"{kind} x {fault}: no such request was made"
        assert set(codes) <= {0, 5, 6, 8}, f"{kind} x {fault}: {codes}, {cell.said}"
        assert order.came <= ATTEMPTS + 40 * sessions, f"{kind} x {fault}: {order.came} requests"
        cell.judge(sessions)
    except AssertionError as error:
        raise AssertionError(f"{kind} x {fault}: {error}") from error
    finally:
        cell.close()
    return order.came, codes
