"""A delivery's whole world in memory, in which a host's own code is killed, cut off and robbed at any call of a port."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from upload_adapters.memory import MemoryPorts, memory_ports
from upload_adapters.testing.calls import PORTS, Calls, Killed
from upload_adapters.testing.faults import Fault, Meanwhile, Outage, Refusal, Storm, picked
from upload_core.errors import UploadClientError
from upload_core.ports import TransferType
from upload_core.wire import Keys

T = TypeVar("T")

LIVES_MAX: Final = 60
"""Starts of a host's code after which it is said not to end."""
RIVAL: Final = b"somebody-else"
SETTLED: Final = frozenset({"valid", "invalid", "failed"})
_STORED: Final = frozenset({"TransferCompleted", "FileFoundStored", "FileFoundValid"})
_NOT_STORED: Final = frozenset({"FileFoundMissing", "FileRevised"})


class Rehearsal:
    """What outlives a host's process: files, archive, control bucket, pipeline, journal; `ports` are for `UploadClient`.

    Time passes only where somebody waits, so a day of outages takes milliseconds. What shall go wrong is said beforehand;
    `check` then says whether nothing was lost or doubled, by what a third person could see.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        dataset: str = "demo",
        delivery_id: str = "1",
        transfer_type: TransferType = "staging",
        **options: Any,
    ) -> None:
        """`options` are those of `memory_ports`: `check` for a validator's own findings, `limits`, `index`."""
        self.files = dict(files)
        self.ports: MemoryPorts = memory_ports(
            self.files, dataset=dataset, delivery_id=delivery_id, transfer_type=transfer_type, **options
        )
        self.keys = Keys(dataset, delivery_id, transfer_type)
        self.calls = Calls()
        self.real: dict[str, Any] = {name: getattr(self.ports, name) for name in PORTS}
        self.calls.seq = lambda: max(0, self.real["journal"].data.count(b"\n") - 1)
        for name, port in self.real.items():
            setattr(self.ports, name, self.calls.watch(name, port))
        self.started: list[tuple[str, int]] = []
        """Key of each accepted start and the size of our log at that moment: what the run was told comes after it."""
        self.lives = 0
        self.deaths = 0
        self.resent: list[str] = []
        """Files that were sent although the archive held just these bytes."""
        self._faults: list[Fault] = []
        self.calls.meet = self._meet
        self.calls.on_put = self._look_at_put
        self._watch_starts()

    # --- what shall go wrong ---------------------------------------------------------------------

    def kill_at(self, number: int, *, after: bool = False) -> None:
        """The process dies at its `number`-th call of a port from now (from 1), before or after that took effect."""
        self.calls.kill_at(number, after=after)

    def refuse(self, where: str, error: Exception, *, nth: int = 1, times: int = 1, done: bool = False) -> None:
        """Calls that the glob `where` names (`archive.put`, `control.*`) raise `error`: the `nth` and `times - 1` more.

        `times=0` is for ever; with `done` they take effect all the same, and only their answers are lost.
        """
        self._faults.append(Refusal(picked(where, nth, times), error, done))

    def outage(self, seconds: float, *, where: str = "archive.put", nth: int = 1) -> None:
        """Nothing that is remote answers for so long, from the `nth` call on that the glob `where` names."""
        self._faults.append(Outage(picked(where, nth, 1), self.ports.clock, seconds))

    def meanwhile(self, happens: Callable[[], object], *, where: str = "archive.put", nth: int = 1) -> None:
        """`happens` is called before the `nth` call that the glob `where` names: a file changes, a lock is taken, a host stops."""
        self._faults.append(Meanwhile(picked(where, nth, 1), happens))

    def storm(self, seed: int, *, calls: int = 300, share: float = 0.1) -> Storm:
        """For so many calls this share of them goes wrong, in ways and at places that the seed draws; returns what tells of it."""
        storm = Storm(self.ports.clock, random.Random(seed), calls, share)  # noqa: S311 - the same numbers again are the point
        self._faults.append(storm)
        return storm

    def fill_disk(self) -> None:
        """The journal takes nothing more, until `calm`."""
        self.real["journal"].failure = "no space left on device"

    def take_over_lock(self) -> None:
        """Somebody else takes the delivery's lock."""
        self.real["control"].delete(self.keys.client_lock)
        self.real["control"].put(self.keys.client_lock, RIVAL)

    def calm(self) -> None:
        """Nothing goes wrong any more: no fault is left, the disk has room, and a rival has given the lock back."""
        self._faults.clear()
        self.calls.disarm()
        self.real["journal"].failure = None
        lock = self.real["control"].read(self.keys.client_lock)
        if lock is not None and lock[0] == RIVAL:
            self.real["control"].delete(self.keys.client_lock)

    def _meet(self, where: str, act: Callable[[], Any]) -> Any:
        for fault in self._faults:
            act = _through(fault, where, act)
        try:
            return act()
        except Killed:
            self.calls.kill_at(1)  # what tidies up in a dead process reaches nothing any more
            raise

    # --- the host's code -------------------------------------------------------------------------

    def run(self, deliver: Callable[[MemoryPorts], T], *, again_after: tuple[type[Exception], ...] = ()) -> T:
        """What a host's code returns; after each death of its process, and after these errors, it is called anew.

        Raises `AssertionError` if it does not return in sixty lives.
        """
        for _ in range(LIVES_MAX):
            try:
                return deliver(self.ports)
            except Killed:
                self.die()
            except again_after:
                self.die()
        raise AssertionError(f"the delivery is not at its end after {LIVES_MAX} lives of its process")

    def die(self) -> None:
        """What the death of the client's process leaves: its locks, the validator, and no journal that is in use."""
        self.calls.disarm()
        self.real["journal"].kill()
        self.deaths += 1

    # --- what a third person sees ----------------------------------------------------------------

    @property
    def events(self) -> list[dict[str, Any]]:
        """The journal's records as plain JSON."""
        return [json.loads(line) for line in self.real["journal"].data.splitlines()[1:]]

    def kinds(self, *wanted: str) -> list[str]:
        """The kinds of all events in order, or only those asked for."""
        return [event["kind"] for event in self.events if not wanted or event["kind"] in wanted]

    def states(self) -> dict[str, str]:
        """Path -> state of each file of the index, as the journal has it; none if nothing was begun."""
        if not self.real["journal"].data:
            return {}
        delivery = self.real["journal"].replayed()
        return {path: str(delivery.state_of(number)) for number, path in enumerate(delivery.table.paths())}

    def rows(self, key: str = "", start: int = 0, end: int | None = None) -> list[list[str]]:
        """The rows of a log; of ours, if no other is named."""
        data = b"".join(self._objects(key or self.keys.client_log))[start:end].decode()
        return list(csv.reader(io.StringIO(data, newline=""), delimiter="\t"))

    def _objects(self, key: str) -> Iterator[bytes]:
        control = self.real["control"]
        before, control.before_read = control.before_read, None  # a witness's look is nobody's turn
        if (found := control.read(key)) is not None:
            yield found[0]
        control.before_read = before

    @property
    def puts(self) -> list[tuple[str, int]]:
        """Path of each put, and the last sequence number that was journaled before it."""
        found = zip(self.calls.made, self.calls.seqs, strict=True)
        return [(args[0], seq) for (port, method, args), seq in found if (port, method) == ("archive", "put")]

    def _look_at_put(self, path: str) -> None:
        if self.ports.archive.contents().get(path) == self.files.get(path):
            self.resent.append(path)

    def _watch_starts(self) -> None:
        pipeline, start = self.real["pipeline"], self.real["pipeline"].start

        def watched(**request: Any) -> Any:
            before = pipeline.validator
            answer = start(**request)
            if pipeline.validator is not before:
                assert before is None or not before.alive, "a second validator was started beside the first"
                self.started.append(
                    (
                        f"{request['idempotency_key']} of life {self.lives}",
                        self.real["control"].size(self.keys.client_log),
                    )
                )
            return answer

        def closed() -> None:
            self.lives += 1
            close()

        close = pipeline.close
        pipeline.start, pipeline.close = watched, closed

    # --- the promises ----------------------------------------------------------------------------

    def check(self) -> None:
        """Raises `AssertionError`, naming files, unless every one is settled, what is valid is stored, and nothing was doubled."""
        states = self.states()
        assert states, "nothing was begun: there is no journal"
        open_files = sorted(path for path, state in states.items() if state not in SETTLED)
        assert not open_files, (
            f"{len(open_files)} of {len(states)} files have no verdict, and nobody goes on: {', '.join(open_files[:5])}"
        )
        stored = self.ports.archive.contents()
        wrong = sorted(
            path for path, state in states.items() if state == "valid" and stored.get(path) != self.files[path]
        )
        assert not wrong, f"these are called valid, and the archive holds something else: {', '.join(wrong[:5])}"
        self.check_nothing_doubled()

    def check_nothing_doubled(self) -> None:
        """Raises `AssertionError` if a run was started, a file told to one, or bytes that the archive has were sent, twice."""
        self.judge_runs()
        self.judge_puts()

    def judge_runs(self) -> None:
        """One start per key (unless what was started ended with its client), and no file told to one run twice."""
        keys = [key for key, _ in self.started]
        assert len(keys) == len(set(keys)), f"a run was started twice: {keys}"
        sizes = [size for _, size in self.started]
        for start, end in zip(sizes, [*sizes[1:], None], strict=True):
            told = [row[2] for row in self.rows(start=start, end=end) if row[1] == "transfer" and row[3] == "ok"]
            assert len(told) == len(set(told)), f"told twice in one run: {told}"
        validator = self.real["pipeline"].validator
        assert validator is None or validator.killed in ("", "killed"), validator.killed

    def judge_puts(self) -> None:
        """No file was sent once the journal said that the archive has it, or while the archive had it."""
        assert self.resent == [], f"sent although the archive has them: {self.resent}"
        events, rows = self.events, {path: number for number, path in enumerate(self.states())}
        for path, seq in self.puts:
            before = [event for event in events if event["seq"] <= seq]
            assert not _has_it(before, rows[path]), f"{path} was sent again"


def every_crash(
    rehearse: Callable[[], Rehearsal], deliver: Callable[[MemoryPorts], object], *, stride: int = 1
) -> Iterator[str]:
    """Kill a host's code before and after every call of a port (every `stride`-th), run it again, and check; tells each place.

    `rehearse` makes a new world each time. Raises `AssertionError`, naming the place, where a promise does not hold or the
    host's code raises something of this library.
    """
    undisturbed = rehearse()
    undisturbed.run(deliver)
    undisturbed.check()
    for number in range(1, len(undisturbed.calls.made) + 1, stride):
        for after in (False, True):
            world = rehearse()
            world.kill_at(number, after=after)
            port, method, _ = undisturbed.calls.made[number - 1]
            place = f"killed {'after' if after else 'before'} call {number}, {port}.{method}"
            try:
                world.run(deliver)
                world.check()
            except (AssertionError, UploadClientError) as error:
                raise AssertionError(f"{place}: {error}") from error
            yield place


def _through(fault: Fault, where: str, act: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: fault.meet(where, act)


def _has_it(events: list[dict[str, Any]], file: int) -> bool:
    has = False
    for event in events:
        if event.get("file") == file:
            has = (has or event["kind"] in _STORED) and event["kind"] not in _NOT_STORED
    return has
