"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click


def _settings(ctx: click.Context, _: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """The named values; a name that is no setting is told by whoever reads them."""
    found: dict[str, str] = ctx.params.get(
        "settings", {}
    )  # where a shorthand came before, its own: click keeps the first
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


def _transport(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """Stands among the settings, as if `--set` had said it."""
    if name is not None:
        ctx.params.setdefault("settings", {})["deployment.transport"] = name


def transport_option(command: Any) -> Any:
    """`--transport`: what carries the bytes to an archive in AWS; short for a setting of that name."""
    return click.option(
        "--transport",
        type=click.Choice(["auto", "curl", "boto3"]),
        expose_value=False,
        callback=_transport,
        help="What carries the files' bytes to AWS: libcurl where it is installed, or boto3.",
    )(command)
