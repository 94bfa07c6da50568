"""What a host may ask for: the bounds of a delivery's settings."""

from __future__ import annotations

from typing import Final

from upload_core.errors import ConfigurationError

MAX_RETRIES_LIMIT: Final = 200
"""Retries are counted in a byte for each file."""


def check_settings(dataset: str, delivery_id: str, transfer_type: str, n_threads: int, max_retries: int) -> None:
    """Raises `ConfigurationError` for the first setting that cannot work."""
    for name, value in (("dataset", dataset), ("delivery_id", delivery_id)):
        if not value or not all(c.isalnum() or c in "-_." for c in value) or value.startswith((".", "-")):
            raise ConfigurationError(f"{name} {value!r} must consist of letters, digits, '-', '_' and '.'")
    if transfer_type not in ("staging", "sample"):
        raise ConfigurationError(f"transfer_type {transfer_type!r} must be 'staging' or 'sample'")
    if n_threads < 0:
        raise ConfigurationError(f"n_threads is {n_threads}; it must be at least 1, or 0 to let it find its level")
    if not 0 <= max_retries <= MAX_RETRIES_LIMIT:
        raise ConfigurationError(f"max_retries is {max_retries}; it must be between 0 and {MAX_RETRIES_LIMIT}")
