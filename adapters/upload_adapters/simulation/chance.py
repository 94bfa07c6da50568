"""Chance that is the same everywhere: one seed gives the same choices on every machine and every Python."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Choices made from a seed by `random()` alone, the one method whose numbers Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random  # noqa: S311 - the same numbers again are the point

    def happens(self, share: float) -> bool:
        """True in that share of all cases; nothing is drawn where it cannot happen."""
        return share > 0 and self._random() < share

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` - 1."""
        return int(self._random() * count)

    def between(self, least: int, most: int) -> int:
        """A whole number from `least` to `most`, both included."""
        return least + int(self._random() * (most - least + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[int(self._random() * len(choices))]

    def magnitude(self, least: float, most: float) -> float:
        """A number between, each order of magnitude as likely as the next.

        By square roots alone, which are the same on every machine; powers need not be.
        """
        drawn, found, factor = self._random(), least, most / least
        for _ in range(12):
            drawn, factor = 2 * drawn, math.sqrt(factor)
            if drawn >= 1:
                drawn, found = drawn - 1, found * factor
        return found

    def some(self, choices: Sequence[T], share: float) -> list[T]:
        """Those that are chosen, each with that probability, in their order."""
        return [choice for choice in choices if self._random() < share]

    def data(self, size: int) -> bytes:
        """That many bytes."""
        return bytes([int(self._random() * 256) for _ in range(size)])
