"""`upload-core pause`: have the process that works on a delivery begin no further file."""

from __future__ import annotations

import click

from upload_adapters.cli.options import journal_argument
from upload_adapters.cli.pausing import ask


@click.command(name="pause")
@journal_argument
def command(journal: str) -> int:
    """Begin no further file until `continue`.

    What is under way finishes; lock and validator stay served, so a pause may last. SIGUSR1 to the process does the same.
    """
    return ask(journal, "pause")
