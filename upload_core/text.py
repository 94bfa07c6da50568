"""Text from outside (file names, validator messages, errors of other libraries) made safe to show.

Everything that goes to a terminal, a CSV cell, HTML or a log line goes through `printable` first: nothing in the
result can move a cursor, hide or reorder other text, or start a new line.
"""

from __future__ import annotations

from typing import Final

SHOWN_MAX: Final = 2_000
"""Characters of one piece of text that are shown; the journal keeps what it was given."""

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, limit: int = SHOWN_MAX) -> str:
    r"""The text in at most `limit` printable characters, in one line.

    What Unicode calls a control, format (bidi marks among them), separator (except the space), surrogate or
    unassigned character stands as an escape; a cut shows how much is missing. Doing it twice changes nothing more.

    >>> printable("a\x1b[31mred\nnext \u202egnp.exe")
    'a\\x1b[31mred\\x0anext \\u202egnp.exe'
    >>> printable("0123456789" * 10, limit=24)
    '012345… [94 more chars]'
    """
    if len(text) <= limit and text.isprintable():
        return text
    # No character gets shorter, so characters beyond the limit can only be cut off: they need no escapes.
    pieces = [char if char.isprintable() else _escape(char) for char in text[: limit + 1]]
    if len(text) <= limit and sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    shown = length = 0
    # The note is given the room that its longest form takes, so that it always fits.
    room = limit - len(_cut_note(len(text)))
    while shown < len(pieces) and length + len(pieces[shown]) <= room:
        length += len(pieces[shown])
        shown += 1
    return ("".join(pieces[:shown]) + _cut_note(len(text) - shown))[: max(limit, 0)]


def quoted(text: str, limit: int = SHOWN_MAX) -> str:
    r"""The same between quotes; `repr` would escape the escapes.

    >>> print(quoted("new\nline"))
    'new\x0aline'
    """
    return f"'{printable(text, limit)}'"


def spreadsheet_cell(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it: what would begin a formula gets an apostrophe first.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("2026")
    ("'=1+1", '2026')
    """
    # Judged before control characters are escaped: afterwards no tab would be left to see.
    safe = printable(text)
    return f"'{safe}" if text.startswith(_FORMULA_STARTS) else safe


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _cut_note(missing: int) -> str:
    return f"… [{missing} more chars]"
