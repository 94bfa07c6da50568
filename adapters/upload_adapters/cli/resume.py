"""`upload-core resume`: go on with a delivery, from nothing but its journal."""

from __future__ import annotations

import click

from upload_adapters.cli.again import deliver_command
from upload_adapters.cli.hooks import hook_options
from upload_adapters.cli.interrupts import Interrupts
from upload_adapters.cli.options import (
    bandwidth_option,
    dispatch_option,
    jobs_option,
    journal_argument,
    setting_option,
    transport_option,
    verbosity_options,
)
from upload_adapters.cli.output import debugging
from upload_adapters.cli.session import prepare, run
from upload_adapters.cli.windows import Windows, window_option
from upload_adapters.wiring import wire_journal
from upload_core.client import UploadClient


@click.command()
@journal_argument
@click.option("--to", metavar="FILE", help="The archive's deployment file, if it has moved since.")
@jobs_option(default=None)
@window_option
@bandwidth_option
@setting_option
@transport_option
@dispatch_option
@click.option("--no-browser", is_flag=True, help="Show the sign-in's address, and take the answer pasted here.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, the last line of stdout.")
@click.option("--events", is_flag=True, help="Print the journal's records to stdout as they are committed.")
@hook_options
@verbosity_options
def command(
    journal: str,
    to: str | None,
    jobs: int | None,
    window: Windows | None,
    max_bandwidth: float | None,
    settings: dict[str, str],
    dispatch: str | None,
    no_browser: bool,
    as_json: bool,
    events: bool,
    on_finish: str | None,
    metrics: str | None,
    quiet: bool,
    verbosity: int,
) -> int:
    """Go on with a delivery from its journal.

    Everything else (source, archive, settings) is as the journal recorded it.
    """
    with Interrupts() as interrupts:
        ports = wire_journal(journal, {"to": to, "browser": not no_browser, "settings": settings, "dispatch": dispatch})
        console = prepare(ports, bandwidth=max_bandwidth, quiet=quiet, events=events)
        client = UploadClient.resume(ports=ports, n_threads=jobs, debug=debugging())
        created = client.delivery.created
        return run(
            client,
            console,
            interrupts,
            ports=ports,
            as_json=as_json,
            verbosity=verbosity,
            windows=window,
            again=deliver_command(created, ports.source.name, ports.journal.name, to=to),
            metrics=metrics,
            on_finish=on_finish,
        )
