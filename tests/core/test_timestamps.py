"""Times as text: exact to the millisecond both ways, and strict about what is a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.timestamps import iso, parse_iso

FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999


@given(st.integers(FIRST_MS, LAST_MS))
def test_every_millisecond_comes_back_exactly(ms):
    assert parse_iso(iso(ms)) == ms


@given(st.integers(FIRST_MS, LAST_MS), st.integers(FIRST_MS, LAST_MS))
def test_text_sorts_like_the_time_it_says(one, other):
    assert (iso(one) < iso(other)) == (one < other)


@pytest.mark.parametrize("ms", [FIRST_MS - 1, LAST_MS + 1, 10**30])
def test_a_time_outside_the_calendar_is_refused(ms):
    with pytest.raises(ValueError, match="outside the years"):
        iso(ms)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", 500),
        ("1970-01-01T00:00:00.123456789+00:00", 123),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_coarser_and_finer_times_of_other_writers_are_understood(text, ms):
    assert parse_iso(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-22T07:24:36.959",
        "2026-11-22T07:24:36.959+01:00",
        "2026-11-22 07:24:36.959Z",
        "2026-W47-7T07:24:36.959Z",
        "2026-02-30T07:24:36.959Z",
        "2026-11-22T24:24:36.959Z",
        "2026-11-22T07:24:36.Z",
        "2026-11-22T07:24:36.95٩Z",
        "٢٠٢٦-11-22T07:24:36.959Z",
        "2026-11-22T07:24:36.959Z\n",
    ],
)
def test_anything_else_is_no_time(text):
    with pytest.raises(ValueError, match="not a UTC time"):
        parse_iso(text)
