"""`upload-core export`: a journal's records as a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


def _print_schema(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from upload_core.schema import journal_schema

        sys.stdout.write(json.dumps(journal_schema(), indent=1) + "\n")
        ctx.exit()


@click.command()
@click.argument("journal", type=click.Path())
@click.option(
    "-o", "--output", metavar="FILE", required=True, type=click.Path(), help="New file: .parquet, .csv or .ndjson."
)
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of a journal's lines instead.",
)
def command(journal: str, output: str) -> int:
    """Write a journal's records as a table.

    One row per record, with the path of its file; columns that a kind of event does not have are empty. Reads the
    journal and nothing else, also while the delivery runs.
    """
    from upload_adapters.cli.output import write_line
    from upload_adapters.export import export

    count = export(Path(journal), Path(output))
    write_line(f"{count:,} records written to {output}")
    return 0
