"""The doctor: every check says ok, or what is wrong and what to do, and the exit code is the one a delivery would end with."""

import contextlib
import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Desk
from tests.emulator import Emulator, Settings
from upload_adapters.cli import checks, checks_archive, main
from upload_adapters.cli.checks import Finding
from upload_adapters.journal_file import DirectoryJournal


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("UPLOAD_CORE_")]:
        monkeypatch.delenv(name)


def examined(*arguments: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Exit code, and name -> verdict, what was found, what to do."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["doctor", *arguments, "--json"])
    told: dict[str, Any] = json.loads(out.getvalue())
    assert told["exit_code"] == code
    for check in told["checks"]:
        assert check["verdict"] in ("ok", "warn", "fail")
        assert bool(check["remedy"]) == (check["verdict"] != "ok"), check
    return code, {check["name"]: (check["verdict"], check["found"], check["remedy"]) for check in told["checks"]}


def only(check: checks.Check) -> Finding:
    (found,) = check()
    return found


def test_a_machine_where_all_is_well(capsys):
    code, found = examined()
    assert code == 0
    assert {name for name, (verdict, _, _) in found.items() if verdict == "fail"} == set()
    assert {"python", "upload-core", "packages", "open files", "screen", "disk", "archive"} <= found.keys()
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line[:4] in ("ok  ", "WARN", "    ") for line in lines[:-1])
    assert "none failed" in lines[-1]


def test_a_local_archive_that_cannot_be_written_fails_with_8(tmp_path):
    (tmp_path / "archive").write_text("a file")
    code, found = examined("--to", f"file://{tmp_path}/archive/below")
    assert code == 8
    assert found["archive"][0] == "fail"
    code, found = examined("--to", f"file://{tmp_path}/new")
    assert (code, found["archive"][:2]) == (0, ("warn", f"{tmp_path}/new does not exist yet"))
    (tmp_path / "new").mkdir()
    assert examined("--to", f"file://{tmp_path}/new")[1]["archive"][0] == "ok"


def test_a_setting_that_cannot_work_fails_with_2(tmp_path):
    (tmp_path / "mast.toml").write_text('[deployment]\nregoin = "x"\n')
    code, found = examined()  # it lies here, so it is meant
    assert code == 2
    assert "regoin is unknown" in found["settings"][1]


def test_a_journal_is_looked_at_with_the_archive_it_was_begun_for(tmp_path):
    desk = Desk(tmp_path, count=3)
    desk.index()
    assert desk.run(*desk.deliver).returncode == 0
    code, found = examined(str(desk.journal))
    assert code == 0
    assert found["journal"][1].endswith("all whole")
    assert found["session"][1] == "ended complete"
    assert found["archive"][1].endswith(f"free at {tmp_path}/archive")
    for snapshot in desk.journal.glob("snapshot-*"):
        snapshot.unlink()
    segment = desk.journal / "events-000001.ndjson"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-7])
    code, found = examined(str(desk.journal))
    assert (code, found["journal"][0], found["session"][0]) == (0, "warn", "warn")
    assert "cuts it off" in found["journal"][2]
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    code, found = examined(str(desk.journal))
    assert (code, found["journal"][0]) == (7, "fail")
    assert "damaged" in found["journal"][1]
    assert "settings" not in found
    code, found = examined(str(tmp_path / "nowhere"))
    assert (code, found["journal"][0], "settings" in found) == (2, "fail", False)


def test_a_journal_at_work_is_not_disturbed(tmp_path):
    desk = Desk(tmp_path, count=1)
    desk.index()
    assert desk.run(*desk.deliver).returncode == 0
    journal = DirectoryJournal(desk.journal)
    journal.open()
    before = {path.name: path.read_bytes() for path in desk.journal.iterdir()}
    assert examined(str(desk.journal))[0] == 0
    assert {path.name: path.read_bytes() for path in desk.journal.iterdir()} == before
    journal.close()


@pytest.mark.parametrize(("limit", "verdict"), [(10_000, "ok"), (1_000, "warn"), (100, "fail")])
def test_few_open_files_are_told_with_the_command_that_helps(monkeypatch, limit, verdict):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, 20_000))
    found = only(checks.open_files)
    assert found.verdict == verdict
    assert found.remedy == ("" if verdict == "ok" else "ulimit -n 4096")


@pytest.mark.parametrize(
    ("free", "inodes", "verdict"),
    [(1 << 40, 9, "ok"), (1 << 29, 9, "warn"), (1 << 20, 9, "fail"), (1 << 40, 0, "fail")],
)
def test_a_disk_without_room_is_told(monkeypatch, tmp_path, free, inodes, verdict):
    real = os.statvfs(tmp_path)
    values = list(real)
    values[1], values[4], values[5], values[7] = 1, free, 10, inodes  # f_frsize, f_bavail, f_files, f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    first, *_ = checks.disk(tmp_path, "disk")()
    assert first.verdict == verdict


def test_a_journal_on_a_network_file_system_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "_file_system", lambda _: "nfs4")
    *_, last = checks.disk(tmp_path, "disk")()
    assert (last.verdict, "nfs4" in last.found) == ("warn", True)


def test_the_kind_of_a_file_system_is_known_here(tmp_path):
    assert checks._file_system(tmp_path)
    assert checks._file_system(Path("/proc")) == "proc"


def test_a_missing_package_is_a_failure_unless_it_only_makes_things_faster(monkeypatch):
    monkeypatch.setattr(
        checks, "_required", lambda: iter([("no-such-package", "1.0"), ("pycurl", "99"), ("click", "1.0")])
    )
    found = {finding.name: finding for finding in checks.packages()}
    assert found["no-such-package"].remedy == "pip install 'no-such-package>=1.0'"
    assert (found["no-such-package"].verdict, found["pycurl"].verdict) == ("fail", "fail")
    assert "click" in found["packages"].found
    monkeypatch.setattr(checks, "_version", lambda _: None)
    found = {finding.name: finding for finding in checks.packages()}
    assert (found["pycurl"].verdict, found["click"].verdict) == ("warn", "fail")


def test_what_is_required_comes_from_our_own_metadata():
    required = dict(checks._required())
    assert required["boto3"] == "1.36"
    assert "pyarrow" in required
    assert "pytest" not in required


# --- an archive in AWS ---


TOML = '[deployment]\nname = "mast-test"\nregion = "us-east-1"\n'


def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Emulator) -> None:
    (tmp_path / "mast.toml").write_text(TOML)
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    places = {
        "AVAILABILITY_ZONE_ID": "use1-az4",
        "BUCKET_STEM": "mast",
        "CONFIG_BUCKET": "c",
        "INIT_LAMBDA_ARN": "arn:x",
    }
    aws.parameters.values["/mast-fast/delivery"] = ("SecureString", json.dumps(places))


def test_an_archive_in_aws_is_asked_for_its_time_and_places(tmp_path, monkeypatch):
    with Emulator() as aws:
        deployed(tmp_path, monkeypatch, aws)
        code, found = examined()
        assert code == 0
        assert found["endpoint"][1].startswith(f"{aws.url} answers in")
        assert found["clock"][1] == "agrees with the archive's"
        assert found["sign-in"][1] == "AWS credentials (env)"
        assert found["archive"][1] == "its places are known; locks are stale after 1 h"
        aws.parameters.values.clear()
        code, found = examined()
        assert (code, found["archive"][0]) == (2, "fail")
        assert {entry.operation for entry in aws.log()} == {"Head", "GetParameter"}  # it changes nothing


@pytest.mark.parametrize(
    ("skew_s", "verdict", "shown"),
    [
        (30, "ok", " s behind"),
        (-240, "warn", "4 min ahead of"),
        (600, "fail", "10 min behind"),  # S3 would take it, SSM and Lambda do not
        (7_200, "fail", "2 h behind"),
    ],
)
def test_a_clock_that_is_off_is_told(tmp_path, monkeypatch, skew_s, verdict, shown):
    with Emulator(Settings(skew_s=skew_s, check_request_time=False)) as aws:
        deployed(tmp_path, monkeypatch, aws)
        code, found = examined()
    assert (found["clock"][0], code) == (verdict, 5 if verdict == "fail" else 0)
    assert shown in found["clock"][1]


def test_an_archive_out_of_reach_and_no_credentials_are_told_apart(tmp_path, monkeypatch):
    with Emulator() as aws:
        deployed(tmp_path, monkeypatch, aws)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        code, found = examined()
        assert (code, found["endpoint"][0], found["sign-in"][0]) == (5, "ok", "fail")
        assert "no AWS credentials were found" in found["sign-in"][1]
    code, found = examined()
    assert (code, found["endpoint"][0]) == (8, "fail")
    assert "proxy" in found["endpoint"][2]


def test_a_sign_in_that_asks_a_person_is_not_asked_for(tmp_path):
    (tmp_path / "mast.toml").write_text(
        TOML + '[identity]\nkind = "cognito"\nclient_id = "c"\ndomain = "nowhere.invalid"\n'
        'user_pool_id = "us-east-1_Ab12Cd34E"\nidentity_pool_id = "us-east-1:01234567-89ab-cdef-0123-456789abcdef"\n'
    )
    _, sign_in = list(checks_archive.archive("mast.toml"))[1:]
    assert only(sign_in).found == "each delivery asks for one; try it with upload-core login"
