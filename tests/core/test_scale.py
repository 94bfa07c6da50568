"""What the core does for a file does not grow with the number of files; nor do its requests, which follow the time."""

import cProfile
import importlib.util
import pstats
import sys
from pathlib import Path

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


# --- the model of docs/scale.md ------------------------------------------------------------------


@pytest.fixture
def pages(monkeypatch):
    docs = Path(__file__).resolve().parents[2] / "docs"
    monkeypatch.syspath_prepend(str(docs))
    spec = importlib.util.spec_from_file_location("scale_pages", docs / "scale_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("tables", None)


def test_the_formulas_give_what_a_person_reckons(pages):
    v: dict[str, float] = {"rate": 1_000, "core_us": 20, "workers": 4, "tasks": 500, "check_us": 1_000, "job": 250_000}
    v |= {"put": 5e-6, "get": 4e-7, "express_put": 0.0, "express_get": 0.0, "job_usd": 0.25, "task_usd": 1e-6}
    host, cluster, batch = pages.WAYS
    assert host.seconds(1_000_000, v) == 1_000
    assert host.requests(1_000_000, v) == 1_002_000
    assert host.dollars(1_000_000, v) == pytest.approx(5.00)
    assert cluster.seconds(1_000_000, v) == 250
    assert cluster.seconds(1_000_000, v | {"workers": 100}) == 20, "the one client that journals"
    assert batch.seconds(1_000_000, v) == 2_000
    assert batch.seconds(1_000_000, v | {"tasks": 1e9}) == 1_000, "the checks"
    assert batch.dollars(1_000_001, v) == pytest.approx(5.00 + 0.40 + 1.00 + 5 * 0.25, rel=1e-5)


def test_every_input_is_measured_published_or_called_an_assumption(pages):
    for row in pages.inputs().values():
        assert row.source[:2] in {"T1", "T3", "T6", "J8", "S1", "S3"} or row.source.startswith(
            ("assumption: ", "[S3 pricing]", "`batch.")
        ), row
        assert row.value > 0
