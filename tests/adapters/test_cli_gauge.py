"""What a screen says of a delivery: honest figures at a cost that no number of files raises, on any width."""

import itertools
import time

import attrs
import pytest
from rich.cells import cell_len

from upload_adapters.cli import live
from upload_adapters.cli.gauge import FORECAST_S, Gauge, Large, Reading, bytes_by_state, stored_bytes
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.effects import OpenUpload
from upload_core.files import FileTable
from upload_core.jobs import CopyJob
from upload_core.lifecycle import ABANDONED, DONE, INVALID, READY, REPORTED, TRANSFERRING, VALID

WIDTHS = range(10, 201)


def delivery_of(count: int, size: int = 1_000) -> Delivery:
    table = FileTable.from_columns((f"night/file {n}.fits" for n in range(count)), itertools.repeat(size, count))
    created = ev.DeliveryCreated("m31", "1", "staging", "agent", "/data", "file:///archive", table.digest, count)
    delivery = Delivery.begin(created, table)
    delivery.client.restore("running")
    delivery.facts.n_threads = 8
    return delivery


def move(delivery: Delivery, old: int, new: int, count: int) -> None:
    for file in delivery.take(old, count):
        delivery.states[file] = new
    delivery.counts[old] -= count
    delivery.counts[new] += count


class Watched:
    """A delivery whose clock a test moves on."""

    def __init__(self, count: int = 1_000) -> None:
        self.delivery = delivery_of(count)
        self.gauge = Gauge()
        self.now_s = 1_000.0

    def hold(self, table: FileTable) -> None:
        """Another index."""
        created = ev.DeliveryCreated("d", "1", "staging", "a", "s", "file:///a", table.digest, len(table))
        self.delivery = Delivery.begin(created, table)
        self.delivery.client.restore("running")

    def read(self) -> Reading:
        now_ms = round(self.now_s * 1000)
        return self.gauge.read(
            self.delivery,
            stored_bytes(self.delivery),
            now_ms=now_ms,
            steady_s=self.now_s,
            credentials_ms=now_ms + 600_000,
        )

    def live_through(self, seconds: int, sent: int, judged: int) -> Reading:
        reading = self.read()
        for _ in range(seconds):
            move(self.delivery, READY, DONE, sent)
            move(self.delivery, DONE, VALID, judged)
            self.now_s += 1
            reading = self.read()
        return reading


def test_before_anything_was_seen_there_is_no_pace_and_no_end():
    reading = Watched().read()
    assert (reading.bytes_per_s, reading.sending_s, reading.judging_s, reading.left_s) == (None, None, None, None)
    assert live.plain(reading) == "0 of 1,000 files sent (0 B of 976.6 KiB), 0 judged; too early to tell when it ends"


def test_the_end_is_told_from_what_was_seen():
    reading = Watched().live_through(20, sent=10, judged=10)
    assert reading.bytes_per_s == pytest.approx(10_000)
    assert reading.sending_s == pytest.approx(80)
    assert reading.left_s == pytest.approx(80)
    assert "about 80 s left" in live.plain(reading)
    assert "behind" not in live.plain(reading)


def test_a_validator_that_lags_behind_decides_the_end():
    reading = Watched().live_through(20, sent=20, judged=2)
    assert reading.sending_s == pytest.approx(30)
    assert reading.behind == 360
    assert reading.left_s == pytest.approx((1_000 - 40) / 2)
    assert live.plain(reading).endswith("; about 8 min left: the validator is 360 files behind")


def test_after_the_last_file_is_sent_only_judging_is_left():
    watched = Watched(100)
    watched.live_through(10, sent=10, judged=5)
    reading = watched.live_through(5, sent=0, judged=5)
    assert reading.all_sent
    assert live.plain(reading).endswith("; 25 to be judged, about 5 s left")


def test_a_validator_that_keeps_up_is_not_blamed_for_what_it_was_not_given():
    """While a large file takes the line, few files are judged: there are none to judge."""
    watched = Watched(100)
    table = FileTable.from_columns([str(n) for n in range(101)], [1_000] * 100 + [10_000_000])
    watched.hold(table)
    file = 100
    move(watched.delivery, READY, TRANSFERRING, 101)
    watched.delivery.uploads[file] = OpenUpload("id", 100_000, "print", {})
    reading = watched.read()
    for second in range(40):
        watched.delivery.uploads[file].parts[second + 1] = "crc"
        if second % 10 == 0:
            move(watched.delivery, TRANSFERRING, VALID, 1)
        watched.now_s += 1
        reading = watched.read()
    assert reading.behind == 0
    assert reading.left_s is not None
    # 6 MB at 100 kB/s, and 96 small files that cost next to nothing: not 96 files at one in ten seconds
    assert 55 < reading.left_s < 80


def test_a_validator_shows_its_pace_only_while_it_has_work():
    """It was given nothing for a minute; since then it judges ten a second of the three hundred that wait."""
    watched = Watched()
    watched.live_through(60, sent=1, judged=1)
    move(watched.delivery, READY, DONE, 300)
    watched.live_through(15, sent=1, judged=10)
    assert watched.gauge._judging_pace() == pytest.approx(10, rel=0.15)


def test_what_was_just_sent_says_nothing_of_the_validator():
    watched = Watched()
    watched.live_through(60, sent=1, judged=1)
    move(watched.delivery, READY, DONE, 300)
    reading = watched.live_through(5, sent=1, judged=0)
    assert reading.left_s is None
    assert live.plain(reading).endswith("; too early to tell when all is judged")


def test_a_large_file_at_the_end_is_not_forgotten():
    """By files the end is near; by bytes it is not, and nothing else knows of the large one."""
    watched = Watched(1)
    watched.hold(FileTable.from_columns([str(n) for n in range(101)], [1_000] * 100 + [10_000_000]))
    reading = watched.live_through(10, sent=10, judged=10)
    assert reading.sending_s is not None
    assert reading.sending_s > 900


def test_a_short_and_uneven_beginning_is_told_by_bytes():
    """Eight small files and half of a large one in twenty seconds: what two moments say of files means nothing."""
    watched = Watched(1)
    watched.hold(FileTable.from_columns([str(n) for n in range(601)], [30_000] * 600 + [100_000_000]))
    move(watched.delivery, READY, TRANSFERRING, 601)
    upload = watched.delivery.uploads[600] = OpenUpload("id", 5_000_000, "print", {})
    reading = watched.read()
    for second in range(1, 19):
        if second in (4, 5, 7, 9, 15):
            move(watched.delivery, TRANSFERRING, VALID, 2)
        if second > 3:
            upload.parts[second] = "crc"
        watched.now_s += 1
        reading = watched.read()
    assert reading.left_s == pytest.approx((118_000_000 - reading.sent_bytes) / 4_200_000, rel=0.15)


def test_small_files_after_large_ones_are_told_by_what_files_cost():
    """Large ones went at 1 MB/s, then small ones at 10 a second: what is left is small ones."""
    watched = Watched(1)
    watched.hold(FileTable.from_columns([str(n) for n in range(1_010)], [10_000_000] * 10 + [100] * 1_000))
    for _ in range(10):
        move(watched.delivery, READY, VALID, 1)
        for _ in range(10):
            watched.now_s += 1
            watched.read()
    reading = watched.live_through(50, sent=10, judged=10)
    assert reading.sending_s == pytest.approx(50, rel=0.6)  # by bytes alone: at once; by files alone: 147 s


def test_nothing_sent_for_long_is_no_estimate_but_said():
    watched = Watched()
    watched.live_through(10, sent=10, judged=10)
    reading = watched.live_through(int(FORECAST_S) + 5, sent=0, judged=0)
    assert reading.sending_s is None
    assert "nothing was sent lately" in live.plain(reading)


def test_what_it_waits_for_stands_before_any_estimate():
    watched = Watched()
    watched.live_through(10, sent=10, judged=10)
    facts = watched.delivery.facts
    facts.outage_ms = round(watched.now_s * 1000) - 180_000
    assert live.plain(watched.read()).endswith(
        "the archive has been out of reach for 3 min, given up after 12 min more"
    )
    facts.outage_ms = 0
    facts.paused = {"user": "lunch"}
    assert live.plain(watched.read()).endswith("; paused by user (lunch)")
    facts.paused = {}
    facts.heard_ms = round(watched.now_s * 1000) - 45_000
    assert live.plain(watched.read()).endswith("nothing was heard of the validator for 45 s")
    watched.delivery.client.restore("connecting")
    assert live.plain(watched.read()).endswith("signing in, taking the lock")


def test_lives_of_lock_and_credentials_are_told():
    watched = Watched()
    facts = watched.delivery.facts
    facts.lock_etag, facts.lock_ms = "e", round(watched.now_s * 1000) - 600_000
    reading = watched.read()
    assert (reading.lock_s, reading.credentials_s) == (3_000, 600)
    assert "lock 50 min, credentials 10 min" in shown(reading, 100)


def test_bytes_are_those_of_files_that_are_stored_and_of_parts():
    delivery = delivery_of(10, size=100)
    for state in (DONE, REPORTED, VALID, INVALID, ABANDONED, TRANSFERRING):
        move(delivery, READY, state, 1)
    assert stored_bytes(delivery) == 400
    file = next(delivery.files_in(TRANSFERRING))
    delivery.uploads[file] = OpenUpload("id", 30, "print", {1: "a", 2: "b"})
    assert stored_bytes(delivery) == 460
    found = bytes_by_state(delivery)
    assert found == {
        "ready": 400,
        "pending": 0,
        "failed": 100,
        "transferring": 100,
        "done": 200,
        "valid": 100,
        "invalid": 100,
    }


# --- the screen ---


def shown(reading: Reading, width: int, *, unicode: bool = True) -> str:
    return "\n".join("".join(part for part, _ in line) for line in live.lines(reading, width, unicode=unicode))


def busy() -> Reading:
    watched = Watched()
    reading = watched.live_through(20, sent=20, judged=2)
    return attrs.evolve(
        reading,
        name="a-data-set-with-a-long-name-0001 (staging)",
        invalid=3,
        given_up=1,
        to_retry=12,
        retries=40,
        in_flight=8,
        large=Large("a/very/long/path/to/日本語 the file.fits", 4_000_000_000, 9_000_000_000),
        lock_s=3_000,
        credentials_s=100,
        elapsed_s=4_000,
    )


@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(unicode):
    for reading in (busy(), Watched().read()):
        for width in WIDTHS:
            lines = shown(reading, width, unicode=unicode).split("\n")
            assert max(map(cell_len, lines)) <= width, width
            assert len(lines) == 5 - (not reading.in_flight and reading.all_sent)


def test_jobs_of_a_service_are_a_line_of_their_own_on_any_width():
    watched = Watched()
    facts = watched.delivery.facts
    facts.jobs = {
        "a": CopyJob("a", "0-499", 0, "job-1", "Active", 120, 3, 500),
        "b": CopyJob("b", "500-999", 0, "job-2", "New", 0, 0, 500),
    }
    reading = watched.read()
    told = shown(reading, 100)
    assert "jobs   2 under way, 123 of 1,000 copies done" in told
    assert "S3 copies" in told
    assert "0 of 8 in flight" in told
    for width in WIDTHS:
        lines = shown(reading, width).split("\n")
        assert max(map(cell_len, lines)) <= width, width
        assert any(line.startswith("jobs") for line in lines)


def test_forty_columns_hold_what_counts():
    told = shown(busy(), 40)
    for needed in ("400 of 1,000", "40 of 1,000", "3 invalid, 1 failed", "8 in flight", "about 8 min left"):
        assert needed in told, told


def test_a_screen_without_unicode_gets_ascii():
    assert shown(attrs.evolve(busy(), large=None), 120, unicode=False).isascii()


def test_a_hostile_file_name_moves_no_cursor():
    told = shown(attrs.evolve(busy(), large=Large("\x1b[2J\nx", 1, 10)), 200)
    assert "\\x1b[2J\\x0ax 10 %" in told


def test_a_refresh_costs_the_same_for_a_million_files_as_for_a_thousand():
    def cost(count: int) -> float:
        watched = Watched(count)
        watched.live_through(3, sent=2, judged=1)
        costs = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(50):
                watched.now_s += 1
                now_ms = round(watched.now_s * 1000)
                live.lines(watched.gauge.read(watched.delivery, 5_000, now_ms=now_ms, steady_s=watched.now_s), 80)
            costs.append(time.process_time() - began)
        return min(costs) / 50

    small, large = cost(1_000), cost(1_000_000)
    assert large < 3 * small + 0.0005
    assert large < 0.01
