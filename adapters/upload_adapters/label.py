"""The label of a delivery: a page of YAML that names its data set and delivery, put beside the data as it is.

Rule: what a label says of the delivery and what the host says of it must agree.
"""

from __future__ import annotations

import os
from typing import Any, Final

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
    delivery_id: str

    def demand(self, dataset: str, delivery_id: str) -> None:
        """Raises `ConfigurationError` unless the label is that of this delivery."""
        for name, mine, given in (
            ("dataset", self.dataset, dataset),
            ("delivery_id", self.delivery_id, delivery_id),
        ):
            if mine != given:
                raise ConfigurationError(
                    f"the label {self.path} is for another delivery: its {name} is {quoted(mine, 100)}, not "
                    f"{quoted(given, 100)}; name the right label, or leave out what it says already"
                )


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
        # Plain text for every scalar: as a number, delivery 007 would be delivery 7.
        content: Any = yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but text, lists and dicts
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"the label {place} is not YAML: {printable(str(error), 300)}; mend it") from error
    named = {name: _text(content, name) for name in ("dataset", "delivery_id")}
    missing = [name for name, value in named.items() if not value]
    if missing:
        raise ConfigurationError(f"the label {place} does not say its {' and '.join(missing)}; a line each is needed")
    return Label(os.path.abspath(path), data, named["dataset"], named["delivery_id"])


def _text(content: Any, name: str) -> str:
    value = content.get(name) if isinstance(content, dict) else None
    return value.strip() if isinstance(value, str) else ""
