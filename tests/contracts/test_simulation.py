"""What is simulated keeps the contracts as well, as long as nothing goes wrong: what it shows holds for every adapter."""

import pytest

from tests.contracts.archive import ArchiveContract
from tests.contracts.control_bucket import ControlBucketContract
from tests.contracts.logs import LogsContract
from tests.contracts.owner_lock import OwnerLockContract
from upload_adapters.simulation import World
from upload_adapters.simulation.archive import SimulatedArchive
from upload_adapters.simulation.life import Life
from upload_adapters.simulation.ports import SimulatedControl


class Calm:
    @pytest.fixture
    def world(self):
        world = World(0, steps=0)
        world.store.clear()
        return world

    @pytest.fixture
    def life(self, world):
        return Life(world, 1)


class TestSimulatedArchive(Calm, ArchiveContract):
    @pytest.fixture
    def archive(self, life):
        return SimulatedArchive(life, part_size=1 << 19)

    @pytest.fixture
    def stored(self, world):
        return lambda relpath: world.store.contents().get(relpath)


class SimulatedBucket(Calm):
    @pytest.fixture
    def control(self, life):
        return SimulatedControl(life)

    @pytest.fixture
    def make_old(self, world):
        return lambda _key, seconds: world.timeline.pass_ms(round(seconds * 1000))


class TestSimulatedControl(SimulatedBucket, ControlBucketContract):
    pass


class TestOwnerLockInASimulation(SimulatedBucket, OwnerLockContract):
    pass


class TestLogsInASimulation(SimulatedBucket, LogsContract):
    pass
