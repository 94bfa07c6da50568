"""What one client has on one worker, by hand: who may begin, until when, and whose word counts. And how clusters are named."""

import pickle
import subprocess
import sys
import threading
import time
import zlib
from typing import Any

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from upload_adapters.clock import SystemClock
from upload_adapters.dask import DaskDispatcher, address_of, dispatcher, post, worker
from upload_adapters.dask.batching import BATCH_BYTES, BATCH_FILES, LARGE, take_batch
from upload_adapters.dask.messages import Answer, Batch, BatchDone, Question, Supplies, Terms, Told
from upload_adapters.memory import MemoryArchive, MemorySource
from upload_core.checksum import crc32_base64
from upload_core.effects import (
    Fault,
    FileNotStored,
    FileStored,
    OpenUpload,
    PartStored,
    StoredPart,
    TransferFile,
    UploadBegun,
)
from upload_core.errors import ConfigurationError, SourceMissingError
from upload_core.ports import Load

FILES = {f"f{number}": b"%d" % number * 50 for number in range(20)}


def order(number, **more):
    data = FILES[f"f{number}"]
    return TransferFile(number, f"f{number}", len(data), crc32_base64(zlib.crc32(data)), **more)


class Here:
    """A worker of which only the event log is real, and the client that reads it: it answers what a test says."""

    address = "tcp://here:1"

    def __init__(self, archive):
        self.archive = archive
        self.asked: list[Question] = []
        self.told: list[Told] = []
        self.answer: Answer | None = None
        self.delay_s = 0.0
        self.uploads: dict[int, OpenUpload | None] = {}
        self.post: Any = None
        self.forgotten: list[post.Post] = []

    def terms(self, *, generation=1, share=4, hold_s=None):
        self.answer = Answer(
            "token", Terms(generation, share, None, hold_s), supplies=Supplies(MemorySource(FILES), self.archive, ())
        )

    def log_event(self, topic, message):
        assert topic == "upload-core-token"
        said = pickle.loads(message)
        if isinstance(said, Told):
            self.told.append(said)
            return
        self.asked.append(said)
        if self.answer is not None:
            answer = Answer(
                "token", self.answer.terms, said.nonce, self.answer.supplies, uploads=self.uploads if said.batch else {}
            )
            timer = threading.Timer(self.delay_s, lambda: self.post.hear(answer))
            timer.daemon = True
            timer.start()

    def run(self, *orders: Any, generation=1, goes_on=False):
        return self.post.run(Batch("token", "delivery", 1, generation, orders, goes_on))


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(post, "ASK_AGAIN_S", 0.1)
    made = Here(MemoryArchive())
    made.post = post.Post(made, "token", "delivery", made.forgotten.append)
    yield made
    made.post.end(0.0)


def test_orders_are_carried_out_once_the_client_has_named_its_terms(here):
    here.terms()
    done = here.run(*map(order, range(20)))
    assert all(isinstance(outcome, FileStored) for outcome in done.outcomes)
    assert here.archive.contents() == dict(sorted(FILES.items()))
    assert done.load.files == 20
    assert len(here.asked) == 1


def test_a_client_that_does_not_answer_is_the_worlds_fault_and_nothing_is_stored(here, monkeypatch):
    monkeypatch.setattr(post, "LEASE_S", 0.5)
    done = here.run(order(1))
    assert [outcome.fault for outcome in done.outcomes] == [Fault.WORLD]
    assert len(here.asked) > 1, "a question may get lost"
    assert here.archive.contents() == {}


def test_an_answer_counts_from_the_question_however_long_it_was_on_its_way(here):
    """A deadline that began with the answer's coming would let a file become visible after the lock is lost."""
    here.terms(hold_s=0.3)
    here.delay_s = 0.6
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(here.run(order(1))))
    thread.start()
    thread.join(1.5)
    assert here.archive.contents() == {}
    assert not done, "it asks again and again"
    here.terms(generation=2)
    here.delay_s = 0.0
    thread.join(5)
    assert len(done) == 1
    assert list(here.archive.contents()) == ["f1"]


def test_a_client_that_fell_silent_lets_nothing_more_become_visible_until_it_speaks(here, monkeypatch):
    monkeypatch.setattr(post, "LEASE_S", 0.4)
    monkeypatch.setattr(post, "ASK_S", 0.1)
    entered, go = threading.Event(), threading.Event()

    class Slow(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            entered.set()
            assert go.wait(10)
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

    here.archive = Slow()
    here.terms()
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(here.run(order(1))))
    thread.start()
    assert entered.wait(5)
    here.answer = None  # the client's process was killed
    time.sleep(0.8)
    go.set()
    thread.join(5)
    assert [outcome.fault for outcome in done[0].outcomes] == [Fault.STOPPED]
    assert here.archive.contents() == {}
    here.terms()
    here.run(order(1))
    assert list(here.archive.contents()) == ["f1"]


def test_terms_of_an_earlier_generation_are_not_believed(here):
    here.terms(generation=3, share=4)
    here.run(order(1))
    here.post.hear(Answer("token", Terms(2, 0, None, None)))
    assert isinstance(here.run(order(2)).outcomes[0], FileStored)


def test_a_batch_waits_for_the_generation_in_which_it_was_submitted(here):
    here.terms(generation=1)
    here.run(order(1))
    here.terms(generation=2, hold_s=-1.0)
    done = here.run(order(2), generation=2)
    assert [outcome.fault for outcome in done.outcomes] == [Fault.STOPPED]
    assert list(here.archive.contents()) == ["f1"]


def test_a_batch_that_runs_again_goes_on_with_the_upload_as_it_stands(here):
    stands = OpenUpload("id", 10, "print", {1: "AAAAAA==", 2: "AAAAAA=="})
    seen = []

    class Looking(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            seen.append(attempt.upload)
            attempt.part_stored(StoredPart(3, "AAAAAA=="))
            return super().put(relpath, body, checksum=checksum, attempt=attempt)

    here.archive = Looking()
    here.terms()
    here.uploads = {1: stands}
    done = here.run(order(1), goes_on=True)
    assert isinstance(done.outcomes[0], FileStored)
    assert seen == [stands]
    assert [told.news for told in here.told] == [[PartStored(1, StoredPart(3, "AAAAAA=="))]]
    assert here.told[0].run == here.asked[0].run


def test_a_worker_that_does_not_see_the_source_carries_nothing_out(here):
    here.terms()
    here.answer = Answer("token", here.answer.terms, supplies=Supplies(MemorySource({}), here.archive, (("f1", 50),)))
    done = here.run(order(1))
    (outcome,) = done.outcomes
    assert (outcome.fault, here.address in outcome.message) == (Fault.WORLD, True)


def test_a_worker_that_missed_the_source_for_a_moment_looks_again(here, monkeypatch):
    class Mount(MemorySource):
        there = False

        def size(self, relpath):
            if not Mount.there:
                raise SourceMissingError("not mounted")
            return super().size(relpath)

    monkeypatch.setattr(post, "LOOK_AGAIN_S", 0.3)
    here.terms()
    supplies = Supplies(Mount(FILES), here.archive, (("f1", len(FILES["f1"])),))
    here.answer = Answer("token", here.answer.terms, supplies=supplies)
    began_s = time.monotonic()
    assert [outcome.fault for outcome in here.run(order(1)).outcomes] == [Fault.WORLD]
    assert time.monotonic() - began_s > 0.25, "who fails at once takes most of what there is to do"
    Mount.there = True
    assert isinstance(here.run(order(1)).outcomes[0], FileStored)


def test_a_cluster_that_cannot_be_gone_on_with_is_left_and_the_reason_told(monkeypatch):
    client: Any = DaskDispatcher(SystemClock(), "tcp://nowhere:1")
    left: list[object] = []

    class Gone(Deaf):
        alive, broken = False, "away"

        def close(self):
            left.append(self)

    class Fresh(Gone):
        def begin(self):
            raise ConfigurationError("1 of 2 Dask workers cannot take part")

        def demand_release(self):
            self.begin()

    gone, fresh = Gone(), Fresh()
    client._cluster, client._open = gone, True
    monkeypatch.setattr(client, "_connected", lambda _: fresh)
    client.submit([order(1)])
    (outcome,) = client.collect(0)
    assert outcome.fault is Fault.WORLD
    assert "cannot take part" in outcome.message
    assert left == [gone, fresh]


def test_what_is_ended_is_answered_and_begins_nothing_more(here):
    here.terms(share=0)
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(here.run(order(1))))
    thread.start()
    while not here.asked:
        time.sleep(0.01)
    here.post.end(0.0)
    thread.join(10)
    assert [outcome.fault for outcome in done[0].outcomes] == [Fault.STOPPED]
    assert [outcome.fault for outcome in here.run(order(2)).outcomes] == [Fault.STOPPED]
    assert here.archive.contents() == {}


def test_a_new_life_of_a_delivery_ends_those_before_it_on_every_worker_and_refuses_their_late_tasks(here):
    made = worker._post(here, "token", "delivery")
    other = worker._post(here, "another", "another delivery")
    worker.begin("newer", "delivery", dask_worker=here)
    assert worker.release() == "0.1.0"
    assert made._grace_s == 0.0
    assert other._grace_s is None
    late = worker._post(here, "late", "delivery")
    (outcome,) = late.run(Batch("late", "delivery", 1, 1, (order(1),), False)).outcomes
    assert isinstance(outcome, FileNotStored)
    assert outcome.fault is Fault.STOPPED
    assert here.asked == []
    worker.end("another", 0.0, dask_worker=here)
    assert other._grace_s == 0.0


class Deaf:
    """A cluster to which nothing gets, with the name of a life."""

    token, broken, alive, n_workers, n_threads = "now", "", True, 1, 1

    def answer(self, *_):
        pass

    def begin(self):
        pass

    def __init__(self):
        self.batches = []

    def submit(self, batch):
        self.batches.append(batch)


@pytest.fixture
def client():
    made = DaskDispatcher(SystemClock(), "tcp://nowhere:1")
    made._cluster = Deaf()  # type: ignore[assignment]  # all that is used is there
    made._open = True
    made._level = 1
    made._source, made._archive = MemorySource(FILES), MemoryArchive()
    return made


def test_news_of_an_earlier_life_or_of_a_run_that_was_given_up_are_dropped(client):
    client.submit([order(1)])
    (batch,) = client._cluster.batches
    upload = OpenUpload("id", 10, "print")

    def say(token, run):
        client._heard(Told(token, batch.number, run, [UploadBegun(1, upload)], Load()))

    client._answer(client._cluster, Question("now", "w", 1, False, 0, {}, batch.number, "second run"))
    say("before", "second run")
    say("now", "first run")
    assert client.collect(0) == []
    say("now", "second run")
    assert client.collect(0) == [UploadBegun(1, upload)]


def test_a_batch_that_ends_twice_is_told_once_and_one_that_was_lost_is_the_worlds_fault(client):
    client.submit([order(1), order(2)])
    first, second = client._cluster.batches
    done = BatchDone("now", first.number, [FileStored(1, 50, "x")], Load(files=1))
    client._batch_ended(first, done, "")
    client._batch_ended(first, done, "")
    client._batch_ended(second, None, "the worker died")
    told = client.collect(0)
    assert told[0] == FileStored(1, 50, "x")
    assert [(news.file, news.fault, news.message) for news in told[1:]] == [(2, Fault.WORLD, "the worker died")]
    assert client.load().files == 1


def test_batches_are_neither_too_long_nor_too_large_and_large_files_stand_alone():
    from collections import deque

    def transfers(*sizes):
        return deque(TransferFile(number, str(number), size, None) for number, size in enumerate(sizes))

    assert len(take_batch(transfers(*[1] * 500), 500)) == BATCH_FILES
    assert len(take_batch(transfers(*[1] * 500), 7)) == 7
    assert len(take_batch(transfers(*[LARGE] * 20), 20)) == BATCH_BYTES // LARGE
    assert len(take_batch(transfers(1, LARGE + 1, 1), 9)) == 1
    assert len(take_batch(transfers(LARGE + 1, 1), 9)) == 1
    assert take_batch(transfers(), 9) == ()


@pytest.mark.parametrize("name", ["dask://nowhere", "slurm", "dask://", "dask://:1", "http://host:1", "dask://host:x"])
def test_a_name_of_no_cluster_is_refused(name):
    with pytest.raises(ConfigurationError, match="names no cluster"):
        address_of(name)


def test_a_scheduler_that_is_not_there_is_told_when_a_session_opens(monkeypatch):
    monkeypatch.setattr(dispatcher, "CONNECT_S", 1.0)
    lost = DaskDispatcher(SystemClock(), "tcp://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"tcp://127.0.0.1:1 does not answer"):
        lost.open(MemorySource(FILES), MemoryArchive(), 1)
    assert lost.close(0) == []


def test_nothing_of_dask_is_imported_unless_it_is_asked_for():
    code = "import sys, upload_adapters.wiring, upload_adapters.cli.deliver; print('distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
