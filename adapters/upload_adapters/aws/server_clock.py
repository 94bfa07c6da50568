"""The archive's time: the machine's clock, corrected by the `Date` of what the archive answers.

Rule: a clock that may be right is left alone, and one answer that contradicts all before it is not believed until the
next one says the same. The archive's validator judges our age by our own timestamps, so a clock that is minutes off
would end the delivery.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from upload_core.ports import Clock

DATE_RESOLUTION_MS: Final = 1_000
"""A `Date` header names the second in which the answer was made."""


class ServerClock:
    """`base`, shifted as little as makes it agree with every answer seen; any thread may ask and tell."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._mutex = threading.Lock()
        self._offset_ms = 0
        # What the offset can be, by all answers that agree with each other.
        self._least_ms = float("-inf")
        self._most_ms = float("inf")
        self._contradiction: tuple[float, float] | None = None
        self._sent = threading.local()

    @property
    def offset_ms(self) -> int:
        """How far the archive's clock is ahead of the machine's."""
        return self._offset_ms

    def now_ms(self) -> int:
        return self._base.now_ms() + self._offset_ms

    def machine_ms(self) -> int:
        return self._base.machine_ms()

    def monotonic_ms(self) -> int:
        return self._base.monotonic_ms()

    def sleep(self, seconds: float) -> None:
        self._base.sleep(seconds)

    def relearn(self) -> None:
        """Let the next answer alone say how far the clocks are apart; until then what was learnt stays in use."""
        with self._mutex:
            self._least_ms, self._most_ms = float("-inf"), float("inf")
            self._contradiction = None

    def observe(self, date: str, *, sent_ms: int, received_ms: int) -> None:
        """Learn from an answer's `Date`; the times are the base clock's, before the request and after the answer.

        A date that cannot be read teaches nothing.
        """
        try:
            date_ms = int(parsedate_to_datetime(date).timestamp() * 1000)
        except (TypeError, ValueError, OverflowError):
            return
        least, most = date_ms - received_ms, date_ms + DATE_RESOLUTION_MS - sent_ms
        if least > most:
            return  # the base clock was set back in between
        with self._mutex:
            if least > self._most_ms or most < self._least_ms:
                # One of the clocks was set since, or this answer came from a server whose clock is wrong.
                before, self._contradiction = self._contradiction, (least, most)
                if before is None or least > before[1] or most < before[0]:
                    return
                self._least_ms, self._most_ms = max(least, before[0]), min(most, before[1])
            else:
                self._least_ms, self._most_ms = max(least, self._least_ms), min(most, self._most_ms)
            self._contradiction = None
            self._offset_ms = round(min(max(self._offset_ms, self._least_ms), self._most_ms))

    def watch(self, client: Any) -> None:
        """Learn from everything that this boto3 client is answered from now on."""
        client.meta.events.register_last("before-send.*", self._note_sent)
        client.meta.events.register("response-received.*", self._note_received)

    def _note_sent(self, **_: Any) -> None:
        # A request is sent and answered in one thread.
        self._sent.ms = self._base.now_ms()

    def _note_received(self, response_dict: Mapping[str, Any] | None = None, **_: Any) -> None:
        date = (response_dict or {}).get("headers", {}).get("date")
        sent_ms = getattr(self._sent, "ms", None)
        if date and sent_ms is not None:
            self.observe(date, sent_ms=sent_ms, received_ms=self._base.now_ms())


if TYPE_CHECKING:
    _clock: type[Clock] = ServerClock
