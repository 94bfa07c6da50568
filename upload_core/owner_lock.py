"""One agent per delivery: the lock object, whose body is its owner's agent id and nothing else.

Every write is conditional on the object as it was last seen, so of all who race exactly one wins. A write whose answer
was lost counts as ours as soon as our agent id is read back. Age is judged by the clock of whoever stores the object.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import attrs

from upload_core.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LockHeldError,
    LockLostError,
    NotReadyError,
    PreconditionFailedError,
)
from upload_core.ports import ControlBucket, ObjectInfo
from upload_core.text import printable, quoted

AGENT_ID_BYTES_MAX: Final = 2_048
"""The archive's pipeline reads no more of a lock object."""

ATTEMPTS_MAX: Final = 8
"""Races lost in a row before `acquire` or `renew` gives up: each one lost means that somebody else made progress."""

_HOLDER_SHOWN_MAX: Final = 200


def body_of(agent_id: str) -> bytes:
    """What the lock object of that agent holds; raises `ConfigurationError` if the id cannot be told from others in it."""
    body = agent_id.encode("utf-8", "surrogatepass")
    if not body or len(body) > AGENT_ID_BYTES_MAX or not agent_id.isprintable() or agent_id != agent_id.strip():
        raise ConfigurationError(
            f"the agent id {quoted(agent_id, _HOLDER_SHOWN_MAX)} cannot own a lock: it must be printable text "
            f"of 1 to {AGENT_ID_BYTES_MAX} bytes without blanks at its ends"
        )
    return body


@attrs.frozen
class Ownership:
    """The lock is ours as the object `etag`; `taken_over` names the stale holder we replaced, if any.

    From `until` on (epoch seconds by the archive's clock) another agent may take it over.
    """

    etag: str
    taken_over: str
    until: float


class OwnerLock:
    """The lock of one delivery, as one agent sees it; safe to use by one thread at a time."""

    def __init__(self, control: ControlBucket, key: str, agent_id: str, staleness_s: float) -> None:
        """Raises `ConfigurationError` if the agent id cannot be the body of a lock object."""
        self._control = control
        self._key = key
        self._body = body_of(agent_id)
        self._staleness_s = staleness_s
        self._etag: str | None = None
        self._in_doubt = False  # a write of ours may have taken effect although it was not acknowledged
        self._displacing = ""  # whom that write replaces

    @property
    def held(self) -> bool:
        """Whether the lock was ours when we last heard of it."""
        return self._etag is not None

    def acquire(self) -> Ownership:
        """Take the lock: create it, re-enter our own, or take over one that is stale.

        Raises `LockHeldError` if another agent holds it. After `ArchiveUnavailableError` it may be ours or not:
        acquire again, or `release`.
        """
        for _ in range(ATTEMPTS_MAX):
            found = self._control.read(self._key)
            try:
                if found is None:
                    self._displacing = ""
                    return self._write(if_absent=True)
                body, info = found
                if body == self._body:
                    return self._write(if_match=info.etag)
                if info.age_s <= self._staleness_s:
                    self._forget()
                    raise self._held_by(body, info)
                self._displacing = _shown(body)
                return self._write(if_match=info.etag)
            except PreconditionFailedError:
                continue  # somebody else was quicker, or a lost answer of ours was repeated below us: look again
        raise self._contended()

    def renew(self) -> Ownership:
        """Rewrite the lock, so that it does not go stale.

        Raises `LockLostError` if it is not ours any more, whoever owns it now, and `NotReadyError` if it never was.
        """
        if self._etag is None:
            raise NotReadyError("the lock was not acquired; acquire it first")
        for _ in range(ATTEMPTS_MAX):
            try:
                return self._write(if_match=self._etag)
            except PreconditionFailedError as error:
                found = self._control.read(self._key)
                if found is None or found[0] != self._body:
                    self._forget()
                    raise self._lost_to(found) from error
                # Ours, under another etag: an earlier renewal took effect although its answer was lost.
                self._etag = found[1].etag
        raise self._contended()

    def release(self) -> bool:
        """Delete the lock if it is ours, and tell whether it was; somebody else's is left alone.

        After `ArchiveUnavailableError` it may be called again.
        """
        if self._etag is None and not self._in_doubt:
            return False
        for _ in range(ATTEMPTS_MAX):
            if self._etag is None:
                found = self._control.read(self._key)
                if found is None or found[0] != self._body:
                    self._forget()
                    return False
                self._etag = found[1].etag
            try:
                self._control.delete(self._key, if_match=self._etag)
            except PreconditionFailedError:
                self._etag, self._in_doubt = None, True  # another object: ours if an answer was lost
            else:
                self._forget()
                return True
        raise self._contended()

    def _write(self, *, if_match: str | None = None, if_absent: bool = False) -> Ownership:
        # Set before the request: whatever ends it without an answer, an interrupt included, leaves the doubt behind.
        self._in_doubt = True
        info = self._control.put(self._key, self._body, if_match=if_match, if_absent=if_absent)
        ownership = Ownership(info.etag, self._displacing, info.modified + self._staleness_s)
        self._etag, self._in_doubt, self._displacing = info.etag, False, ""
        return ownership

    def _forget(self) -> None:
        self._etag, self._in_doubt, self._displacing = None, False, ""

    def _held_by(self, body: bytes, info: ObjectInfo) -> LockHeldError:
        holder = _shown(body)
        return LockHeldError(
            f"another agent, {holder!r}, holds this delivery's lock ({self._key}); it last renewed it at "
            f"{_utc(info.modified)}. If that client is at work, let it finish or stop it. If it died, run this again at "
            f"{_utc(info.modified + self._staleness_s)}, when its lock is stale, or resume its own journal, which may use "
            "the lock at once.",
            holder=holder,
            since=info.modified,
        )

    def _lost_to(self, found: tuple[bytes, ObjectInfo] | None) -> LockLostError:
        if found is None:
            what = "was deleted by somebody else"
        else:
            what = f"was taken over by {_shown(found[0])!r} at {_utc(found[1].modified)}"
        return LockLostError(
            f"this delivery's lock ({self._key}) {what}; nothing more is written. "
            "Make sure that no other client works on this delivery, then resume."
        )

    def _contended(self) -> ArchiveUnavailableError:
        return ArchiveUnavailableError(
            f"the lock {self._key} changed {ATTEMPTS_MAX} times while it was being written; try again"
        )


def _shown(body: bytes) -> str:
    return printable(body.decode("utf-8", "replace"), _HOLDER_SHOWN_MAX)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
