"""The archive as its staff run it, on an emulator: buckets, parameters, and the public package's function and validator.

A test sees through it what the validator wrote and what is stored; the judging here shares no code with the client.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from tests.emulator import CommandFunction, CommandRunner, Emulator, Settings

STEM, DATASET, DELIVERY, ZONE = "mast", "my_set", "1", "use1-az4"
CONFIG_BUCKET = "mast-config"
SIDE = Path(__file__).with_name("archive_side.py")

LABEL = f"""\
dataset: {DATASET}
delivery_id: "{DELIVERY}"
time: {{delivery_start_date: 2025-10-20}}
delivery_meta:
  schema_version: 0.0.1a0
  global_validation_options: {{missing_filetypes_ok: true, no_assigned_filetype_ok: true}}
filetypes:
  table:
    standard: asdf
    filename: .*\\.asdf
"""
TASK_CONFIG = "{az_id: use1-az4, subnet_id: subnet-1, cluster: default, sg_id: sg-1, family: main}\n"
QUICK: Mapping[str, float] = {"keepalive_threshold": 2, "loop_rate": 0.1}
"""Settings of the validator for tests: its keepalives come every 2 s instead of every 10."""


@attrs.frozen
class Row:
    """One row of a log."""

    time: str
    category: str
    ref: str
    status: str
    message: str
    agent: str


class RealArchive:
    """One delivery's places; everything that runs in it ends with it."""

    def __init__(
        self,
        python: Path,
        *,
        transfer_type: str = "staging",
        delivery: str = DELIVERY,
        accepted_label: str = LABEL,
        validator: Mapping[str, float] = QUICK,
        lock_staleness_s: int = 3600,
        emulator: Settings | None = None,
    ) -> None:
        self.transfer_type = transfer_type
        self.transfer = f"{STEM}-{DATASET}-{delivery}-{transfer_type}".replace("_", "-")
        self.control = f"{STEM}-{DATASET}-{delivery}-control--{ZONE}--x-s3".replace("_", "-")
        self.aws = Emulator(emulator)
        side = [str(python), str(SIDE)]
        aws_variables = self.aws.environment()
        self.aws.functions.by_name["init"] = CommandFunction([*side, "function"], {**os.environ, **aws_variables})
        self.aws.tasks.runner = CommandRunner(
            [*side, "container"], {**aws_variables, "VALIDATOR_SETTINGS": json.dumps(dict(validator))}
        )
        network = {
            "AVAILABILITY_ZONE_ID": ZONE,
            "BUCKET_STEM": STEM,
            "CONFIG_BUCKET": CONFIG_BUCKET,
            "INIT_LAMBDA_ARN": f"arn:aws:lambda:us-east-1:{self.aws.settings.account}:function:init",
            "LOCK_STALENESS_THRESHOLD": lock_staleness_s,
            "TASK_CONFIG_PREFIX": "task-configs",
        }
        self.aws.parameters.values["/mast-fast/delivery"] = ("SecureString", json.dumps(network))
        self.aws.parameters.values["/mast-fast/resource-tags"] = ("String", json.dumps({"Project": "interop"}))
        for name in (self.transfer, self.control, CONFIG_BUCKET):
            self.aws.store.create_bucket(name)
        self.aws.place(CONFIG_BUCKET, "task-configs/default-task-config.yaml", TASK_CONFIG.encode())
        self.aws.place(CONFIG_BUCKET, f"labels/accepted/{DATASET}-{delivery}-label.yaml", accepted_label.encode())

    def close(self) -> None:
        self.aws.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- what a test looks at ---------------------------------------------------------------------

    def stored(self) -> dict[str, bytes]:
        """The delivered objects."""
        with self.aws.store.lock:
            return {key: found.data for key, found in self.aws.store.bucket(self.transfer).objects.items()}

    def locks(self) -> list[str]:
        with self.aws.store.lock:
            return sorted(key for key in self.aws.store.bucket(self.control).objects if key.startswith("lock/"))

    def _log(self, writer: str) -> str:
        found = self.aws.object(self.control, f"log/{writer}_{self.transfer_type}")
        return found.data.decode() if found else ""

    def client_rows(self) -> list[Row]:
        """Our log, read as a spreadsheet would: a backslash is a backslash."""
        return [Row(*fields) for fields in csv.reader(io.StringIO(self._log("client"), newline=""), delimiter="\t")]

    def validator_rows(self) -> list[Row]:
        """The validator's log, by the rules it is written with."""
        reader = csv.reader(io.StringIO(self._log("validator"), newline=""), delimiter="\t", escapechar="\\")
        return [Row(*fields) for fields in reader]

    def verdicts(self) -> list[tuple[str, str]]:
        """Path and status of every verdict ever written."""
        return [(row.ref, row.status) for row in self.validator_rows() if row.category == "validation"]

    def sessions(self) -> int:
        """How many validators ever began to validate."""
        return sum(row.category == "init" and row.status == "ok" for row in self.validator_rows())

    def invocations(self) -> int:
        return len(self.aws.log("Invoke"))

    def sent(self) -> Counter[str]:
        """How often each object was sent in whole; copies and parts are not counted."""
        return Counter(
            entry.key for entry in self.aws.log("PutObject") if entry.bucket == self.transfer and entry.status < 300
        )

    def reported(self) -> Counter[str]:
        return Counter(row.ref for row in self.client_rows() if row.category == "transfer" and row.status == "ok")

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}; the validator's log:\n{self._log('validator')}"
            time.sleep(0.05)

    # --- what a test does to it --------------------------------------------------------------------

    def let_pass(self, seconds: float, *keys: str) -> None:
        """As if the control bucket, or these objects of it, had been left alone for that long."""
        with self.aws.store.lock:
            objects = self.aws.store.bucket(self.control).objects
            for key in keys or list(objects):
                found = objects[key]
                objects[key] = attrs.evolve(found, modified=found.modified - seconds)

    # --- what every delivery must have left -------------------------------------------------------

    def assert_at_rest(self, *, locks: Iterable[str] = ()) -> None:
        """No validator, no lock but these, no open multipart upload."""
        self.wait_for(lambda: not self.aws.tasks.alive(), "a validator is left", 60)
        assert self.locks() == sorted(locks)
        assert self.aws.open_uploads() == []

    def assert_delivered(self, files: Mapping[str, bytes], *, sessions: int = 1) -> None:
        """Right bytes, asserted by the store; exactly one verdict for each file, and it is ok; at rest."""
        assert self.stored() == dict(files)
        verdicts = Counter(self.verdicts())
        assert verdicts == Counter((path, "ok") for path in files)
        for path in files:
            found = self.aws.object(self.transfer, path)
            assert found is not None
            assert found.checksum is not None
            assert (found.checksum.algorithm, found.checksum.kind) == ("CRC32", "FULL_OBJECT")
        assert self.sessions() == sessions
        self.assert_at_rest()

    def explain(self) -> dict[str, Any]:
        """For a test that fails: what everybody said."""
        return {
            "client": self._log("client"),
            "validator": self._log("validator"),
            "tasks": [task.process.lines() for task in self.aws.tasks.alive()],
            "requests": [f"{e.operation} {e.key} {e.status} {e.code} {e.fault}" for e in self.aws.log()][-60:],
        }
