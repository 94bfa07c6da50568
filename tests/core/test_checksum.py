"""CRC32 texts are exactly those that the archive's validator compares with."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.checksum import crc32_base64, crc_of, parse_checksum


@given(st.integers(0, 2**32 - 1))
def test_every_crc32_survives_being_written_and_read(value):
    assert parse_checksum(crc32_base64(value)) == value


@given(st.lists(st.binary()))
def test_the_crc_of_chunks_is_that_of_the_whole(chunks):
    assert crc_of(chunks) == zlib.crc32(b"".join(chunks))


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
