"""Blocks of the command line's pages, made from the commands and tables themselves."""

from collections.abc import Iterator

import click

from upload_adapters.cli import COMMANDS, cli
from upload_adapters.cli.exit_codes import ERROR_CODES, MEANINGS

WIDTH = 100


def help_pages() -> Iterator[str]:
    """The help of every command, as Markdown."""
    group = click.Context(cli, info_name="upload-core", terminal_width=WIDTH, max_content_width=WIDTH)
    for name in COMMANDS:
        command = cli.get_command(group, name)
        assert command is not None
        yield from _help_of(command, group, name, 2)


def _help_of(command: click.Command, parent: click.Context, name: str, level: int) -> Iterator[str]:
    """The help of a command, and below it that of each command of a group."""
    context = click.Context(command, parent, name, terminal_width=WIDTH, max_content_width=WIDTH)
    yield f"\n{'#' * level} {name}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _help_of(found, context, below, level + 1)


def exit_code_rows() -> Iterator[str]:
    """The table of exit codes, as Markdown."""
    yield "| code | meaning | errors |"
    yield "|---|---|---|"
    for code, meaning in MEANINGS.items():
        kinds = [f"`{kind.__name__}`" for kind, of_kind in ERROR_CODES.items() if of_kind == code]
        yield f"| {code} | {meaning} | {', '.join(kinds)} |"
