"""Archives that are real but for AWS itself, each test its own; `make interop` makes their environment."""

import os
from pathlib import Path

import pytest

from tests.interop.archive import RealArchive
from tests.interop.provider import Provider

PYTHON_VARIABLE = "UPLOAD_CORE_INTEROP_PYTHON"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.timeout(480))


@pytest.fixture
def python():
    """The interpreter that has the archive's package."""
    if PYTHON_VARIABLE not in os.environ:
        pytest.skip(f"{PYTHON_VARIABLE} does not name the archive's interpreter; run `make interop`")
    return Path(os.environ[PYTHON_VARIABLE])


@pytest.fixture
def archives(python):
    """Makes archives; all end with the test, and with them whatever runs in them."""
    made = []

    def make(**settings):
        made.append(RealArchive(python, **settings))
        return made[-1]

    yield make
    for archive in made:
        archive.close()


@pytest.fixture
def providers(tmp_path):
    """Makes providers, each with a desk of its own."""
    names = (f"provider-{number}" for number in range(100))

    def make(archive, files, **settings):
        return Provider(tmp_path / next(names), archive, files, **settings)

    return make
