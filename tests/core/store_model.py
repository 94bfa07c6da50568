"""A store in numbers: how much it does at a level, and when it asks for patience. For simulations without threads."""

from __future__ import annotations

import random

import attrs

from upload_core.concurrency import INTERVAL_S, Concurrency
from upload_core.ports import Load


@attrs.define
class StoreModel:
    """Files of one size against a store; every figure may be changed while it runs."""

    size: int = 4096
    latency_s: float = 0.03
    bytes_per_s: float = 1e9
    """Bandwidth that all requests share."""
    request_bytes_per_s: float = 50e6
    """Bandwidth of a single request."""
    files_per_s: float = 1e9
    """What our own CPU makes ready."""
    contention: float = 0.0
    """By what share each request beside the first slows down the others."""
    limit_per_s: float = 1e9
    """Requests per second above which the store asks for patience."""
    noise: float = 0.0
    level_used_max: int = 10**9
    """How many orders there are to be under way."""
    random: random.Random = attrs.field(factory=lambda: random.Random(7))
    _carry: float = 0.0

    def rate(self, level: int) -> float:
        """Files per second at that level, without noise; what is pushed back costs its time and brings nothing."""
        used = min(level, self.level_used_max)
        alone = used / (self.latency_s + self.size / self.request_bytes_per_s)
        offered = min(alone, self.bytes_per_s / self.size, self.files_per_s) / (1 + self.contention * (used - 1))
        return min(offered, self.limit_per_s) if offered <= self.limit_per_s else self.limit_per_s * 0.8

    def best(self, level_max: int) -> float:
        """What the best fixed level brings."""
        return max(self.rate(level) for level in range(1, level_max + 1))

    def pushbacks(self, level: int, seconds: float) -> int:
        used = min(level, self.level_used_max)
        offered = min(used / (self.latency_s + self.size / self.request_bytes_per_s), self.files_per_s)
        return max(0, round((offered - self.limit_per_s) * seconds))

    def run(self, level: int, seconds: float) -> Load:
        """One interval at that level."""
        exact = self.rate(level) * seconds * self.random.uniform(1 - self.noise, 1 + self.noise) + self._carry
        files = int(exact)
        self._carry = exact - files
        return Load(files, files * self.size, self.pushbacks(level, seconds), level <= self.level_used_max)


def simulate(store: StoreModel, control: Concurrency, intervals: int) -> tuple[list[int], float]:
    """The level in each interval, and the mean files per second over all of them."""
    levels, done = [], 0
    for _ in range(intervals):
        load = store.run(control.level, INTERVAL_S)
        done += load.files
        levels.append(control.level)
        control.observe(load, INTERVAL_S)
    return levels, done / (intervals * INTERVAL_S)
