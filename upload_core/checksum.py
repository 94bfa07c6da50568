"""CRC32 in the one form that index, archive and journal share: base64 of its four bytes, big-endian."""

from __future__ import annotations

import base64
import binascii
import functools
import zlib
from collections.abc import Iterable
from typing import Final

_POLYNOMIAL: Final = 0xEDB88320
"""CRC32's own, without its highest term. A bit further right stands for a higher power of x, here and in every CRC."""
_ONE: Final = 1 << 31
_X: Final = 1 << 30


def crc32_base64(value: int) -> str:
    """A CRC32 as text.

    >>> crc32_base64(0xC87D8619)
    'yH2GGQ=='
    """
    return binascii.b2a_base64(value.to_bytes(4, "big"), newline=False).decode("ascii")


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


def combine(crc_first: int, crc_second: int, second_bytes: int) -> int:
    """The CRC32 of two pieces in a row, from the CRC32 of each and the length of the second.

    A second piece of a length that was seen lately costs microseconds, whatever the length.

    >>> combine(zlib.crc32(b"1234"), zlib.crc32(b"56789"), 5) == 0xCBF43926
    True
    """
    if second_bytes < 0:
        raise ValueError(f"no piece has {second_bytes} bytes")
    return _product(_x_to_the_bits(second_bytes), crc_first) ^ crc_second


@functools.lru_cache(maxsize=256)
def _x_to_the_bits(length: int) -> int:
    """x to the power of `length` bytes' bits: a CRC times this is that CRC moved so many bytes ahead."""
    power, square = _ONE, _X
    exponent = 8 * length
    while exponent:
        if exponent & 1:
            power = _product(power, square)
        square = _product(square, square)
        exponent >>= 1
    return power


def _product(left: int, right: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC32's."""
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & 0xFFFFFFFF
        right = (right >> 1) ^ _POLYNOMIAL if right & 1 else right >> 1
    return product
