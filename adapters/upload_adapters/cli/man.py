"""`upload-core man`: the manual page, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from upload_adapters.cli.output import write_raw


@click.command()
def command() -> int:
    """Print the manual page.

    Read it with: upload-core man | man -l -
    """
    write_raw(page())
    return 0


def page() -> str:
    """The manual page in the language of `man`."""
    from upload_adapters.cli import COMMANDS, cli
    from upload_adapters.cli.exit_codes import MEANINGS
    from upload_core import __version__

    group = click.Context(cli, info_name="upload-core")
    lines = [f'.TH UPLOAD-CORE 1 "" "upload-core {__version__}" "User Commands"', ".SH NAME"]
    lines += [f"upload-core \\- {_text(cli.help or '').rstrip('.')}", ".SH SYNOPSIS"]
    for name in COMMANDS:
        lines += [".br", f".B upload-core {_text(name)}", _text(_usage(group, name))]
    lines += [".SH DESCRIPTION", _text(cli.epilog or ""), ".SH OPTIONS"]
    lines += [".TP", ".B \\-h, \\-\\-help", "Show help; every command has its own."]
    lines += _options(cli, group)
    lines.append(".SH COMMANDS")
    for name in COMMANDS:
        lines += _command(group, name)
    lines.append(".SH EXIT STATUS")
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {code}", _text(meaning.replace("`", ""))]
    lines.append(".SH ENVIRONMENT")
    for variable, meaning in ENVIRONMENT.items():
        lines += [".TP", f".B {variable}", _text(meaning)]
    lines += [".SH FILES", ".TP", ".I .upload\\-core/", _text("Journals, one directory for each delivery.")]
    return "\n".join(lines) + "\n"


ENVIRONMENT = {
    "UPLOAD_CORE_TO": "The archive, where --to does not name it.",
    "UPLOAD_CORE_DEBUG": "If set, errors come with their traceback, and deliveries tell every event.",
    "NO_COLOR": "If set, nothing is coloured; as --no-color.",
    "FORCE_COLOR": "If set, messages are coloured even where nobody watches.",
}
"""Variable -> what it does. Those of a deployment's settings are shown by `config show`."""


def _command(group: click.Context, name: str) -> Iterator[str]:
    found = group.command.get_command(group, name) if isinstance(group.command, click.Group) else None
    assert found is not None, name
    yield f".SS {_text(name)} {_text(_usage(group, name))}"
    for number, paragraph in enumerate((found.help or "").split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))
    yield from _options(found, click.Context(found, group, name))
    if isinstance(found, click.Group):
        for sub in found.list_commands(group):
            row = found.get_command(group, sub)
            assert row is not None, sub
            yield f".SS {_text(name)} {_text(sub)}"
            yield _text(" ".join((row.help or "").split()))
            yield from _options(row, click.Context(row, group, sub))


def _usage(group: click.Context, name: str) -> str:
    assert isinstance(group.command, click.Group)
    found = group.command.get_command(group, name)
    assert found is not None, name
    return " ".join(found.collect_usage_pieces(click.Context(found, group, name)))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for param in command.get_params(context):
        # which names the help has depends on who asked for it first
        shown = isinstance(param, click.Option) and "--help" not in param.opts
        record = param.get_help_record(context) if shown else None
        if record is not None:
            yield ".TP"
            yield f".B {_text(record[0])}"
            yield _text(record[1])


def _text(text: str) -> str:
    """Text as it stands: a backslash, a minus and a dot or quote at a line's beginning would mean something."""
    escaped = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
