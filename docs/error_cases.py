"""Every error that a person can meet, provoked for real: what the page of errors is made of and its test reads.

A case runs the code that raises the error, in a directory of its own; nothing here writes a message. What differs from
run to run (places, times, agents) is replaced, so that the page stays the same as long as the messages do.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from upload_adapters.cli import cli
from upload_adapters.cli.exit_codes import BUG, exit_code_of_error
from upload_adapters.cli.output import explain
from upload_adapters.table_file import table_name
from upload_core import UploadClient, errors


@attrs.frozen
class Case:
    """One situation: what raises the error, what its message must say, and what to do about it."""

    kind: type[BaseException]
    when: str
    provoke: Callable[[Desk], Any]
    says: tuple[str, str, str]
    """Parts of the message: the thing, the cause, the next step."""
    do: str = ""
    """More than the message has room for."""


@attrs.frozen
class Desk:
    """A directory with three files, their index, and a local archive."""

    root: Path

    def __attrs_post_init__(self) -> None:
        (self.root / "images").mkdir()
        for name in ("a", "b", "c"):
            (self.root / "images" / f"{name}.fits").write_text(f"image {name}\n" * 9)
        self.command("index", "images", "-o", "images.csv")

    @property
    def archive(self) -> str:
        return f"file://{self.root}/archive"

    @property
    def journal(self) -> Path:
        return self.root / ".upload-core" / "m31-1-staging"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def command(self, *arguments: str) -> Any:
        """A command as it is typed here; raises what it ends with."""
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return cli.main(list(arguments), "upload-core", standalone_mode=False)

    def deliver(self, *options: str) -> Any:
        """The usual delivery."""
        where = ("--to", self.archive, "--dataset", "m31", "--delivery-id", "1")
        return self.command("deliver", "images", "images.csv", *where, *options)

    def client(self, **changes: Any) -> UploadClient:
        """The same as a host program does it."""
        usual: dict[str, Any] = {"dataset": "m31", "delivery_id": "1", "transfer_type": "staging"}
        usual |= {"file_index": {"path": ["a.fits"]}, "source": self.images, "to": self.archive}
        return UploadClient(**(usual | {"journal": self.journal} | changes))

    def damage(self, name: str, at: float) -> None:
        """Flip a bit of a file of the journal."""
        for snapshot in self.journal.glob("snapshot-*"):
            snapshot.unlink()
        path = self.journal / name
        data = bytearray(path.read_bytes())
        data[int(len(data) * at)] ^= 1
        path.write_bytes(data)


# --- what the user wrote -------------------------------------------------------------------------


def _typo(desk: Desk) -> None:
    (desk.images / "b.fits").unlink()
    (desk.images / "c.fits").write_text("another length")
    desk.deliver()


def _rows(desk: Desk, text: str) -> None:
    (desk.root / "images.csv").write_text(text)
    desk.deliver()


def _label(desk: Desk) -> None:
    (desk.root / "label.yaml").write_text("dataset: m33\ndelivery_id: 1\n")
    desk.deliver("--label", "label.yaml")


def _setting(desk: Desk) -> None:
    (desk.root / "mast.toml").write_text('[deployment]\nregoin = "us-east-1"\n')
    desk.deliver("--to", "mast.toml")


ROLE = "arn:aws:iam::123456789012:role/copies"


def _batch(desk: Desk, source: str, *options: str) -> Any:
    (desk.root / "mast.toml").write_text('[deployment]\nregion = "us-east-1"\n\n[batch]\nbucket = "jobs"\n')
    who = ("--dataset", "m31", "--delivery-id", "1", "--to", "mast.toml", "--dispatch", "s3-batch")
    return desk.command("deliver", source, "images.csv", *who, *options)


def _cognito(desk: Desk) -> None:
    (desk.root / "mast.toml").write_text('[identity]\nkind = "cognito"\n')
    desk.deliver("--to", "mast.toml")


def _shorter_index(desk: Desk) -> None:
    desk.deliver()
    (desk.root / "images.csv").write_text("path\na.fits\n")
    with desk.client(file_index={"path": ["a.fits"]}) as client:
        client.connect()


def _other_delivery(desk: Desk) -> None:
    desk.deliver()
    with desk.client(delivery_id="2") as client:
        client.connect()


# --- others at work ------------------------------------------------------------------------------


def _two_at_once(desk: Desk) -> None:
    with desk.client() as first:
        first.connect()
        with desk.client(journal=desk.root / "other") as second:
            second.connect()


def _journal_in_use(desk: Desk) -> None:
    with desk.client() as first:
        first.connect()
        with desk.client() as second:
            second.connect()


def _lock_taken_over(desk: Desk) -> None:
    with desk.client() as client:
        client.connect()
        client._ports.control.put("lock/client", b"another client")
        client.acquire_lock(refresh=True)


def _foreign_row(desk: Desk) -> None:
    from upload_adapters.memory import memory_ports
    from upload_core.logs import AppendLog

    control = memory_ports({}).control
    log = AppendLog(control, "log/client_staging", 0)
    control.append("log/client_staging", b"a row of somebody else\n", offset=0)
    log.append(b"ours\n")


# --- sign-in -------------------------------------------------------------------------------------


def _no_credentials(desk: Desk) -> None:
    from upload_adapters.aws.identity import AwsIdentity

    AwsIdentity(region="us-east-1").sign_in()


def _no_role(desk: Desk) -> None:
    from upload_adapters.aws.credentials import role_for_delivery

    role_for_delivery(["arn:aws:iam::1:role/stem-m33-1-role"], "m31", "1")


def _given_up(desk: Desk) -> None:
    from upload_adapters.aws.identity_signin import PastedSignIn
    from upload_adapters.aws.oauth import Attempt

    attempt = Attempt(url="https://sign.in", state="s", verifier="v", nonce="n", redirect_uri="http://localhost:3000")
    PastedSignIn(lambda _: None, lambda _: "")(attempt)


def _aws(code: str, operation: str, what: str, status: int = 400) -> Callable[[Desk], None]:
    """What AWS answers, as our adapters translate it."""

    def provoke(desk: Desk) -> None:
        from botocore.exceptions import ClientError

        from upload_adapters.aws.errors import translated

        answer = {"Error": {"Code": code, "Message": "..."}, "ResponseMetadata": {"HTTPStatusCode": status}}
        with translated(what):
            raise ClientError(answer, operation)

    return provoke


def _unreachable(desk: Desk) -> None:
    from botocore.exceptions import EndpointConnectionError

    from upload_adapters.aws.errors import translated

    with translated("storing 'a.fits'"):
        raise EndpointConnectionError(endpoint_url="https://s3.us-east-1.amazonaws.com")


# --- archive and validator -----------------------------------------------------------------------


def _disk_full(desk: Desk) -> None:
    import errno

    from upload_adapters.local.disk import archive_error

    raise archive_error("storing 'a.fits'", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def _no_archive(desk: Desk) -> None:
    (desk.root / "archive").write_text("a file where the directory should be")
    desk.client()


def _name_taken(desk: Desk) -> None:
    from upload_core.attempt import FreeAttempt

    ports = desk.client()._ports  # as below
    (desk.root / "archive" / "m31-1-staging" / "a.fits").mkdir(parents=True)
    with ports.source.open("a.fits") as body:
        ports.archive.put("a.fits", body, checksum=None, attempt=FreeAttempt())


def _wrong_checksum(desk: Desk) -> None:
    from upload_core.attempt import FreeAttempt

    client = desk.client()
    ports = client._ports  # the page shows the archive's own refusal, which a delivery turns into a file's state
    with ports.source.open("a.fits") as body:
        ports.archive.put("a.fits", body, checksum="yH2GHg==", attempt=FreeAttempt())


def _conditional(desk: Desk) -> None:
    desk.client()._ports.control.put("lock/client", b"us", if_match='"another"')


def _offset(desk: Desk) -> None:
    desk.client()._ports.control.append("log/client_staging", b"row\n", offset=7)


def _refused_start(desk: Desk) -> None:
    from upload_adapters.aws.lambda_answer import parse_answer

    parse_answer(b'{"errorMessage": "Task timed out"}')


def _local_start(desk: Desk) -> None:
    client = desk.client()
    client._ports.pipeline.start(agent_id="us", idempotency_key="us:1", client_config=None)


def _stopped_validator(desk: Desk) -> None:
    from upload_adapters.memory import memory_ports
    from upload_core.wire import Keys

    ports = memory_ports({"a.fits": b"x"})
    ports.pipeline.is_running = lambda: True  # type: ignore[method-assign]  # one that does not end
    ports.control.append(Keys("m31", "1", "staging").validator_log, b"", offset=0)
    desk.client(ports=ports, journal=None, source="memory:").connect()


def _cut_sign_in(desk: Desk) -> None:
    from upload_adapters.aws.identity_cognito import CognitoIdentity
    from upload_adapters.aws.oauth import Endpoints, OAuthClient

    nowhere = "https://127.0.0.1:9"
    places = Endpoints(
        issuer=nowhere, authorize=f"{nowhere}/a", token=f"{nowhere}/t", revoke="", logout="", jwks=f"{nowhere}/j"
    )
    oauth = OAuthClient(places, client_id="c", redirect_uri="http://localhost:3000")
    CognitoIdentity(oauth, way=lambda _: "code").sign_in()


# --- a file --------------------------------------------------------------------------------------


def _unreadable(desk: Desk) -> None:
    client = desk.client()
    (desk.images / "a.fits").unlink()
    (desk.images / "a.fits").mkdir()
    client._ports.source.size("a.fits")


def _missing(desk: Desk) -> None:
    with desk.client()._ports.source.open("gone.fits"):
        pass


def _changed(desk: Desk) -> None:
    with desk.client()._ports.source.open("a.fits") as file:
        (desk.images / "a.fits").write_text("rewritten meanwhile")
        file.verify_unchanged()


# --- the journal ---------------------------------------------------------------------------------


def _no_journal(desk: Desk) -> None:
    from upload_adapters.memory import memory_ports

    UploadClient.resume(ports=memory_ports({}))


def _damaged(desk: Desk) -> None:
    desk.deliver()
    desk.damage("events-000001.ndjson", 0.5)
    desk.command("verify", ".upload-core/m31-1-staging")


def _lost_table(desk: Desk) -> None:
    desk.deliver()
    (desk.journal / "files-0000.ndjson").unlink()
    for kept in desk.journal.glob("*.columns*"):
        kept.unlink()
    desk.command("verify", ".upload-core/m31-1-staging")


def _newer(desk: Desk) -> None:
    from upload_core.journal import FORMAT_VERSION

    desk.deliver()
    for snapshot in desk.journal.glob("snapshot-*"):
        snapshot.unlink()
    segment = desk.journal / "events-000001.ndjson"
    old = f'"version":{FORMAT_VERSION},'.encode()
    segment.write_bytes(segment.read_bytes().replace(old, old.replace(str(FORMAT_VERSION).encode(), b"99"), 1))
    desk.command("status", ".upload-core/m31-1-staging")


def _unwritable(desk: Desk) -> None:
    place = desk.root / "journal"
    (place / table_name(0)).mkdir(parents=True)
    with desk.client(journal=place) as client:
        client.connect()


def _no_place(desk: Desk) -> None:
    (desk.root / "a file").write_text("")
    with desk.client(journal=desk.root / "a file") as client:
        client.connect()


# --- whoever embeds it ---------------------------------------------------------------------------


def _connected_twice(desk: Desk) -> None:
    with desk.client() as client:
        client.connect()
        client.connect()


def _nothing_to_do(desk: Desk) -> None:
    with desk.client() as client:
        client.run()
    with desk.client() as client:
        client.connect()


def _stopped(desk: Desk) -> None:
    with desk.client() as client:
        client.connect()
        client.stop("the pipeline around it was cancelled")
        client._require_engine().patience.wait(60)


def _illegal(desk: Desk) -> None:
    from upload_core import events as ev

    desk.client().delivery.apply(ev.FileReported(0), 0)


def _usage(desk: Desk) -> None:
    desk.command("deliver", "images")


# --- the table -----------------------------------------------------------------------------------

E = errors
CASES = (
    Case(
        click.UsageError, "an argument or option is missing or wrong", _usage, ("INDEX", "Missing argument", "--help")
    ),
    Case(
        E.IndexProblemsError,
        "the index does not agree with the files",
        _typo,
        ("b.fits", "does not exist in the source", "mend the index or the files"),
        "`upload-core plan SOURCE INDEX` shows the same without starting anything, `--json` all of them.",
    ),
    Case(
        E.IndexProblemsError,
        "a path in the index would leave the source",
        lambda desk: _rows(desk, "path\n../secret\n"),
        ("../secret", "..", "mend the index"),
    ),
    Case(
        E.ConfigurationError,
        "the index has no column `path`",
        lambda desk: _rows(desk, "file,size\na.fits,81\n"),
        ("images.csv", "has no column 'path'", "with a header"),
    ),
    Case(
        E.ConfigurationError,
        "the index holds no rows",
        lambda desk: _rows(desk, "path\n"),
        ("the index", "lists no files", "add a row"),
    ),
    Case(
        E.ConfigurationError,
        "no archive is named",
        lambda desk: desk.command("deliver", "images", "images.csv", "--dataset", "m31", "--delivery-id", "1"),
        ("archive", "no archive is named", "--to"),
    ),
    Case(
        E.ConfigurationError,
        "the archive's name is none",
        lambda desk: desk.deliver("--to", "archive"),
        ("archive", "names no archive that is known here", "file:///"),
    ),
    Case(
        E.ConfigurationError,
        "there can be no archive where one is named",
        _no_archive,
        ("no archive can be at", "is no directory", "--to file:///DIR"),
        "Likewise where this user may not write; nothing has been begun by then.",
    ),
    Case(
        E.ConfigurationError,
        "the label belongs to another delivery",
        _label,
        ("label.yaml", "is for another delivery", "name the right label"),
    ),
    Case(
        E.ConfigurationError,
        "a setting of the deployment file is misspelt",
        _setting,
        ("regoin", "is unknown", "region"),
        "`upload-core config show --to mast.toml` shows every setting and where its value comes from.",
    ),
    Case(
        E.ConfigurationError,
        "a setting is missing",
        _cognito,
        ("identity.kind", "which needs", "write it under [identity]"),
    ),
    Case(
        E.ConfigurationError,
        "jobs of S3 Batch Operations have no role",
        lambda desk: _batch(desk, "s3://observatory"),
        ("--dispatch s3-batch", "needs role under [batch]", "--set batch.role=..."),
        "[Have S3 Batch Operations copy](how-to/s3-batch.md) says which role, and what it may.",
    ),
    Case(
        E.ConfigurationError,
        "jobs of S3 Batch Operations would have to rename what they copy",
        lambda desk: _batch(desk, "s3://observatory/m31", "--set", f"batch.role={ROLE}"),
        ("s3://observatory/m31", "keeps the keys of what it copies", "deliver from s3://observatory"),
    ),
    Case(
        E.ConfigurationError,
        "no journal can be where one is named",
        _no_place,
        ("a file", "there is a file of that name", "--journal DIR"),
    ),
    Case(
        E.ConfigurationError,
        "the check cannot be imported",
        lambda desk: desk.deliver("--check", "nowhere:check"),
        ("nowhere:check", "No module named", "looked in"),
        "Name it as `package.module:function`; the working directory is searched after everything installed.",
    ),
    Case(
        E.ConfigurationError,
        "there is no journal at that place",
        lambda desk: desk.command("status", "nowhere"),
        ("nowhere", "there is no journal", "name the one that deliver used"),
        "Unless `--journal` named another place, it is in `.upload-core/` beside the index.",
    ),
    Case(
        E.ConfigurationError,
        "the index lost files that the journal knows",
        _shorter_index,
        ("the index", "no longer lists 2 file(s)", "put them back, or name another journal"),
    ),
    Case(
        E.ConfigurationError,
        "the journal belongs to another delivery",
        _other_delivery,
        ("delivery_id", "belongs to another delivery", "name another journal"),
    ),
    Case(
        E.ConfigurationError,
        "a bucket of AWS does not exist",
        _aws("NoSuchBucket", "PutObject", "storing 'a.fits'", 404),
        ("storing 'a.fits'", "NoSuchBucket", "check region, dataset, delivery id"),
    ),
    Case(
        E.LockHeldError,
        "somebody else works on the delivery",
        _two_at_once,
        ("another agent", "holds this delivery's lock", "let it finish or stop it"),
        "The time named is when a client that died stops blocking others; its own journal re-enters at once.",
    ),
    Case(
        E.JournalInUseError,
        "another process works with the journal",
        _journal_in_use,
        ("the journal", "another process is working with", "wait for it or stop it"),
        "`upload-core status --follow JOURNAL` looks on without disturbing it.",
    ),
    Case(
        E.LockLostError,
        "somebody took the lock over while this process stood still",
        _lock_taken_over,
        ("lock/client", "was taken over by 'another client'", "then resume"),
    ),
    Case(
        E.LockLostError,
        "somebody else wrote into our log",
        _foreign_row,
        ("log/client_staging", "another client works on this delivery", "then resume"),
    ),
    Case(
        E.IdentityError,
        "there are no AWS credentials",
        _no_credentials,
        ("AWS credentials", "were found", "set AWS_PROFILE"),
        "`upload-core doctor --to mast.toml` tries it without delivering anything.",
    ),
    Case(
        E.IdentityError,
        "the sign-in has no role for this delivery",
        _no_role,
        ("the delivery 1 of m31", "has no role", "check the label, or ask the archive's staff"),
    ),
    Case(
        E.IdentityError,
        "nobody signed in",
        _given_up,
        ("the sign-in", "was given up", "run it again"),
        "On a machine without a browser: `--no-browser` shows the address and takes the answer pasted.",
    ),
    Case(
        E.IdentityError,
        "the credentials have expired beyond renewing",
        _aws("ExpiredToken", "PutObject", "storing 'a.fits'"),
        ("storing 'a.fits'", "ExpiredToken", "sign in again, then resume"),
    ),
    Case(
        E.IdentityError,
        "the role may not do this",
        _aws("AccessDenied", "PutObject", "storing 'a.fits'", 403),
        ("storing 'a.fits'", "AccessDenied", "check the sign-in, its role"),
    ),
    Case(
        E.SignInCutError,
        "the network broke while somebody signed in",
        _cut_sign_in,
        ("127.0.0.1", "cannot be reached", "check the network, proxy and CA settings"),
        "It is not repeated by itself, since that would ask the person again.",
    ),
    Case(
        E.ArchiveUnavailableError,
        "AWS cannot be reached",
        _unreachable,
        ("storing 'a.fits'", "EndpointConnectionError", "check network and proxy settings"),
        "A delivery waits for it for a quarter of an hour, and no file spends a retry.",
    ),
    Case(
        E.ArchiveUnavailableError,
        "AWS asks for patience",
        _aws("SlowDown", "PutObject", "storing 'a.fits'", 503),
        ("storing 'a.fits'", "SlowDown", "it is tried again"),
        "Fewer files are sent at a time from then on, unless `--jobs N` fixed the number.",
    ),
    Case(
        E.ArchiveUnavailableError,
        "this machine's clock is wrong",
        _aws("RequestTimeTooSkewed", "PutObject", "storing 'a.fits'", 403),
        ("storing 'a.fits'", "RequestTimeTooSkewed", "set it"),
    ),
    Case(
        E.ArchiveUnavailableError,
        "the disk of a local archive is full",
        _disk_full,
        ("storing 'a.fits'", "full", "room"),
    ),
    Case(
        E.ArchiveError,
        "a file cannot have its name in a local archive",
        _name_taken,
        ("a.fits", "a directory has that name", "move it away"),
    ),
    Case(
        E.ChecksumMismatchError,
        "the bytes of a file do not have the CRC32 of the index",
        _wrong_checksum,
        ("a.fits", "differs", "mend the file or its line in the index"),
        "If the file is right, index it again: `upload-core index SOURCE -o INDEX` reads what has changed.",
    ),
    Case(
        E.PreconditionFailedError,
        "an object is not the one that a conditional write named",
        _conditional,
        ("lock/client", "is not the object", "look again"),
        "Deliveries handle this by themselves; a host that uses the adapters directly may meet it.",
    ),
    Case(
        E.OffsetConflictError,
        "an object has another size than an append expected",
        _offset,
        ("log/client_staging", "does not exist", "look again"),
        "As above.",
    ),
    Case(
        E.PipelineError,
        "the archive's answer to a start is not understood",
        _refused_start,
        ("the pipeline's answer", "is not understood", "resume looks whether it started"),
    ),
    Case(
        E.PipelineError,
        "validation is started without the delivery's lock",
        _local_start,
        ("the delivery's lock", "is not held by 'us'", "acquire it first"),
    ),
    Case(
        E.ValidatorStoppedError,
        "a validator of an earlier session does not end",
        _stopped_validator,
        ("a validator of an earlier session", "does not end", "try again later"),
        "It ends by itself after some minutes without a sign of life from us.",
    ),
    Case(
        E.SourceError,
        "what is indexed is no file",
        _unreadable,
        ("a.fits", "is a folder, not a plain file", "take it out of the index"),
    ),
    Case(
        E.SourceMissingError,
        "an indexed file is gone",
        _missing,
        ("gone.fits", "does not exist in the source", "correct the index or restore the file"),
    ),
    Case(
        E.SourceChangedError,
        "a file was written to while it was sent",
        _changed,
        ("a.fits", "changed", "let it come to rest, then run again"),
        "Nothing of it was stored. Index it again if the new content is the right one.",
    ),
    Case(
        E.JournalError,
        "a host resumes where nothing was begun",
        _no_journal,
        ("memory", "there is nothing to resume", "begin the delivery there"),
    ),
    Case(
        E.JournalDamagedError,
        "a record of the journal was changed or lost",
        _damaged,
        ("events-000001.ndjson", "is damaged after record", "Restore the segment from a copy"),
        "It was left untouched. Without a copy: move the journal away and deliver again; what is stored and valid is "
        "recognised and not sent again.",
    ),
    Case(
        E.JournalDamagedError,
        "a file of the journal is missing",
        _lost_table,
        ("files-0000.ndjson", "is missing", "Restore it from a copy"),
    ),
    Case(
        E.JournalVersionError,
        "the journal was written by a newer release",
        _newer,
        ("events-000001.ndjson", "has format 99, this release reads up to", "upgrade upload-core"),
    ),
    Case(
        E.JournalWriteError,
        "the journal cannot be written",
        _unwritable,
        ("journal", "cannot create the journal", "make room or name another place"),
        "Nothing is done that is not recorded first, so the delivery ends; `resume` goes on once there is room.",
    ),
    Case(
        E.NothingToDoError,
        "a host connects although every file is valid",
        _nothing_to_do,
        ("all files", "are valid already", "nothing to do"),
        "`UploadClient.run` and the command line take this for what it is: a complete delivery.",
    ),
    Case(
        E.NotReadyError,
        "a host gives a command too early, or twice",
        _connected_twice,
        ("this client", "was connected before", "make a new one"),
    ),
    Case(
        E.StoppedError,
        "a host asks for an end while the session begins",
        _stopped,
        ("the pipeline around it was cancelled",) * 3,
        "The message is what the host gave as its reason.",
    ),
    Case(
        E.IllegalEventError,
        "an event contradicts the lifecycle: a bug, or a journal that somebody forged",
        _illegal,
        ("a.fits", "FileReported cannot happen", "while it is ready"),
        "On the command line: exit code 70, and a request to report it.",
    ),
    Case(
        E.UploadClientError,
        "any of the above: hosts catch them all by this name",
        _illegal,
        ("a.fits", "FileReported cannot happen", "while it is ready"),
        "What AWS raises is botocore's `ClientError` as well.",
    ),
)
"""Every kind of error, in the order of the page."""


@attrs.frozen
class Shown:
    """What a case came to."""

    case: Case
    error: BaseException
    message: str
    exit_code: int


def shown(case: Case) -> Shown:
    """Run the case; raises `AssertionError` if it raises nothing, and whatever else it raises."""
    before, variables = os.getcwd(), dict(os.environ)
    root = Path(tempfile.mkdtemp(prefix="upload-core-errors-"))
    for name in [name for name in os.environ if name.startswith(("AWS_", "UPLOAD_CORE_"))]:
        del os.environ[name]
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "NO_PROXY": "*"}
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        os.chdir(root)
        with contextlib.redirect_stderr(io.StringIO()):  # a client that crashes says so as well
            case.provoke(Desk(root))
    except case.kind as error:
        code = 2 if isinstance(error, click.ClickException) else exit_code_of_error(error)
        message = str(error) if code == BUG else explain(error)
        return Shown(case, error, _constant(message, root), code)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(variables)
        shutil.rmtree(root, ignore_errors=True)
    raise AssertionError(f"{case.when}: nothing was raised")


def _constant(message: str, root: Path) -> str:
    """The message without what differs from run to run and from machine to machine."""
    message = message.replace(str(root.resolve()), "/data").replace(str(root), "/data")
    message = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-11-22T07:24:36Z", message)
    message = re.sub(r"'[^'@ ]+@[^': ]+:[0-9a-f]{8}'", "'ana@vega:5eeec0de'", message)
    message = re.sub(r"\(process \d+ on [^)]*\)|\(process \d+[^)]*\)", "(process 4711 on vega)", message)
    return re.sub(r"(record|offset) \d+", r"\1 12", message)


def every_case() -> Iterator[Shown]:
    """All of them, run."""
    for case in CASES:
        yield shown(case)


def page() -> Iterator[str]:
    """The page: a heading per kind, then each situation with its message."""
    last: type[BaseException] | None = None
    for found in every_case():
        kind = found.case.kind
        if kind is not last:
            meaning = (kind.__doc__ or "").split("\n\n")[0] if kind is not click.UsageError else ""
            yield f"\n## {kind.__name__}\n"
            yield f"Exit code [{found.exit_code}](exit-codes.md). {' '.join(meaning.split())}".rstrip() + "\n"
            last = kind
        yield f"**When {found.case.when}:**\n\n```text\n{found.message}\n```"
        yield f"\n{found.case.do}\n" if found.case.do else ""
