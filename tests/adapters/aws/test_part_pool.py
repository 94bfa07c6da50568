"""The pool in which parts are sent: bounded, fair to its callers, and nothing of a call outlives it."""

import threading

import pytest

from upload_adapters.aws import part_pool
from upload_adapters.aws.part_pool import PartPool


def names():
    return [thread for thread in threading.enumerate() if thread.name == "s3-part"]


class Gauge:
    """How many jobs run and how much they hold, and the most of both."""

    def __init__(self):
        self.mutex = threading.Lock()
        self.now = self.held = self.most = self.most_held = self.done = 0

    def job(self, held, during=lambda: None):
        def act():
            with self.mutex:
                self.now += 1
                self.held += held
                self.most, self.most_held = max(self.most, self.now), max(self.most_held, self.held)
            during()
            with self.mutex:
                self.now -= 1
                self.held -= held
                self.done += 1

        return held, act


def test_as_many_jobs_run_at_once_as_may_and_all_are_done():
    gauge, together = Gauge(), threading.Barrier(4, timeout=30)
    PartPool(at_once=4).run(gauge.job(0, together.wait) for _ in range(16))
    assert (gauge.done, gauge.most) == (16, 4)


def test_jobs_hold_no_more_than_may_be_held():
    gauge, together = Gauge(), threading.Barrier(2, timeout=30)
    PartPool(at_once=8, held_max=100).run(gauge.job(50, together.wait) for _ in range(10))
    assert (gauge.done, gauge.most, gauge.most_held) == (10, 2, 100)


def test_a_job_that_holds_more_than_may_be_held_runs_alone():
    gauge = Gauge()
    PartPool(held_max=100).run(gauge.job(held) for held in (1000, 100, 1000, 100, 1, 1000))
    assert (gauge.done, gauge.most) == (6, 1)


def test_the_bound_holds_for_all_callers_together():
    gauge, pool, together = Gauge(), PartPool(at_once=3), threading.Barrier(3, timeout=30)
    callers = [
        threading.Thread(target=pool.run, args=([gauge.job(1, together.wait) for _ in range(6)],)) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert (gauge.done, gauge.most) == (24, 3)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_a_failure_nothing_is_begun_and_nothing_is_under_way(kind):
    pool, failed, gauge = PartPool(at_once=2), threading.Event(), Gauge()

    def fail():
        failed.set()
        raise kind("why")

    def jobs():
        yield gauge.job(0, lambda: failed.wait(30))
        yield 0, fail
        for _ in range(1000):
            yield gauge.job(0)

    with pytest.raises(kind, match="why"):
        pool.run(jobs())
    assert gauge.now == 0
    assert gauge.done < 1000
    pool.run([gauge.job(0)])


def test_the_first_failure_is_the_one_that_is_told():
    second = threading.Event()

    def fail_first():
        raise ValueError("first")

    def fail_later():
        second.wait(0.2)
        raise ValueError("second")

    with pytest.raises(ValueError, match="first"):
        PartPool(at_once=2).run([(0, fail_later), (0, fail_first)])


def test_whoever_fails_to_name_his_jobs_waits_for_those_under_way():
    gauge, begun = Gauge(), threading.Event()

    def jobs():
        yield gauge.job(0, begun.set)
        begun.wait(30)
        raise ValueError("no further job can be named")

    with pytest.raises(ValueError, match="named"):
        PartPool().run(jobs())
    assert (gauge.now, gauge.done) == (0, 1)


def test_a_failure_of_one_caller_is_not_that_of_another():
    pool, gauge, proceed = PartPool(at_once=2), Gauge(), threading.Event()
    other = threading.Thread(target=pool.run, args=([gauge.job(0, lambda: proceed.wait(30)), gauge.job(0)],))
    other.start()

    def fail():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        pool.run([(0, fail)])
    proceed.set()
    other.join(30)
    assert gauge.done == 2


def test_idle_threads_end_and_come_back(monkeypatch):
    monkeypatch.setattr(part_pool, "IDLE_S", 0.05)
    gauge, pool = Gauge(), PartPool()
    for number in range(1, 4):
        pool.run(gauge.job(0) for _ in range(20))
        for thread in names():
            thread.join(30)
        assert (gauge.done, pool._threads) == (20 * number, 0)


def test_nothing_to_do_costs_no_thread():
    before = names()
    PartPool().run([])
    assert set(names()) <= set(before)


def test_without_a_thread_to_be_had_a_job_is_refused_and_the_next_one_done(monkeypatch):
    pool, gauge, start = PartPool(), Gauge(), threading.Thread.start
    with monkeypatch.context() as patching:

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        patching.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.run([gauge.job(5)])
    pool.run([gauge.job(5)])
    assert gauge.done == 1
    assert start is threading.Thread.start


def test_threads_that_are_there_do_what_no_new_one_can_be_had_for(monkeypatch):
    pool, gauge = PartPool(at_once=4), Gauge()
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def first_only(thread):
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", first_only)
    pool.run(gauge.job(0) for _ in range(20))
    assert (gauge.done, gauge.most) == (20, 1)
