"""`upload-core logout`: end a sign-in, at the archive and in the keyring."""

from __future__ import annotations

import click

from upload_adapters import deployments
from upload_adapters.cli.config import chosen, local_archive
from upload_adapters.cli.options import setting_option
from upload_adapters.console import TerminalConsole


@click.command()
@click.option("--to", metavar="FILE", help="The archive's mast.toml; otherwise $UPLOAD_CORE_TO.")
@setting_option
def command(to: str | None, settings: dict[str, str]) -> int:
    """End a sign-in.

    Revokes what `login` kept in the keyring and forgets it. The browser's own session is ended by the page shown.
    """
    console = TerminalConsole()
    if (archive := local_archive(to)) is not None:
        console.message(f"nothing to do: {archive} is a directory and needs no sign-in", "success")
        return 0
    configured = deployments.load(chosen(to)[0], settings)
    if configured.text("identity.kind") != "cognito":
        console.message("nothing to do: AWS credentials of this machine need no sign-in", "success")
        return 0
    page = deployments.identity(configured, console, browser=False).sign_out()
    console.message("signed out", "success")
    if page:
        console.tell(f"To end the browser's session as well, open:\n{page}")
    return 0
