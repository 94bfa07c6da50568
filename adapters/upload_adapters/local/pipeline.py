"""Starts a local archive's validator: in a thread of this process, or in one that waits for it (`run_validator`).

Rule: one validator per delivery, whoever starts it; the operating system's lock decides, so a dead one counts at once.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from upload_core.errors import ConfigurationError, PipelineError, PreconditionFailedError
from upload_core.ports import Pipeline

from .disk import ProcessLock, explained_place
from .places import LOCAL_LIMITS, LocalPlaces
from .validator import CLIENT_SILENCE_S, KEEPALIVE_INTERVAL_S, Check, DirectoryValidator, validator_lock

JOIN_S: Final = 10.0
"""How long `close` waits for a host's check that does not return; the thread ends with the process then."""

TAKEN_UP_S: Final = 10.0
"""How long a waiting process may take to notice a request; it looks every few hundredths of a second."""

WAIT_PAUSE_S: Final = 0.05


def _request_key(places: LocalPlaces) -> str:
    """The object by which a waiting process is asked to serve a session."""
    return f"request/validator_{places.transfer_type}"


def _waiting_lock(places: LocalPlaces) -> ProcessLock:
    """The lock of the process that waits to validate this delivery."""
    return ProcessLock(places.control().private_file(f"waiting_{places.transfer_type}.lock"))


class DirectoryPipeline:
    """Starts validation as the archive's own does: only for the owner of the lock, and once per idempotency key."""

    def __init__(
        self,
        places: LocalPlaces,
        *,
        check: Check | None = None,
        lock_staleness_s: float = LOCAL_LIMITS.lock_staleness_s,
        keepalive_interval_s: float = KEEPALIVE_INTERVAL_S,
        poll_interval_s: float = LOCAL_LIMITS.poll_interval_s,
        client_silence_s: float = CLIENT_SILENCE_S,
    ) -> None:
        self._places = places
        self._control = places.control()
        self._lock_staleness_s = lock_staleness_s
        self._running = validator_lock(places)
        self._waiting = _waiting_lock(places)
        self._mutex = threading.Lock()
        self._answered: set[str] = set()
        self._validator: DirectoryValidator | None = None
        self._thread: threading.Thread | None = None
        self._new_validator: Callable[[], DirectoryValidator] = lambda: DirectoryValidator(
            places,
            check=check,
            keepalive_interval_s=keepalive_interval_s,
            poll_interval_s=poll_interval_s,
            client_silence_s=client_silence_s,
        )

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        with self._mutex:
            self._demand_lock(agent_id)
            if idempotency_key in self._answered:
                return "this run was started before"
            if self.is_running():
                return "a validation task is already running for this transfer"
            with explained_place("the local validator"):
                waiting = self._waiting.is_held()
            if waiting:
                self._ask(agent_id, idempotency_key)
                message = "a waiting validator took it up"
            else:
                self._start_thread()
                message = "a validator runs in this process"
            self._answered.add(idempotency_key)
            return message

    def is_running(self) -> bool:
        with explained_place("the local validator"):
            return self._running.is_held()

    def close(self) -> None:
        with self._mutex:
            if self._validator is not None and self._thread is not None:
                self._validator.end()
                self._thread.join(JOIN_S)
            self._validator = self._thread = None

    def _demand_lock(self, agent_id: str) -> None:
        found = self._control.read(self._places.keys.client_lock)
        if found is None or found[0] != agent_id.encode() or found[1].age_s > self._lock_staleness_s:
            raise PipelineError(
                "transfer app lockfile invalid or not present: the delivery's lock is not held by "
                f"{agent_id!r}; acquire it first"
            )

    def _start_thread(self) -> None:
        validator = self._new_validator()
        thread = threading.Thread(target=validator.run, name="local validator", daemon=True)
        thread.start()
        validator.started.wait()
        if validator.refusal:
            thread.join()
            raise PipelineError(f"the local validator could not start: {validator.refusal}")
        self._validator, self._thread = validator, thread

    def _ask(self, agent_id: str, idempotency_key: str) -> None:
        key = _request_key(self._places)
        body = json.dumps({"agent_id": agent_id, "idempotency_key": idempotency_key}).encode()
        etag = self._control.put(key, body).etag
        deadline = time.monotonic() + TAKEN_UP_S
        while time.monotonic() < deadline:
            if self._control.head(key) is None:
                return
            time.sleep(WAIT_PAUSE_S)
        try:
            self._control.delete(key, if_match=etag)
        except PreconditionFailedError:
            return  # it was taken up, and somebody else has asked since
        raise PipelineError("the process that waits to validate this delivery did not answer; stop it, then resume")


def run_validator(
    places: LocalPlaces,
    *,
    check: Check | None = None,
    keepalive_interval_s: float = KEEPALIVE_INTERVAL_S,
    poll_interval_s: float = LOCAL_LIMITS.poll_interval_s,
    client_silence_s: float = CLIENT_SILENCE_S,
    ending: threading.Event | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> int:
    """Wait for sessions of this delivery and serve them, until one ends by the client's stop row; returns how many.

    Setting `ending` ends it in order, also in the middle of a session. `notify` gets a line for a person now and then.
    Raises `ConfigurationError` if another process waits for this delivery already, and `ArchiveError`.
    """
    ending = ending or threading.Event()
    control, key = places.control(), _request_key(places)
    waiting = _waiting_lock(places)
    with explained_place("the local validator"):
        if not waiting.acquire(wait_s=1.0):
            raise ConfigurationError("another process waits to validate this delivery already; one is enough")
    sessions = 0
    try:
        control.delete(key)  # whoever asked for it has given up long ago
        notify(f"waiting for a session of {places.dataset}-{places.delivery_id} in {places.directory}")
        while not ending.is_set():
            request = control.read(key)
            if request is None:
                ending.wait(WAIT_PAUSE_S)
                continue
            validator = DirectoryValidator(
                places,
                check=check,
                keepalive_interval_s=keepalive_interval_s,
                poll_interval_s=poll_interval_s,
                client_silence_s=client_silence_s,
            )
            thread = threading.Thread(target=validator.run, name="local validator", daemon=True)
            thread.start()
            try:
                validator.started.wait()
                # Only now: whoever asked finds the validator running as soon as the request is gone.
                control.delete(key)
                sessions += 1
                notify(f"session {sessions}: {validator.refusal or 'validating'}")
                while thread.is_alive() and not ending.is_set():
                    thread.join(WAIT_PAUSE_S)
            finally:
                validator.end()
                thread.join(JOIN_S)
            if validator.served_to_stop:
                break
            notify(f"session {sessions} ended without the client's stop row; waiting for the next one")
    finally:
        waiting.release()
    return sessions


if TYPE_CHECKING:
    _pipeline: type[Pipeline] = DirectoryPipeline
