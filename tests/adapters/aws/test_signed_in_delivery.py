"""A person signs in, and a delivery lives on that: short-lived credentials, a renewal that is refused, the command line,
and no secret in anything that is written.
"""

import gc
import os
import re
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from tests.adapters.aws.cognito_stand_in import CLIENT_ID, CognitoStandIn
from tests.adapters.aws.emulated_archive import ROLE, SIGNED_IN, EmulatedArchive
from tests.command_line import COMMAND, environment
from tests.emulator import Fault
from upload_adapters.console import TerminalConsole
from upload_core import events as ev
from upload_core.errors import IdentityError

ADDRESS = re.compile(r"http\S+/oauth2/authorize\S+")


@attrs.define
class Person:
    shown: list[str] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)
    willing: bool = True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def sign_in_at(url):
    """What a person does in any browser: the address that it ends at."""
    try:
        urllib.request.build_opener(_NoRedirect).open(url, timeout=5)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.headers["Location"]
    raise AssertionError("the page did not send us back")


@pytest.fixture
def cognito():
    with CognitoStandIn() as stand_in:
        stand_in.roles = [ROLE]
        yield stand_in


@pytest.fixture
def archive(aws, tmp_path, monkeypatch, cognito):
    for name, value in aws.environment().items():
        if "KEY" not in name:
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    settings = SIGNED_IN.format(issuer=cognito.url, client_id=CLIENT_ID)
    made = EmulatedArchive(aws, tmp_path, settings=settings)
    yield made
    made.close()


@pytest.fixture
def person(monkeypatch):
    """Somebody at the terminal, who signs in whenever asked; what was shown to them, and what they were asked."""

    there = Person()

    def tell(console, text):
        there.shown.append(text)

    def ask(console, question):
        found = ADDRESS.search(there.shown[-1])
        assert found
        return sign_in_at(found[0])

    def agrees(console, question):
        there.asked.append(question)
        return there.willing

    monkeypatch.setattr(TerminalConsole, "tell", tell)
    monkeypatch.setattr(TerminalConsole, "ask", ask)
    monkeypatch.setattr(TerminalConsole, "agrees", agrees)
    return there


def slowly(archive, aws, seconds=0.3):
    """Each file takes its time."""
    aws.order(Fault("late", operation="PutObject", key="dir/*", times=0, seconds=seconds))


def written(root):
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def secrets_of(aws, cognito):
    issued = [secret for c in aws.keyring._by_token.values() for secret in (c.secret_key, c.token)]
    return [secret.encode() for secret in (*cognito.secrets, *issued)]


# ── within one process ───────────────────────────────────────────────────────────────────────────


def test_a_person_who_signed_in_delivers_as_the_deliverys_role(archive, aws, cognito, person):
    before = set(aws.keyring.tokens())
    client = archive.client(ports=archive.ports(browser=False))
    principals = []
    client.subscribe(lambda r: principals.append(r.event.principal) if isinstance(r.event, ev.SignedIn) else None)
    assert client.run().outcome == "complete"
    archive.judge()
    assert principals == ["ada@example.org"]
    issued = [c for token, c in aws.keyring._by_token.items() if token not in before]
    assert {c.principal for c in issued if not c.bucket} == {ROLE}
    assert not person.asked


def test_credentials_that_live_seconds_fail_no_file_of_a_longer_delivery(archive, aws, cognito, person):
    aws.settings.credentials_lifetime_s = 4.0
    aws.settings.session_lifetime_s = 2.0
    slowly(archive, aws, 1.2)
    client = archive.client(ports=archive.ports(browser=False), n_threads=1)
    failed = []
    client.subscribe(lambda r: failed.append(r.event) if isinstance(r.event, ev.TransferFailed) else None)
    assert client.run().outcome == "complete"
    archive.judge()
    assert failed == []
    assert len(aws.log("GetCredentialsForIdentity")) >= 2
    assert not person.asked


def test_a_renewal_that_is_refused_asks_once_and_the_run_goes_on(archive, aws, cognito, person):
    aws.settings.credentials_lifetime_s = 3.0
    cognito.id_token_lifetime_s = 3.0
    slowly(archive, aws, 1.2)
    client = archive.client(ports=archive.ports(browser=False), n_threads=1)

    def revoke(record):
        if isinstance(record.event, ev.TransferCompleted) and not person.asked:
            cognito.refresh_tokens.clear()
            cognito.id_token_lifetime_s = 3600.0

    client.subscribe(revoke)
    summary = client.run()
    assert summary.outcome == "complete", summary
    archive.judge()
    assert len(person.asked) == 1
    assert summary.retries == 0


def test_a_person_who_says_no_ends_the_session_and_resume_goes_on(archive, aws, cognito, person):
    aws.settings.credentials_lifetime_s = 4.0
    cognito.id_token_lifetime_s = 4.0
    person.willing = False
    slowly(archive, aws, 1.2)
    client = archive.client(ports=archive.ports(browser=False), n_threads=1)
    client.subscribe(lambda r: cognito.refresh_tokens.clear() if isinstance(r.event, ev.TransferCompleted) else None)
    summary = client.run()
    assert (summary.outcome, summary.exit_code) == ("interrupted", 5)
    assert summary.retries == 0
    assert len(person.asked) == 1
    aws.settings.credentials_lifetime_s = 3600.0
    cognito.id_token_lifetime_s = 3600.0
    aws.faults.clear()
    resumed = archive.resumed(browser=False)
    assert resumed.run().outcome == "complete"
    archive.judge(sessions=len(archive.validators), sent_twice=1)


def test_a_sign_in_without_a_role_for_the_delivery_says_so_and_asks_nothing_of_the_archive(
    archive, aws, cognito, person
):
    cognito.roles = [ROLE.replace("d1", "d2")]
    client = archive.client(ports=archive.ports(browser=False))
    with pytest.raises(IdentityError, match="no role for the delivery"):
        client.run()
    assert client.summary().exit_code == 5
    assert aws.log() == []


@pytest.mark.promise("R19")
def test_no_secret_is_in_anything_that_a_delivery_writes(archive, aws, cognito, person, capfd, monkeypatch, figure):
    """Keys that are renewed, a renewal that is refused in words that quote the token, and everything shown that can be."""
    aws.settings.credentials_lifetime_s = 3.0
    cognito.rotate = True
    monkeypatch.chdir(archive.root)
    slowly(archive, aws, 0.7)
    client = archive.client(ports=archive.ports(browser=False), debug=True, n_threads=1)

    def refuse_once(record):
        if isinstance(record.event, ev.TransferCompleted) and not person.asked:
            cognito.refresh_tokens.clear()

    client.subscribe(refuse_once)
    assert client.run().outcome == "complete"
    client.dump_state()
    shown = capfd.readouterr()
    everything = written(archive.root) + shown.out.encode() + shown.err.encode() + repr(client).encode()
    everything += b"".join(found.data for found in aws.store.bucket(archive.control_bucket).objects.values())
    secrets = secrets_of(aws, cognito)
    assert len(secrets) > 12
    assert [secret for secret in secrets if secret in everything] == []
    figure(len(secrets), "secrets looked for in all that a delivery wrote and showed")


@pytest.mark.promise("R19")
def test_no_object_of_ours_shows_a_secret_of_itself(archive, aws, cognito, person, figure):
    """Whatever a debugger, a log line or a host's traceback with locals would show of what is alive in a delivery."""
    client = archive.client(ports=archive.ports(browser=False))
    shown: list[str] = []

    def look(record):
        if isinstance(record.event, ev.FileReported) and not shown:
            ours = [
                one
                for one in gc.get_objects()
                if str(type(one).__module__).startswith(("upload_core", "upload_adapters"))
            ]
            shown.extend(map(repr, ours))

    client.subscribe(look)
    assert client.run().outcome == "complete"
    assert any("Tokens" in one for one in shown), "the sign-in is among them"
    secrets = [secret.decode() for secret in secrets_of(aws, cognito)]
    assert [(one[:80], secret[:20]) for one in shown for secret in secrets if secret in one] == []
    figure(len(shown), "objects whose repr shows no secret")


@pytest.mark.promise("R19")
def test_an_error_no_one_foresaw_shows_no_secret(archive, aws, cognito, person, capfd, monkeypatch, figure):
    """Raised where keys are in hand, told with its traceback."""
    from upload_adapters.aws.credentials import IdentityPool

    really = IdentityPool.credentials

    def credentials(pool, id_token, role):
        found = really(pool, id_token, role)
        assert found.secret_key
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(IdentityPool, "credentials", credentials)
    client = archive.client(ports=archive.ports(browser=False), debug=True)
    with pytest.raises(ZeroDivisionError) as caught:
        client.run()
    told = client.excformat(caught.value)
    assert "credentials" in told, "it is a traceback"
    shown = capfd.readouterr()
    everything = written(archive.root) + (told + shown.out + shown.err).encode()
    secrets = secrets_of(aws, cognito)
    assert secrets
    assert [secret for secret in secrets if secret in everything] == []
    figure(len(secrets), "secrets looked for in an unforeseen traceback")


# ── the command line ─────────────────────────────────────────────────────────────────────────────


class Watch:
    """What anybody on this machine could see of a process and of those that it starts: their arguments, and more."""

    def __init__(self, pid):
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.arguments, self.environments = set(), set()
        self.looks = 0

    def _look(self):
        while not self._ended.wait(0.02):
            self.looks += 1
            for pid in self._family():
                with suppress(OSError):
                    self.arguments.add(Path(f"/proc/{pid}/cmdline").read_bytes())
                    self.environments.add(Path(f"/proc/{pid}/environ").read_bytes())

    def _family(self):
        found, pending = [], [self._pid]
        while pending:
            pid = pending.pop()
            found.append(pid)
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    pending += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        return found

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def run(archive, aws, *arguments, signing_in=True, **changes):
    """A command of its own process, at which a person signs in elsewhere and pastes where they ended."""
    return run_watched(archive, aws, *arguments, signing_in=signing_in, **changes)[:3]


def run_watched(archive, aws, *arguments, signing_in=True, **changes):
    given = {name: value for name, value in aws.environment().items() if "KEY" not in name}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=archive.root,
        env=environment(**given, AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, **changes),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    guard = threading.Timer(60, process.kill)
    guard.start()
    told = ""
    with process, Watch(process.pid) as watch:
        while signing_in and not ADDRESS.search(told) and process.poll() is None:
            told += process.stderr.readline()
        if found := ADDRESS.search(told):
            process.stdin.write(sign_in_at(found[0]) + "\n")
        out, err = process.communicate()
    guard.cancel()
    return process.returncode, out, told + err, watch


@pytest.fixture
def index(archive):
    rows = archive.index()
    lines = [f"{path},{crc}" for path, crc in zip(rows["path"], rows["checksum"], strict=True)]
    (archive.root / "index.csv").write_text("\n".join(["path,checksum", *lines, ""]))
    (archive.root / "label.yaml").write_text("dataset: my_set\ndelivery_id: d1\n")


def test_a_headless_sign_in_and_a_label_deliver_from_the_command_line(archive, aws, cognito, index):
    label, to = ["--label", "label.yaml"], ["--to", "mast.toml"]
    code, out, err = run(archive, aws, "deliver", "data", "index.csv", *label, *to, "--no-browser", "--json")
    assert code == 0, err
    archive.judge()
    assert '"outcome": "complete"' in out.splitlines()[-1]
    shown = "".join(ADDRESS.findall(err))
    assert shown
    assert archive.control.found("my_set-d1-label.yaml").data == b"dataset: my_set\ndelivery_id: d1\n"
    # State and nonce stand in the address that a person opens: shown, and nowhere else.
    secrets = [secret for secret in secrets_of(aws, cognito) if secret.decode() not in shown]
    everything = written(archive.root) + out.encode() + err.encode()
    assert [secret for secret in secrets if secret in everything] == []
    code, out, err = run(archive, aws, "verify", "--archive", "--no-browser", ".upload-core/my_set-d1-staging")
    assert code == 0, err
    assert "8 files compared with the archive: all agree" in out


@pytest.mark.promise("R19")
def test_no_command_shows_writes_or_hands_on_a_secret(archive, aws, cognito, index, figure):
    """A whole life at the command line: sign-in, delivery with keys that are renewed, all that is asked afterwards."""
    aws.settings.credentials_lifetime_s = 3.0
    cognito.rotate = True
    slowly(archive, aws, 0.5)
    journal = ".upload-core/my_set-d1-staging"
    deliver = [
        "deliver",
        "data",
        "index.csv",
        "--label",
        "label.yaml",
        "--to",
        "mast.toml",
        "--no-browser",
        "--jobs",
        "1",
    ]
    told, seen, looks = "", set(), 0
    for arguments, signing_in in (
        ([*deliver, "--events"], True),
        (["status", journal], False),
        (["status", journal, "--json"], False),
        (["history", journal, "dir/file 00.txt"], False),
        (["replay", journal, "--files"], False),
        (["verify", "--archive", "--no-browser", journal], True),
        (["report", journal], False),
        (["verify", "--receipt", "report.html", "--to", "mast.toml", "--no-browser"], True),
        (["config", "show", "--to", "mast.toml"], False),
        (["login", "--to", "mast.toml", "--no-browser"], True),
        (["logout", "--to", "mast.toml"], False),
    ):
        code, out, err, watch = run_watched(archive, aws, *arguments, signing_in=signing_in)
        assert code == 0, (arguments, out, err)
        told += out + err
        seen |= watch.arguments | watch.environments
        looks += watch.looks
    archive.judge()
    # State and nonce stand in the address that a person opens: shown, and nowhere else.
    opened = "".join(ADDRESS.findall(told))
    secrets = [secret for secret in secrets_of(aws, cognito) if secret.decode() not in opened]
    everything = written(archive.root) + told.encode() + b"".join(seen)
    assert len(secrets) > 12
    assert looks
    assert [secret for secret in secrets if secret in everything] == []
    figure(len(secrets), "secrets looked for in commands, their output, files and processes")


@pytest.mark.promise("R19")
def test_keys_from_the_environment_stay_there(aws, tmp_path, figure):
    """Without a sign-in: a host's own AWS keys, which nothing repeats."""
    made = EmulatedArchive(aws, tmp_path)
    try:
        rows = made.index()
        lines = [f"{path},{crc}" for path, crc in zip(rows["path"], rows["checksum"], strict=True)]
        (tmp_path / "index.csv").write_text("\n".join(["path,checksum", *lines, ""]))
        keys = {"AWS_ACCESS_KEY_ID": "AKIACANARY", "AWS_SECRET_ACCESS_KEY": "CANARY-secret-key"}
        names = ["--dataset", "my_set", "--delivery-id", "d1", "--to", "mast.toml"]
        code, out, err, watch = run_watched(made, aws, "deliver", "data", "index.csv", *names, signing_in=False, **keys)
        assert code == 0, err
        made.judge()
        assert watch.arguments
        everything = written(made.root) + out.encode() + err.encode() + b"".join(watch.arguments)
        everything += b"".join(found.data for found in aws.store.bucket(made.control_bucket).objects.values())
        assert b"CANARY" not in everything
    finally:
        made.close()
    figure(len(keys), "keys of the environment looked for")


def test_the_label_and_the_flags_must_agree(archive, aws, index):
    arguments = ["deliver", "data", "index.csv", "--label", "label.yaml", "--to", "mast.toml", "--delivery-id", "d2"]
    code, _, err = run(archive, aws, *arguments, signing_in=False)
    assert code == 2
    assert "is for another delivery" in err
    assert aws.log() == []


def test_login_says_who_signed_in_and_logout_forgets(archive, aws, cognito):
    code, out, err = run(archive, aws, "login", "--to", "mast.toml", "--no-browser")
    assert (code, out) == (0, "")
    assert "signed in as ada@example.org" in err
    assert "keyring" in err
    code, _, err = run(archive, aws, "logout", "--to", "mast.toml", signing_in=False)
    assert code == 0
    assert f"{cognito.url}/logout" in err


def test_nobody_who_signs_in_is_exit_code_5(archive, aws, index):
    arguments = ["deliver", "data", "index.csv", "--label", "label.yaml", "--to", "mast.toml", "--no-browser"]
    code, _, err = subprocess_without_stdin(archive, aws, *arguments)
    assert code == 5, err
    assert "given up" in err
    assert aws.log() == []


def subprocess_without_stdin(archive, aws, *arguments):
    given = {name: value for name, value in aws.environment().items() if "KEY" not in name}
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=archive.root,
        env=environment(**given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_config_show_names_every_value_and_its_origin_and_no_secret(archive, aws):
    given = {"AWS_SECRET_ACCESS_KEY": "CANARY", "HTTPS_PROXY": "http://ada:CANARY@proxy:3128"}
    done = subprocess.run(
        [*COMMAND, "config", "show", "--to", "mast.toml"],
        cwd=archive.root,
        env=environment(**given, UPLOAD_CORE_IDENTITY_TOKENS="keyring"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = ([cell.strip() for cell in line.split("\t")] for line in done.stdout.splitlines())
    rows = {name: cells for name, *cells in lines}
    assert rows["deployment.name"] == ["mast-test", "file mast.toml"]
    assert rows["identity.tokens"] == ["keyring", "environment UPLOAD_CORE_IDENTITY_TOKENS"]
    assert rows["identity.scope"][1] == "default"
    assert rows["AWS_SECRET_ACCESS_KEY"] == ["***", "environment AWS_SECRET_ACCESS_KEY"]
    assert "CANARY" not in done.stdout + done.stderr
