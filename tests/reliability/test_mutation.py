"""Would the tests of the core notice a fault in it? Small faults are put in, one at a time."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.command_line import ROOT, environment
from tests.reliability.mutation import TESTS, mutants

QUICK = ("logs", "owner_lock")
"""Modules whose tests take a second; the nights try all."""


@pytest.mark.promise("R23")
@pytest.mark.timeout(0)
def test_small_faults_in_the_core_are_noticed(size, figure):
    sample = size(pr=1, nightly=30)
    modules = QUICK if sample == 1 else tuple(TESTS)

    def tried_on(module):
        options = ["--sample", str(sample), "--seed", "4"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.reliability.mutation", *options, module],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        return json.loads(done.stdout)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(tried_on, modules))
    killed, tried = (sum(numbers) for numbers in zip(*(c for f in found for c in f["counts"].values()), strict=True))
    assert killed >= 0.85 * tried, [survivor for module in found for survivor in module["survivors"]]
    figure(tried, "mutants of the core")
    figure(killed, "mutants noticed")


def test_there_are_mutants_of_every_kind():
    kinds = {mutant.what.split("`")[0].strip() for mutant in mutants("owner_lock")}
    assert {"without", "nothing returned", "LtE -> Lt", "Is -> IsNot"} <= kinds
    assert len(list(mutants("lifecycle"))) > 50
