"""A receipt of a delivery to AWS: a listing proves what did not change, and everything else is asked for."""

import hashlib
import json
import shutil
from collections import Counter

import pytest

from tests.adapters.aws.emulated_archive import EmulatedArchive
from upload_adapters.cli import main


@pytest.fixture
def archive(aws, tmp_path, monkeypatch):
    """Delivered, and its journal gone."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    made = EmulatedArchive(aws, tmp_path)
    assert made.client().run().exit_code == 0
    made.close()
    assert main(["report", "journal", "-o", "report.html"]) == 0
    shutil.rmtree(tmp_path / "journal")
    return made


def asked(aws, before: int) -> Counter[str]:
    return Counter(entry.operation for entry in aws.log()[before:] if entry.operation.endswith(("Object", "V2")))


def test_what_did_not_change_costs_one_listing(archive, aws, capsys):
    before = len(aws.log())
    assert main(["verify", "--receipt", "report.html"]) == 0, capsys.readouterr().err
    assert "8 files of the receipt" in capsys.readouterr().out
    assert asked(aws, before) == {"ListObjectsV2": 1}


def test_each_kind_of_difference_is_found(archive, aws, capsys):
    transfer = archive.transfer
    transfer.delete("dir/file 00.txt")
    transfer.put("dir/file 01.txt", b"longer than it was")
    transfer.put("dir/file 02.txt", b"CONTENT 2\n")
    transfer.put("dir/unknown", b"x")
    before = len(aws.log())
    assert main(["verify", "--receipt", "report.receipt.ndjson", "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted((row["kind"], row["relpath"]) for row in found["different"]) == [
        ("bytes", "dir/file 02.txt"),
        ("extra", "dir/unknown"),
        ("missing", "dir/file 00.txt"),
        ("size", "dir/file 01.txt"),
    ]
    assert asked(aws, before)["HeadObject"] == 2, "the one whose etag is another, and the one that is not listed"


def test_a_deployment_file_that_moved_is_named_and_another_archive_is_refused(archive, tmp_path, capsys):
    moved = archive.toml.rename(tmp_path / "elsewhere.toml")
    assert main(["verify", "--receipt", "report.html", "--to", str(moved)]) == 0
    moved.write_text(moved.read_text().replace("mast-test", "another"))
    assert main(["verify", "--receipt", "report.html", "--to", str(moved)]) == 2
    assert "belongs to the archive" in capsys.readouterr().err


def test_where_no_deployment_file_is_found_any_more_it_says_how_to_name_one(archive, tmp_path, capsys):
    archive.toml.rename(tmp_path / "elsewhere.toml")
    assert main(["verify", "--receipt", "report.html"]) == 2
    assert "--to" in capsys.readouterr().err


def test_a_receipt_leads_nobody_to_another_deployment(archive, tmp_path, capsys):
    """Somebody passes on a receipt that was made for it, seal and all."""
    head, *rest = (tmp_path / "report.receipt.ndjson").read_bytes().splitlines(keepends=True)
    forged = json.loads(head)
    forged["deliveries"][0]["settings"] = {"deployment.name": "theirs", "UPLOAD_CORE_DEPLOYMENT_NAME": "theirs"}
    lines = [json.dumps(forged, separators=(",", ":")).encode() + b"\n", *rest[:-1]]
    seal = {"files": len(lines) - 1, "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    (tmp_path / "forged").write_bytes(b"".join(lines) + json.dumps(seal, separators=(",", ":")).encode() + b"\n")
    assert main(["verify", "--receipt", "forged"]) == 0, (
        "what the deployment file and the environment say is what counts"
    )
