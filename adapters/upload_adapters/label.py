"""The label of a delivery: a page of YAML that names its data set and delivery, put beside the data as it is.

Rule: what a label says of the delivery and what the host says of it must agree, and it says what the archive's public
package reads in it: the names of buckets and control objects come from that.
"""

from __future__ import annotations

import os
from typing import Any, Final, NoReturn

import attrs
import yaml

from upload_core.errors import ConfigurationError
from upload_core.text import printable, quoted

LABEL_BYTES_MAX: Final = 1024 * 1024
"""A label describes a delivery in a page or two of YAML; anything longer is another file by mistake."""


@attrs.frozen
class Label:
    """A label as it was read; `data` is its bytes, unchanged."""

    path: str
    data: bytes = attrs.field(repr=False)
    dataset: str
    written_id: str

    @property
    def delivery_id(self) -> str:
        """The delivery's id as the archive reads it."""
        return read_id(self.written_id)

    def demand(self, dataset: str, delivery_id: str, *, as_written: bool = False) -> None:
        """Raises `ConfigurationError` unless the label is that of this delivery.

        With `as_written`, for archives that read no label, its id may also be meant as it is written.
        """
        if self.dataset != dataset:
            self._refuse("dataset", quoted(self.dataset, 100), dataset)
        if delivery_id != self.delivery_id and not (as_written and delivery_id == self.written_id):
            mine, written = (quoted(text, 100) for text in (self.delivery_id, self.written_id))
            self._refuse(
                "delivery_id", mine if mine == written else f"{mine} (so the archive reads {written})", delivery_id
            )

    def _refuse(self, name: str, mine: str, given: str) -> NoReturn:
        raise ConfigurationError(
            f"the label {self.path} is for another delivery: its {name} is {mine}, not {quoted(given, 100)}; "
            "name the right label, or leave out what it says already"
        )


def read_id(text: str) -> str:
    """An id as the archive's package reads it in a label, quoted or not: what is an integer to Python is that integer.

    >>> [read_id(text) for text in ("2025_10", "0x1F", "+5", "-0", " 5 ", "007", "1e3")]
    ['202510', '31', '5', '0', '5', '007', '1e3']
    """
    try:
        return str(int(text, base=0))
    except ValueError:
        return text


def read_label(path: str | os.PathLike[str]) -> Label:
    """The label at `path`; raises `ConfigurationError` if it cannot be read or does not say what it is for."""
    place = printable(os.fspath(path), 300)
    try:
        with open(path, "rb") as file:
            data = file.read(LABEL_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"the label {place} cannot be read: {error.strerror or error}") from error
    if len(data) > LABEL_BYTES_MAX:
        raise ConfigurationError(f"the label {place} is longer than {LABEL_BYTES_MAX:,} bytes")
    try:
        # Plain text for every scalar: as YAML has numbers, delivery 007 would be delivery 7, and 1_0 no number.
        content: Any = yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but text, lists and dicts
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"the label {place} is not YAML: {printable(str(error), 300)}; mend it") from error
    named = {name: _text(content, name) for name in ("dataset", "delivery_id")}
    missing = [name for name, value in named.items() if not value.strip()]
    if missing:
        raise ConfigurationError(f"the label {place} does not say its {' and '.join(missing)}; a line each is needed")
    return Label(os.path.abspath(path), data, named["dataset"], named["delivery_id"])


def _text(content: Any, name: str) -> str:
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) else ""
