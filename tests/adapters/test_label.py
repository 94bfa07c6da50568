"""A label names its delivery as the archive's package reads it, and must agree with what else is said of it."""

import pytest

from upload_adapters.label import LABEL_BYTES_MAX, read_label
from upload_core.errors import ConfigurationError


def label(tmp_path, text):
    path = tmp_path / "label.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_label(path)


def test_a_label_is_kept_byte_for_byte(tmp_path):
    text = b"# ours\r\ndataset: my_set\ndelivery_id: '1'\nother: {a: [1, 2]}\n"
    found = label(tmp_path, text)
    assert (found.data, found.dataset, found.delivery_id) == (text, "my_set", "1")
    assert found.path == str(tmp_path / "label.yaml")


@pytest.mark.parametrize("written", ["007", "1.10", "1e3", "no", "true", "2025-10-20", "_1", "1__0", "0x", "9" * 5000])
def test_an_id_that_looks_like_something_else_stays_as_it_is_written(tmp_path, written):
    assert label(tmp_path, f"dataset: d\ndelivery_id: {written}\n").delivery_id == written


INTEGERS = [("2025_10", "202510"), ("1_0", "10"), ("0x1F", "31"), ("0o17", "15"), ("0b11", "3"), ("+5", "5")]
INTEGERS += [("-0", "0"), ("00", "0"), ("-5", "-5"), ("' 5 '", "5"), ("'2025_10'", "202510"), ('"0X10"', "16")]


@pytest.mark.parametrize(("written", "read"), INTEGERS)
def test_an_id_that_is_an_integer_to_python_is_that_integer_as_to_the_archive(tmp_path, written, read):
    found = label(tmp_path, f"dataset: {written}\ndelivery_id: {written}\n")
    assert (found.dataset, found.delivery_id) == (written.strip("'\""), read)
    found.demand(found.dataset, read)


def test_blanks_at_the_ends_of_a_name_are_part_of_it_as_to_the_archive(tmp_path):
    found = label(tmp_path, "dataset: ' d '\ndelivery_id: ' e '\n")
    assert (found.dataset, found.delivery_id) == (" d ", " e ")
    with pytest.raises(ConfigurationError, match="its dataset is ' d ', not 'd'"):
        found.demand("d", " e ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dataset: d\n", "delivery_id"),
        ("delivery_id: 1\n", "dataset"),
        ("", "dataset and delivery_id"),
        ("dataset: ' '\ndelivery_id:\n", "dataset and delivery_id"),
        ("- dataset: d\n", "dataset and delivery_id"),
        ("dataset: [d]\ndelivery_id: 1\n", "dataset"),
        ("dataset: 'd\n", "not YAML"),
        ("[" * 100_000, "not YAML"),
        (b"\xff\xfe\xfd", "not YAML"),
        ("!!python/object/apply:os.system [true]", "dataset and delivery_id"),
        ("x" * (LABEL_BYTES_MAX + 1), "longer than"),
    ],
)
def test_what_is_no_label_is_refused_with_the_reason(tmp_path, text, problem):
    with pytest.raises(ConfigurationError, match=problem):
        label(tmp_path, text)


def test_a_label_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml"):
        read_label(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(("dataset", "delivery_id", "what"), [("e", "1", "dataset"), ("d", "2", "delivery_id")])
def test_a_label_of_another_delivery_is_refused(tmp_path, dataset, delivery_id, what):
    found = label(tmp_path, "dataset: d\ndelivery_id: 1\n")
    found.demand("d", "1")
    with pytest.raises(ConfigurationError, match=f"its {what} is"):
        found.demand(dataset, delivery_id)


def test_who_means_an_id_as_it_is_written_is_told_how_the_archive_reads_it(tmp_path):
    found = label(tmp_path, "dataset: d\ndelivery_id: 2025_10\n")
    with pytest.raises(
        ConfigurationError, match=r"is '202510' \(so the archive reads '2025_10'\), not '2025_10'; name"
    ):
        found.demand("d", "2025_10")


def test_where_nobody_reads_a_label_its_id_may_be_meant_as_it_is_written(tmp_path):
    found = label(tmp_path, "dataset: d\ndelivery_id: 2025_10\n")
    found.demand("d", "2025_10", as_written=True)
    found.demand("d", "202510", as_written=True)
    with pytest.raises(ConfigurationError, match="its delivery_id is"):
        found.demand("d", "2025-10", as_written=True)
