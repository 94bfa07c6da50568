"""A delivery's whole world in memory, a bomb that kills its client at any port call, and a judge who was not there.

The judge reads only what a third person could: the journal's lines, both logs, the stored objects, the requests that
the pipeline got. It shares no code with what it judges, except for the values that both sides must agree on.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from upload_adapters.memory import MemoryPorts, memory_ports
from upload_core import NothingToDoError, Summary, UploadClient
from upload_core.checksum import crc32_base64, crc_of
from upload_core.files import FileTable
from upload_core.ports import Limits

WATCHED = {
    "journal": ("open", "create", "add_revision", "append", "snapshot", "close"),
    "archive": ("stat", "put", "list", "end_uploads"),
    "control": ("head", "read", "put", "append", "delete"),
    "pipeline": ("start", "is_running", "close"),
    "identity": ("sign_in",),
}
"""Every method through which a client reaches something that outlives it."""

BAD = "d/003.dat"
"""The file that the validator finds fault with."""

FILES = {f"d/{n:03}.dat": bytes([n]) * (n + 1) for n in range(8)}
LIMITS = Limits(validator_stop_s=5)


def table_of(files: Mapping[str, bytes], *, checksums: bool = True) -> FileTable:
    """The index of these files."""
    sums = [crc32_base64(crc_of([data])) for data in files.values()] if checksums else None
    return FileTable.from_columns(list(files), [len(data) for data in files.values()], sums)


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

    def watch(self, name: str, port: Any, methods: Sequence[str] = ()) -> Any:
        """The port, with every call of its watched methods seen; a port of `WATCHED` has those by itself."""
        return _Watched(self, name, port, methods or WATCHED[name])

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
            result = found(*args, **kwargs)
            if calls.after is not None:
                calls.after(self.port_name, name, args)
            return result

        return call


class World:
    """What outlives a client: source, archive, control bucket, pipeline, and the journal's bytes."""

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        bad: Collection[str] = (BAD,),
        limits: Limits = LIMITS,
        checksums: bool = True,
        **options: Any,
    ) -> None:
        self.files = dict(FILES if files is None else files)
        self.bad = set(bad)
        self.table: Callable[[], FileTable] = lambda: table_of(self.files, checksums=checksums)
        self.ports: MemoryPorts = memory_ports(
            self.files,
            index=lambda _index, _source: self.table(),
            limits=limits,
            check=lambda relpath, _: ["bad"] if relpath in self.bad else [],
            **options,
        )
        self.calls = Calls()
        self.real: dict[str, Any] = {name: getattr(self.ports, name) for name in WATCHED}
        self.calls.seq = lambda: max(0, self.real["journal"].data.count(b"\n") - 1)
        for name, port in self.real.items():
            setattr(self.ports, name, self.calls.watch(name, port))
        self.started: list[tuple[str, int]] = []
        """Key of each accepted start and the size of our log at that moment: what the run was told comes after it."""
        self.lives = 0
        self.resent: list[str] = []
        """Files that were sent although the archive held just these bytes."""
        self.calls.on_put = self._look_at_put
        self._watch_starts()
        self.last: UploadClient | None = None

    def _look_at_put(self, path: str) -> None:
        if self.ports.archive.contents().get(path) == self.files.get(path):
            self.resent.append(path)

    def let_validator_dawdle(self, looks: int) -> None:
        """The validator takes its turn at one of so many looks at its log; until its first one nobody sees it run."""
        pipeline, control, left = self.real["pipeline"], self.real["control"], [looks]

        def look(key: str) -> None:
            left[0] -= key == "log/validator_staging"
            if left[0] <= 0:
                left[0] = looks
                pipeline.turn()

        control.before_read = look
        pipeline.is_running = lambda: (
            pipeline.validator is not None and (pipeline.validator.alive and pipeline.validator._begun)
        )

    def client(self, **options: Any) -> UploadClient:
        """A client of this world, in a process of its own."""
        settings: dict[str, Any] = {"n_threads": 3, **options}
        self.last = UploadClient(
            dataset="demo",
            delivery_id="1",
            file_index=None,
            transfer_type="staging",
            source="memory:",
            ports=self.ports,
            **settings,
        )
        return self.last

    def die(self, *, validator_too: bool) -> None:
        """What the death of the client's process leaves: its locks in the bucket, and perhaps the validator."""
        self.calls.disarm()
        self.real["journal"].kill()
        if validator_too:  # which makes the same request a new one; it lived in the same process; the next start sees that its lock is a dead process's
            if self.real["pipeline"].validator is not None:
                self.real["pipeline"].validator.kill()
            self.real["pipeline"]._accepted.clear()
            self.lives += 1
            self.real["control"].delete("lock/validator")

    def deliver(self, *, validator_too: bool = False, sessions: int = 20, **options: Any) -> tuple[Summary | None, int]:
        """Run a client, and after each death another one, to the end; the last summary and the number of deaths."""
        deaths = 0
        for _ in range(sessions):
            try:
                return self.client(**options).run(), deaths
            except Killed:
                deaths += 1
                self.die(validator_too=validator_too)
            except NothingToDoError:
                return None, deaths
        raise AssertionError(f"not at its end after {sessions} sessions")

    # --- what a third person sees ----------------------------------------------------------------

    @property
    def events(self) -> list[dict[str, Any]]:
        """The journal's records as plain JSON."""
        return [json.loads(line) for line in self.real["journal"].data.splitlines()[1:]]

    def kinds(self, *wanted: str) -> list[str]:
        """The kinds of all events in order, or only those asked for."""
        return [event["kind"] for event in self.events if not wanted or event["kind"] in wanted]

    def rows(self, key: str = "log/client_staging", start: int = 0, end: int | None = None) -> list[list[str]]:
        """The rows of a log."""
        data = b"".join(self._objects(key))[start:end].decode()
        return list(csv.reader(io.StringIO(data, newline=""), delimiter="\t"))

    def _objects(self, key: str) -> Iterator[bytes]:
        control = self.real["control"]
        before, control.before_read = control.before_read, None  # a witness's look is nobody's turn
        if (found := control.read(key)) is not None:
            yield found[0]
        control.before_read = before

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
                        self.real["control"].size("log/client_staging"),
                    )
                )
            return answer

        def closed() -> None:
            self.lives += 1
            close()

        close = pipeline.close
        pipeline.start, pipeline.close = watched, closed

    # --- the judge -------------------------------------------------------------------------------

    def judge(self, *, states: Mapping[str, str] | None = None, lock_gone: bool = True) -> None:
        """Raises `AssertionError` unless everything is as after an undisturbed run, and nothing was doubled.

        With `lock_gone=False` the lock may be there, because nobody could be reached to delete it, if it is our own.
        """
        expected = states or {path: "invalid" if path in self.bad else "valid" for path in self.files}
        delivery = self.real["journal"].replayed()
        found = {path: delivery.state_of(n) for n, path in enumerate(delivery.table.paths())}
        assert found == expected
        assert self.last is not None
        assert self.last.done
        assert self.last.delivery.digest == delivery.digest, "memory and journal disagree"
        stored = self.ports.archive.contents()
        assert {path: stored[path] for path in self.files if expected[path] == "valid"} == {
            path: data for path, data in self.files.items() if expected[path] == "valid"
        }
        lock = self.real["control"].read("lock/client")
        assert lock is None or (not lock_gone and lock[0] == b"memory-agent")
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
        assert self.resent == []
        for path, journaled in self._puts_with_journal:
            assert not _has_it(journaled, self._row(path)), f"{path} was sent again"

    def _row(self, path: str) -> int:
        return list(self.files).index(path)

    @property
    def _puts_with_journal(self) -> Iterable[tuple[str, list[dict[str, Any]]]]:
        """Each put, and the events that were in the journal when it began."""
        events = self.events
        for path, size in self.puts:
            yield path, [event for event in events if event["seq"] <= size]

    @property
    def puts(self) -> list[tuple[str, int]]:
        """Path of each put, and the last sequence number that was journaled before it."""
        found = zip(self.calls.made, self.calls.seqs, strict=True)
        return [(args[0], seq) for (port, method, args), seq in found if (port, method) == ("archive", "put")]


_STORED = {"TransferCompleted", "FileFoundStored", "FileFoundValid"}
_NOT_STORED = {"FileFoundMissing", "FileRevised"}


def _has_it(events: Iterable[Mapping[str, Any]], file: int) -> bool:
    has = False
    for event in events:
        if event.get("file") == file:
            has = (has or event["kind"] in _STORED) and event["kind"] not in _NOT_STORED
    return has
