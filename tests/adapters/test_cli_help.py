"""The command line explains itself, quickly."""

import resource
import subprocess
import sys

import click
import pytest

from tests.command_line import COMMAND, ROOT, environment
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


def test_the_overview_imports_nothing_but_click():
    code = (
        "import sys; from upload_adapters.cli import main; main(['--help']);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment()
    )
    heavy = {"upload_core", "rich", "boto3", "narwhals", "pyarrow", "attrs", "attr", "msgspec", "transitions"}
    assert heavy & set(done.stderr.split()) == set()


def test_the_overview_costs_at_most_150_ms_of_cpu():
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True, cwd=ROOT, env=environment())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) <= 0.15, costs


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
