"""What a shell and `man` get: completion in the shells themselves, and a page that `man` reads without complaint."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, Desk, environment
from upload_adapters.cli import COMMANDS, main

SCRIPTS = {
    "bash": """
eval "$(upload-core completion bash)"
COMP_WORDS=(upload-core {words}); COMP_CWORD={last}
_upload_core_completion upload-core
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    "zsh": """
autoload -Uz compinit; compinit -u
compadd() {{ :; }}
_describe() {{ local name=$3; print -rl -- ${{(P)name}}; }}
compdef() {{ :; }}
eval "$(upload-core completion zsh)"
words=(upload-core {words}); CURRENT={place}
_upload_core_completion
""",
    "fish": """
upload-core completion fish | source
complete --do-complete "upload-core {line}"
""",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("shell"), count=1)
    made.index()
    assert made.run(*made.deliver).returncode == 0
    script = made.root / "upload-core"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upload_adapters.cli "$@"\n')
    script.chmod(0o755)
    return made


def completed(desk: Desk, shell: str, *words: str) -> str:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    quoted = " ".join(f"'{word}'" for word in words)
    script = SCRIPTS[shell].format(words=quoted, last=len(words), place=len(words) + 1, line=" ".join(words))
    plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    env = environment(HOME=str(desk.root))
    env["PATH"] = f"{desk.root}:{env['PATH']}"
    done = subprocess.run(
        [program, *plain, "-c", script], cwd=desk.root, env=env, capture_output=True, text=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_commands_options_and_journals(desk, shell):
    names = [re.split(r"[\t:]", line)[0] for line in completed(desk, shell, "sta").splitlines()]
    assert names == ["status"]
    assert "--max-retries" in completed(desk, shell, "deliver", "--max-r")
    if shell == "bash":  # the others hand a single file or directory to their own completion
        assert completed(desk, shell, "status", ".up").strip() == ".upload-core/d-1-staging"


def test_a_tab_imports_no_command(desk):
    code = "import sys; from upload_adapters.cli import main; main([]); print(*sys.modules, file=sys.stderr)"
    env = environment(_UPLOAD_CORE_COMPLETE="bash_complete", COMP_WORDS="upload-core ", COMP_CWORD="1")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert set(COMMANDS) <= {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert not [name for name in done.stderr.split() if name.startswith("upload_adapters.cli.") or name == "attrs"]


def test_another_shell_is_a_usage_error(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err


def page(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["man"]) == 0
    return capsys.readouterr().out


def test_the_page_that_is_shipped_is_the_one_that_is_printed(capsys):
    """`make fix` writes it."""
    assert (ROOT / "docs" / "man" / "upload-core.1").read_text("utf-8") == page(capsys)


def test_the_page_names_every_command_option_and_exit_code(capsys):
    from upload_adapters.cli import cli
    from upload_adapters.cli.exit_codes import MEANINGS

    text = page(capsys).replace("\\-", "-")
    import click

    group = click.Context(cli)
    for name in COMMANDS:
        found = cli.get_command(group, name)
        assert found is not None
        assert f".SS {name}" in text
        for param in found.params:
            if isinstance(param, click.Option):
                assert any(option in text for option in param.opts), (name, param.opts)
    for code in MEANINGS:
        assert f".B {code}\n" in text


def test_man_reads_the_page_without_complaint(tmp_path: Path, capsys):
    if shutil.which("man") is None:
        pytest.skip("man is not installed here")
    (tmp_path / "upload-core.1").write_text(page(capsys), "utf-8")
    done = subprocess.run(
        ["man", "--warnings", "-l", str(tmp_path / "upload-core.1")],
        env=environment(MANPAGER="cat", LC_ALL="C.UTF-8"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "upload-core status [OPTIONS] JOURNAL..." in done.stdout


def test_whoever_names_no_command_is_told_which_there_are_and_reproached_nothing(desk):
    for words in ([], ["config"]):
        done = desk.run(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: upload-core ")
        assert "Try:" not in done.stderr


def test_a_list_of_choices_is_shown_without_escapes(desk):
    done = desk.run("completion")
    assert done.returncode == 2
    assert "Choose from: bash, zsh, fish\nTry: upload-core completion --help" in done.stderr
