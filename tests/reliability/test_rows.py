"""Our log holds every row once, in order, whatever becomes of the answers, and however often the process dies on the way."""

import itertools
import random
from collections.abc import Callable

import pytest

from tests.adapters.aws import places as aws_places
from tests.contracts.flaky import Fate, FlakyControlBucket
from tests.emulator import Fault
from tests.emulator.faults import Kind
from upload_adapters.aws.s3_control import S3ControlBucket
from upload_adapters.local import DirectoryControlBucket
from upload_adapters.memory import ManualClock, MemoryControlBucket
from upload_core.errors import ArchiveUnavailableError
from upload_core.logs import AppendLog

KEY = "log/client_staging"
FATES: tuple[Fate, ...] = ("answered", "answered", "request lost", "answer lost", "answer lost and repeated")

TROUBLE: tuple[Kind | None, ...] = (*[None] * 6, "lost", "duplicate_last", "refused", "reset")


class Writer:
    """A client that appends numbered rows, journals what was acknowledged, and dies between the two now and then."""

    def __init__(self, control, chance: random.Random, trouble: Callable[[], object] = lambda: None) -> None:
        """`trouble` is called before every append, to order some."""
        self.control, self.chance, self.trouble = control, chance, trouble
        self.journaled: list[int] = []
        self.size = 0
        self.deaths = 0
        self.log = AppendLog(control, KEY, 0)

    def write(self, count: int) -> None:
        """Append rows until so many are journaled, a few at a time."""
        while len(self.journaled) < count:
            first = len(self.journaled)
            batch = list(range(first, min(count, first + self.chance.randint(1, 4))))
            rows = b"".join(b"row %d\n" % number for number in batch)
            self.trouble()
            while True:
                try:
                    size = self.log.append(rows)
                    break
                except ArchiveUnavailableError:
                    continue
            if self.chance.random() < 0.1:
                self.die()
                continue
            self.journaled += batch
            self.size = size

    def die(self) -> None:
        """The rows are there, and no journal says so: the next life reads what the log holds beyond what it knows."""
        self.deaths += 1
        while True:
            try:
                found = self.control.read(KEY, self.size)
                break
            except ArchiveUnavailableError:
                continue
        tail = b"" if found is None else found[0]
        assert tail.endswith(b"\n")
        self.journaled += [int(row.split()[1]) for row in tail.splitlines()]
        self.size += len(tail)
        self.log = AppendLog(self.control, KEY, self.size)


def demand_every_row_once(control, count: int) -> None:
    found = control.read(KEY)
    assert found is not None
    assert found[0] == b"".join(b"row %d\n" % number for number in range(count))


@pytest.mark.promise("R14")
@pytest.mark.parametrize("where", ["memory", "directory"])
def test_lost_answers_and_deaths_neither_lose_nor_double_a_row(where, tmp_path, size, figure):
    count = 10_000 if where == "memory" else size(pr=300, nightly=10_000)
    control = MemoryControlBucket(ManualClock()) if where == "memory" else DirectoryControlBucket(tmp_path)
    chance = random.Random(14)
    writer = Writer(FlakyControlBucket(control, (chance.choice(FATES) for _ in itertools.count())), chance)
    writer.write(count)
    demand_every_row_once(control, count)
    assert writer.deaths > count / 100
    figure(count, "rows appended")


@pytest.mark.promise("R14")
def test_on_s3_neither_lost_answers_nor_deaths_nor_too_many_parts_lose_or_double_a_row(size, figure):
    count = size(pr=300, nightly=10_000)
    with aws_places.places() as made:
        made.aws.settings.parts_max = 40
        bucket = made.bucket(directory=True)
        chance = random.Random(14)

        def trouble() -> None:
            made.aws.faults.clear()
            kind = chance.choice(TROUBLE)
            if kind:
                made.aws.order(Fault(kind, operation="PutObject", key=KEY, code="SlowDown"))

        control = S3ControlBucket(lambda: bucket)
        writer = Writer(control, chance, trouble)
        writer.write(count)
        demand_every_row_once(control, count)
        assert writer.deaths > count / 100
        assert made.aws.log("CopyObject"), "it was compacted on the way"
    figure(count, "rows appended on S3")
