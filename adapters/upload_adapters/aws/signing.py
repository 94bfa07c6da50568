"""AWS Signature Version 4 for the requests of one bucket (docs.aws.amazon.com, "AWS Signature Version 4 for API requests").

Rules: what requests of one form have in common is prepared once a second, and the signing key once a day, because a
million small files are signed one by one. The payload itself stays unsigned: a checksum, whose header is signed,
protects every body, and hashing the bytes twice would cost more than all the rest of a large request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from time import gmtime, strftime
from typing import Final, Protocol
from urllib.parse import quote

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
"""The payload of a body in chunks whose checksum stands behind it."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9/._~-]*")
_BLOCK_BYTES: Final = 64  # of SHA-256, for HMAC (RFC 2104)
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class Keys(Protocol):
    """One set of AWS keys that belong together, as botocore freezes them."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


def quoted(key: str) -> str:
    """An object's key as the path of a URL, exactly as S3 signs it.

    >>> quoted("a b/c+d.fits")
    'a%20b/c%2Bd.fits'
    """
    return key if _PLAIN.fullmatch(key) else quote(key, safe="/-._~")


class Signer:
    """The state that all requests to one host share; for one thread at a time."""

    def __init__(self, host: str, region: str, keys: Callable[[], Keys], now_ms: Callable[[], int]) -> None:
        """`keys` gives those that are good now, and raises what getting them raises; `now_ms` is the archive's time."""
        self.host = host
        self.time = ""
        self.scope = ""
        self.version = 0
        """Changes whenever time or keys do, which makes every prepared form stale."""
        self.keys: Keys | None = None
        self._region = region
        self._find_keys = keys
        self._now_ms = now_ms
        self._second = -1
        self._day = ""
        self._inner = hashlib.sha256()
        self._outer = hashlib.sha256()

    def refresh(self) -> Keys:
        """Notice the time and the keys of now; raises what getting the keys raises."""
        keys, second = self._find_keys(), self._now_ms() // 1000
        old = self.keys
        changed = old is None or (keys is not old and _values(keys) != _values(old))
        if second != self._second or changed:
            self.version += 1
            self._second, self.keys = second, keys
            self.time = strftime("%Y%m%dT%H%M%SZ", gmtime(second))
            day = self.time[:8]
            self.scope = f"{day}/{self._region}/s3/aws4_request"
            if changed or day != self._day:
                self._day = day
                self._derive(keys.secret_key)
        return keys

    def _derive(self, secret: str) -> None:
        """The day's signing key, ready to be used: its two halves of an HMAC are hashed already."""
        key = f"AWS4{secret}".encode()
        for part in (self._day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        key = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(key.translate(_INNER))
        self._outer = hashlib.sha256(key.translate(_OUTER))

    def signature(self, text: str) -> str:
        """HMAC-SHA256 (hex) of the text under the day's signing key."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.hexdigest()


class Form:
    """Requests that differ in nothing but path, query and the values of some headers."""

    def __init__(self, signer: Signer, method: str, payload: str, varying: Sequence[str] = (), **fixed: str) -> None:
        """`varying` names signed headers in lower case, in the order of their values; `fixed` has `_` for `-`."""
        self._signer = signer
        self._method = method
        self._payload = payload
        self._varying = tuple(varying)
        self._fixed = {name.replace("_", "-"): value for name, value in fixed.items()}
        self._version = -1
        self._request = ""
        self._head = ""
        self._credential = ""
        self._constant: list[str] = []
        self._lines = tuple(f"{name}: " for name in self._varying)
        assert sorted(self._varying) == list(self._varying), "their values are filled into a sorted list in this order"

    def headers(self, path: str, query: str, *values: str) -> list[str]:
        """The header lines of a signed request; path and query are quoted, the query's pairs sorted."""
        signer = self._signer
        signer.refresh()
        if self._version != signer.version:
            self._prepare()
        request = self._request % (path, query, *values)
        digest = hashlib.sha256(request.encode(), usedforsecurity=False).hexdigest()
        found = [name + value for name, value in zip(self._lines, values, strict=True)]
        found += self._constant
        found.append(self._credential + signer.signature(self._head + digest))
        return found

    def _prepare(self) -> None:
        signer = self._signer
        keys = signer.keys
        assert keys is not None, "refresh comes first"
        pairs = {
            "host": signer.host,
            "x-amz-content-sha256": self._payload,
            "x-amz-date": signer.time,
            **self._fixed,
        }
        if keys.token:
            pairs["x-amz-security-token"] = keys.token
        self._constant = [f"{name}: {value}" for name, value in pairs.items() if name != "host"]
        escaped = {name: value.replace("%", "%%") for name, value in pairs.items()} | dict.fromkeys(self._varying, "%s")
        names = ";".join(sorted(escaped))
        lines = "".join(f"{name}:{escaped[name]}\n" for name in sorted(escaped))
        self._request = f"{self._method}\n%s\n%s\n{lines}\n{names}\n{self._payload}"
        self._head = f"{ALGORITHM}\n{signer.time}\n{signer.scope}\n"
        self._credential = (
            f"Authorization: {ALGORITHM} Credential={keys.access_key}/{signer.scope}, SignedHeaders={names}, Signature="
        )
        self._version = signer.version


def _values(keys: Keys) -> tuple[str, str, str | None]:
    return keys.access_key, keys.secret_key, keys.token
