"""A data provider's desk: a directory of files with index, label and deployment file, and our command line on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tests.interop.archive import LABEL, RealArchive

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "upload_adapters.cli"]
HOST = [sys.executable, str(Path(__file__).with_name("host.py"))]

DEPLOYMENT = """\
[deployment]
name = "interop"
region = "us-east-1"
network_parameter = "/mast-fast/delivery"
[identity]
kind = "aws"
"""

GOOD_ASDF = b"""\
#ASDF 1.0.0
#ASDF_STANDARD 1.5.0
%YAML 1.1
%TAG ! tag:stsci.edu:asdf/
--- !core/asdf-1.1.0
target: M31
...
"""
BAD_ASDF = b"#ASDF 1.0.0\n%YAML 1.1\n--- {target: [M31\n...\n"


@attrs.frozen
class Ended:
    """How a command ended, and the summary that it printed last."""

    code: int
    summary: dict[str, Any]
    stderr: str


class Provider:
    """Delivers `files` to an archive."""

    def __init__(
        self,
        root: Path,
        archive: RealArchive,
        files: Mapping[str, bytes],
        *,
        label: str = LABEL,
        limits: Mapping[str, float] | None = None,
        variables: Mapping[str, str] | None = None,
        indexed: bool = True,
    ) -> None:
        self.root, self.archive, self.files = root, archive, dict(files)
        self.journal = root / "journal"
        self._limits = limits
        self.variables = dict(variables or {})
        self.without: tuple[str, ...] = ()
        """Variables that the emulator would have set."""
        root.mkdir(exist_ok=True)
        for name, data in files.items():
            path = root / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (root / "label.yaml").write_text(label)
        (root / "mast.toml").write_text(DEPLOYMENT)
        if indexed:
            self.index()

    def index(self) -> None:
        """Make the index of the data as it is."""
        made = self.run("index", "data", "-o", "index.csv", "-q")
        assert made.code == 0, made.stderr

    @property
    def delivering(self) -> list[str]:
        sample = ["--sample"] if self.archive.transfer_type == "sample" else []
        return [
            *("deliver", "data", "index.csv", "--to", "mast.toml", "--label", "label.yaml"),
            *("--journal", str(self.journal), "--json", *sample),
        ]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "UPLOAD_CORE_"))}
        path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'adapters'}"}
        aws = {name: value for name, value in self.archive.aws.environment().items() if name not in self.without}
        return kept | path | aws | self.variables

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = COMMAND if self._limits is None else [*HOST, json.dumps(dict(self._limits))]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def end(self, process: subprocess.Popen[str], timeout_s: float = 200) -> Ended:
        """Wait for the end of a command; one that does not come to it is killed, and the test fails."""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"the command does not end\n{out}\n{err}\n{self.archive.explain()}") from None
        lines = out.splitlines()
        summary = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return Ended(process.returncode, summary, err)

    def run(self, *arguments: str, timeout_s: float = 200) -> Ended:
        return self.end(self.start(*arguments), timeout_s)

    def deliver(self, *options: str, timeout_s: float = 200) -> Ended:
        return self.run(*self.delivering, *options, timeout_s=timeout_s)

    def resume(self, *options: str, timeout_s: float = 200) -> Ended:
        return self.run("resume", str(self.journal), "--json", *options, timeout_s=timeout_s)

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()
