"""`upload-core login`: sign in with an archive, so that a delivery need not ask."""

from __future__ import annotations

import click

from upload_adapters import deployments
from upload_adapters.cli.config import chosen, local_archive
from upload_adapters.cli.options import setting_option
from upload_adapters.console import TerminalConsole


@click.command()
@click.option("--to", metavar="FILE", help="The archive's mast.toml; otherwise $UPLOAD_CORE_TO.")
@setting_option
@click.option("--no-browser", is_flag=True, help="Show the sign-in's address, and take the answer pasted here.")
def command(to: str | None, settings: dict[str, str], no_browser: bool) -> int:
    """Sign in with an archive.

    With tokens = "keyring" in [identity] the sign-in is kept there, and deliveries go on with it until it ends or you
    log out. Otherwise this shows only that signing in works: each delivery asks anew.
    """
    console = TerminalConsole()
    if (archive := local_archive(to)) is not None:
        console.message(f"nothing to do: {archive} is a directory and needs no sign-in", "success")
        return 0
    configured = deployments.load(chosen(to)[0], settings)
    name = deployments.identity(configured, console, browser=not no_browser).sign_in()
    if configured.text("identity.kind") != "cognito":
        console.message(f"nothing to do: {name} need no sign-in", "success")
    elif configured.text("identity.tokens") == "keyring":
        console.message(f"signed in as {name}; kept in the keyring", "success")
    else:
        console.message(f"signed in as {name}", "success")
        console.message(
            'the sign-in ends with this command; set tokens = "keyring" in [identity] to have deliveries use it', "info"
        )
    return 0
