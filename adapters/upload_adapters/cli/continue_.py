"""`upload-core continue`: have the process that works on a delivery begin files again."""

from __future__ import annotations

import click

from upload_adapters.cli.options import journal_argument
from upload_adapters.cli.pausing import ask


@click.command(name="continue")
@journal_argument
def command(journal: str) -> int:
    """Begin files again after `pause`.

    SIGUSR2 to the process does the same.
    """
    return ask(journal, "continue")
