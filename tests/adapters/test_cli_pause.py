"""Pausing a delivery from another terminal, by a signal, or by the time of day."""

import signal
import time
from pathlib import Path

import pytest

from tests.command_line import Desk, last_json, wait_for_events
from tests.crash.world import World
from upload_adapters.cli.pausing import REQUEST, PauseWatch
from upload_adapters.cli.windows import Windows
from upload_core import events as ev

pytestmark = pytest.mark.crash


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, count=30)
    made.index()
    return made


def test_pause_and_continue_from_another_terminal(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events", "--json", "--jobs", "1")
    wait_for_events(process, "FileReported", 1)
    paused = desk.run("pause", str(desk.journal))
    assert paused.returncode == 0, paused.stderr
    assert "no further file is begun" in paused.stderr
    again = desk.run("pause", str(desk.journal))
    assert again.returncode == 0
    status = desk.run("status", str(desk.journal))
    assert "paused by user (upload-core pause)" in status.stdout
    assert last_json(desk.run("status", str(desk.journal), "--json").stdout)["paused"] == {"user": "upload-core pause"}
    continued = desk.run("continue", str(desk.journal))
    assert continued.returncode == 0, continued.stderr
    assert "files are begun again" in continued.stderr
    desk.go_on()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.count('"kind":"TransfersPaused"') == 1
    assert out.count('"kind":"TransfersContinued"') == 1
    assert not (desk.journal / REQUEST).exists()
    assert desk.equal()


@pytest.mark.parametrize("word", ["pause", "continue"])
def test_without_a_process_at_work_there_is_nothing_to_pause(desk, word):
    nowhere = desk.run(word, "nowhere")
    assert nowhere.returncode == 2
    assert desk.run(*desk.deliver).returncode == 0
    done = desk.run(word, str(desk.journal))
    assert done.returncode == 2
    assert "no process works on this delivery" in done.stderr
    assert not (desk.journal / REQUEST).exists()


def test_a_killed_process_is_no_process_at_work_and_what_was_asked_of_it_does_not_pause_the_next(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events", "--jobs", "1")
    wait_for_events(process, "FileReported", 1)
    process.kill()
    process.communicate()
    desk.go_on()
    assert desk.run("pause", str(desk.journal)).returncode == 2
    (desk.journal / REQUEST).write_text("pause")
    resumed = desk.run("resume", str(desk.journal), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert desk.equal()


def test_signals_pause_and_continue(desk):
    desk.hold()
    process = desk.start(*desk.deliver_slowly, "--events", "--jobs", "1")
    wait_for_events(process, "FileReported", 1)
    process.send_signal(signal.SIGUSR1)
    wait_for_events(process, "TransfersPaused")
    process.send_signal(signal.SIGUSR2)
    wait_for_events(process, "TransfersContinued")
    desk.go_on()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert desk.equal()


def test_outside_its_window_a_delivery_begins_no_file_and_stays_alive(desk):
    hour = time.localtime().tm_hour
    far = f"{(hour + 11) % 24:02}:00-{(hour + 12) % 24:02}:00"
    process = desk.start(*desk.deliver, "--events", "--window", far)
    wait_for_events(process, "TransfersPaused")
    wait_for_events(process, "ValidatorStarted")
    time.sleep(1)
    assert process.poll() is None
    assert not list(desk.archive.rglob("*.txt"))
    told = desk.run("continue", str(desk.journal))
    assert told.returncode == 0
    assert "window: outside its window" in told.stderr
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 130
    near = f"{(hour - 1) % 24:02}:00-{(hour + 3) % 24:02}:00"
    assert desk.run("resume", str(desk.journal), "--window", near).returncode == 0
    assert desk.equal()


@pytest.mark.parametrize(
    "text",
    ["", "22", "22:00", "22:00-", "24:00-01:00", "10:00-24:01", "1:60-2:00", "09:00-09:00", "09:00-10:00,", "a:b-c:d"],
)
def test_a_window_that_is_none_is_a_usage_error_that_says_why(desk, text):
    done = desk.run(*desk.deliver, "--window", text)
    assert done.returncode == 2
    assert "is no window" in done.stderr


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "21:59"]),
        ("09:00-17:30", ["09:00", "17:29"], ["08:59", "17:30", "00:00"]),
        ("01:00-02:00, 12:00-13:00", ["01:30", "12:30"], ["02:00", "11:59", "13:00"]),
        ("20:00-24:00", ["20:00", "23:59"], ["00:00", "19:59"]),
        ("00:00-24:00", ["00:00", "12:00", "23:59"], []),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(text, inside, outside):
    windows = Windows.parse(text)
    minutes = [int(clock[:2]) * 60 + int(clock[3:]) for clock in (*inside, *outside)]
    assert [windows.hold(minute) for minute in minutes] == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize(("now", "opens"), [(720, "22:00"), (0, "01:00"), (130, "22:00")])
def test_the_next_window_is_named(now, opens):
    assert Windows.parse("22:00-23:00,01:00-02:00").next_start(now) == opens


def test_the_clock_opens_and_closes_the_window(tmp_path):
    world, hour = World(bad=[]), [12]
    client = world.client()
    watch = PauseWatch(
        client,
        tmp_path,
        Windows.parse("22:00-06:00"),
        local_time=lambda: time.struct_time((2026, 1, 1, hour[0], 0, 0, 0, 0, 0)),
    )
    with watch:
        client.connect()
        client.initiate_transfer()
        wanted = []
        for hour[0] in (12, 21, 22, 5, 6):
            watch.look()
            client.update()
            wanted.append(dict(client.delivery.facts.paused))
        client.quit()
    outside = {"window": "outside its window, until 22:00"}
    assert wanted == [outside, outside, {}, {}, outside]


def test_a_request_that_is_no_word_is_ignored_and_removed(tmp_path):
    world = World(bad=[])
    client = world.client()
    with PauseWatch(client, tmp_path) as watch:
        client.connect()
        for junk in (b"", b"\xff\xfe", b"stop everything"):
            (tmp_path / REQUEST).write_bytes(junk)
            watch.look()
            client.update()
            assert client.delivery.facts.paused == {}
            assert not (tmp_path / REQUEST).exists()
        (tmp_path / REQUEST).write_text("pause\n")
        watch.look()
        client.update()
        assert set(client.delivery.facts.paused) == {"user"}
        client.quit()
    assert world.kinds("TransfersPaused") == [ev.TransfersPaused.__name__]
