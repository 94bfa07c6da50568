"""Every call of a port, where a test can see it, kill its process, or have it go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

PORTS: Final[Mapping[str, tuple[str, ...]]] = {
    "journal": ("open", "create", "add_revision", "append", "snapshot", "close"),
    "archive": ("stat", "put", "list", "end_uploads"),
    "control": ("head", "read", "put", "append", "delete"),
    "pipeline": ("start", "is_running", "close"),
    "identity": ("sign_in",),
}
"""Every method through which a client reaches something that outlives it."""


class Killed(BaseException):
    """The process was killed here; a `BaseException`, so that nothing tidies up behind it."""


class Calls:
    """Every port call of a client, in order; `before` and `after` see each one, and may raise or meddle.

    `watcher` sees each before it is made, too, and is only a witness.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, str, tuple[Any, ...]]] = []
        self.seqs: list[int] = []
        """The last sequence number in the journal when each of them was made."""
        self.seq: Callable[[], int] = lambda: 0
        self.on_put: Callable[[str], None] = lambda _: None
        self.watcher: Callable[[str, str], None] | None = None
        self.before: Callable[[str, str, tuple[Any, ...]], None] | None = None
        self.after: Callable[[str, str, tuple[Any, ...]], None] | None = None
        self.meet: Callable[[str, Callable[[], Any]], Any] = lambda _, act: act()
        """Makes the call `act` of what is named `port.method`, or has it go wrong."""

    def watch(self, name: str, port: Any, methods: Sequence[str] = ()) -> Any:
        """The port, with every call of its watched methods seen; a port of `PORTS` has those by itself."""
        return _Watched(self, name, port, methods or PORTS[name])

    def kill_at(self, number: int, *, after: bool = False) -> None:
        """Kill at the `number`-th call from now (from 1), before or after it takes effect."""
        left = [number]

        def step(*_: object) -> None:
            left[0] -= 1
            if left[0] <= 0:  # and whatever tidies up afterwards reaches nothing any more
                self.before = step
                raise Killed(*self.made[-1][:2])

        self.disarm()
        if after:
            self.after = step
        else:
            self.before = step

    def disarm(self) -> None:
        """Let everything pass."""
        self.before = self.after = None


class _Watched:
    def __init__(self, calls: Calls, name: str, port: Any, methods: Sequence[str]) -> None:
        self.calls, self.port, self.port_name, self.methods = calls, port, name, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.port, name)
        if name not in self.methods:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            calls = self.calls
            calls.made.append((self.port_name, name, args))
            calls.seqs.append(calls.seq())
            if name == "put" and self.port_name == "archive":
                calls.on_put(args[0])
            if calls.watcher is not None:
                calls.watcher(self.port_name, name)
            if calls.before is not None:
                calls.before(self.port_name, name, args)
            result = calls.meet(f"{self.port_name}.{name}", lambda: found(*args, **kwargs))
            if calls.after is not None:
                calls.after(self.port_name, name, args)
            return result

        return call
