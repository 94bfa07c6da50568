"""Text from outside can be shown without doing anything."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.text import SHOWN_MAX, printable, spreadsheet_cell

ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from("\x1b\x07\x9b\u202e\u2066\ud800\r\n\t=\\'"))


@given(ANY_TEXT)
def test_nothing_unprintable_is_left(text):
    assert printable(text).isprintable()


@given(ANY_TEXT, st.integers(40, 120))
def test_the_length_is_bounded_and_a_cut_says_so(text, limit):
    shown = printable(text * 3, limit)
    assert len(shown) <= limit
    if not shown.endswith("more chars]"):
        assert len(shown) >= len(text * 3)


@given(ANY_TEXT, st.integers(40, 120))
def test_doing_it_twice_changes_nothing_more(text, limit):
    once = printable(text, limit)
    assert printable(once, limit) == once


@given(ANY_TEXT)
def test_the_result_can_be_encoded(text):
    printable(text).encode()


@given(st.text(st.characters(categories=("L", "N", "P", "S", "M")), max_size=SHOWN_MAX))
def test_ordinary_text_of_any_language_is_left_alone(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.fits", "plain name.fits"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td", r"a\x0db\x0ac\x09d"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\u2028", r"\u2028"),
        ("not utf-8: \udcff", r"not utf-8: \udcff"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("Größe 大きさ", "Größe 大きさ"),
        ("", ""),
    ],
)
def test_what_acts_on_a_terminal_stands_as_an_escape(text, shown):
    assert printable(text) == shown


def test_a_huge_text_costs_only_what_is_shown_of_it():
    assert printable("\x00" * 50_000_000).endswith("more chars]")


@pytest.mark.parametrize("limit", range(30))
def test_even_a_tiny_limit_holds(limit):
    assert len(printable("x" * 1000, limit)) <= limit


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_would_be_a_formula_begins_with_an_apostrophe(start):
    assert spreadsheet_cell(f"{start}cmd|'/c calc'!A0").startswith("'")


@given(ANY_TEXT)
def test_no_cell_begins_a_formula_or_holds_a_control_character(text):
    cell = spreadsheet_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in cell)
