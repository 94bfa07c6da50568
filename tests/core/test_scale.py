"""What the core does for a file does not grow with the number of files; nor do its requests, which follow the time."""

import cProfile
import pstats

import pytest

from benchmarks.scale_world import deliver


def calls_of(files, workers):
    """Function calls that one delivery makes, Python's and C's, and what it was."""
    profile = cProfile.Profile()
    delivered = profile.runcall(deliver, files, workers)
    return pstats.Stats(profile).total_calls, delivered  # type: ignore[attr-defined]  # typeshed does not know it


def test_eight_times_the_files_are_eight_times_the_calls():
    few, _ = calls_of(1_000, 100)
    many, delivered = calls_of(8_000, 100)
    assert delivered.records / 8_000 < 5.1, "five events a file"
    assert many / 8_000 < 1.05 * few / 1_000


def test_more_hands_make_a_file_no_dearer():
    few, _ = calls_of(2_000, 10)
    many, _ = calls_of(2_000, 1_000)
    assert many < few


@pytest.mark.parametrize("workers", [10, 1_000])
def test_requests_follow_the_time_and_not_the_files(workers):
    delivered = deliver(2_000, workers)
    seconds = delivered.virtual_s
    assert delivered.asked["append"] <= seconds + 2
    assert delivered.asked["read"] <= 2 * seconds + 20
    assert delivered.asked["put"] <= 3
