"""`upload-core validate-local`: a local archive's validator as a process of its own."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import click

from upload_adapters.console import TerminalConsole
from upload_adapters.local import LocalPlaces, run_validator
from upload_adapters.wiring import load_check
from upload_core.errors import ConfigurationError
from upload_core.text import printable


@click.command()
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--dataset", required=True, metavar="D", help="Name of the data set.")
@click.option("--delivery-id", required=True, metavar="I", help="Name of the delivery.")
@click.option("--sample", is_flag=True, help="Of the sample delivery.")
@click.option("--check", metavar="MOD:FUNC", help="Also calls FUNC(path, relpath) -> problems for each file.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors only.")
def command(directory: str, dataset: str, delivery_id: str, sample: bool, check: str | None, quiet: bool) -> int:
    """Run a local archive's validator as a process.

    Waits for a session of the delivery in DIRECTORY (the DIR of --to file:///DIR, which must be there), judges its
    files and ends with it. Client and validator talk through the log files only.
    """
    console = TerminalConsole(quiet=quiet)
    if not os.path.isdir(directory):
        raise ConfigurationError(
            f"there is no directory {printable(directory, 300)}; make it, or name the DIR of --to file:///DIR"
        )
    checker = None if check is None else load_check(check, os.getcwd())
    places = LocalPlaces(directory, dataset, delivery_id, "sample" if sample else "staging")
    ending = threading.Event()
    interrupted = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        ending.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_validator(places, check=checker, ending=ending, notify=lambda text: console.message(text, "info"))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 130 if interrupted else 0
