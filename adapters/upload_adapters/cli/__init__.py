"""The command line. Human text goes to standard error, data to standard output; the exit codes are a table.

Nothing but click is imported before a command is known: `upload-core --help` must cost no more than a tenth of a
second. Each command lives in a module of its own, which parses, calls the library and prints.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import click
from click.shell_completion import CompletionItem

YOUNG_OBJECTS: Final = 50_000
"""Of a process of our own. Python's 700 would search for cycles some 200 times while boto3 is imported, a sixth of the
time that takes, and find none."""


class CommandRow(NamedTuple):
    """Where a command lives, and the line that `--help` shows for it."""

    module: str
    help: str


COMMANDS: Final[dict[str, CommandRow]] = {
    "index": CommandRow("index", "List the files of SOURCE with size and CRC32."),
    "plan": CommandRow("plan", "Check an index against SOURCE; touches nothing."),
    "deliver": CommandRow("deliver", "Deliver the files of an index, or go on with it."),
    "resume": CommandRow("resume", "Go on with a delivery from its journal."),
    "pause": CommandRow("pause", "Begin no further file until `continue`."),
    "continue": CommandRow("continue_", "Begin files again after `pause`."),
    "status": CommandRow("status", "How deliveries stand, also while they run."),
    "history": CommandRow("history", "Tell one file's story in plain words."),
    "replay": CommandRow("replay", "Show the state a journal led to, at any moment."),
    "diff": CommandRow("diff", "Show what changed between two moments or journals."),
    "report": CommandRow("report_page", "Tell a delivery's story in one page, with a receipt."),
    "export": CommandRow("export", "Write a journal's records as a table."),
    "verify": CommandRow("verify", "Check a journal, or the archive against it."),
    "login": CommandRow("login", "Sign in with an archive."),
    "logout": CommandRow("logout", "End a sign-in."),
    "config": CommandRow("config", "Show what is configured, and where it comes from."),
    "doctor": CommandRow("doctor", "Find out whether a delivery would work from here."),
    "validate-local": CommandRow("validate_local", "Run a local archive's validator as a process."),
    "completion": CommandRow("completion", "Print what lets a shell complete commands."),
    "man": CommandRow("man", "Print the manual page."),
    "demo": CommandRow("demo", "Deliver a small data set, kill it midway, resume."),
    "simulate": CommandRow("simulate", "Deliver in a simulated world where anything goes wrong."),
}
"""Command -> its module and short help; the order is that of `--help`."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a person needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of that name."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        command: click.Command = importlib.import_module(f"upload_adapters.cli.{row.module}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options that begin so, by the table: a shell waits for the answer at every tab."""
        found = [CompletionItem(n, help=row.help) for n, row in COMMANDS.items() if n.startswith(incomplete)]
        return found + (click.Command.shell_complete(self, ctx, incomplete) if incomplete.startswith("-") else [])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands' short helps by the table, so that none is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from upload_core import __version__
        from upload_core.journal import FORMAT_VERSION

        click.echo(f"upload-core {__version__} (journal format {FORMAT_VERSION})")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every step is an event in a journal: a delivery may be killed at any instant, and the same command goes on.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the release, and the format of its journals.",
)
def cli() -> None:
    """Deliver a directory of files to an archive, judged file by file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no error leaves this function."""
    if arguments is None:
        gc.set_threshold(YOUNG_OBJECTS)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    no_color = os.environ.get("NO_COLOR")
    try:
        code = cli.main(arguments, prog_name="upload-core", standalone_mode=False, obj=arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (BrokenPipeError, SystemExit) as end:
        # Whoever read our output has seen enough: click wraps it then, and exits with 1. Other exits are what they say.
        if isinstance(end, BrokenPipeError) or type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            from upload_adapters.cli.output import drop_output

            drop_output()
            return 0
        return end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the outermost edge: every error becomes a message and an exit code
        from upload_adapters.cli.output import refuse

        return refuse(error, as_json="--json" in arguments)
    finally:
        if no_color is None:
            os.environ.pop("NO_COLOR", None)  # --no-color was said for this command alone
        else:
            os.environ["NO_COLOR"] = no_color
