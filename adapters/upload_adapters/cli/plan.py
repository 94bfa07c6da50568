"""`upload-core plan`: everything that can be said of a delivery before it begins."""

from __future__ import annotations

import click

from upload_adapters.cli.output import files, problems_json, size, write_json, write_line
from upload_adapters.console import TerminalConsole
from upload_adapters.index_file import read_index
from upload_adapters.indexing import build_table
from upload_adapters.wiring import open_source
from upload_core.errors import ConfigurationError, IndexProblemsError
from upload_core.index_check import NO_FILES


@click.command()
@click.argument("source", type=click.Path())
@click.argument("index", type=click.Path())
@click.option("--allow-case-duplicates", is_flag=True, help="Let names differ by letter case or Unicode form alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all problems.")
def command(source: str, index: str, allow_case_duplicates: bool, as_json: bool) -> int:
    """Check an index against SOURCE; touches nothing.

    Prints how many files and bytes a delivery has, or every problem it would be refused for (exit code 2).
    """
    try:
        table = build_table(read_index(index), open_source(source), allow_case_duplicates=allow_case_duplicates)
    except IndexProblemsError as error:
        TerminalConsole().message(str(error), "error")
        if as_json:
            data = {"outcome": "refused", "exit_code": 2, "message": str(error).partition("\n")[0]}
            write_json(data | {"problems": problems_json(error)})
        return 2
    if not len(table):
        raise ConfigurationError(NO_FILES)
    checked = sum(table.checksum(row) is not None for row in range(len(table)))
    if as_json:
        data = {"outcome": "ready", "exit_code": 0, "files": len(table), "bytes": table.total_bytes}
        write_json(data | {"checksums": checked, "problems": []})
    else:
        write_line(
            f"{files(len(table))}, {size(table.total_bytes)} ({table.total_bytes:,} bytes), {_checksums(checked, len(table))}"
        )
        write_line("no problems: the index can be delivered")
    return 0


def _checksums(checked: int, total: int) -> str:
    return (
        "with checksums" if checked == total else "without checksums" if not checked else f"{checked:,} with a checksum"
    )
