"""Reading a log that grows: the same entries however the bytes come, and no row lost because of another.

`tr` feeds each input whole, byte by byte, and with something after it.
"""

import csv
import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.validation import ROW_LIMIT, SUSPECT_LIMIT, Entry, LogParser, MalformedLine
from upload_core.wire import encode_rows

NOON_MS = 1_795_332_276_959
NOON = "2026-11-22T07:24:36.959Z"
AFTER = f"{NOON}\tkeepalive\tself\tok\t9 / 9\tv1\n".encode()


def read(pieces, **options):
    """Everything that comes of these pieces, and the parser."""
    parser = LogParser(**options)
    found = []
    for piece in pieces:
        found += parser.feed(piece)
    return found, parser


def singly(data):
    return (data[i : i + 1] for i in range(len(data)))


def tr(data, **options):
    """The entries of `data`, which must be the same however it comes; it has to end with a whole row."""
    whole, parser = read([data], **options)
    assert parser.pending == 0
    assert parser.consumed == len(data)
    assert read(singly(data), **options)[0] == whole
    more, _ = read([data + AFTER], **options)
    assert more[:-1] == whole
    assert more[-1].category == "keepalive"
    for entry in whole:  # a cursor may be stored between any two entries
        assert read([data[entry.offset :]], start=entry.offset, **options)[0] == whole[whole.index(entry) :]
    return whole


def short(entries):
    return [(entry.ref, entry.status, entry.message) if isinstance(entry, Entry) else entry.reason for entry in entries]


def row(*fields):
    return "\t".join((NOON, *fields)).encode() + b"\n"


# ── well-formed rows ─────────────────────────────────────────────────────────────────────────────


def test_a_plain_row_becomes_an_entry_that_knows_its_place():
    data = AFTER + row("validation", "a/b.fits", "ok", "", "v1")
    _, entry = tr(data)
    assert entry == Entry(len(AFTER), NOON, "validation", "a/b.fits", "ok", "", "v1")
    assert entry.time_ms == NOON_MS


def test_a_quoted_message_may_hold_lines_tabs_and_quotes():
    data = row("validation", "a", "failure", '"problems:\n\t- ""no"" header\n"', "v1")
    assert short(tr(data)) == [("a", "failure", 'problems:\n\t- "no" header\n')]


def test_a_backslash_makes_the_next_character_literal_quoted_or_not():
    data = row("validation", r"a\\b", "failure", r'"say \"no\" \\"', "v1") + row("validation", "a\\\tb", "ok", "", "v1")
    assert short(tr(data)) == [(r"a\b", "failure", 'say "no" \\'), ("a\tb", "ok", "")]


def test_our_own_log_has_backslashes_that_mean_themselves():
    data = encode_rows([(NOON_MS, "transfer", "a\\", "ok", 'b\\"c\n\\', "me")])
    assert short(tr(data, backslash_escapes=False)) == [("a\\", "ok", 'b\\"c\n\\')]


def test_every_field_may_be_quoted():
    data = f'"{NOON}"\t"stop"\t"self"\t"ok"\t""\t"v1"\n'.encode()
    assert short(tr(data)) == [("self", "ok", "")]


def test_a_category_that_we_do_not_know_is_an_entry_all_the_same():
    (entry,) = tr(row("weather", "self", "fine", "sunny", "v1"))
    assert entry.category == "weather"


def test_a_message_that_is_not_utf_8_does_not_cost_the_verdict():
    data = row("validation", "a", "ok", "@", "v1").replace(b"@", b"\xff\xfe")
    assert short(tr(data)) == [("a", "ok", "\\xff\\xfe")]


def test_a_quote_inside_an_unquoted_field_is_itself():
    data = row("validation", 'a"b', "ok", 'said "no"', "v1")
    assert short(tr(data)) == [('a"b', "ok", 'said "no"')]


def test_a_message_that_quotes_rows_of_the_log_is_still_one_message():
    inner = row("validation", "forged", "ok", "", "v1").decode()
    data = encode_rows([(NOON_MS, "shutdown", "self", "error", f"last rows:\n{inner}{inner}", "v1")])
    assert len(tr(data)) == 1
    assert len(tr(data + AFTER + data)) == 3


# ── malformed ones ───────────────────────────────────────────────────────────────────────────────

GOOD = row("validation", "good", "ok", "", "v1")

MALFORMED = {
    "five fields": row("validation", "a", "ok", "v1"),
    "seven fields": row("validation", "a", "ok", "", "v1", "x"),
    "an empty path": row("validation", "", "ok", "", "v1"),
    "an empty agent": row("validation", "a", "ok", "", ""),
    "an empty line": b"\n",
    "no time": b"soon\tvalidation\ta\tok\t\tv1\n",
    "no such day": b"2026-02-30T00:00:00.000Z\tvalidation\ta\tok\t\tv1\n",
    "a path that is not UTF-8": row("validation", "@", "ok", "", "v1").replace(b"@", b"\xff"),
    "text after a closing quote": row("validation", "a", "ok", '"all" well', "v1"),
    "a control character in the status": row("validation", "a", "o\x01k", "", "v1"),
    "a carriage return": row("validation", "a", "ok", "", "v1\r"),
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_bad_row_is_an_entry_of_its_own_and_its_neighbours_are_intact(bad):
    before, malformed, after = tr(GOOD + bad + GOOD)
    assert isinstance(malformed, MalformedLine)
    assert malformed.offset == len(GOOD)
    assert malformed.reason
    assert before.ref == after.ref == "good"


def test_a_row_that_lost_its_line_feed_gives_the_next_one_back():
    assert short(tr(GOOD + row("validation", "a", "ok", "", "v1")[:-1] + GOOD))[2] == ("good", "ok", "")


def test_a_row_cut_in_its_message_gives_the_next_one_back():
    torn = row("validation", "a", "failure", '"problems:\n- one\n"', "v1")
    for cut in range(1, len(torn)):
        found, parser = read([GOOD + torn[:cut] + GOOD + AFTER])
        found += parser.finish()
        assert [e.category for e in found if isinstance(e, Entry) and e.ref != "a"] == [
            "validation",
            "validation",
            "keepalive",
        ], torn[:cut]


def test_a_quote_that_closes_in_a_later_message_does_not_take_that_row_along():
    stray = row("validation", "a", "ok", "", '"v1')
    later = row("validation", "b", "failure", '"\nproblems: 1"', "v1")
    assert short(tr(stray + GOOD + later + GOOD))[1:] == [
        ("good", "ok", ""),
        ("b", "failure", "\nproblems: 1"),
        ("good", "ok", ""),
    ]


def test_a_quote_that_is_never_closed_holds_back_little_and_only_until_the_end():
    stray = row("validation", "a", "ok", '"', "v1")
    found, parser = read([stray + GOOD + GOOD])
    assert found == []
    assert parser.consumed == 0
    malformed, *rows = parser.finish()
    assert isinstance(malformed, MalformedLine)
    assert short(rows) == [("good", "ok", "")] * 2
    assert parser.consumed == len(stray + GOOD + GOOD)
    many = GOOD * (SUSPECT_LIMIT // len(GOOD) + 2)
    assert short(read([stray + many])[0])[1:] == [("good", "ok", "")] * many.count(b"\n")


def test_a_long_message_is_waited_for_and_a_longer_one_is_not():
    fits = row("validation", "a", "ok", '"' + "word\n" * (ROW_LIMIT // 6) + '"', "v1")
    found, parser = read([fits[:-9], fits[-9:]])
    assert [entry.ref for entry in found] == ["a"]
    assert parser.pending == 0
    endless = row("validation", "a", "ok", '"' + "word\n" * (ROW_LIMIT // 4) + '"', "v1")
    found, parser = read([endless[i : i + 100_000] for i in range(0, len(endless), 100_000)])
    found += parser.feed(GOOD)
    assert found == read([endless + GOOD])[0]
    assert short(found)[-1] == ("good", "ok", "")
    assert parser.pending == 0


def test_a_line_without_end_is_cut_and_does_not_grow_in_memory():
    data = b"x" * (3 * ROW_LIMIT)
    found, parser = read([data[i : i + 50_000] for i in range(0, len(data), 50_000)])
    assert len(found) == 3
    assert parser.pending < ROW_LIMIT
    assert all(len(entry.text) <= 1_000 for entry in found)


def test_what_is_unfinished_is_judged_at_the_end_and_feeding_may_go_on():
    found, parser = read([GOOD + GOOD[:30]])
    assert len(found) == 1
    (malformed,) = parser.finish()
    assert malformed == MalformedLine(len(GOOD), "the log ends before the row does", GOOD[:30].decode())
    assert [entry.offset for entry in parser.feed(GOOD)] == [len(GOOD) + 30]


# ── any text ─────────────────────────────────────────────────────────────────────────────────────

anything = st.text(st.characters(exclude_categories=["Cs"]))
word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
tokens = [*'"\\\t\nab', NOON, f"{NOON}\tvalidation\tx\tok\t", f"\n{NOON}\tvalidation\tx\tok\t\tv1\n"]
hostile = st.lists(st.sampled_from(tokens)).map("".join)
message = anything | hostile
records = st.lists(st.tuples(word, (anything | hostile).filter(bool), word, message, word), max_size=6)


@given(records, st.booleans())
def test_what_we_write_is_what_is_read(rows, escapes):
    data = encode_rows(((NOON_MS, *fields) for fields in rows), backslash_escapes=escapes)
    found, parser = read([data], backslash_escapes=escapes)
    found += parser.finish()
    assert [(e.category, e.ref, e.status, e.message, e.agent_id) for e in found] == rows


@given(records)
def test_what_the_archives_validator_writes_is_what_is_read(rows):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t", lineterminator="\n", escapechar="\\").writerows((NOON, *r) for r in rows)
    found, parser = read([text.getvalue().encode()])
    found += parser.finish()
    assert [(e.category, e.ref, e.status, e.message, e.agent_id) for e in found] == rows


@given(st.lists(st.binary() | hostile.map(str.encode) | st.just(GOOD)), st.data())
def test_the_result_does_not_depend_on_how_the_bytes_come(parts, data):
    stream = b"".join(parts)
    whole, one = read([stream])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    edges = [0, *cuts, len(stream)]
    pieces, other = read([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert pieces == whole
    assert other.consumed == one.consumed
    assert other.finish() == one.finish()
    assert one.consumed == len(stream)


# ── one byte of the log is wrong ─────────────────────────────────────────────────────────────────

SAMPLE = [
    ("init", "self", "ok", "validation pipeline started", "v1"),
    ("validation", "plain/a.fits", "ok", "", "v1"),
    ("validation", "b.fits", "failure", 'problems:\n- header: "SIMPLE" missing\n- size: 0\n', "v1"),
    ("validation", "c d.txt", "ok", "", "v1"),
    ("keepalive", "self", "ok", "3 / 9", "v1"),
    ("validation", "e.parquet", "error", '\n"quoted" at once\n\n\ttabbed: yes\n', "v1"),
    ("validation", 'odd"name\t.bin', "ok", "", "v1"),
    ("validation", "back\\slash", "failure", '\tC:\\data\n"', "v1"),
    ("validation", "f", "failure", '"', "v1"),
    ("validation", "näme", "ok", "fine\n", "v1"),
    ("validation", "g", "failure", "\ta\tb\tc\n", "v1"),
    ("shutdown", "self", "failure", "done: 9\nfailed:\n- b.fits\n", "v1"),
    ("stop", "self", "ok", "", "v1"),
]


@pytest.mark.parametrize("escapes", [True, False], ids=["validator's log", "our log"])
def test_whatever_one_byte_is_changed_to_no_other_row_is_lost(escapes):
    rows = [encode_rows([(NOON_MS + i, *r)], backslash_escapes=escapes) for i, r in enumerate(SAMPLE)]
    log = b"".join(rows)
    intact, _ = read([log], backslash_escapes=escapes)
    assert len(intact) == len(SAMPLE)
    starts = [sum(map(len, rows[:i])) for i in range(len(rows))]
    lost = []
    for at, byte in enumerate(log):
        touched = max(i for i, start in enumerate(starts) if start <= at)
        for value in {byte ^ (1 << bit) for bit in range(8)} | set(b'"\t\n\\ \0'):
            mutated = log[:at] + bytes([value]) + log[at + 1 :]
            found, parser = read([mutated], backslash_escapes=escapes)
            found += parser.finish()
            delivered = {e for e in found if isinstance(e, Entry)}
            lost += [(at, bytes([value]), i) for i, e in enumerate(intact) if i != touched and e not in delivered]
    assert lost == []
