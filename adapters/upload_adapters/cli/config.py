"""`upload-core config`: what is configured, and where each value comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from upload_adapters import configuration, deployments
from upload_adapters.cli.options import setting_option
from upload_adapters.cli.output import write_cells, write_json, write_line
from upload_adapters.wiring import TO_VARIABLE, demand_no_settings, directory_of

VALUE_WIDTH: Final = 40
"""Longer values move their origin to the right instead of all others."""


def chosen(to: str | None) -> tuple[str | None, str]:
    """The deployment file to use and who named it: the flag, the environment, or `mast.toml` lying here.

    A local archive has none.
    """
    if to:
        return to, "flag --to"
    named = os.environ.get(TO_VARIABLE, "")
    if named:
        return (named if deployments.is_deployment(named) else None), f"environment {TO_VARIABLE}"
    if os.path.isfile(configuration.FILE_NAME):
        return configuration.FILE_NAME, "found here"
    return None, "default"


def local_archive(to: str | None) -> str | None:
    """The URL of the directory that is the archive, if one is named; raises `ConfigurationError` if it is none."""
    named = to or os.environ.get(TO_VARIABLE, "")
    if not named or deployments.is_deployment(named):
        return None
    return Path(directory_of(named)).as_uri()


@click.group()
def command() -> None:
    """Show what is configured, and where it comes from."""


@command.command()
@click.option("--to", metavar="FILE", help="A deployment's mast.toml; otherwise $UPLOAD_CORE_TO, or mast.toml here.")
@setting_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(to: str | None, settings: dict[str, str], as_json: bool) -> int:
    """Show every value and its origin.

    Of an archive that is a directory, only its place: it has no settings. Three columns: name, value, origin. Secrets are masked, so the output may be passed on.
    """
    path, origin = chosen(to)
    if (archive := local_archive(to)) is not None:
        demand_no_settings(settings, archive)
        if as_json:
            write_json({"archive": archive, "file": None, "file_origin": origin, "settings": []})
        else:
            write_line(f"archive: {archive} ({origin})")
            write_line("a directory is delivered to without a deployment file, settings or sign-in")
        return 0
    rows = list(deployments.load(path, settings).show())
    if as_json:
        found = [{"name": name, "value": value, "origin": where} for name, value, where in rows]
        write_json({"file": path, "file_origin": origin, "settings": found})
        return 0
    write_line(f"deployment file: {path or 'none'} ({origin})")
    width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, where in rows:
        write_cells([name.ljust(width), value.ljust(min(value_width, VALUE_WIDTH)), where])
    return 0
