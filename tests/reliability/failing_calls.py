"""Processes whose calls to the kernel fail or kill them: each call that changes a directory can be met, one by one.

A library that is preloaded (`failing_calls.c`) counts them. To be quick, one process imports the program and is forked
for every run, as `python -m tests.reliability.failing_calls`; what is forked is a process like any other.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import attrs

from tests.command_line import ROOT, environment

SOURCE = Path(__file__).with_name("failing_calls.c")
How = Literal["pass", "kill before", "kill halfway", "kill after", "EIO", "ENOSPC", "power cut"]
HOWS: dict[How, tuple[int, int]] = {
    "pass": (0, 0),
    "kill before": (1, 0),
    "kill halfway": (2, 0),
    "kill after": (3, 0),
    "EIO": (4, errno.EIO),
    "ENOSPC": (4, errno.ENOSPC),
    "power cut": (5, 0),
}
TAKES_ROOM, SYNCS, OTHER = 1, 2, 4
"""Kinds of calls, as in the C source: what needs room, what waits for the disk, and the rest."""


def compiler() -> str | None:
    """A C compiler, where preloading works as it does on Linux."""
    return shutil.which("cc") if sys.platform == "linux" else None


def build(directory: Path) -> Path:
    """The library, compiled."""
    made = directory / "failing_calls.so"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", str(made), str(SOURCE), "-ldl"], check=True, capture_output=True, text=True)
    return made


@attrs.frozen
class Ended:
    """How a run ended: its exit code (negative: the signal that killed it), and what it said."""

    code: int
    stdout: str
    stderr: str
    calls: list[str]
    """Every call that it made below the directory, if that was asked for."""

    @property
    def killed(self) -> bool:
        return self.code == -9

    @property
    def told(self) -> list[str]:
        """The records that it printed: each was on disk by then."""
        return [line for line in self.stdout.splitlines() if line.startswith('{"seq":')]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found


class Forks:
    """A process that has imported the program, and runs it in forks of itself with calls that fail."""

    def __init__(self, library: Path) -> None:
        self._outputs = Path(tempfile.mkdtemp())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.failing_calls", str(library)],
            cwd=ROOT,
            env=environment(LD_PRELOAD=str(library)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        arguments: list[str],
        root: Path,
        *,
        at: int = 0,
        how: How = "pass",
        for_ever: int = 0,
        log: bool = False,
        limits: dict[str, float] | None = None,
        environ: dict[str, str] | None = None,
    ) -> Ended:
        """Run `upload-core` in `root`; its call number `at` below there is met. `for_ever`: kinds that fail from then on.

        `limits` are other figures for a local archive, such as how long an outage is waited for.
        """
        outputs = {name: str(self._outputs / name) for name in ("stdout", "stderr", "calls")}
        what, error = HOWS[how]
        told = {
            "arguments": arguments,
            "root": str(root),
            "limits": limits or {},
            "outputs": outputs,
            "log": log,
            "environ": environ or {},
        }
        told |= {"at": at, "how": what, "error": error, "for_ever": for_ever}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has died"
        texts = {name: Path(path).read_text("utf-8", errors="replace") for name, path in outputs.items()}
        return Ended(int(answer), texts["stdout"], texts["stderr"], texts["calls"].splitlines())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        shutil.rmtree(self._outputs)


# --- the process that forks ----------------------------------------------------------------------


def _child(library: ctypes.CDLL, told: dict[str, Any]) -> int:
    from upload_adapters.cli import main
    from upload_adapters.local import places

    opened = {n: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for n, path in told["outputs"].items()}
    for number, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(opened[name], number)
    os.chdir(told["root"])
    limits = attrs.evolve(places.LOCAL_LIMITS, **told["limits"])
    setattr(places, "LOCAL_LIMITS", limits)  # noqa: B010 - in this fork alone
    os.environ.update(told["environ"])
    library.calls_arm(
        os.fsencode(told["root"]),
        ctypes.c_long(told["at"]),
        told["how"],
        told["error"],
        told["for_ever"],
        opened["calls"] if told["log"] else -1,
    )
    return main(told["arguments"])


def _serve() -> None:
    import upload_adapters.cli.deliver
    import upload_adapters.cli.resume
    import upload_adapters.local
    import upload_adapters.wiring  # noqa: F401 - imported before forking, so that no fork has to

    library = ctypes.CDLL(sys.argv[1])
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            sys.exit(_child(library, json.loads(line)))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
