"""CRC32 in the one form that index, archive and journal share: base64 of its four bytes, big-endian."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable


def crc32_base64(value: int) -> str:
    """A CRC32 as text.

    >>> crc32_base64(0xC87D8619)
    'yH2GGQ=='
    """
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def parse_checksum(text: str) -> int:
    """The CRC32 that `text` writes; `crc32_base64` of it gives exactly `text` again.

    Raises `ValueError` for anything else, other spellings of the same bytes included: the archive's validator
    compares checksums as text.

    >>> hex(parse_checksum("yH2GHg=="))
    '0xc87d861e'
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 4 or base64.b64encode(raw).decode("ascii") != text:
        raise ValueError(
            "not a CRC32 in base64 (four bytes, big-endian, eight characters ending in '=='; for example 'yH2GHg==')"
        )
    return int.from_bytes(raw, "big")


def crc_of(chunks: Iterable[bytes]) -> int:
    """The CRC32 of all chunks in a row.

    >>> crc_of([b"1234", b"", b"56789"]) == 0xCBF43926
    True
    """
    value = 0
    for chunk in chunks:
        value = zlib.crc32(chunk, value)
    return value
