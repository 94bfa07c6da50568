"""Starting the archive's validation by its Lambda function.

Rule: a lost answer is answered by asking again under the same key, once the function's own lock is gone: an invocation
that finds it taken refuses, but takes it away, so that the one after that would start a second run beside the first
(mast-transfer-tools 1.0.3, `lambda_/core.py`). That a run is at work is believed from its lock and log alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from botocore.config import Config

from upload_adapters.aws.bucket import patiently
from upload_adapters.aws.errors import (
    AwsConfigurationError,
    AwsError,
    AwsPipelineError,
    AwsUnavailableError,
    translated,
)
from upload_adapters.aws.lambda_answer import ANSWER_BYTES_MAX, Answer, parse_answer
from upload_core.events import OK
from upload_core.ports import ControlBucket, ObjectInfo, Pipeline
from upload_core.text import printable
from upload_core.validation import Entry, LogParser
from upload_core.wire import Keys

READ_TIMEOUT_S: Final = 300.0
"""The function starts a machine before it answers; that takes minutes."""
START_ATTEMPTS: Final = 3
FUNCTION_LONGEST_S: Final = 180.0
"""An older lock of the function was left by an invocation that was killed."""
TAIL_BYTES: Final = 1 << 17
"""How much of the validator's log is looked at for its last row."""
WIND_DOWN_S: Final = 120.0
"""How long the machine of a validator that has ended may still count as running."""
WIND_DOWN_POLL_S: Final = 2.0
SILENCE_S: Final = 120.0
"""The validator writes every 10 s; one whose log and lock are older than this is dead."""

ALREADY_RUNNING: Final = "already running"
DUPLICATE: Final = "duplicate function execution"
"""Another invocation with our key is at work: the log will say what became of it."""


class LambdaCalls(Protocol):
    """What is used of boto3's Lambda client."""

    def invoke(self, **arguments: Any) -> Any: ...
    def close(self) -> None: ...


class StartRequest(msgspec.Struct, frozen=True):
    """The payload of an invocation, as the function wants it."""

    dataset: str
    delivery_id: str
    transfer_type: str
    agent_id: str
    idempotency_key: str


def client_config(settings: Mapping[str, Any] | None) -> Config:
    """botocore's `Config` of these settings over ours: one attempt, and patience for an answer that takes minutes.

    Raises `ConfigurationError` for a setting that botocore does not know.
    """
    ours: dict[str, Any] = {
        "read_timeout": READ_TIMEOUT_S,
        "connect_timeout": 10,
        "tcp_keepalive": True,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    try:
        return Config(**{**ours, **(settings or {})})
    except Exception as error:  # botocore raises its own errors and TypeError, depending on what is wrong
        raise AwsConfigurationError(
            f"lambda_client_config cannot be used: {printable(str(error))}; it takes the arguments of botocore's Config"
        ) from error


class LambdaPipeline:
    """The pipeline of one delivery."""

    def __init__(
        self,
        connect: Callable[[Config], LambdaCalls],
        function: Callable[[], str],
        control: ControlBucket,
        keys: Keys,
        *,
        silence_s: float = SILENCE_S,
        wind_down_s: float = WIND_DOWN_S,
        longest_s: float = FUNCTION_LONGEST_S,
        release: Callable[[], None] | None = None,
    ) -> None:
        """`connect` makes a client with that configuration; `function` names the function; both are asked late.

        `release` gives back what the delivery's adapters share, when the delivery is over.
        """
        self._connect = connect
        self._function = function
        self._control = control
        self._keys = keys
        self._silence_s = silence_s
        self._wind_down_s = wind_down_s
        self._longest_s = longest_s
        self._unanswered = False
        self._release = release

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        config = _config(client_config)
        request = StartRequest(
            self._keys.dataset, self._keys.delivery_id, self._keys.transfer_type, agent_id, idempotency_key
        )
        log = self._control.head(self._keys.validator_log)
        function = self._function()
        give_up = time.monotonic() + self._wind_down_s
        if self._unanswered:
            self._let_function_end()
        with closing(self._connect(config)) as client:
            while True:
                answer = parse_answer(self._ask(lambda: self._invoke(client, function, request)))
                said = printable(answer.details)
                if answer.succeeded or DUPLICATE in answer.details.lower():
                    return said
                if ALREADY_RUNNING not in answer.details.lower():
                    raise AwsPipelineError(self._refusal(answer, log.size if log else 0))
                # The function looks at machines. One whose validator has ended, or has yet to take its lock, counts
                # as well; attached to the former we would talk to nobody.
                if self.is_running():
                    return said
                if time.monotonic() > give_up:
                    raise AwsPipelineError(
                        "the archive counts a validation task as running although no validator is at work; "
                        "try again in a few minutes, and tell the archive's staff if it stays so"
                    )
                time.sleep(min(WIND_DOWN_POLL_S, self._wind_down_s))

    def _ask(self, invoke: Callable[[], bytes]) -> bytes:
        """The function's answer; asked for again if it is lost, but not while the function is at work."""
        self._unanswered = True
        payload = patiently(invoke, on=_unanswered, attempts=START_ATTEMPTS, told=lambda _: self._let_function_end())
        self._unanswered = False
        return payload

    def _let_function_end(self) -> None:
        """Wait while an invocation holds the function's lock."""
        while (lock := self._control.head(self._keys.lambda_lock)) is not None and lock.age_s <= self._longest_s:
            time.sleep(min(WIND_DOWN_POLL_S, self._longest_s))

    def _invoke(self, client: LambdaCalls, function: str, request: StartRequest) -> bytes:
        with translated("starting the validation pipeline"):
            answer = client.invoke(
                FunctionName=function, InvocationType="RequestResponse", Payload=msgspec.json.encode(request)
            )
            body = answer["Payload"]
            try:
                payload: bytes = body.read(ANSWER_BYTES_MAX + 1)
                # botocore notices only at the next read that an answer was cut short.
                payload += body.read(ANSWER_BYTES_MAX + 1 - len(payload)) if len(payload) <= ANSWER_BYTES_MAX else b""
            finally:
                body.close()
        if answer.get("FunctionError"):
            raise _function_error(answer["FunctionError"], payload)
        return payload

    def _refusal(self, answer: Answer, log_size: int) -> str:
        """Why the pipeline did not start; its own log often knows better than its answer."""
        said = printable(answer.details) or "it gave no reason"
        where = f" at its step {printable(answer.step, 100)!r}" if answer.step else ""
        reasons = [
            printable(row.message)
            for row in self._rows(log_size)
            if row.category in ("init", "shutdown") and row.status != OK and row.message
        ]
        logged = f"; its log says: {reasons[0]}" if reasons else ""
        return f"the validation pipeline did not start{where}: {said}{logged}"

    def is_running(self) -> bool:
        lock = self._control.head(self._keys.validator_lock)
        if lock is None:
            return False
        log = self._control.head(self._keys.validator_log)
        if log is None:
            return lock.age_s <= self._silence_s
        if min(lock.age_s, log.age_s) > self._silence_s:
            return False  # killed: it can neither write nor take its lock away
        rows = self._rows(max(0, log.size - TAIL_BYTES))
        return not rows or rows[-1].category != "stop"

    def abandoned_lock(self) -> ObjectInfo | None:
        """The lock of a validator that is gone: the archive starts no other one before it is stale."""
        return self._control.head(self._keys.validator_lock)

    def _rows(self, start: int) -> list[Entry]:
        """The well-formed rows of the validator's log from about byte `start` on."""
        found = self._control.read(self._keys.validator_log, start)
        if found is None:
            return []
        parser = LogParser(start)
        # The first may be the rest of a row; the parser finds the next beginning.
        return [row for row in [*parser.feed(found[0]), *parser.finish()] if isinstance(row, Entry)]

    def close(self) -> None:
        """Give connections back; the validator itself is ended by our log."""
        if self._release is not None:
            self._release()


_config = client_config  # `start` has an argument of that name


def _unanswered(error: AwsError) -> bool:
    """Whether the function may have been asked without our hearing of it, or could not be asked just now."""
    return isinstance(error, AwsUnavailableError)


def _function_error(kind: str, payload: bytes) -> AwsPipelineError:
    try:
        details = msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        details = {}
    said = printable(f"{details.get('errorType', '')}: {details.get('errorMessage', '')}".strip(": "), 500)
    response = {"Error": {"Code": str(kind), "Message": said}, "ResponseMetadata": {}}
    message = f"the function that starts the validation pipeline failed ({said or kind}); tell the archive's staff"
    return AwsPipelineError(message, response, "Invoke")


if TYPE_CHECKING:
    _pipeline: type[Pipeline] = LambdaPipeline
