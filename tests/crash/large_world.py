"""A world whose archive is a bucket that takes large files in parts, by the real S3 adapter on a store in memory."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.crash.lockstep import LockstepDispatcher
from tests.crash.s3_in_memory import BUCKET, StoreCalls, StoredFiles
from tests.crash.world import World
from upload_adapters.aws.bucket import Bucket
from upload_adapters.aws.part_pool import PartPool
from upload_adapters.aws.s3_archive import S3Archive
from upload_adapters.memory import MemoryFile, MemorySource
from upload_adapters.testing import Killed

PART = 100
FILES = {
    "big": random.Random(1).randbytes(7 * PART + 3),
    "small": b"a few bytes",
    "big/too": random.Random(2).randbytes(3 * PART),
}
PARTS = {"big": 8, "big/too": 3}
S3_CALLS = (
    "head_object",
    "put_object",
    "list_objects_v2",
    "create_multipart_upload",
    "upload_part",
    "complete_multipart_upload",
    "abort_multipart_upload",
    "list_parts",
    "list_multipart_uploads",
)


class CountedSource(MemorySource):
    """A source that counts which bytes are read."""

    def __init__(self, files):
        super().__init__(files)
        self.reads: Counter[tuple[str, int]] = Counter()

    @contextmanager
    def open(self, relpath: str) -> Iterator[MemoryFile]:
        source = self

        class Counted(MemoryFile):
            def read_at(self, offset, size, /):
                data = super().read_at(offset, size)
                source.reads.update((relpath, at) for at in range(offset, offset + len(data)))
                return data

        self._demand(relpath)
        yield Counted(self._files, relpath)


class LargeWorld(World):
    """A world whose archive is a bucket, and whose clients' processes take their connections along."""

    def __init__(self, files=None, **options) -> None:
        super().__init__(FILES if files is None else files, bad=(), **options)
        self.stored = StoredFiles()
        self.ports.source = self.counted = CountedSource(self.files)
        self.dispatcher = self.ports.dispatcher = LockstepDispatcher(self.ports.clock)
        self.begin_life()

    def begin_life(self) -> None:
        self._open = [True]
        opened = self._open
        watched = self.calls.watch("s3", StoreCalls(self.stored), S3_CALLS)

        class Connection:
            """To S3, for as long as its process lives."""

            def __getattr__(self, name):
                if not opened[0]:
                    raise Killed("s3", name)
                return getattr(watched, name)

        connection: Any = Connection()
        bucket = Bucket(BUCKET, connection, connection)
        archive = S3Archive(lambda: bucket, single_max=PART, part_size=PART, pool=PartPool(at_once=1))
        archive.contents, archive.read = self.stored.contents, self.stored.read  # type: ignore[attr-defined]
        self.real["pipeline"]._archive = _Seen(self.stored)
        self.ports.archive = self.calls.watch("archive", archive)

    def die(self, *, validator_too: bool = False) -> None:
        self._open[0] = False
        self.dispatcher.die()
        super().die(validator_too=validator_too)
        self.begin_life()

    def judge_parts(self, *, kills: int) -> None:
        """Each part came once, was read once more at most for each kill, and nothing is left."""
        came = Counter((relpath, number) for relpath, number, _ in self.stored.parts_sent)
        assert came == {(relpath, number): 1 for relpath, count in PARTS.items() for number in range(1, count + 1)}
        read = sum(self.counted.reads.values())
        assert read <= sum(len(self.files[relpath]) for relpath in PARTS) + kills * PART
        assert self.stored.open_uploads() == []
        assert self.real["journal"].replayed().uploads == {}


class _Seen:
    """The bucket as the validator sees it."""

    def __init__(self, stored: StoredFiles) -> None:
        self._archive = S3Archive(lambda: Bucket(BUCKET, StoreCalls(stored), StoreCalls(stored)))
        self.stat = self._archive.stat
        self.read = stored.read
