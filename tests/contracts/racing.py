"""Many threads that do something at the same instant."""

import threading
from collections.abc import Callable, Sequence
from typing import Any


def race(contestants: Sequence[Callable[[], Any]]) -> list[Any]:
    """Each contestant's result, or the exception that it ended in, in their order."""
    start = threading.Barrier(len(contestants))
    results: list[Any] = [None] * len(contestants)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = contestants[number]()
        except Exception as error:  # noqa: BLE001 - the caller looks at every one
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(contestants))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def winners(results: Sequence[Any]) -> list[Any]:
    """Those results that are no exceptions."""
    return [result for result in results if not isinstance(result, Exception)]
