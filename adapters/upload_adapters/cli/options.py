"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

JOBS_MAX: Final = 512


def _settings(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """The named values; a name that is no setting is told by whoever reads them."""
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise click.BadParameter(f"{pair!r} must be NAME=VALUE, for example deployment.region=us-east-1")
        found[name.strip()] = value
    return found


def _jobs(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """The number of files sent at a time; `auto` is 0 to the library."""
    if text is None or text == "auto":
        return None if text is None else 0
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= JOBS_MAX):
        raise click.BadParameter(f"{text!r} is neither 'auto' nor a number from 1 to {JOBS_MAX}")
    return int(text)


def jobs_option(default: str | None) -> Callable[[Any], Any]:
    """`--jobs N`, or `--jobs auto`; without a `default` it stays as the journal has it."""
    return click.option(
        "--jobs",
        callback=_jobs,
        metavar="N|auto",
        default=default,
        show_default=default is not None,
        help="Files sent at a time; auto finds how many do well.",
    )


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
