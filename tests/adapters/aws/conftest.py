"""The emulated archive that tests of the AWS adapters share; every test finds it empty."""

import pytest

from tests.adapters.aws import places


@pytest.fixture(scope="session")
def _shared_places():
    with places.places() as made:
        yield made


@pytest.fixture
def archive_places(_shared_places):
    """An emulator without buckets, faults or log, and clients for it."""
    _shared_places.aws.reset()
    return _shared_places


@pytest.fixture
def aws(archive_places):
    """The emulator itself, to order faults and to look behind the adapters."""
    return archive_places.aws
