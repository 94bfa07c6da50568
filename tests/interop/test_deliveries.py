"""What the archive's own function and validator make of our deliveries when nothing goes wrong, and of bad files."""

import csv
import os
import shutil
import time

import pytest

from tests.interop.archive import LABEL
from tests.interop.provider import BAD_ASDF, GOOD_ASDF

MIB = 1 << 20


def some_files(count):
    return {f"d{number % 3}/{number:03}.txt": b"content %d\n" % number * number for number in range(count)}


def test_a_fresh_delivery_is_found_valid_file_by_file_and_leaves_nothing_behind(archives, providers):
    files = some_files(20) | {"good.asdf": GOOD_ASDF, "large.bin": os.urandom(17 * MIB)}
    archive = archives()
    provider = providers(archive, files)
    ended = provider.deliver()
    assert (ended.code, ended.summary["outcome"], ended.summary["counts"]["valid"]) == (0, "complete", len(files))
    archive.assert_delivered(files)
    assert set(archive.reported().values()) == {1}
    assert archive.aws.log("CompleteMultipartUpload"), "the large file should have gone in parts"

    asked = len(archive.aws.log())
    again = provider.deliver()
    assert (again.code, again.summary["outcome"]) == (0, "complete")
    archive.assert_delivered(files)
    assert (archive.invocations(), set(archive.sent().values())) == (1, {1})
    assert len(archive.aws.log()) - asked < 15, "there was nothing to do"


ODD = [
    "with space.txt",
    " leading and trailing ",
    'quote"d "twice".txt',
    "single'quote.txt",
    "back\\slash\\.txt",
    "comma,semi;colon.txt",
    "percent%20%2F%.txt",
    "plus+and&amp;.txt",
    "#hash?question=1.txt",
    "=1+1.txt",
    "@SUM(A1).txt",
    "-dash",
    "..two dots/...three",
    "dir.with.dots/~tilde",
    "unicode/Größe ümläut 大きい 🌍.txt",
    "unicode/e\u0301 decomposed.txt",
    "unicode/right\u200f to left \u202e.txt",
    "123",
    "1.5e3",
    "True",
    "[bold]markup[/].txt",
    "long/" + "x" * 250,
    "d/" * 60 + "deep.txt",
]


def test_a_sample_delivery_has_places_of_its_own_and_odd_names_reach_them_unchanged(archives, providers):
    files = {name: name.encode() for name in ODD}
    archive = archives(transfer_type="sample")
    staging = archive.transfer.removesuffix("sample") + "staging"
    archive.aws.store.create_bucket(staging)
    ended = providers(archive, files).deliver()
    assert ended.code == 0, ended.stderr
    archive.assert_delivered(files)
    assert not archive.aws.store.bucket(staging).objects
    assert not [key for key in archive.aws.store.bucket(archive.control).objects if "staging" in key]


@pytest.mark.parametrize("names", [("NA", "x"), ("null", "x"), ("1", "2.5"), ("carriage\rreturn", "x")])
def test_names_that_the_archives_validator_cannot_read_are_refused_before_anything_starts(archives, providers, names):
    archive = archives()
    provider = providers(archive, dict.fromkeys(names, b"x"), indexed=False)
    with open(provider.root / "index.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path"], *([name] for name in names)])
    ended = provider.deliver()
    assert ended.code == 2, ended.stderr
    assert names[0].split("\r")[0] in ended.stderr
    assert archive.aws.log() == []


def test_two_thousand_files_take_one_request_each_and_an_append_a_second(archives, providers):
    files = {f"d{number % 10}/{number:04}.dat": b"%d" % number for number in range(2_000)}
    archive = archives()
    started = time.monotonic()
    ended = providers(archive, files).deliver("--jobs", "8")
    seconds = time.monotonic() - started
    assert ended.code == 0, ended.stderr
    archive.assert_delivered(files)
    ours = [
        entry for entry in archive.aws.log() if entry.bucket == archive.transfer and entry.operation != "HeadObject"
    ]
    assert len(ours) <= len(files) + 5
    appends = [entry for entry in archive.aws.log("PutObject") if entry.key.startswith("log/client")]
    assert len(appends) <= seconds + 3


def test_each_bad_file_is_named_with_what_is_wrong_and_alone_is_sent_again_once_mended(archives, providers):
    files = some_files(4) | {"bad.asdf": BAD_ASDF}
    archive = archives()
    provider = providers(archive, files)
    # One file has other bytes than its index says, another is changed in the archive, a third is no valid ASDF.
    (provider.root / "data" / "d1" / "001.txt").write_bytes(b"x" * len(files["d1/001.txt"]))
    process = provider.start(*provider.delivering)
    archive.wait_for(lambda: "d2/002.txt" in archive.stored(), "the file does not arrive")
    archive.aws.place(archive.transfer, "d2/002.txt", b"something else")
    ended = provider.end(process)
    assert (ended.code, ended.summary["outcome"]) == (1, "incomplete"), ended.stderr
    failed = {each["relpath"]: (each["state"], each["message"]) for each in ended.summary["failed"]}
    assert {path: state for path, (state, _) in failed.items()} == {
        "bad.asdf": "invalid",
        "d1/001.txt": "failed",
        "d2/002.txt": "invalid",
    }
    assert "did not find expected" in failed["bad.asdf"][1]
    assert "checksum" in failed["d1/001.txt"][1].lower()
    assert "incorrect crc32 checksum" in failed["d2/002.txt"][1]
    assert "d1/001.txt" not in archive.stored()
    archive.assert_at_rest()

    files["bad.asdf"] = GOOD_ASDF
    for path in failed:
        (provider.root / "data" / path).write_bytes(files[path])
    provider.index()
    ended = provider.deliver()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    assert archive.stored() == files
    rejected = [("bad.asdf", "failure"), ("d2/002.txt", "failure")]
    assert sorted(archive.verdicts()) == sorted([*((path, "ok") for path in files), *rejected])
    assert archive.sent() == dict.fromkeys(files, 1) | {"bad.asdf": 2, "d2/002.txt": 2}
    assert archive.sessions() == 2
    archive.assert_at_rest()


def test_from_a_bucket_the_files_go_to_the_archive_without_passing_through_us(archives, providers):
    files = some_files(8) | {"Größe 1+1.txt": b"odd", "large.bin": os.urandom(17 * MIB)}
    archive = archives()
    provider = providers(archive, files)
    archive.aws.store.create_bucket("source")
    for path, data in files.items():
        archive.aws.place("source", path, data)
    shutil.rmtree(provider.root / "data")
    command = ["s3://source" if word == "data" else word for word in provider.delivering]
    ended = provider.run(*command)
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files)
    assert not [path for path in archive.sent() if files[path]]


def test_a_delivery_named_by_a_number_in_its_label_goes_to_the_places_that_the_archive_made_for_it(archives, providers):
    label = LABEL.replace('"1"', "2025_10")
    archive = archives(delivery="202510", accepted_label=label)
    files = some_files(2)
    ended = providers(archive, files, label=label).deliver()
    assert ended.code == 0, ended.stderr
    archive.assert_delivered(files)


def test_a_refused_label_ends_the_delivery_with_the_validators_reason(archives, providers):
    archive = archives(accepted_label="not accepted yet")
    ended = providers(archive, some_files(3)).deliver()
    assert (ended.code, ended.summary["outcome"]) == (6, "interrupted"), ended.stderr
    assert "problem with accepted label" in ended.stderr
    assert archive.verdicts() == []
    archive.assert_at_rest()
