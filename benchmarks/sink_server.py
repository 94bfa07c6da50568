#!/usr/bin/env python
"""An S3 endpoint on this machine that stores nothing: what the transfer benchmarks send to, in a process of its own.

    python benchmarks/sink_server.py                                  prints its URL and runs until interrupted
    python benchmarks/sink_server.py --tls --latency-ms 30 --bucket b
    curl http://127.0.0.1:PORT/_stats                                 what it was asked so far, as JSON

It is written in C (`sink/sink.c`) and compiled into build/ at first use; that takes a C compiler, OpenSSL and zlib.
"""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE.parent / "build" / "sink"
LIBRARIES: Final = ("-lssl", "-lcrypto", "-lz", "-lpthread")
THREADS: Final = 2


def program(name: str) -> Path:
    """The compiled program of `sink/NAME.c`, made anew if the source is newer."""
    source, made = HERE / "sink" / f"{name}.c", BUILD / name
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as directory:
            fresh = Path(directory) / name
            flags = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(fresh))
            subprocess.run(["cc", *flags, str(source), *LIBRARIES], check=True)
            fresh.replace(made)
    return made


def certificates() -> tuple[Path, Path, Path]:
    """Authority, certificate and key for 127.0.0.1; made once, valid for ten years."""
    authority, certificate, key = (BUILD / name for name in ("ca.pem", "server.pem", "server.key"))
    if not all(path.exists() for path in (authority, certificate, key)):
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as directory:
            _make_certificates(Path(directory))
            for path in (key, certificate, authority):
                (Path(directory) / path.name).replace(path)
    return authority, certificate, key


def _make_certificates(into: Path) -> None:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    (into / "extensions").write_text(f"{names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    own = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    serial = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    for command in (
        ("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650", "-subj", "/CN=sink CA", *own),
        ("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"),
        ("x509", "-req", "-in", "server.csr", *serial, "-out", "server.pem", "-days", "3650", "-extfile", "extensions"),
    ):
        subprocess.run(["openssl", *command], check=True, cwd=into, capture_output=True)


class Sink:
    """A running sink; leave the context and it is gone. It also ends when this process does."""

    def __init__(
        self,
        *,
        buckets: Sequence[str] = (),
        tls: bool = False,
        latency_ms: float = 0,
        threads: int = THREADS,
        verify: bool = False,
        port: int = 0,
    ) -> None:
        self.ca: Path | None = None
        """Whom a client must trust, where it talks TLS."""
        command = [str(program("sink")), "--until-eof", "--port", str(port), "--threads", str(threads)]
        command += [argument for name in buckets for argument in ("--bucket", name)]
        if latency_ms:
            command += ["--latency-ms", str(latency_ms)]
        if verify:
            command.append("--verify")
        if tls:
            self.ca, certificate, key = certificates()
            command += ["--tls", str(certificate), str(key)]
        self._context = ssl.create_default_context(cafile=str(self.ca)) if tls else None
        # It prints its port once it listens.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sink did not start (exit code {self._process.wait()})")
        self.port = int(line)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        """What it was asked since it began or was reset: requests by kind, objects, bytes, its own CPU seconds."""
        with urllib.request.urlopen(f"{self.url}/_stats", context=self._context) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def reset(self) -> None:
        """Forget all objects and counts."""
        request = urllib.request.Request(f"{self.url}/_reset", method="POST")
        urllib.request.urlopen(request, context=self._context).close()

    def wait(self) -> int:
        """Its exit code, once somebody ended it."""
        return self._process.wait()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@contextmanager
def running(**options: Any) -> Iterator[Sink]:
    """A sink for the length of a `with`; options as of `Sink`."""
    with Sink(**options) as sink:
        yield sink


def main() -> int:
    """Run one until interrupted."""
    parser = argparse.ArgumentParser(description="An S3 endpoint that takes everything and keeps nothing.")
    parser.add_argument("--bucket", action="append", default=[], help="only these exist; all, if none is named")
    parser.add_argument("--tls", action="store_true", help="with a certificate of its own authority, named beside")
    parser.add_argument("--latency-ms", type=float, default=0, help="every answer is held back so long")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--verify", action="store_true", help="compute each CRC32 and refuse what does not match")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with Sink(
        buckets=options.bucket,
        tls=options.tls,
        latency_ms=options.latency_ms,
        threads=options.threads,
        verify=options.verify,
        port=options.port,
    ) as sink:
        print(sink.url, *([f"CA: {sink.ca}"] if sink.ca else []), flush=True)
        try:
            return sink.wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
