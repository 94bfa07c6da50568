"""Would the tests of the core notice a fault in it? Small faults are put in, one at a time."""

import json
import subprocess
import sys

import pytest

from tests.command_line import ROOT, environment
from tests.reliability.mutation import TESTS, mutants

QUICK = ("logs", "owner_lock")
"""Modules whose tests take a second; the nights try all."""


@pytest.mark.promise("R23")
@pytest.mark.timeout(0)
def test_small_faults_in_the_core_are_noticed(size, figure):
    sample = size(pr=1, nightly=30, release=0)
    modules = QUICK if sample == 1 else tuple(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.mutation", "--sample", str(sample), "--seed", "2", *modules],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout)
    killed = sum(killed for killed, _ in found["counts"].values())
    tried = sum(tried for _, tried in found["counts"].values())
    assert killed >= 0.85 * tried, found["survivors"]
    figure(tried, "mutants of the core")
    figure(killed, "mutants noticed")


def test_there_are_mutants_of_every_kind():
    kinds = {mutant.what.split("`")[0].strip() for mutant in mutants("owner_lock")}
    assert {"without", "nothing returned", "LtE -> Lt", "Is -> IsNot"} <= kinds
    assert len(list(mutants("lifecycle"))) > 50
