"""A delivery's whole world in memory, a bomb that kills its client at any port call, and a judge who was not there.

The judge reads only what a third person could: the journal's lines, both logs, the stored objects, the requests that
the pipeline got. It shares no code with what it judges, except for the values that both sides must agree on.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from upload_adapters.testing import Killed, Rehearsal
from upload_core import NothingToDoError, Summary, UploadClient
from upload_core.checksum import crc32_base64, crc_of
from upload_core.files import FileTable
from upload_core.ports import Limits

BAD = "d/003.dat"
"""The file that the validator finds fault with."""

FILES = {f"d/{n:03}.dat": bytes([n]) * (n + 1) for n in range(8)}
LIMITS = Limits(validator_stop_s=5)


def table_of(files: Mapping[str, bytes], *, checksums: bool = True) -> FileTable:
    """The index of these files."""
    sums = [crc32_base64(crc_of([data])) for data in files.values()] if checksums else None
    return FileTable.from_columns(list(files), [len(data) for data in files.values()], sums)


class World(Rehearsal):
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
        self.bad = set(bad)
        self.table: Callable[[], FileTable] = lambda: table_of(self.files, checksums=checksums)
        super().__init__(
            FILES if files is None else files,
            index=lambda _index, _source: self.table(),
            limits=limits,
            check=lambda relpath, _: ["bad"] if relpath in self.bad else [],
            **options,
        )
        self.last: UploadClient | None = None

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

    def die(self, *, validator_too: bool = False) -> None:
        """What the death of the client's process leaves: its locks in the bucket, and perhaps the validator."""
        super().die()
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
