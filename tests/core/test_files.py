"""The file table holds what it was given, in few bytes, and writes and reads itself without loss."""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.checksum import crc32_base64
from upload_core.errors import JournalDamagedError
from upload_core.files import ClientFile, FileTable

CHECKSUM = "yH2GHg=="

paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
sizes = st.integers(0, 2**63 - 1)
checksums = st.none() | st.integers(0, 2**32 - 1).map(crc32_base64)
rows = st.lists(st.tuples(paths, sizes, checksums), unique_by=lambda row: row[0], max_size=30)


def table_of(cells):
    return FileTable.from_columns([c[0] for c in cells], [c[1] for c in cells], [c[2] for c in cells])


def cells_of(table):
    return [(table.path(row), table.size(row), table.checksum(row)) for row in range(len(table))]


def some_table(count, name="file {:07}", size=4096, checksum=CHECKSUM):
    return FileTable.from_columns(map(name.format, range(count)), [size] * count, [checksum] * count)


# ── ClientFile ───────────────────────────────────────────────────────────────────────────────────


def test_a_client_file_is_the_dataclass_that_hosts_were_promised():
    assert dataclasses.is_dataclass(ClientFile)
    assert str(inspect.signature(ClientFile)) == (
        "(abspath: 'str', relpath: 'str', "
        "state: \"Literal['ready', 'pending', 'failed', 'transferring', 'done', 'valid', 'invalid']\", "
        "retries: 'int', max_retries: 'int', message: 'str | None' = None, checksum: 'str | None' = None) -> None"
    )


@pytest.mark.parametrize(
    ("state", "retries", "can_transfer", "no_retry", "is_complete"),
    [
        ("ready", 0, True, False, False),
        ("pending", 0, False, False, False),
        ("failed", 1, True, False, False),
        ("failed", 2, False, True, True),
        ("transferring", 0, False, False, False),
        ("done", 0, False, False, False),
        ("valid", 0, False, False, True),
        ("invalid", 0, False, False, True),
    ],
)
def test_a_client_file_says_whether_it_can_go_and_whether_it_is_over(
    state, retries, can_transfer, no_retry, is_complete
):
    file = ClientFile("/data/a", "a", state, retries, 2)
    assert (file.can_transfer, file.no_retry, file.is_complete) == (can_transfer, no_retry, is_complete)


# ── one row ──────────────────────────────────────────────────────────────────────────────────────


@given(rows)
def test_a_table_gives_back_every_cell(cells):
    table = table_of(cells)
    assert len(table) == len(cells)
    assert cells_of(table) == cells
    assert list(table.paths()) == [cell[0] for cell in cells]
    assert table.total_bytes == sum(cell[1] for cell in cells)
    assert table.has_checksums == all(cell[2] is not None for cell in cells)


@given(rows, paths)
def test_every_path_is_found_and_no_other(cells, other):
    table = table_of(cells)
    places = {cell[0]: row for row, cell in enumerate(cells)}
    assert all(table.find(path) == row for path, row in places.items())
    assert table.find(other) == places.get(other)


def test_a_name_that_is_not_utf_8_is_found_nowhere():
    assert some_table(3).find("file\udcff") is None


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_does_not_exist_is_an_index_error(row):
    table = some_table(3)
    for look in (table.path, table.size, table.checksum):
        with pytest.raises(IndexError):
            look(row)


@pytest.mark.parametrize(
    ("paths", "sizes", "checksums"),
    [
        (["a", "b"], [1], None),
        (["a"], [1, 2], None),
        (["a"], [1], []),
        (["a\0b"], [1], None),
        (["a\udc80"], [1], None),
        (["a"], [-1], None),
        (["a"], [1], ["yH2GHg="]),
        (["a"], [1], ["yH2GHh=="]),
        (["a", "b"], [1, 1], ["yH2G", "Hg==yH2GHg=="]),
    ],
)
def test_cells_that_the_columns_cannot_hold_are_refused(paths, sizes, checksums):
    with pytest.raises(ValueError, match=r"differ|NUL|surrogates|negative|base64"):
        FileTable.from_columns(paths, sizes, checksums)


def test_a_file_costs_at_most_30_bytes_besides_its_path():
    count = 100_000
    names = [f"data/visit-{i:07}/image_{i:07}.fits" for i in range(count)]
    tracemalloc.start()
    try:
        table = FileTable.from_columns(names, [4096] * count, [CHECKSUM] * count)
        assert table.find("nothing") is None  # the lookup index counts as well
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used - sum(map(len, names)) <= 30 * count


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────


@given(rows, st.integers(1, 100))
def test_a_table_survives_being_written_in_whatever_pieces_it_is_read(cells, piece):
    table = table_of(cells)
    written = b"".join(table.encode())
    again = FileTable.decode(written[start : start + piece] for start in range(0, len(written), piece))
    assert again == table
    assert again.digest == table.digest


@given(rows)
def test_every_line_is_a_json_object_with_the_fields_of_its_row(cells):
    lines = b"".join(table_of(cells).encode()).decode().split("\n")[:-1]
    for row, (line, (path, size, checksum)) in enumerate(zip(lines, cells, strict=True)):
        expected = {"file": row, "path": path, "size": size} | ({"checksum": checksum} if checksum else {})
        assert json.loads(line) == expected


def test_the_digest_is_the_sha256_of_the_encoded_bytes():
    table = FileTable.from_columns(["a", "é"], [4096, 0], [CHECKSUM, None])
    written = b'{"file":0,"path":"a","size":4096,"checksum":"yH2GHg=="}\n{"file":1,"path":"\xc3\xa9","size":0}\n'
    assert b"".join(table.encode()) == written
    assert table.digest == hashlib.sha256(written).hexdigest()


def test_chunks_are_of_about_256_kib_and_of_whole_lines():
    chunks = list(some_table(20_000).encode())
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert all(200_000 < len(chunk) < 300_000 for chunk in chunks[:-1])


@given(rows)
def test_chosen_rows_are_encoded_as_in_the_whole_table(cells):
    table = table_of(cells)
    assert table.encode_rows(range(len(table))) == b"".join(table.encode())


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        (b'{"file":1,"path":"a","size":1}\n', 0),
        (b'{"file":0,"path":"a","size":1}\n{"file":0,"path":"b","size":1}\n', 1),
        (b'{"file":0,"path":"a","size":1}\n{"file":2,"path":"b","size":1}\n', 1),
        (b'{"file":0,"path":"a","size":-1}\n', 0),
        (b'{"file":0,"path":"a","size":9223372036854775808}\n', 0),
        (b'{"file":0,"path":"a","size":"1"}\n', 0),
        (b'{"file":0,"path":"a"}\n', 0),
        (b'{"file":0,"path":null,"size":1}\n', 0),
        (b'{"file":0,"path":"a","size":1,"extra":1}\n', 0),
        (b'{"file":0,"path":"a","size":1,"checksum":"short"}\n', 0),
        (b'{"file":0,"path":"a","size":1}\n{"file":1,"path":"b","size":1,"checksum":"yH2GHh=="}\n', 1),
        (b'{"file":0,"path":"a\\u0000b","size":1}\n', 0),
        (b'{"file":0,"path":"a\\ud800b","size":1}\n', 0),
        (b'{"file":0,"path":"a\xff","size":1}\n', 0),
        (b'{"file":0,"path":"a","size":1}\n{"file":1,"path":"b","si', 1),
        (b'{"file":0,"path":"a","size":1}', 0),
        (b'{"file":0,"path":"a","size":1}\n\n{"file":1,"path":"b","size":1}\n', 0),
        (b"\n", 0),
        (b"[]\n", 0),
        (b"\0" * 512, 0),
    ],
)
def test_a_wrong_row_is_refused_by_its_number(lines, row):
    with pytest.raises(JournalDamagedError, match=f"row {row} "):
        FileTable.decode([lines])


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail_in_another_way(data):
    with contextlib.suppress(JournalDamagedError):
        FileTable.decode([data])


@given(rows.filter(len), st.data())
def test_one_flipped_bit_is_refused_or_changes_the_digest(cells, data):
    written = bytearray(b"".join(table_of(cells).encode()))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        damaged = FileTable.decode([bytes(written)])
    except JournalDamagedError:
        return
    # A bit that only changes how a number or name is spelled leaves the same table, and hurts nobody.
    assert damaged.digest != table_of(cells).digest or damaged == table_of(cells)


# ── revisions ────────────────────────────────────────────────────────────────────────────────────


@given(rows, rows)
def test_a_merge_holds_the_newer_facts_and_keeps_every_id(old, new):
    before, newer = table_of(old), table_of(new)
    merged, changed = before.merged(newer)
    wanted = {cell[0]: cell for cell in old} | {cell[0]: cell for cell in new}
    assert cells_of(merged) == list(wanted.values())
    assert [merged.path(row) for row in range(len(before))] == list(before.paths())
    unchanged = set(old)
    assert changed == [row for row, cell in enumerate(wanted.values()) if cell not in unchanged]


@given(rows, rows)
def test_a_revision_written_down_gives_the_merged_table_again(old, new):
    before = table_of(old)
    merged, changed = before.merged(table_of(new))
    assert before.revised([merged.encode_rows(changed)]) == merged
    assert before.revised([merged.encode_rows(changed)]).digest == merged.digest


@given(rows, rows)
def test_a_diff_names_what_changed_came_and_went(old, new):
    before, newer = table_of(old), table_of(new)
    diff = before.diff(newer)
    old_facts, new_facts = {cell[0]: cell for cell in old}, {cell[0]: cell for cell in new}
    assert [before.path(row) for row in diff.removed] == [path for path in old_facts if path not in new_facts]
    assert [newer.path(row) for row in diff.added] == [path for path in new_facts if path not in old_facts]
    assert [before.path(row) for row in diff.changed] == [
        path for path, cell in old_facts.items() if path in new_facts and new_facts[path] != cell
    ]


def test_equal_tables_do_not_differ():
    assert some_table(1000).diff(some_table(1000)) == ([], [], [])


def test_a_size_that_differs_at_one_row_of_many_is_seen():
    before = some_table(5000)
    newer = FileTable.from_columns(before.paths(), [4096] * 4999 + [4097], [CHECKSUM] * 5000)
    assert before.diff(newer) == ([4999], [], [])


@pytest.mark.parametrize(
    "lines",
    [
        b'{"file":4,"path":"d","size":1}\n',  # leaves a gap
        b'{"file":1,"path":"other","size":1}\n',  # gives a known id another path
        b'{"file":-1,"path":"c","size":1}\n',
        b'{"file":1,"path":"b","size":1,"checksum":"x"}\n',
        b'{"file":3,"path":"d","size":1}\n{"file":3,"path":"d","size":1}\n',
        b'{"file":1,"path":"b","si',
    ],
)
def test_a_revision_that_does_not_fit_is_refused_and_changes_nothing(lines):
    table = FileTable.from_columns(["a", "b", "c"], [1, 2, 3])
    before = table.digest
    with pytest.raises(JournalDamagedError, match="row"):
        table.revised([lines])
    assert table.digest == before
    assert cells_of(table) == [("a", 1, None), ("b", 2, None), ("c", 3, None)]
