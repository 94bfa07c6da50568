"""Deliveries that are disturbed: clients and validators killed, answers lost, credentials that end, rivals."""

import json
import random
import sys
import time
from collections import Counter

from tests.emulator import Fault, Settings
from tests.interop.archive import QUICK
from tests.interop.test_deliveries import some_files

MIB = 1 << 20
HASTY = {"keepalive_interval_s": 1, "validator_silence_s": 12}
"""Limits of a client whose archive is hasty as well (`QUICK`): five keepalives of the validator may be missing."""
JOBS = 8
"""Files sent at a time, where a test counts what was under way."""


def slow_down(archive, seconds, *, key="*", times=0):
    """Objects take that long to be stored, from now on; also when whoever sent them is gone."""
    return archive.aws.order(Fault("late", "PutObject", bucket=archive.transfer, key=key, seconds=seconds, times=times))


# --- killed --------------------------------------------------------------------------------------


def test_a_client_killed_five_times_has_one_validator_that_judges_each_file_once(archives, providers):
    files = some_files(199) | {"d0/large.bin": b"0123456789abcdef" * (17 * MIB // 16)}
    archive = archives()
    provider = providers(archive, files)
    slow_down(archive, 0.5)
    archive.aws.order(Fault("late", "UploadPart", seconds=1, times=0))
    for number in range(5):
        stored = len(archive.stored())
        process = provider.start(*provider.delivering, "--jobs", str(JOBS))
        if number:  # the first may fall anywhere in the beginning, the others into the transfer
            archive.wait_for(lambda before=stored: len(archive.stored()) > before, "nothing is sent")
        waited = random.uniform(0.2, 5.0 if not number else 2.5)
        time.sleep(waited)
        assert process.poll() is None, provider.end(process)
        provider.kill(process)
        print(f"kill {number} after {waited:.2f} s: {len(archive.stored())} stored, {len(archive.verdicts())} judged")
    ended = provider.resume()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files, sessions=1)
    assert set(archive.reported().values()) == {1}
    twice = sum(archive.sent().values()) - 199
    print(f"{twice} sent twice")
    assert twice <= 5 * JOBS


def test_a_killed_validator_is_noticed_and_its_work_goes_on_in_a_new_one_once_its_lock_is_stale(archives, providers):
    files = some_files(50)
    archive = archives()
    provider = providers(archive, files, limits=HASTY)
    slow_down(archive, 1)
    process = provider.start(*provider.delivering)
    archive.wait_for(archive.verdicts, "nothing is judged")
    archive.aws.tasks.kill_all()
    ended = provider.end(process)
    assert (ended.code, ended.summary["outcome"]) == (6, "interrupted"), ended.stderr
    archive.assert_at_rest(locks=["lock/validator"])
    judged = Counter(archive.verdicts())

    archive.let_pass(200)  # nobody takes it for alive any more, but its lock is good for an hour
    ended = provider.resume()
    assert (ended.code, ended.summary["outcome"]) == (6, "interrupted"), ended.stderr
    assert "could not acquire lock" in ended.stderr
    assert "left its lock: another can start at 20" in ended.stderr
    archive.assert_at_rest(locks=["lock/validator"])

    archive.let_pass(3600)
    ended = provider.resume()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files, sessions=2)
    assert set(archive.sent().values()) == {1}
    assert set(judged.values()) == {1}


def test_a_validator_whose_client_lost_its_journal_is_ended_before_a_new_one_begins(archives, providers):
    files = some_files(50)
    archive = archives()
    provider = providers(archive, files)
    archive.aws.order(Fault("held", "PutObject", bucket=archive.transfer, nth=7, times=0))
    process = provider.start(*provider.delivering, "--jobs", str(JOBS))
    archive.wait_for(archive.verdicts, "nothing is judged")
    provider.kill(process)
    assert len(archive.aws.tasks.alive()) == 1
    archive.aws.release()
    archive.let_pass(3600, "lock/client")  # the lost journal knew whose it is; without it, it has to become stale
    provider.journal.rename(provider.root / "lost")
    ended = provider.deliver()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    assert archive.stored() == files
    assert archive.sessions() == 2
    assert {status for _, status in archive.verdicts()} == {"ok"}
    archive.assert_at_rest()
    assert sum(archive.sent().values()) <= len(files) + JOBS
    [one, two] = [task.process.lines()[-1] for task in archive.aws.tasks.tasks]
    assert one == two == "ended: None"


# --- slow ----------------------------------------------------------------------------------------


def test_a_file_that_takes_longer_than_the_validators_patience_is_waited_for(archives, providers):
    files = some_files(3) | {"slow.bin": b"x" * MIB}
    archive = archives(validator={**QUICK, "missing_timeout": 8, "transfer_timeout": 12})
    slow_down(archive, 16, key="slow.bin", times=1)
    ended = providers(archive, files, limits=HASTY).deliver()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files)
    assert any(row.category == "keepalive" for row in archive.client_rows())


# --- the network ---------------------------------------------------------------------------------


def test_a_lost_answer_to_any_kind_of_request_changes_nothing(archives, providers):
    files = some_files(12) | {"large.bin": b"0123456789abcdef" * (17 * MIB // 16)}
    archive = archives()
    lost = [
        archive.aws.order(Fault("lost", operation, bucket=bucket, key=key, nth=nth))
        for operation, bucket, key, nth in [
            ("GetParameter", "*", "*", 1),
            ("CreateSession", archive.control, "*", 1),
            ("GetObject", archive.control, "lock/client", 1),
            ("PutObject", archive.control, "lock/client", 1),
            ("HeadObject", archive.control, "log/client_staging", 1),
            ("ListObjectsV2", archive.transfer, "*", 1),
            ("PutObject", archive.control, "*-label.yaml", 1),
            ("PutObject", archive.control, "*-index.csv", 1),
            ("Invoke", "*", "*", 1),
            ("PutObject", archive.transfer, "*", 3),
            ("CreateMultipartUpload", archive.transfer, "*", 1),
            ("UploadPart", archive.transfer, "*", 2),
            ("CompleteMultipartUpload", archive.transfer, "*", 1),
            ("PutObject", archive.control, "log/client_staging", 1),
            ("PutObject", archive.control, "log/client_staging", 2),
            ("PutObject", archive.control, "log/client_staging", 4),
            ("GetObject", archive.control, "log/validator_staging", 3),
            ("DeleteObject", archive.control, "lock/client", 1),
        ]
    ]
    ended = providers(archive, files).deliver()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files)
    assert set(archive.reported().values()) == {1}
    assert [fault for fault in lost if not fault.fired] == []
    stops = [row for row in archive.client_rows() if row.category == "stop"]
    assert len(stops) == 1


# --- rivals --------------------------------------------------------------------------------------


def test_of_two_clients_one_delivers_and_the_other_names_it_and_ends(archives, providers):
    files = some_files(12)
    archive = archives()
    first, second = providers(archive, files), providers(archive, files)
    slow_down(archive, 0.5)
    process = first.start(*first.delivering)
    archive.wait_for(lambda: "lock/client" in archive.locks(), "the first does not begin")
    [holder] = {archive.aws.object(archive.control, "lock/client").data.decode()}
    refused = second.deliver()
    assert (refused.code, refused.summary["outcome"]) == (4, "refused"), refused.stderr
    assert holder in refused.stderr
    refused = first.deliver()
    assert (refused.code, refused.summary["outcome"]) == (4, "refused"), refused.stderr
    assert "journal" in refused.stderr
    ended = first.end(process)
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files)
    assert set(archive.sent().values()) == {1}


# --- credentials ---------------------------------------------------------------------------------


def temporary(archive):
    """Environment variables of temporary credentials."""
    issued = archive.aws.keyring.issue("provider", 3600)
    return {
        "AWS_ACCESS_KEY_ID": issued.access_key,
        "AWS_SECRET_ACCESS_KEY": issued.secret_key,
        "AWS_SESSION_TOKEN": issued.token,
    }


def test_credentials_that_expire_end_the_session_in_order_and_new_ones_go_on_at_once(archives, providers):
    files = some_files(150)  # far more than can be sent until they expire
    archive = archives()
    provider = providers(archive, files, variables=temporary(archive))
    slow = slow_down(archive, 4)
    process = provider.start(*provider.delivering)
    archive.wait_for(archive.verdicts, "nothing is judged")
    archive.aws.keyring.expire_all("provider")
    ended = provider.end(process)
    slow.times = slow.fired
    assert (ended.code, ended.summary["outcome"]) == (5, "interrupted"), ended.stderr
    assert "credentials" in ended.stderr
    assert ended.summary["counts"]["failed"] == 0

    # What ends first is the credentials; those of the directory bucket's session still told the validator. Its
    # machine goes on for a while, and is no validator to attach to.
    provider.variables = temporary(archive)
    ended = provider.resume()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files, sessions=2)


CREDENTIAL_PROCESS = """\
import datetime, json, sys, urllib.request
said = urllib.request.urlopen(sys.argv[1], json.dumps({"lifetime_s": 8}).encode())
issued = json.load(said)
expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=8)
print(json.dumps({
    "Version": 1,
    "AccessKeyId": issued["access_key"],
    "SecretAccessKey": issued["secret_key"],
    "SessionToken": issued["token"],
    "Expiration": expires.isoformat(),
}))
"""


def test_credentials_that_renew_themselves_may_be_shorter_than_the_delivery(archives, providers):
    files = some_files(40)
    archive = archives(emulator=Settings(session_lifetime_s=8))
    provider = providers(archive, files)
    slow_down(archive, 1)
    program = provider.root / "credentials.py"
    program.write_text(CREDENTIAL_PROCESS)
    config = provider.root / "aws-config"
    command = f"{sys.executable} {program} {archive.aws.url}/_credentials"
    config.write_text(f"[default]\ncredential_process = {command}\n")
    provider.variables = {"AWS_CONFIG_FILE": str(config)}
    provider.without = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ended = provider.deliver()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    assert ended.summary["retries"] == 0
    archive.assert_delivered(files)
    written = [path.read_text(errors="replace") for path in provider.root.rglob("*") if path.is_file()]
    shown = "".join([*written, ended.stderr, json.dumps(ended.summary)])
    assert not [token for token in archive.aws.keyring.tokens() if token in shown]


def test_a_client_killed_while_s3_copies_goes_on_with_the_same_job(archives, providers):
    files = some_files(12) | {"Größe 1+1.txt": b"odd", "empty.bin": b""}
    archive = archives()
    provider = providers(archive, files)
    for bucket in ("source", "jobs"):
        archive.aws.store.create_bucket(bucket)
    for path, data in files.items():
        archive.aws.place("source", path, data)
    time.sleep(2)  # what was written within this second is not left to a job
    role = f"arn:aws:iam::{archive.aws.settings.account}:role/copies"
    command = ["s3://source" if word == "data" else word for word in provider.delivering]
    settings = ("--set", f"batch.role={role}", "--set", "batch.bucket=jobs")
    archive.aws.batch.hold(after=4)
    process = provider.start(*command, "--dispatch", "s3-batch", *settings)
    archive.wait_for(lambda: any(len(job.copied) == 4 for job in archive.aws.batch.jobs.values()), "nothing is copied")
    provider.kill(process)
    archive.aws.batch.release()
    ended = provider.resume()
    assert (ended.code, ended.summary["outcome"]) == (0, "complete"), ended.stderr
    archive.assert_delivered(files)
    assert set(archive.reported().values()) == {1}
    [job] = archive.aws.batch.jobs.values()
    assert sorted(job.copied) == sorted(files), "each object was copied once, by the one job"
    assert len(archive.aws.log("CreateJob")) == 1
    assert not archive.sent()
