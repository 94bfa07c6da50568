"""Keys on their way to a worker, readable by nobody else: a scheduler that logs whole messages logs nothing of use.

Each worker makes a key pair of its own for each client and tells the public half with its question; what is sealed
with it (JWE, ECDH-ES on X25519 with A256GCM) the scheduler, which passes it on, cannot open.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any, Final

from joserfc import jwe
from joserfc.jwk import OKPKey

from .messages import Question, SealedKeys

_HEADER: Final = {"alg": "ECDH-ES", "enc": "A256GCM"}


class Seal:
    """A worker's half: whoever has `public` can seal, and only this object opens."""

    def __init__(self) -> None:
        self._key = OKPKey.generate_key("X25519")
        self.public: dict[str, Any] = dict(self._key.as_dict(private=False))

    def opened(self, sealed: str) -> Any:
        """What was sealed."""
        return pickle.loads(jwe.decrypt_compact(sealed, self._key, algorithms=[*_HEADER.values()]).plaintext or b"")  # noqa: S301 - from the client, whose code runs here anyway


def sealed(things: object, public: dict[str, Any]) -> str:
    """The things, to be opened by the `Seal` of that public half alone.

    >>> seal = Seal()
    >>> seal.opened(sealed(("AKIA", "secret"), seal.public))
    ('AKIA', 'secret')
    """
    key = OKPKey.import_key(public)
    return jwe.encrypt_compact(dict(_HEADER), pickle.dumps(things), key, algorithms=[*_HEADER.values()])


class SharedKeys:
    """The keys that workers use, as they are by now, and who has asked for them. Safe to use by several threads."""

    def __init__(self, ask: Callable[[], tuple[Any, Any]]) -> None:
        """`ask` renews them where it has to; it is asked now, and raises what it raises."""
        self._ask = ask
        self._mutex = threading.Lock()
        self._now = ask()
        self._version = 1
        self._public: dict[str, dict[str, Any]] = {}

    def renewed(self) -> bool:
        """Ask for them again; whether they are others than before."""
        now = self._ask()
        with self._mutex:
            if now == self._now:
                return False
            self._now, self._version = now, self._version + 1
            return True

    def for_one(self, question: Question) -> SealedKeys | None:
        """What the worker that asks lacks, if it lacks any."""
        with self._mutex:
            self._public[question.worker] = question.public
            if question.keys_version >= self._version:
                return None
            return SealedKeys(self._version, sealed(self._now, question.public))

    def for_all(self) -> list[tuple[str, SealedKeys]]:
        """The keys for every worker that ever asked."""
        with self._mutex:
            return [
                (where, SealedKeys(self._version, sealed(self._now, public))) for where, public in self._public.items()
            ]
