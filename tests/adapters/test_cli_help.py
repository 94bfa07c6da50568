"""The command line explains itself, quickly."""

import subprocess
import sys

import click
import pytest

from tests.command_line import ROOT, environment
from upload_adapters.cli import COMMANDS, cli, main


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_overview_is_the_first_line_of_the_commands_own_help(name):
    assert (command(name).help or "").split("\n")[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name):
    silent = [p.name for p in command(name).params if isinstance(p, click.Option) and not p.help]
    assert silent == []


def test_the_overview_names_every_command_with_its_help(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, row in COMMANDS.items():
        assert f"{name} " in shown
        assert row.help in shown


def imported_by(code: str) -> set[str]:
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, env=environment())
    return set(done.stdout.decode().splitlines()[-1].split())


def test_the_overview_imports_little_but_click():
    """What it costs is measured by `benchmarks/`; here it is what is loaded, which no busy machine changes."""
    beside_click = imported_by("from upload_adapters.cli import main; main(['--help'])") - imported_by("import click")
    heavy = {"upload_core", "rich", "boto3", "narwhals", "pyarrow", "attrs", "attr", "msgspec", "transitions"}
    assert heavy & {name.partition(".")[0] for name in beside_click} == set()
    assert len(beside_click) <= 20, sorted(beside_click)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["plan"], ["deliver", "--jobs", "0"], ["index", "--frob"]])
def test_wrong_usage_is_exit_code_2_with_a_hint(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage" in captured.err or "--help" in captured.err


def test_the_version_is_that_of_the_library(capsys):
    import upload_core
    from upload_core.journal import FORMAT_VERSION

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"upload-core {upload_core.__version__} (journal format {FORMAT_VERSION})\n"
