"""For every test: hypothesis is as patient as a busy machine needs, and no test can reach AWS by accident."""

import compileall
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import command_line, promises
from tests.promises import figure, pytest_collection_modifyitems, pytest_terminal_summary, size  # noqa: F401 - pytest finds fixtures and hooks here by name

ROOT = Path(__file__).resolve().parent.parent

# The suites that adapters join are plain modules; their asserts should explain themselves as those of a test file do.
pytest.register_assert_rewrite("tests.contracts")

# A deadline per example measures the machine's other tenants, not the code.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2_000)
settings.register_profile(
    "quick", parent=settings.get_profile("default"), max_examples=25, derandomize=True, database=None
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, profiles and the metadata service of the machine that runs the tests stay out of them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    command_line.end_started()


@pytest.fixture(scope="session", autouse=True)
def _aws_models_are_read_once() -> Iterator[None]:
    """Each session of boto3 reads AWS's models anew, a third of a second; here hundreds are made."""
    from botocore.loaders import JSONFileLoader

    read = JSONFileLoader.load_file
    kept: dict[str, Any] = {}

    def load_file(self: JSONFileLoader, file_path: str) -> Any:
        if kept.get(file_path) is None:
            kept[file_path] = read(self, file_path)
        return kept[file_path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_file)
        yield


def pytest_configure(config):
    """Processes that tests start shall hear signals as usual, also where nohup or a shell's background keeps us from it.

    And they shall find our modules compiled, also where PYTHONDONTWRITEBYTECODE is set: else each of the many hundred
    compiles them anew, which is half of what its start costs.
    """
    promises.pytest_configure(config)
    if not hasattr(config, "workerinput"):  # once, before there are workers
        for package in ("upload_core", "adapters", "tests/emulator"):
            compileall.compile_dir(ROOT / package, quiet=2)
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
            signal.signal(number, usual)
