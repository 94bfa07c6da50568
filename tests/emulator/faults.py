"""Faults by order: which request they meet and what becomes of it."""

import threading
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import attrs

from tests.emulator.wire import ServiceError

Kind = Literal[
    "lost",  # the request takes effect, the connection closes without an answer
    "refused",  # no effect; answered by `status` and `code`
    "error_in_200",  # the request takes no effect; the answer is a 200 that holds an error
    "hang",  # no effect; no answer for `seconds`, then the connection closes
    "hang_after",  # the request takes effect; no answer for `seconds`, then the connection closes
    "late",  # no effect for `seconds`, during which nobody need be waiting any more; then all is as usual
    "held",  # the same until the emulator is told to `release`
    "duplicate",  # the request takes effect twice; the answer is that to the first
    "duplicate_last",  # the request takes effect twice; the answer is that to the second
    "reset",  # no effect; the connection is reset after half the body
    "truncated",  # the request takes effect; half the answer's body comes, then the connection closes
    "corrupt",  # one bit of the body changes on its way
]

# What `refused` says unless told otherwise, by the names tests use.
REFUSALS: dict[str, tuple[int, str]] = {
    "SlowDown": (503, "Please reduce your request rate."),
    "ServiceUnavailable": (503, "Reduce your request rate."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "AccessDenied": (403, "Access Denied"),
    "ExpiredToken": (400, "The provided token has expired."),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the server's time is too large."),
    "RequestTimeout": (400, "Your socket connection to the server was not read from or written to in time."),
    "ConditionalRequestConflict": (409, "A conflicting operation occurred during the upload."),
    "NoSuchUpload": (404, "The specified upload does not exist."),
}


@attrs.define
class Fault:
    """Meets the requests that fit all globs, from the `nth` on, `times` times (0: for ever)."""

    kind: Kind = attrs.field(validator=attrs.validators.in_(get_args(Kind)))
    operation: str = "*"
    """AWS's own name: PutObject, GetObject, Invoke, GetParameter ..."""
    key: str = "*"
    bucket: str = "*"
    nth: int = 1
    times: int = 1
    code: str = "InternalError"
    status: int = 0
    """HTTP status of a refusal; 0 takes the one that belongs to the code."""
    seconds: float = 1.0
    seen: int = 0
    """How many fitting requests have come."""
    fired: int = 0
    """How many of them it has met."""

    def error(self) -> ServiceError:
        """What a refused request is told."""
        status, message = REFUSALS.get(self.code, (400, "ordered by a test"))
        return ServiceError(self.status or status, self.code, message)


class FaultPlan:
    """The ordered faults; each request meets at most one, the first that fits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._released = threading.Condition(self._lock)

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._released:
            self._faults.clear()
            self._released.notify_all()

    def listing(self) -> list[dict[str, Any]]:
        with self._lock:
            return [attrs.asdict(fault) for fault in self._faults]

    def take(self, operation: str, bucket: str, key: str) -> Fault | None:
        """The fault that this request meets; every fitting fault counts the request."""
        met: Fault | None = None
        with self._lock:
            for fault in self._faults:
                if not (
                    fnmatchcase(operation, fault.operation)
                    and fnmatchcase(bucket, fault.bucket)
                    and fnmatchcase(key, fault.key)
                ):
                    continue
                fault.seen += 1
                due = fault.seen >= fault.nth and (fault.times == 0 or fault.fired < fault.times)
                if due and met is None:
                    fault.fired += 1
                    met = fault
        return met

    def wait_for_release(self, held: Fault) -> None:
        """Until that fault is ordered no more."""
        with self._released:
            self._released.wait_for(lambda: all(fault is not held for fault in self._faults))

    def release(self) -> None:
        """Let what is held go on, and hold nothing more."""
        with self._released:
            self._faults = [fault for fault in self._faults if fault.kind != "held"]
            self._released.notify_all()
