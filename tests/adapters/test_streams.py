"""A delivery as an iterator: all its records in order, its error at the end, and a stop when the loop is left."""

import asyncio
import threading
import time

import pytest

from tests.crash.world import World
from upload_adapters.clock import SystemClock
from upload_adapters.streams import afollow, follow
from upload_core import IdentityError
from upload_core import events as ev


@pytest.fixture
def world():
    return World(bad=[])


def test_it_yields_every_record_once_and_in_order(world):
    client = world.client()
    numbers = [record.seq for record in follow(client)]
    assert numbers == list(range(numbers[0], client.delivery.facts.seq + 1))
    assert client.summary().exit_code == 0


def test_of_some_kinds_it_yields_no_other(world):
    kinds = {type(record.event) for record in follow(world.client(), kinds={ev.FileValidated})}
    assert kinds == {ev.FileValidated}


def test_the_error_that_ended_it_is_raised_at_the_end(world):
    before = len(threading.enumerate())
    with pytest.raises(IdentityError):
        list(follow(failing_client(world)))
    assert len(threading.enumerate()) == before


def failing_client(world):
    def before(port, method, args):
        if port == "identity":
            raise IdentityError("not you")

    world.calls.before = before
    return world.client()


def endless(world):
    """A delivery that ends only when it is stopped: its archive takes nothing."""
    world.ports.clock = SystemClock()
    entered = threading.Event()

    def before(port, method, args):
        if (port, method) == ("archive", "put"):
            entered.set()
            time.sleep(0.05)
            raise ConnectionError("not today")

    world.calls.before = before
    return world.client()


def test_leaving_the_loop_stops_the_delivery(world):
    client = endless(world)
    for record in (records := follow(client)):
        if isinstance(record.event, ev.TransferStarted):
            break
    began = time.monotonic()
    records.close()
    assert time.monotonic() - began < 20
    assert client.done
    assert client.summary().outcome == "interrupted"
    assert not [thread for thread in threading.enumerate() if thread.name == "upload-delivery"]


def test_an_event_loop_is_not_blocked_and_sees_the_same(world):
    client = world.client()

    async def main():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        beating = asyncio.create_task(beat())
        seen = [record.seq async for record in afollow(client)]
        beating.cancel()
        return beats, seen

    beats, seen = asyncio.run(main())
    assert seen == list(range(seen[0], client.delivery.facts.seq + 1))
    assert beats > 1


def test_cancelling_the_task_stops_the_delivery(world):
    client = endless(world)

    async def main():
        async def loop():
            async for record in afollow(client):
                if isinstance(record.event, ev.TransferStarted):
                    started.set()

        started = asyncio.Event()
        task = asyncio.create_task(loop())
        await asyncio.wait_for(started.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert client.done
    assert client.summary().outcome == "interrupted"
