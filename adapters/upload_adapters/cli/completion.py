"""`upload-core completion`: what lets bash, zsh or fish complete commands, options and journals."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from upload_adapters.cli.output import write_raw

VARIABLE: Final = "_UPLOAD_CORE_COMPLETE"
"""By which a shell asks; click answers it before anything else."""

SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print what lets a shell complete commands.

    For this shell: eval "$(upload-core completion bash)", or zsh; in fish: upload-core completion fish | source. To
    keep it, put that line in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.
    """
    from upload_adapters.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three"
    write_raw(kind(cli, {}, "upload-core", VARIABLE).source().rstrip() + "\n")
    return 0
