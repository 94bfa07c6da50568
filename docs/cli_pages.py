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
        context = click.Context(command, group, name, terminal_width=WIDTH, max_content_width=WIDTH)
        yield f"\n## {name}\n\n```text\n{command.get_help(context)}\n```"


def exit_code_rows() -> Iterator[str]:
    """The table of exit codes, as Markdown."""
    yield "| code | meaning | errors |"
    yield "|---|---|---|"
    for code, meaning in MEANINGS.items():
        kinds = [f"`{kind.__name__}`" for kind, of_kind in ERROR_CODES.items() if of_kind == code]
        yield f"| {code} | {meaning} | {', '.join(kinds)} |"
