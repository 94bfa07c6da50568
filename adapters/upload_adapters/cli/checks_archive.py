"""What `doctor` looks at beyond this machine: a journal, and the archive with sign-in, network and clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upload_adapters import deployments
from upload_adapters.cli.checks import Check, Finding, disk, fail, ok, warn
from upload_adapters.cli.output import files, size, span
from upload_adapters.clock import SystemClock
from upload_adapters.journal_reader import JournalReader
from upload_core.errors import (
    ConfigurationError,
    JournalDamagedError,
    JournalError,
    JournalVersionError,
    UploadClientError,
)
from upload_core.text import printable

if TYPE_CHECKING:
    from upload_adapters.configuration import Configuration

AHEAD_S: Final = 60.0
AHEAD_MAX_S: Final = 300.0
"""Of clocks that are further apart most services refuse what is signed; S3 does after 15 minutes ("Troubleshooting
Signature Version 4", docs.aws.amazon.com/IAM)."""
LOW_S: Final = 1_800.0
REMEDY: Final = "restore it from a copy, or move it away and deliver again: what is valid is not sent again"


# --- a journal -----------------------------------------------------------------------------------


def journal(path: Path) -> Check:
    """Whether it is whole, of a release that we read, free, and may be written."""

    def check() -> Iterator[Finding]:
        from upload_adapters.cli.watching import CUT_OFF, RUNNING, Watch

        reader = JournalReader(path, snapshots=False)
        shown = printable(str(path), 200)
        if not reader.exists():
            yield fail("journal", f"there is none at {shown}", "name the one that deliver used", 2)
            return
        try:
            whole = reader.advance()
        except (JournalDamagedError, JournalVersionError) as error:
            yield fail("journal", str(error), REMEDY, 7)
            return
        held = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        found = f"{reader.position.seq:,} records of {files(len(reader.delivery))}, {size(held)}, all whole"
        watch = Watch(str(path))
        watch.look()
        if not whole and not watch.running:
            yield warn("journal", f"{found} but an unfinished end", "nothing: resume keeps a copy and cuts it off")
        else:
            yield ok("journal", found)
        if watch.session == RUNNING:
            yield ok("session", "a process works on it now")
        elif watch.session == CUT_OFF:
            yield warn("session", "cut off: its process ended without closing it", "upload-core resume goes on")
        else:
            yield ok("session", f"ended {watch.session}")
        yield from disk(path, "journal disk")()

    return check


# --- an archive ----------------------------------------------------------------------------------


def directory(path: Path) -> Check:
    """A local archive: a delivery makes it, so one that is not there yet may be mistyped."""

    def check() -> Iterator[Finding]:
        found = list(disk(path, "archive")())
        yield from found
        if not path.exists() and not any(finding.verdict == "fail" for finding in found):
            shown = printable(str(path), 200)
            yield warn(
                "archive", f"{shown} does not exist yet", "deliver makes it; mend the name if it should be there"
            )

    return check


def deployment(configured: Configuration) -> Iterator[Check]:
    """The checks of an archive in AWS."""
    yield lambda: iter([ok("settings", printable(configured.path or "from the environment", 200))])
    yield _network(configured)
    yield _identity(configured)


def _network(configured: Configuration) -> Check:
    def check() -> Iterator[Finding]:
        from upload_adapters.aws.checkup import reach

        try:
            reached = reach(configured.text("deployment.region") or None, SystemClock())
        except UploadClientError as error:
            yield fail("endpoint", str(error), "check network, proxy (HTTPS_PROXY) and CA settings (AWS_CA_BUNDLE)", 8)
            return
        yield ok("endpoint", f"{printable(reached.url, 200)} answers in {reached.answer_s * 1000:.0f} ms")
        apart_s = abs(reached.ahead_s)
        shown = f"{span(apart_s)} {'behind' if reached.ahead_s > 0 else 'ahead of'} the archive's"
        if apart_s < 1:
            yield ok("clock", "agrees with the archive's")
        elif apart_s < AHEAD_S:
            yield ok("clock", f"{shown}, which is made up for")
        elif apart_s < AHEAD_MAX_S:
            yield warn("clock", shown, "set it (NTP); deliveries make up for it, sign-ins may not")
        else:
            yield fail("clock", shown, "set it (NTP): AWS refuses requests that are more than 5 min away, S3 15 min", 5)

    return check


class _Nobody:
    """The person whom the doctor asks: there is none."""

    def tell(self, text: str) -> None:
        """Nobody hears it."""

    def ask(self, question: str) -> str:
        """Nobody answers."""
        raise EOFError

    def agrees(self, question: str) -> bool:
        """Nobody does."""
        return False

    def waiting(self, way: Callable[[], str]) -> str:
        """Nobody is waited for."""
        return way()


def _identity(configured: Configuration) -> Check:
    def check() -> Iterator[Finding]:
        cognito = configured.text("identity.kind") == "cognito"
        if cognito and configured.text("identity.tokens") != "keyring":
            yield ok("sign-in", "each delivery asks for one; try it with upload-core login")
            return
        identity = deployments.identity(configured, _Nobody(), browser=False)
        try:
            name = identity.sign_in()
        except ConfigurationError as error:
            yield fail("sign-in", str(error), "mend the deployment file", 2)
            return
        except UploadClientError as error:
            remedy = "upload-core login" if cognito else "aws sts get-caller-identity tells more"
            yield fail("sign-in", str(error), remedy, 5)
            return
        ends_ms = identity.expires_ms()
        left_s = None if ends_ms is None else ends_ms / 1000 - time.time()
        if left_s is None:
            yield ok("sign-in", name)
        elif left_s < LOW_S:
            yield warn("sign-in", f"{name}, for {span(left_s)} more", "sign in anew unless it is renewed by itself")
        else:
            yield ok("sign-in", f"{name}, for {span(left_s)} more")
        if not cognito:
            yield from _places(configured, identity.session)

    return check


def _places(configured: Configuration, session: Callable[[], object]) -> Iterator[Finding]:
    """Whether these credentials may read where the archive keeps things."""
    from upload_adapters.aws.deployment import AwsDeployment
    from upload_core.wire import Keys

    name = configured.text("deployment.network_parameter")
    place = AwsDeployment(session, Keys("doctor", "0", "staging"), network_parameter=name)
    try:
        parameters = place.parameters()
    except UploadClientError as error:
        yield fail("archive", str(error), "check region and network_parameter, and who you are signed in as", 2)
    else:
        yield ok("archive", f"its places are known; locks are stale after {span(parameters.lock_staleness_threshold)}")


def archive(to: str) -> Iterator[Check]:
    """The checks of the archive that `to` names; raises `ConfigurationError` if it names none."""
    from upload_adapters.local.identity import user_at_host
    from upload_adapters.wiring import directory_of

    if deployments.is_deployment(to):
        yield from deployment(deployments.load(to, {}))
        return
    yield directory(Path(directory_of(to)))
    yield lambda: iter([ok("sign-in", f"not needed: files are stored as {user_at_host()[0]}")])


def recorded_archive(path: Path) -> Iterator[Check]:
    """The checks of the archive that a journal was begun for; raises `ConfigurationError`."""
    from upload_adapters.wiring import recorded

    if not JournalReader(path).exists():
        return  # what is wrong with the journal is told once, by its own check
    try:
        created, _ = recorded(path)
    except JournalError:
        return
    if created.archive.startswith(deployments.SCHEME):
        yield from deployment(deployments.load_recorded(created.settings))
    else:
        yield from archive(created.archive)
