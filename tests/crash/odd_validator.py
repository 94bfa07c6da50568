"""A validator that answers each announcement with whatever bytes a test wants in its log."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from upload_adapters.memory import ManualClock, MemoryControlBucket
from upload_core.ports import Pipeline
from upload_core.wire import Keys, encode_rows

KEYS = Keys("demo", "1", "staging")


class OddPipeline:
    """One run at a time; `answer(path)` gives the bytes that its log gets for an announced file."""

    def __init__(
        self,
        control: MemoryControlBucket,
        clock: ManualClock,
        answer: Callable[["OddPipeline", str], Iterable[bytes]],
        *,
        first: Callable[["OddPipeline"], Iterable[bytes]] = lambda _: (),
    ) -> None:
        self.control, self.clock, self.answer, self.first = control, clock, answer, first
        self.alive = False
        self.runs = 0
        self.offset = 0
        control.before_read = self._turn

    def row(self, category: str, ref: str, status: str = "ok", message: str = "") -> bytes:
        """A row as the archive's validator writes it."""
        row = (self.clock.now_ms(), category, ref, status, message, "odd-validator")
        return encode_rows([row], backslash_escapes=True)

    def write(self, *pieces: bytes) -> None:
        """Append to the validator's log."""
        for piece in pieces:
            self.control.append(KEYS.validator_log, piece, offset=self.control.size(KEYS.validator_log))

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        if self.alive:
            return "a validation task is already running for this transfer"
        self.alive = True
        self.runs += 1
        self.offset = self.control.size(KEYS.client_log)
        self.write(self.row("init", "self"), *self.first(self))
        return ""

    def is_running(self) -> bool:
        return self.alive

    def close(self) -> None:
        """It lives elsewhere."""

    def _turn(self, key: str) -> None:
        if key != KEYS.validator_log or not self.alive or self.control.size(KEYS.client_log) <= self.offset:
            return
        read = self.control.read(KEYS.client_log, self.offset)
        assert read is not None
        self.offset += len(read[0])
        for line in read[0].decode().splitlines():
            _, category, ref, status, *_ = line.split("\t")
            if (category, status) == ("transfer", "ok"):
                self.write(*self.answer(self, ref))
            elif category == "stop":
                self.write(self.row("shutdown", "self"), self.row("stop", "self"))
                self.alive = False


if TYPE_CHECKING:
    _pipeline: type[Pipeline] = OddPipeline
