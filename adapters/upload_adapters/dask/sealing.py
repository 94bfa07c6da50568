"""Keys on their way to a worker, readable by nobody else: a scheduler that logs whole messages logs nothing of use.

Each worker makes a key pair of its own for each client and tells the public half with its question; what is sealed
with it (JWE, ECDH-ES on X25519 with A256GCM) the scheduler, which passes it on, cannot open.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

from joserfc import jwe
from joserfc.jwk import OKPKey

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
