"""What the tests of promises on real files share: processes that can be forked with calls that fail."""

import queue
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.reliability.failing_calls import Forks, build, compiler

AT_ONCE = 3
"""A delivery of few files waits more than it works."""


class ManyForks:
    """Some processes to fork from, and as many threads that use them."""

    def __init__(self, library) -> None:
        self._free: queue.Queue[Forks] = queue.Queue()
        for _ in range(AT_ONCE):
            self._free.put(Forks(library))

    def each(self, work: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """`work(forks, item)` for each item, some at a time; the first error is raised."""

        def one(item: Any) -> Any:
            forks = self._free.get()
            try:
                return work(forks, item)
            finally:
                self._free.put(forks)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, items))

    def close(self) -> None:
        for _ in range(AT_ONCE):
            self._free.get().close()


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Processes whose calls can be met; without a C compiler there are none."""
    if compiler() is None:
        pytest.skip("no C compiler, or a system that preloads nothing: calls cannot be met one by one")
    made = ManyForks(build(tmp_path_factory.mktemp("library")))
    yield made
    made.close()
