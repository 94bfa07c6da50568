"""Every way in which an index can be wrong is named, with its row and what to do, before anything starts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.paths import HOSTILE, ODD
from upload_core.columns import TextColumn
from upload_core.errors import ConfigurationError, IndexProblemsError, SourceError, SourceMissingError
from upload_core.files import FileTable
from upload_core.index_check import (
    PATH_RULES,
    WIRE_RULES,
    IndexColumns,
    check_columns,
    checked_table,
    fold,
    parse_size,
    path_problems,
)

CHECKSUM = "yH2GHg=="


def problems(paths, checksums=None, sizes=None, **options):
    return check_columns(IndexColumns(paths, checksums, sizes), **options)


def rules(*args, **options):
    return [(problem.row, problem.rule) for problem in problems(*args, **options)]


# ── paths ────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_enough_hostile_paths_and_some_for_every_rule():
    assert sum(map(len, HOSTILE.values())) >= 60
    assert set(HOSTILE) == {rule.name for rule in PATH_RULES}


def test_no_rule_has_the_name_of_another():
    names = [rule.name for rule in (*PATH_RULES, *WIRE_RULES)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("rule", "path"), [(rule, path) for rule, paths in HOSTILE.items() for path in paths])
def test_a_hostile_path_is_refused_by_its_rule(rule, path):
    assert rule in [problem.rule for problem in problems(["good", path])]
    assert rule in [broken.name for broken in path_problems(path)]


@pytest.mark.parametrize("path", ODD)
def test_an_odd_name_is_still_a_name(path):
    assert problems([path]) == []


def test_every_path_of_many_gets_its_own_problem():
    bad = [path for paths in HOSTILE.values() for path in paths]
    found = problems([*(f"good/{row}" for row in range(5000)), *bad], allow_case_duplicates=True)
    assert {problem.row for problem in found} == set(range(5001, 5001 + len(bad)))
    assert [problem.row for problem in found] == sorted(problem.row for problem in found)


paths = st.text(st.sampled_from("aA./\\:\0\n\t é\x85\udc80e\u0301"), max_size=8) | st.text(max_size=300)


@given(paths)
@example("../a")
@example("a/..")
@example("a:")
def test_the_quick_look_at_a_path_never_passes_what_a_rule_refuses(path):
    assert path_problems(path) == [rule for rule in PATH_RULES if rule.breaks(path)]


@given(st.lists(paths, max_size=20))
@example(["a", "..", "b"])
@example(["a", ".", "b"])
@example(["a\n.."])
def test_paths_in_company_are_judged_as_each_alone(cells):
    found = [rule for rule in rules(cells) if not rule[1].startswith("duplicate")]
    assert found == [(row, rule.name) for row, path in enumerate(cells, 1) for rule in path_problems(path)]


@given(st.lists(st.none() | paths, max_size=20))
def test_no_path_makes_the_check_or_its_messages_fail(cells):
    for problem in problems(cells, strict_wire=True):
        assert str(problem).isprintable()
        assert str(problem).startswith(f"row {problem.row}, ")


def test_a_problem_names_row_escaped_path_and_remedy():
    assert str(problems(["good", "a\tb\x1b[2J"])[0]) == (
        r'row 2, "a\x09b\x1b[2J": holds a control character, which the logs between client and validator cannot '
        "carry; rename the file"
    )


def test_a_row_without_a_path_is_a_problem():
    assert rules(["a", None, "b"]) == [(2, "no-path")]


# ── duplicates ───────────────────────────────────────────────────────────────────────────────────


def test_a_path_that_stands_twice_is_refused_wherever_it_stands():
    many = [f"f{row}" for row in range(5000)]
    assert rules([*many, "f7", "f4999", "f7"]) == [(5001, "duplicate"), (5002, "duplicate"), (5003, "duplicate")]
    assert rules(["a", "a"], allow_case_duplicates=True) == [(2, "duplicate")]
    assert "row 1 " in str(problems(["a", "b", "a"])[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("data/A.fits", "data/a.FITS"),
        ("Résumé", "RÉSUMÉ"),
        ("r\u00e9sum\u00e9", "re\u0301sume\u0301"),
        ("R\u00c9SUM\u00c9", "re\u0301sume\u0301"),
        ("straße", "STRASSE"),
        ("\u212bngstrom", "\u00e5ngstrom"),
    ],
)
def test_paths_that_differ_by_case_or_unicode_form_alone_are_refused_unless_allowed(one, other):
    assert rules([one, "x", other]) == [(3, "duplicate-by-form")]
    assert rules([one, "x", other], allow_case_duplicates=True) == []


def test_three_spellings_are_told_apart_from_true_duplicates():
    assert rules(["a", "A", "a"]) == [(2, "duplicate-by-form"), (3, "duplicate")]


@given(st.lists(paths.filter(len), max_size=20), st.booleans())
def test_a_path_is_a_duplicate_exactly_if_it_stood_before(cells, allow):
    found = dict(rule for rule in rules(cells, allow_case_duplicates=allow) if rule[1].startswith("duplicate"))
    for row, path in enumerate(cells):
        before = cells[:row]
        if path in before:
            assert found.get(row + 1) == "duplicate"
        elif not allow and fold(path) in map(fold, before):
            assert found.get(row + 1) == "duplicate-by-form"
        else:
            assert row + 1 not in found


# ── checksums and sizes ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        *("yH2GHg", "yH2GHg=", "yH2GHg===", "yH2GHh==", "yH2GHgAA", "c87d861e", "yH2G Hg==", "yH2-Hg==", " yH2GHg=="),
        *("yH2GHg==\n", "=", "x", "\u00e9", "yH2GHg==yH2GHg==", "AAAAA===", "\udc80"),
    ],
)
def test_a_checksum_that_is_no_crc32_in_base64_is_refused(text):
    assert rules(["a", "b"], [CHECKSUM, text]) == [(2, "checksum")]


def test_two_wrong_checksums_cannot_make_up_for_each_other():
    assert rules(["a", "b"], ["yH2GHg==yH2G", "Hg=="]) == [(1, "checksum"), (2, "checksum")]


def test_checksums_for_some_rows_are_fine_except_where_the_archive_wants_all_or_none():
    assert rules(["a", "b", "c"], [CHECKSUM, None, ""]) == []
    assert rules(["a", "b", "c"], [CHECKSUM, None, ""], strict_wire=True) == [
        (2, "wire-no-checksum"),
        (3, "wire-no-checksum"),
    ]
    assert rules(["a", "b"], [None, ""], strict_wire=True) == []


@pytest.mark.parametrize("size", [-1, 1.5, "12.5", "-1", "1e3", "12 ", "1,000", True, float("inf"), 2**63, "x", "٣"])
def test_a_size_that_is_no_number_of_bytes_is_refused(size):
    assert rules(["a", "b"], None, [1, size]) == [(2, "size")]


@pytest.mark.parametrize(
    ("cell", "size"), [(0, 0), ("0", 0), ("4096", 4096), (4096.0, 4096), ("4096.0", 4096), (None, None), ("", None)]
)
def test_a_size_may_come_as_a_number_or_as_its_digits(cell, size):
    assert rules(["a"], None, [cell]) == []
    assert parse_size(cell) == size


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ConfigurationError, match="length"):
        problems(["a", "b"], [CHECKSUM])


def test_an_empty_index_has_no_problems():
    assert problems([], [], [], strict_wire=True) == []


# ── what only some archives cannot take ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["NA", "null", "nan", "NaN", "N/A", "None", "#N/A", "<NA>", "n/a", "NULL", "-nan"])
def test_names_that_pandas_takes_for_missing_are_refused_by_archives_that_read_with_it(path):
    assert rules(["a", path], strict_wire=True) == [(2, "wire-missing-value")]
    assert rules(["a", path]) == []


NUMBERS = [["1", "00123", "1e5"], ["-1.5", ".5", "inf"], ["true", "false"], ["tRuE"], [" 12 "]]


@pytest.mark.parametrize("paths", NUMBERS)
def test_an_index_of_only_numbers_is_refused_by_archives_that_read_with_pandas(paths):
    assert rules(paths, strict_wire=True) == [(1, "wire-only-numbers")]
    assert rules([*paths, "a"], strict_wire=True) == []
    assert rules(paths) == []


@pytest.mark.parametrize("digits", ["\u0661", "1\xa0", "1_0", "0x10", "1e", "e5", "1.2.3", "infinit", "1j"])
def test_what_pandas_does_not_take_for_a_number_is_a_name(digits):
    assert rules([digits], strict_wire=True) == []


ROWS = 5_000
TEXTS = [f"f{row}" for row in range(ROWS)]


def numbered(first, end):
    return [f"{row:07d}" for row in range(first, end)]


@pytest.mark.parametrize("kind", [list, TextColumn.of])
@pytest.mark.parametrize(
    ("paths", "refused"),
    [
        ([*numbered(0, ROWS), "x"], [1]),
        ([*numbered(0, ROWS - 1), "x"], []),
        ([*numbered(0, ROWS - 1), "x", "y"], []),
        ([*TEXTS, "7"], [ROWS + 1]),
        ([*TEXTS, "7", "x"], []),
        ([*TEXTS[1:], "7"], []),
        (["x", *numbered(1, 2 * ROWS), "y"], [ROWS + 1]),
        ([*numbered(0, ROWS), "true"], [1, ROWS + 1]),
    ],
)
def test_no_part_of_an_index_that_is_read_by_itself_may_be_all_numbers(monkeypatch, kind, paths, refused):
    monkeypatch.setattr("upload_core.pandas_reading.READER_ROWS", ROWS)
    assert rules(kind(paths), strict_wire=True) == [(row, "wire-only-numbers") for row in refused]
    assert rules(kind(paths)) == []


def test_a_message_about_a_part_names_its_rows():
    [found] = problems([*(f"f{row}" for row in range(1 << 18)), "7", "8"], strict_wire=True)
    assert str(found) == (
        'row 262145, "7": is, like all others from row 262,145 to 262,146, read by this archive\'s validator as a '
        "number; put the files in a folder"
    )
    [found] = problems(["7", "8"], strict_wire=True)
    assert "is, like all others, read by" in str(found)


def test_one_path_of_a_part_is_nearly_always_enough():
    class Counted(list[str]):
        asked = 0

        def __getitem__(self, key):
            self.asked += isinstance(key, int)
            return super().__getitem__(key)

    paths = Counted(f"f{row}" for row in range(3 << 18))
    assert rules(paths, strict_wire=True) == []
    assert paths.asked == 2 * 3, "numbers, and truth"


# ── against the source ───────────────────────────────────────────────────────────────────────────


class SourceOf:
    """A source that knows its sizes, and remembers what it was asked."""

    name = "test"

    def __init__(self, sizes):
        self.sizes, self.asked = sizes, []

    def problem_with(self, relpath):
        return None if relpath in self.sizes else "does not exist"

    def size(self, relpath):
        self.asked.append(relpath)
        if relpath not in self.sizes:
            raise SourceMissingError(relpath)
        if self.sizes[relpath] is None:
            raise SourceError("is a FIFO")
        return self.sizes[relpath]

    def open(self, relpath):
        raise NotImplementedError("a check never opens a file")

    def ls(self, prefix=""):
        raise NotImplementedError("a check asks for the files it knows")


def test_a_clean_index_becomes_a_table_with_the_real_sizes():
    columns = IndexColumns(["a", "b", "c"], [CHECKSUM, None, ""], [1, None, "3"])
    table = checked_table(columns, SourceOf({"a": 1, "b": 2, "c": 3}))
    assert table == FileTable.from_columns(["a", "b", "c"], [1, 2, 3], [CHECKSUM, None, None])


def test_all_problems_come_at_once_and_in_row_order():
    columns = IndexColumns(["gone", "../x", "a", "pipe", "a", "ok"], ["bad", None, None, None, None, None], [1] * 6)
    with pytest.raises(IndexProblemsError) as caught:
        checked_table(columns, SourceOf({"a": 2, "pipe": None, "ok": 1}))
    assert [(problem.row, problem.rule) for problem in caught.value.problems] == [
        (1, "checksum"),
        (2, "traversal"),
        (3, "size-differs"),
        (4, "source"),
        (5, "duplicate"),
    ]


def test_a_missing_file_is_named_with_its_row():
    with pytest.raises(IndexProblemsError, match='row 2, "gone": does not exist'):
        checked_table(IndexColumns(["a", "gone"]), SourceOf({"a": 1}))


def test_a_path_that_breaks_a_rule_is_never_looked_for():
    source = SourceOf({"good": 1})
    with pytest.raises(IndexProblemsError):
        checked_table(IndexColumns(["good", *(path for paths in HOSTILE.values() for path in paths)]), source)
    assert source.asked == ["good"]
