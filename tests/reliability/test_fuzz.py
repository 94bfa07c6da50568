"""Whatever comes from outside, a reader answers it: as understood, or by an error of ours. Nothing else leaves it."""

import importlib.util
import subprocess
import sys
from random import Random
from resource import RUSAGE_SELF, getrusage
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.command_line import environment
from tests.reliability.fuzz_targets import TARGETS, Target
from upload_core.errors import UploadClientError

COUNTS = {
    # what takes a few seconds, per target
    "journal": 1_500,
    "snapshot": 1_000,
    "file table": 20_000,
    "validator log": 4_000,
    "index CSV": 10_000,
    "index object": 20_000,
    "checksum cache": 5_000,
    "lambda answer": 4_000,
    "network parameter": 10_000,
    "label": 5_000,
    "OAuth callback": 10_000,
    "state dump": 10_000,
}
FROM_OUTSIDE = ("journal", "validator log", "index CSV", "lambda answer", "OAuth callback", "state dump")
"""What others write, or may have written over, and the dump that shows it: a release tries ten times as many of these."""
NIGHTLY = 100_000
RELEASES = {name: 10_000_000 if name in FROM_OUTSIDE else 1_000_000 for name in COUNTS}
"""How many of each at the larger sizes: some five minutes and three hours for all of them, on two cores."""
PARTS = 4
"""Tests into which they are dealt, so that workers can share them."""
GUIDED = 10
"""One for so many is guided by coverage, beside them."""

FOUND = [
    # What once broke a reader, each with what it broke on.
    ("lambda answer", b'"status: success\x8a"'),  # a string that is no UTF-8
    ("journal", b'{"journal":"upload-core","version":1,"dataset":"\xff"'),
    (
        "journal",
        b'{"journal":"upload-core","version":1,"crc":"57e6bb7e"}\n',
    ),  # a header that is sealed and lacks the rest
    ("file table", b'{"file":0,"path":"a","size":1,"\x1b[2J":0}\n'),  # a message that acts on a terminal
    ("index object", b"path,will_transfer\na\rb,True\n"),  # an error of the csv module
    ("OAuth callback", b"GET //[::1/back HTTP/1.1\r\nHost: localhost:3000\r\n\r\n"),  # an address that is none
    ("OAuth callback", b"GET /back?state=CANARY-state x HTTP/1.1\r\n\r\n"),  # a page that quoted the request
]


MEMORY_MAX: Final = 256 * 1024
"""KiB by which no input may make the process larger."""


def try_one(name: str, target: Target, data: bytes) -> bool:
    before = getrusage(RUSAGE_SELF).ru_maxrss
    try:
        accepted = target.read(data)
        assert getrusage(RUSAGE_SELF).ru_maxrss - before <= MEMORY_MAX, (
            "an input of some kilobytes that takes this much"
        )
        return accepted
    except Exception as error:
        note = f"\ntarget {name!r}, input {data!r}"
        if isinstance(error, UploadClientError):
            note += "\n(an error of ours, but not one that this reader's contract names)"
        error.add_note(note)
        raise


@pytest.mark.parametrize(("name", "data"), FOUND, ids=lambda value: str(value)[:40])
def test_what_once_broke_a_reader_does_not_any_more(name, data):
    try_one(name, TARGETS[name], data)


@pytest.mark.promise("R18")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", TARGETS)
def test_damage_that_knows_the_format_is_answered(name, part, size, figure):
    target = TARGETS[name]
    seeds = target.seeds()
    for seed in seeds:
        try_one(name, target, seed)
    assert any(target.read(seed) for seed in seeds), "a target that accepts nothing tests nothing"
    numbers = range(part, size(pr=COUNTS[name], nightly=NIGHTLY, release=RELEASES[name]), PARTS)
    accepted = 0
    for number in numbers:
        random = Random(f"{name}:{number}")
        accepted += try_one(name, target, target.mutate(random, random.choice(seeds)))
    assert 0 < accepted <= len(numbers)
    figure(len(numbers), "damaged inputs")


@pytest.mark.promise("R18")
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_answered(name, size, figure):
    count = size(pr=50, nightly=5_000)
    target = TARGETS[name]

    @settings(max_examples=count, database=None)
    @given(st.binary(max_size=300))
    def read(data):
        try_one(name, target, data)

    read()
    figure(count, "inputs of any bytes")


@pytest.mark.promise("R18")
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has wheels for Linux on x86_64 only; the rest runs"
)
@pytest.mark.parametrize("name", TARGETS)
def test_damage_that_learns_from_coverage_is_answered(name, size, figure, tmp_path):
    # At the small size one target shows that it runs: its start alone takes seconds.
    count = size(
        pr=2_000 if name == "lambda answer" else 0, nightly=NIGHTLY // GUIDED, release=RELEASES[name] // GUIDED
    )
    if not count:
        return
    # By a shell between: Linux counts the peak of whoever starts a program as the program's own, and libFuzzer ends at 2 GB.
    between = ["sh", "-c", '"$@"; exit $?', "sh"]
    done = subprocess.run(
        [*between, sys.executable, "-m", "tests.reliability.fuzz", name, f"-runs={count}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert f"Done {count} " in done.stderr
    figure(count, "inputs guided by coverage")
