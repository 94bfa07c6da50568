"""Whichever library computes a CRC32, it is the same CRC32."""

import importlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_adapters.crc32 import IMPLEMENTATIONS, crc32, fastest

FUNCTIONS = {name: importlib.import_module(name).crc32 for name in IMPLEMENTATIONS}
"""All of them: tests run with every one installed."""


@given(st.binary(), st.integers(0, 2**32 - 1))
def test_all_libraries_agree_on_anything_small(data, value):
    assert {function(data, value) for function in FUNCTIONS.values()} == {zlib.crc32(data, value)}


@pytest.mark.parametrize("size", [15, 16, 63, 64, 65, 255, 256, 1023, 4096, 5121, 65_535, 1 << 20, (1 << 22) + 3])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_all_libraries_agree_on_blocks_of_any_size_and_alignment(name, size):
    data = bytes((number * number) % 251 for number in range(4096)) * (size // 4096 + 2)
    for start in range(9):
        block = memoryview(data)[start : start + size]
        assert FUNCTIONS[name](block, 0x12345678) == zlib.crc32(block, 0x12345678)
        assert FUNCTIONS[name](block) == zlib.crc32(block)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_all_libraries_take_whatever_holds_bytes(name):
    for kind in (bytes, bytearray, memoryview):
        assert FUNCTIONS[name](kind(b"123456789")) == 0xCBF43926


def test_the_fastest_one_that_is_installed_is_used():
    assert crc32 is FUNCTIONS[IMPLEMENTATIONS[0]]


def test_the_next_one_takes_over_where_one_is_not_installed():
    assert fastest(["not_installed", "not_installed.either", "zlib"]) is zlib.crc32
    with pytest.raises(ImportError, match="none of not_installed can be imported"):
        fastest(["not_installed"])


def test_python_alone_is_enough():
    assert IMPLEMENTATIONS[-1] == "zlib"
