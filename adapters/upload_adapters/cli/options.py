"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click


def _settings(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """The named values; a name that is no setting is told by whoever reads them."""
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise click.BadParameter(f"{pair!r} must be NAME=VALUE, for example deployment.region=us-east-1")
        found[name.strip()] = value
    return found


def setting_option(command: Any) -> Any:
    """`--set NAME=VALUE`, as often as needed: settings of a deployment over its file and the environment."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_settings,
        help="A setting over mast.toml and environment, such as deployment.region=us-east-1.",
    )(command)
