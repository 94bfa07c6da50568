"""`upload-core deliver`: begin a delivery, or go on with it if its journal is there."""

from __future__ import annotations

import os

import click

from upload_adapters.cli.again import INDEX_SETTING
from upload_adapters.cli.hooks import hook_options
from upload_adapters.cli.interrupts import Interrupts
from upload_adapters.cli.options import (
    bandwidth_option,
    dispatch_option,
    jobs_option,
    setting_option,
    transport_option,
    verbosity_options,
)
from upload_adapters.cli.output import debugging
from upload_adapters.cli.session import again_by, prepare, run
from upload_adapters.cli.windows import Windows, window_option
from upload_adapters.index_file import read_index
from upload_adapters.label import read_label
from upload_adapters.wiring import TO_VARIABLE, default_journal, wire
from upload_core.client import UploadClient
from upload_core.errors import ConfigurationError
from upload_core.ports import TransferType
from upload_core.wiring import WiringRequest


@click.command()
@click.argument("source", type=click.Path())
@click.argument("index", type=click.Path())
@click.option("--dataset", metavar="D", help="Name of the data set, unless the label says it.")
@click.option("--delivery-id", metavar="I", help="Name of this delivery of it, unless the label says it.")
@click.option("--to", metavar="ARCHIVE", help=f"A deployment's mast.toml, or file:///DIR; otherwise ${TO_VARIABLE}.")
@click.option("--sample", is_flag=True, help="A sample delivery, not the real one.")
@click.option("--label", type=click.Path(), help="The delivery's label (YAML), put beside it.")
@click.option("--journal", type=click.Path(), help="Directory of the journal; otherwise in .upload-core/ beside INDEX.")
@jobs_option(default="auto")
@click.option(
    "--max-retries", type=click.IntRange(0, 200), default=2, show_default=True, help="Further attempts per file."
)
@click.option("--check", metavar="MOD:FUNC", help="A local archive also calls FUNC(path, relpath) -> problems.")
@window_option
@bandwidth_option
@setting_option
@transport_option
@dispatch_option
@click.option("--no-browser", is_flag=True, help="Show the sign-in's address, and take the answer pasted here.")
@click.option("--allow-case-duplicates", is_flag=True, help="Let names differ by letter case or Unicode form alone.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, the last line of stdout.")
@click.option("--events", is_flag=True, help="Print the journal's records to stdout as they are committed.")
@hook_options
@verbosity_options
def command(
    source: str,
    index: str,
    dataset: str | None,
    delivery_id: str | None,
    to: str | None,
    sample: bool,
    label: str | None,
    journal: str | None,
    jobs: int,
    max_retries: int,
    check: str | None,
    window: Windows | None,
    max_bandwidth: float | None,
    settings: dict[str, str],
    dispatch: str | None,
    no_browser: bool,
    allow_case_duplicates: bool,
    as_json: bool,
    events: bool,
    on_finish: str | None,
    metrics: str | None,
    quiet: bool,
    verbosity: int,
) -> int:
    """Deliver the files of an index, or go on with it.

    INDEX (CSV or Parquet) lists files of SOURCE. The same command again goes on where the journal ends: what is valid
    is not sent again.
    """
    transfer_type: TransferType = "sample" if sample else "staging"
    with Interrupts() as interrupts:
        dataset, delivery_id = _delivery(dataset, delivery_id, label)
        columns = read_index(index)
        request = WiringRequest(
            dataset,
            delivery_id,
            transfer_type,
            source,
            to,
            journal,
            label,
            check,
            browser=not no_browser,
            allow_case_duplicates=allow_case_duplicates,
            settings=settings,
            dispatch=dispatch,
        )
        if journal is None:
            _demand_name(dataset, delivery_id)
            request = _with_journal(request, default_journal(request, beside=index))
        ports = wire(request)
        # so that whoever resumes can be told what to index and deliver again
        ports.settings = {**ports.settings, INDEX_SETTING: os.path.abspath(index)}
        console = prepare(ports, bandwidth=max_bandwidth, quiet=quiet, events=events)
        client = UploadClient(
            dataset=dataset,
            delivery_id=delivery_id,
            file_index=columns,
            transfer_type=transfer_type,
            source=source,
            n_threads=jobs,
            max_retries=max_retries,
            debug=debugging(),
            ports=ports,
        )
        del columns
        return run(
            client,
            console,
            interrupts,
            ports=ports,
            as_json=as_json,
            verbosity=verbosity,
            windows=window,
            again=again_by(click.get_current_context().obj or ()),
            metrics=metrics,
            on_finish=on_finish,
        )


def _delivery(dataset: str | None, delivery_id: str | None, label: str | None) -> tuple[str, str]:
    """Data set and delivery: what the flags leave out the label says; that the two agree is checked with the rest."""
    if label is not None and not (dataset and delivery_id):
        found = read_label(label)
        dataset, delivery_id = dataset or found.dataset, delivery_id or found.delivery_id
    if not dataset or not delivery_id:
        raise click.UsageError(
            f"Missing option '{'--delivery-id' if dataset else '--dataset'}', or a '--label' that says it."
        )
    return dataset, delivery_id


def _demand_name(*names: str) -> None:
    """These become a directory's name; the client checks them in full."""
    for name in names:
        if not name or os.sep in name or "\0" in name or name.startswith("."):
            raise ConfigurationError(f"{name!r} must consist of letters, digits, '-', '_' and '.'")


def _with_journal(request: WiringRequest, journal: os.PathLike[str]) -> WiringRequest:
    import attrs

    return attrs.evolve(request, journal=journal)
