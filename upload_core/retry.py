"""When a failed file may go again, which faults spend its retries, and how often a single write is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from upload_core import events as ev
from upload_core.effects import Fault
from upload_core.errors import ArchiveUnavailableError
from upload_core.ports import Clock

T = TypeVar("T")

FIRST_DELAY_MS: Final = 500
LONGEST_DELAY_MS: Final = 30_000
"""A fault of the file itself (being rewritten, a share that blinks) passes in seconds or not at all."""

INSIST_ATTEMPTS: Final = 3
INSIST_WAIT_S: Final = 0.5
"""What a session that ends early still wants to give back is asked for again after this time, then after twice as long."""


class FaultRule(NamedTuple):
    """What a fault means: the event it becomes, and the event once `patience` retries were spent on the file."""

    event: type[ev.TransferFailed] | type[ev.TransferAbandoned] | type[ev.TransferInterrupted]
    patience: int | None
    outage: bool


FAULT_RULES: Final[dict[Fault, FaultRule]] = {
    Fault.FILE: FaultRule(ev.TransferFailed, None, outage=False),
    Fault.FILE_FOR_GOOD: FaultRule(ev.TransferAbandoned, None, outage=False),
    Fault.CHECKSUM: FaultRule(ev.TransferFailed, 1, outage=False),
    Fault.WORLD: FaultRule(ev.TransferInterrupted, None, outage=True),
    Fault.IDENTITY: FaultRule(ev.TransferInterrupted, None, outage=False),
    Fault.STOPPED: FaultRule(ev.TransferInterrupted, None, outage=False),
}


def delay_ms(retries: int) -> int:
    """How long a file that has spent `retries` retries rests before the next: doubling, from 0.5 s to 30 s."""
    return min(LONGEST_DELAY_MS, FIRST_DELAY_MS << min(retries, 16))


def insist(act: Callable[[], T], clock: Clock) -> T:
    """What `act`, which may be repeated, returns, tried a few times: for whoever has no time to wait for an archive.

    Raises `ArchiveUnavailableError` if it keeps failing.
    """
    for attempt in range(INSIST_ATTEMPTS - 1):
        try:
            return act()
        except ArchiveUnavailableError:
            clock.sleep(INSIST_WAIT_S * 2**attempt)
    return act()


PROBE_FIRST_MS: Final = 1_000
PROBE_LONGEST_MS: Final = 30_000
"""During an outage the archive is asked after 1 s, then at doubled intervals up to half a minute."""


class OutageProbe:
    """Paces the attempts during the outage that began at `began_ms` and is waited for until `until_ms`."""

    def __init__(self, began_ms: int, until_ms: int) -> None:
        self.began_ms = began_ms
        self.next_ms = began_ms + PROBE_FIRST_MS
        self._until_ms = until_ms
        self._wait_ms = PROBE_FIRST_MS

    def answered(self) -> None:
        """A question was answered, which is not yet a file stored: whether that works may be found out at once."""
        self.next_ms = self.began_ms

    def due(self, now_ms: int) -> bool:
        """Whether the archive may be asked again now; if so, the next time is put off twice as long.

        One attempt is always made when the time is over: an archive that came back by then is not missed.
        """
        if now_ms < self.next_ms:
            return False
        self._wait_ms = min(PROBE_LONGEST_MS, self._wait_ms * 2)
        self.next_ms = now_ms + self._wait_ms
        if now_ms < self._until_ms:
            self.next_ms = min(self.next_ms, self._until_ms)
        return True
