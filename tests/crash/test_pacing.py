"""Whole deliveries whose concurrency finds its own level, in virtual time."""

import itertools
from functools import cache

import pytest

from tests.crash.virtual import VirtualDispatcher
from tests.crash.world import World
from upload_core import UploadClient
from upload_core.timestamps import parse_iso

LEVEL_MAX = 64
BEGIN_MS, END_MS = 20_000, 50_000
"""The store asks everybody to slow down from here to there, after the session's start."""


class Paced:
    """A delivery of many small files to a store whose patience changes with time."""

    def __init__(self, count, limit_per_s, **options):
        files = {f"{n:05}": b"x" for n in range(count)}
        self.world = World(files, bad=[])
        # nobody asks for either, and at every call they would look at everything there is
        self.world.calls.seq, self.world.calls.on_put = (lambda: 0), (lambda _: None)
        clock = self.world.ports.clock
        self.start_ms = clock.now_ms()
        self.world.ports.dispatcher = VirtualDispatcher(
            clock, latency_ms=300, limit_per_s=lambda now: limit_per_s(now - self.start_ms), level_max=LEVEL_MAX
        )
        self.summary = self.world.client(**{"n_threads": 0, **options}).run()
        self.events = [(parse_iso(event["time"]) - self.start_ms, event) for event in self.world.events]

    def levels(self, begin_ms=0, end_ms=10**9):
        return [e["level"] for at, e in self.of("ConcurrencyChanged") if begin_ms <= at < end_ms]

    def of(self, kind):
        return [(at, event) for at, event in self.events if event["kind"] == kind]

    def rate(self, begin_ms, end_ms):
        stored = sum(begin_ms <= at < end_ms for at, _ in self.of("TransferCompleted"))
        return stored * 1000 / (end_ms - begin_ms)


@cache
def slowed(limit):
    """A delivery to a store that answers no more than `limit` requests a second for half a minute."""
    return Paced(9000, lambda now: limit if BEGIN_MS <= now < END_MS else 10**6)


@pytest.mark.parametrize("limit", [10, 1])
def test_half_a_minute_of_slowdown_halves_the_level_costs_no_retry_and_the_throughput_comes_back(limit):
    paced = slowed(limit)
    assert paced.summary.outcome == "complete"
    assert paced.summary.retries == 0
    assert not paced.of("TransferFailed")
    assert paced.levels(0, BEGIN_MS)[-1] == LEVEL_MAX
    during = paced.levels(BEGIN_MS, END_MS)
    assert min(during) <= 2
    before = paced.rate(BEGIN_MS - 5_000, BEGIN_MS)
    assert paced.rate(END_MS + 20_000, END_MS + 25_000) >= 0.85 * before
    assert before >= 0.9 * LEVEL_MAX / 0.3


def test_the_journal_shows_both_turns():
    paced = slowed(10)
    changes = [(at, event["level"], event["reason"]) for at, event in paced.of("ConcurrencyChanged")]
    fell = [at for at, _, reason in changes if reason.startswith("the archive asked for patience")]
    assert BEGIN_MS <= fell[0] <= BEGIN_MS + 1_000
    rose = [at for at, level, _ in changes if level == LEVEL_MAX and at >= END_MS]
    assert rose[0] <= END_MS + 20_000


def test_a_fixed_number_is_never_changed():
    paced = Paced(600, lambda now: 10 if now > 5_000 else 10**6, n_threads=5)
    assert paced.summary.outcome == "complete"
    assert paced.levels() == []


def test_a_resumed_session_finds_its_level_anew_and_is_automatic_as_before():
    paced = Paced(300, lambda _: 10**6)
    assert paced.levels()[0] == 8
    delivery = paced.world.real["journal"].replayed()
    assert delivery.facts.n_threads == 0
    assert delivery.facts.level == paced.levels()[-1]
    for given, expected in ((None, 0), (3, 3), (0, 0)):
        again = UploadClient.resume(ports=paced.world.ports, n_threads=given)
        assert again.n_threads == expected
        again.quit()


def test_levels_in_the_journal_differ_from_one_to_the_next():
    levels = slowed(10).levels()
    assert all(before != after for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("seconds", [20, 890])
@pytest.mark.parametrize("begin_ms", [1_000, 20_000])
def test_a_store_that_is_away_for_a_while_leaves_the_level_as_it_was(begin_ms, seconds):
    end_ms = begin_ms + seconds * 1000
    paced = Paced(9000, lambda now: 0 if begin_ms <= now < end_ms else 10**6)
    assert (paced.summary.outcome, paced.summary.retries) == ("complete", 0)
    assert paced.of("OutageBegan")
    before = max(paced.levels(0, begin_ms + 300))
    [ended] = [at for at, _ in paced.of("OutageEnded")]
    assert min(paced.levels(ended - 1, ended + 2_000) or [before]) >= before
    assert paced.levels(0, ended)[-1] == before
    # at most the last probe's waiting and one window is lost
    assert paced.rate(ended + 10_000, ended + 15_000) >= 0.85 * LEVEL_MAX / 0.3
