"""A whole archive on the emulator: buckets, parameter, function, and a validator that sees the store without a request,
so that a fault that a test orders meets nobody but the client.
"""

import csv
import io
import json
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any
from zlib import crc32

import attrs

from tests.emulator import Emulator
from tests.emulator.objects import Condition
from tests.emulator.wire import ServiceError
from upload_adapters.clock import SystemClock
from upload_adapters.memory.pipeline import MemoryValidator
from upload_core import UploadClient
from upload_core.ports import Limits, ObjectInfo, Ports, StoredObject
from upload_core.wire import Keys
from upload_core.wiring import WiringRequest

STEM, DATASET, DELIVERY, ZONE = "mast", "my_set", "d1", "use1-az4"
QUICK = Limits(
    poll_interval_s=0.05,
    report_interval_s=0.05,
    keepalive_interval_s=30.0,
    validator_start_s=20.0,
    validator_blind_s=0.0,
    validator_silence_s=30.0,
    validator_stop_s=10.0,
    outage_s=20.0,
)
SIGNED_IN = """
[deployment]
name = "mast-test"
region = "us-east-1"

[identity]
kind = "cognito"
issuer = "{issuer}"
client_id = "{client_id}"
identity_pool_id = "us-east-1:01234567-89ab-cdef-0123-456789abcdef"
"""
"""The deployment file of an archive whose people sign in."""
ROLE = f"arn:aws:iam::000000000000:role/{STEM}-{DATASET}-{DELIVERY}-role"


class _Store:
    """A bucket of the emulator, seen from behind."""

    def __init__(self, aws: Emulator, bucket: str) -> None:
        self._aws, self._bucket = aws, bucket

    def found(self, key):
        return self._aws.object(self._bucket, key)

    def _info(self, found) -> ObjectInfo:
        return ObjectInfo(len(found.data), found.etag, found.modified, self._aws.settings.now())

    def head(self, key):
        found = self.found(key)
        return None if found is None else self._info(found)

    def size(self, key) -> int:
        found = self.found(key)
        return 0 if found is None else len(found.data)

    def read(self, key, start=0):
        found = self.found(key)
        return None if found is None else (found.data[start:], self._info(found))

    def put(self, key, data):
        return self._info(
            self._aws.store.put(self._bucket, key, data, Condition(), checksums={}, metadata={}),
        )

    def append(self, key, data, *, offset):
        found = self.found(key)
        if found is not None and found.parts == self._aws.settings.parts_max:
            self.put(key, found.data)
        return self._info(
            self._aws.store.append(self._bucket, key, data, offset, Condition(), checksums={}, metadata={}),
        )

    def delete(self, key):
        self._aws.store.delete(self._bucket, key, None)

    def stat(self, relpath):
        found = self.found(relpath)
        if found is None:
            return None
        return StoredObject(relpath, len(found.data), found.checksum.value if found.checksum else "", found.etag)


class EmulatedArchive:
    """The archive, the source directory of a delivery to it, and the deployment file `mast.toml` beside that."""

    def __init__(self, aws: Emulator, root: Path, *, count: int = 8, staleness_s: float = 3600, settings: str = ""):
        self.aws, self.root = aws, root
        self.keys = Keys(DATASET, DELIVERY, "staging")
        self.transfer_bucket = self.keys.transfer_bucket(STEM)
        self.control_bucket = self.keys.control_bucket(STEM, ZONE)
        aws.store.create_bucket(self.transfer_bucket)
        aws.store.create_bucket(self.control_bucket)
        self.control, self.transfer = _Store(aws, self.control_bucket), _Store(aws, self.transfer_bucket)
        self.staleness_s = staleness_s
        parameter = {
            "AVAILABILITY_ZONE_ID": ZONE,
            "BUCKET_STEM": STEM,
            "CONFIG_BUCKET": "mast-config",
            "INIT_LAMBDA_ARN": f"arn:aws:lambda:us-east-1:{aws.settings.account}:function:init",
            "LOCK_STALENESS_THRESHOLD": staleness_s,
            "TASK_CONFIG_PREFIX": "tasks/",
        }
        aws.parameters.values["/mast-fast/delivery"] = ("SecureString", json.dumps(parameter))
        aws.functions.by_name["init"] = self.start
        self.toml = root / "mast.toml"
        self.toml.write_text(settings or '[deployment]\nname = "mast-test"\nregion = "us-east-1"\n')
        self.source = root / "data"
        self.source.mkdir()
        self.files = {f"dir/file {number:02d}.txt": b"content %d\n" % number for number in range(count)}
        for relpath, data in self.files.items():
            (self.source / relpath).parent.mkdir(exist_ok=True)
            (self.source / relpath).write_bytes(data)
        self.invocations: list[dict[str, str]] = []
        self.validators: list[MemoryValidator] = []
        self.sessions: list[int] = []
        """The size of our log when each validator was started."""
        self._going = threading.Event()
        self._going.set()
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="validator", daemon=True)
        self._thread.start()

    # --- the archive's side -----------------------------------------------------------------------

    def start(self, payload):
        """The function: what it refuses it says in the archive's words."""
        with self._mutex:
            self.invocations.append(payload)
            lock = self.control.read(self.keys.client_lock)
            if lock is None or lock[0].decode() != payload["agent_id"] or lock[1].age_s > self.staleness_s:
                return "status: error\ndetails: transfer app lockfile invalid or not present\nstep: lock\n"
            if self.validator is not None and self.validator.alive:
                return "status: error\ndetails: a validation task is already running for this transfer\nstep: task\n"
            if payload["idempotency_key"] in {asked["idempotency_key"] for asked in self.invocations[:-1]}:
                return "status: error\ndetails: duplicate function execution, terminating\nstep: begin\n"
            self.sessions.append(self.control.size(self.keys.client_log))
            limits = attrs.evolve(QUICK, lock_staleness_s=self.staleness_s)
            made = MemoryValidator(self.control, self.transfer, SystemClock(), self.keys, limits=limits)  # type: ignore[arg-type]  # all it uses is there
            self.validators.append(made)
            return "status: success\n"

    @property
    def validator(self):
        """The latest validator."""
        return self.validators[-1] if self.validators else None

    def hang(self) -> None:
        """The validator does nothing until `go_on`."""
        self._going.clear()

    def go_on(self) -> None:
        self._going.set()

    def _turn(self) -> None:
        while not self._ended.wait(0.02):
            self._going.wait()
            with self._mutex:
                if self.validator is not None:
                    try:
                        self.validator.turn()
                    except ServiceError as error:
                        self.validator.kill(f"{error.code}")

    def close(self) -> None:
        self._ended.set()
        self._going.set()
        self._thread.join()

    # --- the client's side ------------------------------------------------------------------------

    def index(self, **changes: bytes) -> dict[str, list[str]]:
        contents = {**self.files, **changes}
        crcs = [b64encode(crc32(data).to_bytes(4, "big")).decode() for data in contents.values()]
        return {"path": list(contents), "checksum": crcs}

    def ports(self, *, journal: str = "journal", limits: Limits = QUICK, **request) -> Ports:
        """The wiring's own ports, only paced for tests."""
        from upload_adapters.wiring import wire

        asked: dict[str, Any] = {"to": str(self.toml), "journal": self.root / journal, "source": self.source} | request
        made = wire(WiringRequest(DATASET, DELIVERY, "staging", **asked))
        made.limits = limits
        return made

    def client(self, *, ports: Ports | None = None, n_threads: int = 3, **options) -> UploadClient:
        import pandas

        return UploadClient(
            dataset=DATASET,
            delivery_id=DELIVERY,
            file_index=pandas.DataFrame(self.index()),
            transfer_type="staging",
            source=self.source,
            ports=ports or self.ports(),
            n_threads=n_threads,
            **options,
        )

    def resumed(self, journal: str = "journal", **overrides) -> UploadClient:
        from upload_adapters.wiring import wire_journal

        ports = wire_journal(self.root / journal, overrides)
        ports.limits = QUICK
        return UploadClient.resume(ports=ports)

    # --- what a third person sees ------------------------------------------------------------------

    def rows(self, key: str, start: int = 0, end: int | None = None) -> list[list[str]]:
        found = self.control.read(key)
        text = "" if found is None else found[0][start:end].decode()
        return list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))

    def told(self) -> list[list[str]]:
        """The paths that each validator was told of."""
        log = self.keys.client_log
        ends = [*self.sessions[1:], None]
        return [
            [row[2] for row in self.rows(log, start, end) if row[1] == "transfer" and row[3] == "ok"]
            for start, end in zip(self.sessions, ends, strict=True)
        ]

    def puts(self) -> list[str]:
        """Every file that S3 stored, as often as it did."""
        log = [entry for entry in self.aws.log() if entry.status in (0, 200)]
        made = [e.key for e in log if e.operation == "PutObject" and e.bucket == self.transfer_bucket]
        return made + [e.key for e in log if e.operation == "CompleteMultipartUpload"]

    def judge(self, *, sessions: int = 1, sent_twice: int = 0) -> None:
        """Raises `AssertionError` unless all is as after an undisturbed delivery."""
        stored = {relpath: self.transfer.found(relpath) for relpath in self.files}
        assert {relpath: found and found.data for relpath, found in stored.items()} == self.files
        verdicts = [row for row in self.rows(self.keys.validator_log) if row[1] == "validation"]
        assert sorted(row[2] for row in verdicts) == sorted(self.files)
        assert {row[3] for row in verdicts} == {"ok"}
        assert len(self.validators) == sessions, len(self.validators)
        assert all(len(told) == len(set(told)) for told in self.told()), self.told()
        stops = [row for row in self.rows(self.keys.client_log) if row[1] == "stop"]
        assert len(stops) == sessions
        assert self.control.found(self.keys.client_lock) is None
        deadline = time.monotonic() + 5
        while self.validator.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not self.validator.alive
        assert self.validator.killed == ""
        assert self.aws.open_uploads() == []
        assert len(self.puts()) <= len(self.files) + sent_twice
