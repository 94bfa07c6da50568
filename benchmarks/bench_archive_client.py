"""F5 to F8: the same trouble for the archive's own client, mast-transfer-tools 1.0.3, and for ours.

Both deliver to the emulator of the tests, with its validator; what arrived, and who held the lock, is read from there.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pandas as pd
import programs
from bench_peers_in_trouble import Gate
from bench_resume import PATIENCE_S
from figures import ROOT, Figure, Goal, Scale, number

from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, EmulatedArchive
from tests.emulator import Emulator, Fault
from tests.interop.archive import LABEL

OUTAGE_S: Final = 20.0
LOOK_S: Final = 0.02
ANSWER_S: Final = 0.02
"""How long S3 thinks: a server on loopback answers so fast that a look and a write after it seem to be one."""
MIDDLE: Final = 4 << 20
"""So far past half a file is it killed: half of 1 GiB is the end of a part of ours, which would be luck."""
ITS_PYTHON: Final = Path(os.environ.get("UPLOAD_CORE_INTEROP_PYTHON", ROOT / ".venv-interop" / "bin" / "python"))


class Desk:
    """A delivery, its archive, and the programs that are started for it."""

    def __init__(self, root: Path, files: int, size: int) -> None:
        self.root, self.aws = root, Emulator()
        self.archive = EmulatedArchive(self.aws, root, count=0)
        chance = random.Random(5)
        self.archive.files = {f"file {row:04d}.dat": _bytes(chance, size) for row in range(files)}
        for name, data in self.archive.files.items():
            self.archive.source.joinpath(name).write_bytes(data)
        pd.DataFrame(self.archive.index()).to_csv(root / "index.csv", index=False)
        root.joinpath("label.yaml").write_text(LABEL.replace('delivery_id: "1"', f"delivery_id: {DELIVERY}"), "utf-8")

    def start(self, whose: str, url: str = "") -> subprocess.Popen[str]:
        """The delivery by that program; its exit code is 0 if every file is valid."""
        if whose == "ours":
            what = ["deliver", "data", "index.csv", "--to", "mast.toml", "--journal", "journal", "-q"]
            what += ["--dataset", DATASET, "--delivery-id", DELIVERY]
            return self.run([sys.executable, "-m", "upload_adapters.cli", *what], url)
        return self.run([str(ITS_PYTHON), str(ROOT / "benchmarks" / "peer_mast_transfer_tools.py")], url)

    def run(self, command: Sequence[str], url: str = "", *, talks: bool = False) -> subprocess.Popen[str]:
        """That command at the emulator, or at the way to it that is named; one that talks is asked and answers."""
        variables = programs.environment(**self.aws.environment())
        variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
        if url:
            variables["AWS_ENDPOINT_URL"] = url
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        pipes = {"stdin": pipe, "stdout": pipe, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.root, env=variables, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def until(self, process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
        """Wait for that; raises `RuntimeError` if the program ends before."""
        while not reached():
            if process.poll() is not None:
                raise RuntimeError("it ended too early to be disturbed")
            time.sleep(LOOK_S)

    @property
    def port(self) -> int:
        """Where the server listens."""
        return int(self.aws.url.rsplit(":", 1)[1])

    def missing(self) -> int:
        """Files that are not there as they should be."""
        found = {name: self.archive.transfer.found(name) for name in self.archive.files}
        return sum(one is None or one.data != self.archive.files[name] for name, one in found.items())

    def close(self) -> None:
        """End the validator and the server."""
        self.archive.close()
        self.aws.close()


def _bytes(chance: random.Random, size: int) -> bytes:
    """So many; it gives no more than 256 MiB at once."""
    return b"".join(chance.randbytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20))


def contenders() -> list[str]:
    """Whom to give the trouble to; without an interpreter that has the package, ours alone."""
    if ITS_PYTHON.exists():
        return ["mast-transfer-tools", "ours"]
    hint = f"`make {ITS_PYTHON.parent.parent.name}/.installed` installs it"
    print(f"mast-transfer-tools is not installed: no {ITS_PYTHON}; {hint}", file=sys.stderr, flush=True)
    return ["ours"]


def ending(process: subprocess.Popen[str]) -> str:
    """How it ended; one that does not is killed."""
    try:
        return f"exit code {process.wait(PATIENCE_S)}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"no end within {PATIENCE_S:.0f} s"


@contextmanager
def desk(files: int, size: int) -> Iterator[Desk]:
    """A delivery of so many files of that size."""
    with tempfile.TemporaryDirectory() as root:
        made = Desk(Path(root), files, size)
        try:
            yield made
        finally:
            made.close()


def _both(trouble: Callable[[str], tuple[float, str]]) -> tuple[float, dict[str, str]]:
    """What became of ours, as a number, and of both in words."""
    found = {name: trouble(name) for name in contenders()}
    beside = {"mast-transfer-tools": "not installed"} | {name: words for name, (_, words) in found.items()}
    return found["ours"][0], beside


def f5(scale: Scale) -> Iterator[Figure]:
    """Nobody answers for 20 s, a quarter of the way."""
    files = scale(100, 40)

    def cut_off(whose: str) -> tuple[float, str]:
        with desk(files, 1 << 16) as place:
            process = place.start(whose)
            place.until(process, lambda: len(place.archive.puts()) >= files // 4)
            outage = place.aws.order(Fault("reset", times=0))
            time.sleep(OUTAGE_S)
            outage.times = outage.fired or 1
            how = ending(process)
            return place.missing(), f"{place.missing()} missing, {how}"

    measured, beside = _both(cut_off)
    what = f"{files} x 64 KiB, the archive away for {OUTAGE_S:.0f} s: files that never arrived"
    yield Figure("F5", what, Goal("<=", 0, ""), measured, "", beside=beside)


def f6(scale: Scale) -> Iterator[Figure]:
    """Two clients reach for the lock at the same time, again and again."""
    races = scale(30, 5)

    def raced(whose: str) -> tuple[float, str]:
        python = str(ITS_PYTHON) if whose == "mast-transfer-tools" else sys.executable
        whom = "theirs" if whose == "mast-transfer-tools" else "ours"
        with desk(1, 100) as place:
            command = [python, str(ROOT / "benchmarks" / "racing_client.py"), whom, DATASET, DELIVERY]
            clients = [place.run(command, talks=True) for _ in range(2)]

            def ask(line: str) -> list[str]:
                for client in clients:
                    assert client.stdin is not None
                    client.stdin.write(line + "\n")
                    client.stdin.flush()
                return [client.stdout.readline().strip() for client in clients if client.stdout is not None]

            place.aws.order(Fault("late", seconds=ANSWER_S, times=0))
            held = []
            try:
                assert [c.stdout.readline() for c in clients if c.stdout is not None] == ["ready\n"] * 2
                for _ in range(races):
                    assert ask("make") == ["ready"] * 2
                    held.append(ask("go").count("held"))
                    ask("quit")
                    place.archive.control.delete("lock/client")
            finally:
                for client in clients:
                    client.kill()
                    client.communicate()
        return races - held.count(1), f"both held it in {held.count(2)}, one in {held.count(1)} of {races}"

    measured, beside = _both(raced)
    what = (
        f"{races} races of two clients for the lock, answers after {ANSWER_S * 1000:.0f} ms: races without one holder"
    )
    yield Figure("F6", what, Goal("<=", 0, ""), measured, "", beside=beside)


def f7(scale: Scale) -> Iterator[Figure]:
    """A large file that is killed halfway, and the same command again."""
    size = scale(1 << 30, 300 << 20)

    def killed(whose: str) -> tuple[float, str]:
        with desk(1, size) as place:
            running: list[subprocess.Popen[str]] = []
            # Counted on the way, whole or not: boto3 sends ten parts of 50 MiB at a time, which arrive nearly together,
            # so that a count of those that are there goes from none to half, and from half to all.
            gate = Gate(place.port, size // 2 + MIDDLE, lambda: os.killpg(running[0].pid, signal.SIGKILL))
            running.append(place.start(whose, gate.url))
            if ending(running[0]) != f"exit code {-signal.SIGKILL}":
                raise RuntimeError("it ended too early to be killed")
            refused = whose != "ours" and ending(place.start(whose, gate.url)) != "exit code 0"
            if refused:
                # Its lock is a dead agent's, and stale after an hour; its validator gives up after four minutes.
                place.archive.control.delete("lock/client")
                place.archive.validator.end("nothing is heard of the client")
            how = ending(place.start(whose, gate.url))
            gate.close()
            again, left = gate.passed - size, len(place.aws.open_uploads())
            words = f"{100 * again / size:.0f} %, {left} uploads left open, {how}"
            return 100 * again / size, words + (", once its lock and its validator were gone" if refused else "")

    measured, beside = _both(killed)
    what = f"1 x {number(size)} B, killed with 50 % sent, and started again: bytes sent again, in percent of the file"
    yield Figure("F7", what, Goal("<=", 100 * 64 / 1024, "%"), measured, "%", beside=beside)


def f8(scale: Scale) -> Iterator[Figure]:
    """A file that is rewritten in place while it is sent."""
    size = scale(300 << 20, 300 << 20)  # it sends what is smaller in one request

    def rewritten(whose: str) -> tuple[float, str]:
        with desk(1, size) as place:
            [(name, old)] = place.archive.files.items()
            new = bytes(size)

            def rewrite() -> None:
                with place.archive.source.joinpath(name).open("r+b") as file:
                    file.write(new)

            gate = Gate(place.port, size // 4, rewrite)
            process = place.start(whose, gate.url)
            how = ending(process)
            gate.close()
            found = place.archive.transfer.found(name)
            data = None if found is None else found.data
            seen = {None: "nothing", old: "the old file", new: "the new file"}.get(data, "a mixture")
            return int(seen == "a mixture" or how == "exit code 0"), f"{seen} is visible, {how}"

    measured, beside = _both(rewritten)
    what = f"1 x {number(size)} B, rewritten in place once a quarter is sent: mixtures visible or called a success"
    yield Figure("F8", what, Goal("<=", 0, ""), measured, "", beside=beside)


FIGURES: Final = {"F5": f5, "F6": f6, "F7": f7, "F8": f8}
TITLE: Final = "The same trouble for the archive's own client"
