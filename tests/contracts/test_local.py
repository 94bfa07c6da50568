"""The local directory keeps every contract."""

import os
from pathlib import Path

import pytest

from tests.contracts.archive import ArchiveContract
from tests.contracts.control_bucket import ControlBucketContract
from tests.contracts.logs import LogsContract
from tests.contracts.owner_lock import OwnerLockContract
from upload_adapters.local import DirectoryArchive, DirectoryControlBucket


class TestDirectoryArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path):
        return DirectoryArchive(tmp_path / "objects")

    @pytest.fixture
    def stored(self, tmp_path):
        def stored(relpath):
            path = Path(tmp_path, "objects", relpath)
            return path.read_bytes() if path.exists() else None

        return stored


class DirectoryBucket:
    @pytest.fixture
    def control(self, tmp_path):
        return DirectoryControlBucket(tmp_path / "control")

    @pytest.fixture
    def make_old(self, tmp_path):
        def make_old(key, seconds):
            path = Path(tmp_path, "control", key)
            modified = path.stat().st_mtime - seconds
            os.utime(path, (modified, modified))

        return make_old


class TestDirectoryControlBucket(DirectoryBucket, ControlBucketContract):
    pass


class TestOwnerLockInADirectory(DirectoryBucket, OwnerLockContract):
    pass


class TestLogsInADirectory(DirectoryBucket, LogsContract):
    pass
