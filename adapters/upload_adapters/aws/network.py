"""Where an archive keeps things: the network parameter that its staff publish in SSM."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from upload_adapters.aws.errors import AwsConfigurationError, cut_short, translated
from upload_core.text import printable

DEFAULT_PARAMETER: Final = "/mast-fast/delivery"


class ParameterCalls(Protocol):
    """The one call of SSM that is used."""

    def get_parameter(self, *, Name: str, WithDecryption: bool) -> Any:  # noqa: N803 - AWS's names
        """The parameter; raises botocore's errors."""


class NetworkParameters(msgspec.Struct, frozen=True, rename="upper"):
    """The archive's places, under the names that the parameter gives them (in upper case)."""

    availability_zone_id: str
    bucket_stem: str
    config_bucket: str
    init_lambda_arn: str
    lock_staleness_threshold: float = 3600.0
    """Seconds after which a lock may be taken over."""
    task_config_prefix: str = ""


def parse_network_parameters(text: str, name: str = DEFAULT_PARAMETER) -> NetworkParameters:
    """The parameter's JSON; unknown fields are ignored. Raises `ConfigurationError` saying what is wrong with it.

    >>> parse_network_parameters("{}")
    Traceback (most recent call last):
    upload_adapters.aws.errors.AwsConfigurationError: ...
    """
    try:
        # Written by people: a number may stand in quotes.
        found = msgspec.convert(msgspec.json.decode(text), NetworkParameters, strict=False)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise AwsConfigurationError(
            f"the network parameter {name} cannot be used: {printable(str(error))}; tell the archive's staff"
        ) from error
    empty = [
        field.upper()
        for field in ("availability_zone_id", "bucket_stem", "init_lambda_arn")
        if not getattr(found, field).strip()
    ]
    if empty or not 0 < found.lock_staleness_threshold < 1e9:
        wrong = ", ".join(empty) or "LOCK_STALENESS_THRESHOLD"
        raise AwsConfigurationError(f"the network parameter {name} has no usable {wrong}; tell the archive's staff")
    return found


def read_network_parameters(ssm: ParameterCalls, name: str = DEFAULT_PARAMETER) -> NetworkParameters:
    """Ask SSM. Raises `ConfigurationError` if there is no such parameter or it makes no sense, and AWS's errors."""
    doing = f"reading the network parameter {name}"
    with translated(doing):
        answer = ssm.get_parameter(Name=name, WithDecryption=True)
    value = answer.get("Parameter", {}).get("Value")
    if value is None:
        raise cut_short(doing)
    return parse_network_parameters(value, name)
