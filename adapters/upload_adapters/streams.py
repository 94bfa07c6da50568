"""A delivery as an iterator of its records, for programs that would rather loop than be called back.

The delivery runs on a thread of its own; whoever stops looping stops it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Collection, Generator
from queue import SimpleQueue
from typing import Final

from upload_core import UploadClient
from upload_core import events as ev
from upload_core.journal import Record

LEFT: Final = "whoever followed the delivery left"


class _Run:
    """A client that runs on a thread, and the records it has told so far; None says that it has ended."""

    def __init__(self, client: UploadClient, kinds: Collection[type[ev.Event]] | None) -> None:
        self.told: SimpleQueue[Record | None] = SimpleQueue()
        self.error: BaseException | None = None
        self._client = client
        self._unsubscribe = client.subscribe(self.told.put, kinds=kinds)
        self._thread = threading.Thread(target=self._run, name="upload-delivery", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._client.run()
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits for it
            self.error = error
        finally:
            self.told.put(None)

    def end(self) -> None:
        """Have it stopped, unless it has ended, and wait for that."""
        if self._thread.is_alive():
            self._client.stop(LEFT)
            self._thread.join()
        self._unsubscribe()


def follow(client: UploadClient, *, kinds: Collection[type[ev.Event]] | None = None) -> Generator[Record, None, None]:
    """Run the delivery and yield its records as they are journaled, of these kinds or all; ends when it ends.

    Raises what `UploadClient.run` raises. Closing the iterator early stops the delivery in order, within 5 s; what it
    had done is in its journal. Records wait in memory for a slow reader: ask for the kinds you need.
    """
    run = _Run(client, kinds)
    try:
        while (record := run.told.get()) is not None:
            yield record
    finally:
        run.end()
    if run.error is not None:
        raise run.error


async def afollow(
    client: UploadClient, *, kinds: Collection[type[ev.Event]] | None = None
) -> AsyncGenerator[Record, None]:
    """`follow` for an event loop, which it never blocks. Cancelling the task that loops stops the delivery in order."""
    run = _Run(client, kinds)
    try:
        while (record := await asyncio.to_thread(run.told.get)) is not None:
            yield record
    finally:
        run.told.put(None)  # a thread that a cancelled task left waiting there
        await asyncio.shield(asyncio.to_thread(run.end))
    if run.error is not None:
        raise run.error
