"""Any order of faults ends right, the same way each time, and the simulation that shows it can see."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.mutants import MUTANTS, SEEDS_MAX, found_by, search
from upload_adapters.simulation import FAULTS, INVARIANTS, World, simulate
from upload_adapters.simulation.judge import judge

ROOT = Path(__file__).resolve().parents[2]
BATCHES = 8
"""Tests into which the seeds are dealt, so that workers can share them."""


def dealt(batch: int, count: int) -> range:
    """The seeds of one batch: all batches together have each of `count` once."""
    return range(batch, count, BATCHES)


# --- R1 and R21 ----------------------------------------------------------------------------------


@pytest.mark.promise("R1")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_any_order_of_faults_ends_right(batch, size, figure):
    seeds = dealt(batch, size(pr=2_000, nightly=100_000, release=1_000_000))
    for seed in seeds:
        run = simulate(seed)
        assert not run.violations, f"upload-core simulate --seed {seed}: {run.violations}"
    figure(len(seeds), "seeds")


@pytest.mark.promise("R21")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_once_faults_stop_it_ends_in_three_times_the_steps_of_an_undisturbed_run(batch, size, figure):
    seeds = dealt(batch, size(pr=400, nightly=20_000))
    for seed in seeds:
        run = simulate(1_000_000 + seed, in_time=True)
        assert not run.violations, f"upload-core simulate --seed {run.seed}: {run.violations}"
    figure(len(seeds), "seeds")


def test_every_kind_of_fault_happens():
    seen: set[str] = set()
    for seed in range(300):
        world = World(seed)
        world.run()
        seen |= world.swarm.seen.keys()
    assert seen == FAULTS.keys()


def test_a_file_is_never_rewritten_by_accident_to_what_a_wrong_index_says_of_it():
    # here one byte is drawn, and is the one that the index was made of: that file was rightly found valid
    run = simulate(1_006_318)
    assert run.faults["source changes"]
    assert run.violations == []


def test_an_odd_verdict_is_one_by_which_the_validator_shows_that_it_reads():
    # here it stands in the log before the file was announced, and is read after
    run = simulate(98_288)
    assert run.faults["row odd"]
    assert run.violations == []


@pytest.mark.parametrize("seed", [27_870, 21_644])
def test_a_run_that_comes_up_late_in_spite_of_a_refusal_is_no_second_one(seed):
    run = simulate(seed)
    assert run.faults["start dawdles"]
    assert run.violations == []


def test_without_faults_one_session_delivers_everything():
    for seed in range(100):
        evidence = World(seed, steps=0).run()
        assert len(evidence.ended) == 1, seed
        assert judge(evidence) == []


# --- R2 ------------------------------------------------------------------------------------------


@pytest.mark.promise("R2")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_seeded_bug_is_found(name, size, figure):
    mutant = MUTANTS[name]
    # the remembered seed first: looking for it again takes long, and only a change to the simulation makes it necessary
    seeds = [mutant.seed, *range(size(pr=150, nightly=SEEDS_MAX))]
    found = search(mutant, seeds)
    assert found is not None, (
        f"{mutant.does} No seed of {len(seeds)} finds it: python -m tests.reliability.mutants {name}"
    )
    seed, violation = found
    assert violation.invariant in INVARIANTS
    assert simulate(seed, in_time=True).violations == [], "the seed finds something without the bug as well"
    figure(1, "seeded bugs")


def test_there_are_bugs_enough():
    assert len(MUTANTS) >= 20
    assert {mutant.breaks for mutant in MUTANTS.values()} >= INVARIANTS.keys() - {"every file has a state", "cursor"}


@pytest.mark.parametrize("name", ["acknowledge before sync", "apply a verdict twice"])
def test_a_remembered_seed_breaks_what_is_said_of_it(name):
    mutant = MUTANTS[name]
    assert mutant.breaks in {violation.invariant for violation in found_by(mutant, mutant.seed)}


# --- R3 ------------------------------------------------------------------------------------------

DIGESTS = """
import hashlib, sys
from upload_adapters.simulation import simulate
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    print(hashlib.sha256(simulate(seed).journal).hexdigest())
"""
CHUNKS = 4


def chunk_of(chunk: int, count: int) -> tuple[int, int]:
    """The first seed of a chunk, and the first one behind it: all chunks together have each of `count` once."""
    return chunk * count // CHUNKS, (chunk + 1) * count // CHUNKS


def digests_of(python: str, first: int, last: int, **environment: str) -> list[str]:
    """SHA-256 of each journal, computed by another process."""
    done = subprocess.run(
        [python, "-c", DIGESTS, str(first), str(last)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'adapters'}", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def digests_here(first: int, last: int) -> list[str]:
    return [hashlib.sha256(simulate(seed).journal).hexdigest() for seed in range(first, last)]


def test_the_same_seed_gives_the_same_bytes_twice_in_one_process():
    assert digests_here(0, 100) == digests_here(0, 100)


@pytest.mark.promise("R3")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_same_seed_gives_the_same_bytes_in_every_process_and_on_another_python(chunk, size, figure):
    first, last = chunk_of(chunk, size(pr=1_000, nightly=10_000))
    one = digests_of(sys.executable, first, last, PYTHONHASHSEED="1")
    assert len(one) == last - first
    assert digests_of(sys.executable, first, last, PYTHONHASHSEED="2") == one
    figure(last - first, "seeds")
    if other := other_python():
        assert digests_of(other, first, last, PYTHONHASHSEED="3") == one
        figure(last - first, "seeds on two Pythons")


def test_another_python_is_there_to_compare_with():
    if not other_python():
        pytest.skip("UPLOAD_CORE_OTHER_PYTHON names no other Python; `make test` makes one where it finds one")


def other_python() -> str:
    """The interpreter of another Python, if `make test` found one."""
    other = os.environ.get("UPLOAD_CORE_OTHER_PYTHON", "")
    if not other or not Path(other).exists():
        return ""
    version = subprocess.run([other, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert version.split(".")[:2] != [str(part) for part in sys.version_info[:2]], "that is no other Python"
    return other
