"""CRC32 texts are exactly those that the archive's validator compares with."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.checksum import combine, crc32_base64, crc_of, parse_checksum


@given(st.integers(0, 2**32 - 1))
def test_every_crc32_survives_being_written_and_read(value):
    assert parse_checksum(crc32_base64(value)) == value


@given(st.lists(st.binary()))
def test_the_crc_of_chunks_is_that_of_the_whole(chunks):
    assert crc_of(chunks) == zlib.crc32(b"".join(chunks))


@given(st.binary(), st.binary())
def test_two_pieces_combine_to_the_crc_of_the_whole(first, second):
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.lists(st.binary()))
def test_any_number_of_pieces_combine_from_nothing(pieces):
    whole = 0
    for piece in pieces:
        whole = combine(whole, zlib.crc32(piece), len(piece))
    assert whole == zlib.crc32(b"".join(pieces))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**50), st.integers(0, 2**50))
def test_pieces_of_any_length_may_be_combined_in_any_grouping(first, second, second_bytes, third_bytes):
    third = zlib.crc32(b"third")
    from_the_left = combine(combine(first, second, second_bytes), third, third_bytes)
    from_the_right = combine(first, combine(second, third, third_bytes), second_bytes + third_bytes)
    assert from_the_left == from_the_right


def test_a_second_piece_of_many_bytes_counts_in_full():
    second = bytes(range(256)) * (1 << 16) + b"odd"
    assert combine(zlib.crc32(b"first"), zlib.crc32(second), len(second)) == zlib.crc32(second, zlib.crc32(b"first"))


def test_a_piece_of_negative_length_is_refused():
    with pytest.raises(ValueError, match="-1 bytes"):
        combine(0, 0, -1)


@given(st.text())
def test_whatever_is_read_is_written_the_same_way_again(text):
    try:
        value = parse_checksum(text)
    except ValueError:
        return
    assert crc32_base64(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yH2GHg",  # no padding
        "yH2GHg=",
        "yH2GHg== ",
        " yH2GHg==",
        "yH2GHg==\n",
        "yH2G\nHg==",
        "yH2GHh==",  # stray bits: decodes to the same bytes as yH2GHg==
        "c87d861e",  # hex
        "yH2G",  # three bytes
        "yH2GHgAA",  # six
        "-H2GHg==",  # the URL alphabet
        "yH2GHg==yH2GHg==",
        "ÿH2GHg==",
        "nan",
    ],
)
def test_anything_but_the_one_spelling_is_refused(text):
    with pytest.raises(ValueError, match="CRC32 in base64"):
        parse_checksum(text)


def test_the_example_of_the_documentation_is_what_its_bytes_say():
    assert parse_checksum("yH2GHg==").to_bytes(4, "big") == base64.b64decode("yH2GHg==")
