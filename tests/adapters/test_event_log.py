"""Events in Python's logging: silent until somebody listens, and then at levels that an operator can filter by."""

import logging
import subprocess
import sys

import pytest

from tests.command_line import Desk, environment
from tests.crash.world import World
from upload_adapters import event_log
from upload_core import events as ev


@pytest.fixture
def world():
    return World()  # one of its files is bad


def run_with(world, observer) -> None:
    world.ports.observers = [observer]
    world.client().run()


def test_every_level_is_given_to_an_event():
    assert set(event_log.LEVELS) <= set(ev.EVENTS)


def test_at_info_no_file_is_named_unless_it_goes_wrong(world, caplog):
    caplog.set_level(logging.INFO, "upload_core.events")
    run_with(world, event_log.observer())
    kinds = [record.message.partition(" ")[0] for record in caplog.records]
    assert {"SessionOpened", "LockAcquired", "SessionClosed", "FileInvalidated"} <= set(kinds)
    assert "TransferStarted" not in kinds
    levels = {record.message.partition(" ")[0]: record.levelname for record in caplog.records}
    assert (levels["SessionOpened"], levels["FileInvalidated"]) == ("INFO", "WARNING")


def test_at_debug_there_is_a_record_for_each_event(world, caplog):
    caplog.set_level(logging.DEBUG, "upload_core.events")
    seen: list[object] = []
    client_records = event_log.observer()
    world.ports.observers = [client_records]
    client = world.client()
    client.subscribe(seen.append)
    client.run()
    assert [record.upload_core_record for record in caplog.records] == seen


def test_nothing_is_formatted_for_nobody(world, caplog, monkeypatch):
    caplog.set_level(logging.CRITICAL, "upload_core.events")
    monkeypatch.setattr(event_log, "in_words", lambda _: pytest.fail("nobody listens"))
    run_with(world, event_log.observer())
    assert caplog.records == []


def test_what_comes_from_outside_is_text(caplog):
    from upload_core.journal import Record

    words = event_log.in_words(Record(1, "2027-01-15T08:00:00.250Z", ev.TransferFailed(0, "red \x1b[31m\nnext")))
    assert "\x1b" not in words
    assert "\n" not in words


def test_a_host_that_configures_nothing_sees_nothing_of_it(tmp_path):
    desk = Desk(tmp_path, count=2)
    program = (
        "from upload_adapters.index_file import read_index\nfrom upload_core import UploadClient\n"
        "UploadClient(dataset='d', delivery_id='1', file_index={'path': ['file 00.txt']}, transfer_type='staging',\n"
        f"    source={str(desk.data)!r}, to='file://{tmp_path}/a', journal={str(tmp_path / 'j')!r}).run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "WARNING" not in done.stderr, done.stderr
    assert done.stdout == ""
