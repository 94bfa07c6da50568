"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

JOBS_MAX: Final = 512


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


_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?(?:/s)?")
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def bytes_per_s(text: str) -> float:
    """The rate that `text` names; raises `ValueError` that says how to write one.

    >>> bytes_per_s("50MB/s"), bytes_per_s("1.5KiB")
    (50000000.0, 1536.0)
    """
    found = _RATE.fullmatch(text.strip())
    if found is None or (found[3] and not found[2]) or not float(found[1]):
        raise ValueError(f"{text!r} is no rate: write 500K, 50MB/s or 1.5GiB (bytes per second)")
    power = _POWERS[found[2].upper()]
    return float(found[1]) * float((1024 if found[3] else 1000) ** power)


def bandwidth_option(command: Any) -> Any:
    """`--max-bandwidth RATE`."""

    def parsed(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text is None else bytes_per_s(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return click.option(
        "--max-bandwidth",
        metavar="RATE",
        callback=parsed,
        help="Send no more than this per second, all files together, such as 50MB/s.",
    )(command)


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


def dispatch_option(command: Any) -> Any:
    """`--dispatch`: where transfers run."""
    return click.option(
        "--dispatch",
        metavar="WHERE",
        help="Transfer on a Dask cluster: dask://HOST:PORT, or dask for processes here; s3-batch leaves copies from "
        "bucket to bucket to S3 Batch Operations; otherwise threads.",
    )(command)


def _plain(_: click.Context, __: click.Parameter, wanted: bool) -> None:
    if wanted:  # whatever this process starts is meant as well
        os.environ["NO_COLOR"] = "1"


def no_color_option(command: Any) -> Any:
    """`--no-color`: as NO_COLOR in the environment."""
    return click.option(
        "--no-color", is_flag=True, expose_value=False, is_eager=True, callback=_plain, help="As NO_COLOR=1 does."
    )(command)


def verbosity_options(command: Any) -> Any:
    """`-q`, `-v` and `--no-color`: how much is told, and how."""

    def demanded(ctx: click.Context, _: click.Parameter, count: int) -> int:
        if count and ctx.params.get("quiet"):
            raise click.UsageError("-q and -v contradict each other: say one of them", ctx)
        return count

    quiet = click.option("-q", "--quiet", is_flag=True, is_eager=True, help="Show errors only.")
    verbose = click.option(
        "-v", "--verbose", "verbosity", count=True, callback=demanded, help="Tell what happens; -vv tells every event."
    )
    return quiet(verbose(no_color_option(command)))


class JournalPath(click.Path):
    """The directory of a journal; a shell completes those in `.upload-core/` here, and any directory."""

    def __init__(self) -> None:
        super().__init__(file_okay=False)
        self.name = "journal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Whatever is named: whoever reads it says what is wrong with it."""
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Journals by name; where none fits, the shell's own completion of directories."""
        from upload_adapters.wiring import JOURNALS

        found = sorted(path.parent.as_posix() for path in Path().glob(f"{JOURNALS}/*/events-000001.ndjson"))
        names = [name for name in found if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="dir")]


journal_argument = click.argument("journal", type=JournalPath())
journals_argument = click.argument("journals", metavar="JOURNAL...", type=JournalPath(), nargs=-1, required=True)
