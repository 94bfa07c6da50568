"""Fuzzing that learns from coverage: `python -m tests.reliability.fuzz "validator log" -runs=100000`; arguments are libFuzzer's.

The same targets and the same damage as in `test_fuzz.py`; atheris decides which damaged input is worth damaging further.
What it finds lies in `crash-...`, and belongs into `FOUND` of `test_fuzz.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["upload_core", "upload_adapters"]):
    from tests.reliability.fuzz_targets import TARGETS


def main(name: str, arguments: list[str]) -> None:
    """Fuzz one target, beginning with its seeds; does not return."""
    target = TARGETS[name]
    target.seeds()

    def damaged(data: bytes, max_size: int, seed: int) -> bytes:
        return target.mutate(Random(seed), data)[:max_size]

    def read(data: bytes) -> None:
        target.read(data)

    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = ["-max_len=20000", "-rss_limit_mb=1024", "-timeout=30", *arguments]
    atheris.Setup([sys.argv[0], *options, os.fspath(corpus)], read, custom_mutator=damaged)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
