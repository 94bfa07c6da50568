"""What we put on the wire: names, rows and the index, byte by byte as the archive's protocol has them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_core.wire import Keys, encode_index, encode_ok_rows, encode_rows, parse_index

NOON_MS = 1_795_332_276_959
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1)


def test_control_objects_have_the_names_that_the_archive_reads():
    keys = Keys("my_set", "7", "sample")
    assert keys.label == "my_set-7-label.yaml"
    assert keys.accepted_label == "labels/accepted/my_set-7-label.yaml"
    assert keys.index == "my_set-7-sample-index.csv"
    assert keys.client_log == "log/client_sample"
    assert keys.validator_log == "log/validator_sample"
    assert (keys.client_lock, keys.validator_lock, keys.lambda_lock) == ("lock/client", "lock/validator", "lock/lambda")


def test_only_bucket_names_have_dashes_for_underscores():
    keys = Keys("my_set", "7", "staging")
    assert keys.transfer_bucket("st_em") == "st-em-my-set-7-staging"
    assert keys.control_bucket("st_em", "use1-az4") == "st-em-my-set-7-control--use1-az4--x-s3"


def test_a_row_is_six_fields_between_tabs_and_ends_in_a_line_feed():
    row = (NOON_MS, "transfer", "a/b.fits", "ok", "", "me")
    assert encode_rows([row]) == b"2026-11-22T07:24:36.959Z\ttransfer\ta/b.fits\tok\t\tme\n"


def test_a_field_that_needs_it_is_quoted_and_its_quotes_are_doubled():
    row = (NOON_MS, "transfer", 'a"b', "error", "tab\there\nand there", "me")
    assert encode_rows([row]).split(b"\t", 1)[1] == b'transfer\t"a""b"\terror\t"tab\there\nand there"\tme\n'


def test_our_backslashes_stay_and_a_validators_are_doubled():
    row = (NOON_MS, "validation", "a\\b", "ok", "", "me")
    assert b"\ta\\b\t" in encode_rows([row])
    assert b"\ta\\\\b\t" in encode_rows([row], backslash_escapes=True)


@pytest.mark.parametrize("position", [0, 1, 2, 4])
def test_a_row_without_a_required_field_is_never_written(position):
    fields = ["transfer", "a", "ok", "", "me"]
    fields[position] = ""
    with pytest.raises(ValueError, match="needs category"):
        encode_rows([(NOON_MS, fields[0], fields[1], fields[2], fields[3], fields[4])])


@given(st.lists(st.tuples(text, text, text, text, text)))
def test_rows_read_back_as_they_were_by_the_reader_the_archive_uses(fields):
    written = encode_rows((NOON_MS, *row) for row in fields).decode()
    read = csv.reader(io.StringIO(written, newline=""), delimiter="\t")
    assert [tuple(row[1:]) for row in read] == fields


def test_an_index_says_for_each_path_whether_it_will_come():
    rows = [("a", True, None), ('b,"c"', False, None)]
    assert b"".join(encode_index(rows, checksums=False)) == b'path,will_transfer\na,True\n"b,""c""",False\n'


def test_checksums_are_a_third_column_for_all_rows_or_none():
    assert b"".join(encode_index([("a", True, "yH2GHg==")], checksums=True)).endswith(b"checksum\na,True,yH2GHg==\n")
    with pytest.raises(ValueError, match="lacks its checksum"):
        list(encode_index([("a", True, None)], checksums=True))


def test_a_large_index_comes_in_pieces():
    pieces = list(encode_index(((f"file-{i}", True, None) for i in range(5_000)), checksums=False))
    assert len(pieces) > 1
    assert sum(piece.count(b"\n") for piece in pieces) == 5_001


@given(st.lists(st.tuples(text, st.booleans())))
def test_an_index_reads_back_as_it_was_written(rows):
    data = b"".join(encode_index(((path, wanted, None) for path, wanted in rows), checksums=False))
    assert [(row.path, row.will_transfer) for row in parse_index(data)] == rows


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"name,will_transfer\na,True\n",
        b"path,will_transfer\na,yes\n",
        b"path,will_transfer\n,True\n",
        b"path,will_transfer\na,True,x\n",
        b"path,path,will_transfer\na,b,True\n",
        b"path,checksum\na,x\n",
        b"\xff\xfe",
    ],
)
def test_what_is_no_index_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011 - a decoding error is one, too
        list(parse_index(data))


def test_an_index_of_another_client_may_have_its_columns_in_any_order_and_more_of_them():
    [row] = parse_index(b"path,checksum,size,will_transfer\na,AAAAAA==,0,False\n")
    assert (row.path, row.will_transfer, row.checksum) == ("a", False, "AAAAAA==")


@given(st.lists(st.one_of(text, st.sampled_from(["a/b", "a\\b", "@", "tab\there", 'quo"te']))))
def test_rows_of_many_files_are_the_same_as_one_by_one(refs):
    one_by_one = encode_rows((NOON_MS, "transfer", ref, "ok", "", "me@here") for ref in refs)
    assert encode_ok_rows(refs, NOON_MS, "transfer", "me@here") == one_by_one


def test_a_file_without_a_name_is_not_written_among_many_either():
    with pytest.raises(ValueError, match="needs category"):
        encode_ok_rows(["a", ""], NOON_MS, "transfer", "me")
