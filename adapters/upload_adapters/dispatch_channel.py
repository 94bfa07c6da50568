"""Small files through an archive's channel, many at once from one thread; all else by the threads of `ThreadDispatcher`.

A thread for each small file would cost more than the file. What the channel does not bring to a plain success goes the
ordinary way, with all its checks from the beginning.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import attrs

from upload_adapters.crc32 import crc32
from upload_adapters.dispatch import Crew, ThreadDispatcher
from upload_adapters.pacing import Bandwidth
from upload_core.checksum import crc32_base64
from upload_core.effects import FileNews, FileOrder, FileStored, TransferFile
from upload_core.errors import ArchiveUnavailableError, UploadClientError
from upload_core.ports import (
    CHANNEL_BODY_MAX,
    Archive,
    Channel,
    Clock,
    Dispatcher,
    Load,
    Source,
    StoredObject,
    channel_of,
)
from upload_core.worker import failed, read_whole, stopped

BACKLOG: Final = 1_000
"""Small files kept waiting beyond those under way: some hundredths of a second's work while the journal is synced."""
LEVEL_MAX: Final = 512
"""Requests under way; at 30 ms of latency that is some 15,000 small files a second."""
BURST: Final = 16
"""Files read between two looks at the network."""
SLOW_S: Final = 0.005
"""A source that takes longer to give a small file, on average, is read by other threads: the network need not wait."""
TRIED_AGAIN: Final = 64
"""While a source is slow, every so manieth file shows whether it still is."""
READERS: Final = 16
TURN_S: Final = 0.25

Body = tuple[bytes, str]


class _Loop:
    """The channel's thread: reads small files, starts them, and hands on what comes of them."""

    def __init__(self, crew: Crew, channel: Channel, level: int) -> None:
        self.orders: deque[TransferFile] = deque()  # safe to fill from one thread and to empty from another
        self.level = level
        self._crew = crew
        self._channel = channel
        self._under_way: dict[int, TransferFile] = {}
        self._ended = False
        self.usable = True
        """False once the archive does not confirm CRC32s, or the channel itself has failed."""
        self._read_s = 0.0
        self._begun = 0
        self._readers: list[threading.Thread] = []
        self._to_read: SimpleQueue[TransferFile | None] = SimpleQueue()
        self._being_read: dict[int, TransferFile] = {}
        self._held: tuple[TransferFile, bytes, str, float, Bandwidth] | None = None
        """What waits for the bandwidth, until when, and by which limit."""
        self.waited = False
        """Whether orders had to wait for the level since somebody last set this back."""
        self._read: deque[tuple[TransferFile, Body | Exception | None]] = deque()
        self.thread = threading.Thread(target=self._run, name="upload-channel", daemon=True)

    def wake(self) -> None:
        self._channel.wake()

    def end(self) -> list[TransferFile]:
        """Begin nothing more, and end once what is under way has ended; returns the orders that were never begun."""
        self._ended = True
        waiting = self._taken_back()
        self._channel.wake()
        return waiting

    def _taken_back(self) -> list[TransferFile]:
        waiting: list[TransferFile] = []
        with suppress(IndexError):
            while True:
                waiting.append(self.orders.popleft())
        return waiting

    def _run(self) -> None:
        crew, channel = self._crew, self._channel
        try:
            while not crew.cut:
                busy = not self._ended and self._begin()
                if self._ended and not self._under_way and not self._being_read:
                    break
                for tag, result in channel.finished(0.0 if busy else self._patience_s()):
                    self._done(self._under_way.pop(tag), result)
        finally:  # every order is answered, even if the channel itself fails
            self.usable = False
            channel.close()
            for order in self._under_way.values():
                crew.news.put(stopped(order, "stopped while it was running"))
            if not self._ended:
                held = [] if self._held is None else [self._held[0]]
                crew.put([*held, *self._being_read.values(), *self._taken_back()])
            for _ in self._readers:
                self._to_read.put(None)

    def _begin(self) -> bool:
        """Read and start some files; True if there is more to begin at once."""
        while self._read and self._held is None:
            order, body = self._read.popleft()
            del self._being_read[order.file]
            self._start(order, body)
        for _ in range(BURST):
            if self._held is not None and not self._let_go():
                return False
            if not self.orders:
                return False
            if len(self._under_way) + len(self._being_read) >= self.level:
                self.waited = self.level > 0
                return False
            try:
                order = self.orders.popleft()
            except IndexError:  # the session ended them meanwhile
                return False
            self._begun += 1
            if self._read_s > SLOW_S and self._begun % TRIED_AGAIN:
                self._read_elsewhere(order)
            else:
                began = time.perf_counter()
                body = self._body_of(order)
                self._read_s += (time.perf_counter() - began - self._read_s) / BURST
                self._start(order, body)
        return True

    def _let_go(self) -> bool:
        """Send what was held back for the bandwidth, if it may go by now."""
        assert self._held is not None, "whoever asks has looked"
        order, data, checksum, until_s, limit = self._held
        if self._crew.pace.bandwidth is not limit:  # another one, or none
            self._held = None
            self._start(order, (data, checksum))
            return self._held is None
        if time.monotonic() < until_s:
            return False
        self._held = None
        self._send(order, data, checksum)
        return True

    def _patience_s(self) -> float:
        """How long to wait for the network before there is something else to do."""
        return TURN_S if self._held is None else min(TURN_S, max(0.0, self._held[3] - time.monotonic()))

    def _body_of(self, order: TransferFile) -> Body | Exception | None:
        try:
            data = read_whole(order, self._crew.source)
            return None if data is None else (data, crc32_base64(crc32(data)))
        except Exception as error:  # noqa: BLE001 - sorted by one table, like a worker's
            return error

    def _read_elsewhere(self, order: TransferFile) -> None:
        self._being_read[order.file] = order
        self._to_read.put(order)
        if len(self._readers) < min(READERS, len(self._being_read)):
            # Daemons: a source that hangs keeps nobody from ending.
            self._readers.append(threading.Thread(target=self._keep_reading, name="upload-read", daemon=True))
            self._readers[-1].start()

    def _keep_reading(self) -> None:
        while (order := self._to_read.get()) is not None:
            self._read.append((order, self._body_of(order)))
            self._channel.wake()

    def _start(self, order: TransferFile, body: Body | Exception | None) -> None:
        crew = self._crew
        if isinstance(body, Exception):
            crew.news.put(failed(order, body))
            return
        # a stored object that can be copied, or bytes that are not as indexed: the ordinary way looks for itself
        if body is None or (order.checksum is not None and order.checksum != body[1]):
            crew.put([order])
            return
        data, checksum = body
        if (bandwidth := crew.pace.bandwidth) is not None and (wait_s := bandwidth.reserve(len(data))) > 0:
            self._held = (order, data, checksum, time.monotonic() + wait_s, bandwidth)
            return
        self._send(order, data, checksum)

    def _send(self, order: TransferFile, data: bytes, checksum: str) -> None:
        crew = self._crew
        try:
            crew.commit()
            self._under_way[order.file] = order
            self._channel.start(order.file, order.relpath, data, checksum, crew.commit)
        except Exception as error:  # noqa: BLE001 - sorted by one table, like a worker's
            self._under_way.pop(order.file, None)
            crew.news.put(failed(order, error))

    def _done(self, order: TransferFile, result: StoredObject | Exception | None) -> None:
        if isinstance(result, StoredObject):
            self._crew.pace.meter.add(files=1, size_bytes=result.size)
            self._crew.news.put(FileStored(order.file, result.size, result.checksum, result.etag))
            return
        if result is None:
            self.usable = False  # not a store for a channel: the ordinary way asks for the CRC32 by itself
        elif isinstance(result, ArchiveUnavailableError):
            self._crew.pace.meter.add(pushbacks=1)
        self._crew.put([order])


class ChannelDispatcher(ThreadDispatcher):
    """A `ThreadDispatcher` that sends small files through the archive's channel, if it has one."""

    def __init__(self, clock: Clock, *, level_max: int = LEVEL_MAX, channel_backlog: int = BACKLOG) -> None:
        super().__init__(clock, level_max=level_max)
        self._channel_backlog = channel_backlog
        self._loop: _Loop | None = None

    def open(self, source: Source, archive: Archive, n_threads: int) -> None:
        super().open(source, archive, n_threads)
        self._loop = None

    def set_level(self, level: int) -> None:
        super().set_level(level)
        if self._loop is not None:
            self._loop.level = self._level
            self._loop.wake()

    def load(self) -> Load:
        load = super().load()
        if self._loop is None or not self._loop.waited:
            return load
        self._loop.waited = False
        return attrs.evolve(load, saturated=True)

    @property
    def slots(self) -> int:
        if not self._level or self._usable_loop() is None:
            return super().slots
        return max(0, self._level + self._channel_backlog - len(self._due))

    def _hand_over(self, orders: Sequence[FileOrder]) -> None:
        loop = self._usable_loop()
        if loop is None:
            super()._hand_over(orders)
            return
        small = [order for order in orders if _fits(order)]
        if len(small) < len(orders):
            super()._hand_over([order for order in orders if not _fits(order)])
        if small:
            loop.orders.extend(small)  # type: ignore[arg-type]  # what fits is a transfer
            loop.wake()

    def _usable_loop(self) -> _Loop | None:
        """The loop, made when slots are first asked for: by then somebody has signed in."""
        crew = self._crew
        if self._loop is None and crew is not None:
            try:
                channel = channel_of(crew.archive)
            except UploadClientError:
                return None  # the ordinary way meets the same, and says whose fault it is
            if channel is not None:
                self._loop = _Loop(crew, channel, self._level)
                self._loop.thread.start()
        return self._loop if self._loop is not None and self._loop.usable else None

    def close(self, grace_s: float) -> list[FileNews]:
        waiting: list[FileNews] = []
        if self._loop is not None:
            for order in self._loop.end():
                del self._due[order.file]
                waiting.append(stopped(order))
            assert self._crew is not None, "a loop is part of what is open"
            self._crew.threads.append(self._loop.thread)  # waited for like the others
            self._loop = None
        return waiting + super().close(grace_s)


def _fits(order: FileOrder) -> bool:
    return isinstance(order, TransferFile) and order.size <= CHANNEL_BODY_MAX and order.upload is None


if TYPE_CHECKING:
    _dispatcher: type[Dispatcher] = ChannelDispatcher
