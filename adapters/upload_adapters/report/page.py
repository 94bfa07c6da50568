"""Writing a report: the page, whole and by itself, and the receipt beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from upload_adapters.durable import write_durably
from upload_adapters.outputs import begins_with
from upload_adapters.report import receipt as receipts
from upload_adapters.report.answers import Standing
from upload_adapters.report.reading import Reading
from upload_adapters.report.view import Receipt, View, view
from upload_core.errors import ConfigurationError
from upload_core.text import printable

EMBEDDED_MAX: Final = 256 * 1024
"""Bytes of a receipt that the page holds itself; a longer one is beside it only."""
SUFFIX: Final = ".receipt.ndjson"
IS_PAGE: Final = begins_with(b"<!doctype html>", b'<meta name="generator" content="upload-core ')
IS_RECEIPT: Final = begins_with(b'{"receipt":"upload-core",')
"""What an earlier report is known by, which a new one may replace."""


def receipt_path(page: Path) -> Path:
    """Where the receipt of a page is written: beside it, under its name."""
    return page.with_name(page.name.removesuffix(".html") + SUFFIX)


def write_report(page: Path, readings: Sequence[Reading], standings: Sequence[Standing]) -> Path:
    """Write the page and, before it, the receipt that it speaks of; returns the receipt's path.

    Each is there whole or not at all. Raises `ConfigurationError` without jinja2, `OSError`.
    """
    demand_jinja()
    beside = receipt_path(page)
    write_durably(beside, _told(receipts.receipt(readings), told := _Told()))
    text = beside.read_text("ascii") if told.size <= EMBEDDED_MAX else ""
    kept = Receipt(beside.name, told.digest.hexdigest(), told.files, told.size, text)
    html = render(view(readings, standings, kept))
    write_durably(page, [html.encode()])
    return beside


class _Told:
    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self.files = 0


def _told(chunks: Iterator[bytes], told: _Told) -> Iterator[bytes]:
    for chunk in chunks:
        told.digest.update(chunk)
        told.size += len(chunk)
        told.files += chunk.count(b"\n")
        yield chunk
    told.files -= 2  # head and seal


def demand_jinja() -> None:
    """Raises `ConfigurationError` that says what to install where jinja2 is missing."""
    from importlib.util import find_spec

    if find_spec("jinja2") is None:
        raise ConfigurationError("a report's page is made with jinja2: pip install 'upload-core[report]'")


def render(shown: View) -> str:
    """The page; whatever is put into it is escaped, and made printable before."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("upload_adapters.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["whole"] = lambda text: markupsafe.escape(
        text
    )  # many lines, or longer than what is shown of a text
    return environment.get_template("report.html.j2").render(shown=shown)


def _printable(value: object) -> object:
    """What an expression of the template gives, safe to show; markup of our own stays as it is."""
    return printable(value) if type(value) is str else value
