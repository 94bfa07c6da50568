"""What we foresee of the archive's reading of an index and of a label, beside its own package's reading of the same text."""

import json
import random
import subprocess

import pytest

from tests.interop.archive import LABEL, SIDE
from upload_adapters.label import read_label
from upload_core.errors import ConfigurationError
from upload_core.index_check import IndexColumns, check_columns
from upload_core.wire import encode_index

NAMES = [
    "1",
    "007",
    "1.",
    ".5",
    "1e5",
    "1E-05",
    "inf",
    "-Infinity",
    "infinit",
    "1e",
    "e5",
    "0x10",
    "1_0",
    "1j",
    "1.2.3",
]
NAMES += [
    "true",
    "tRuE",
    " True",
    "False",
    "yes",
    "2025-10-20",
    "9" * 30,
    "1" + "0" * 400,
    "\u0661",
    "1\xa0",
    "\u30001",
    " 1 ",
]


@pytest.fixture
def read(python):
    """What the package reads from labels and indexes."""

    def ask(labels=(LABEL,), indexes=()):
        asked = json.dumps({"labels": list(labels), "indexes": list(indexes)})
        answer = subprocess.run([python, SIDE, "reader"], input=asked, text=True, check=True, stdout=subprocess.PIPE)
        return json.loads(answer.stdout)

    return ask


def index_of(paths, *, checksums):
    rows = ((path, True, "yH2GHg==" if checksums else None) for path in paths)
    return b"".join(encode_index(rows, checksums=checksums)).decode()


def assert_foreseen(read, indexes, *, checksums=False):
    """The archive reads exactly those indexes in which we find no problem, and reads them as they are."""
    answers = read(indexes=[index_of(paths, checksums=checksums) for paths in indexes])["indexes"]
    for paths, answer in zip(indexes, answers, strict=True):
        found = check_columns(IndexColumns(paths), strict_wire=True)
        assert (answer is None) == bool(found), (paths[:3], paths[-3:], found)
        assert answer is None or answer == paths, paths[:3]


def test_the_archive_takes_for_numbers_and_truth_what_we_foresee(read):
    chance = random.Random(1)
    names = {"".join(chance.choices("0123456789.eE+- xnfiNaTrue_", k=chance.randint(1, 5))) for _ in range(1_500)}
    plain = {name for name in names if name not in (".", "..")}
    assert_foreseen(read, [[name] for name in [*NAMES, *sorted(plain)]])


@pytest.mark.parametrize("checksums", [False, True])
def test_the_archive_reads_an_index_in_the_parts_that_we_foresee(read, checksums):
    rows = 1 << 18
    numbers = [f"{row:07d}" for row in range(2 * rows)]
    texts = [f"{row}.txt" for row in range(rows)]
    long = [f"{row:0200d}.txt" for row in range(rows)]
    indexes = [
        [*numbers[:rows], "x"],
        [*numbers[1:rows], "x", "7.txt"],
        [*texts, "7"],
        [*texts, "7", "x"],
        [*texts[1:], "7"],
        [*long, "7"],
        [*long[1:], "7"],
        ["x", *numbers[1:], "y"],
    ]
    assert_foreseen(read, indexes, checksums=checksums)


IDS = [
    "1",
    "2025_10",
    "'2025_10'",
    '"0x1F"',
    "0X1f",
    "0b11",
    "0o17",
    "+5",
    "-0",
    "-5",
    "00",
    "0_0",
    "007",
    "'007'",
    "1e3",
]
IDS += [
    "1.10",
    "true",
    "no",
    "~",
    "2025-10-20",
    "_1",
    "1__0",
    "0x",
    "' 5 '",
    "' a '",
    '"5\\n"',
    "'\xa05'",
    "'\u0665'",
    "|\n  5\n",
]
IDS += ["9" * 5_000, "' '", '"a\\tb"', "0x 1"]


def test_the_archive_reads_data_set_and_delivery_of_a_label_as_we_do(read, tmp_path):
    texts = [LABEL.replace('"1"', written) for written in IDS]
    texts += [LABEL.replace("my_set", written) for written in ("007", "2025_10", "' d '", "'d'", "1e3")]
    read_there = read(labels=texts)["labels"]
    for text, there in zip(texts, read_there, strict=True):
        path = tmp_path / "label.yaml"
        path.write_text(text)
        if not all(map(str.strip, there)):
            with pytest.raises(ConfigurationError, match="does not say"):
                read_label(path)
        else:
            label = read_label(path)
            assert [label.dataset, label.delivery_id] == there
