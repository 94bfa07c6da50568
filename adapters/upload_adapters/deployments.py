"""An archive in AWS as its deployment file names it: `--to mast.toml`.

Rule: the file and the environment are read here, once; what a later `resume` needs of them goes into the journal, and
nothing secret does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upload_adapters import configuration
from upload_adapters.clock import SystemClock
from upload_adapters.configuration import Configuration
from upload_core.errors import ConfigurationError
from upload_core.text import quoted
from upload_core.wiring import WiringRequest

if TYPE_CHECKING:
    from upload_adapters.aws.assembly import AwsPorts, LateIdentity, Person

SCHEME: Final = "aws:"
"""What the name of such an archive begins with in journals."""
FILE_SETTING: Final = "deployment_file"


def is_deployment(to: str) -> bool:
    """Whether this names a deployment file, or a directory that holds one."""
    if "://" in to:
        return False
    return to.endswith(".toml") or os.path.isfile(os.path.join(to, configuration.FILE_NAME))


def load(to: str | None, flags: Mapping[str, str]) -> Configuration:
    """The configuration of a deployment file, environment and flags over it; raises `ConfigurationError`."""
    return configuration.load(to, environ=os.environ, flags=flags)


def archive_name(configured: Configuration, request: WiringRequest) -> str:
    """The public name of a delivery's archive: its bucket is known only to whoever has signed in."""
    name = configured.text("deployment.name") or configured.text("deployment.network_parameter")
    return f"{SCHEME}{name}:{request.dataset}-{request.delivery_id}-{request.transfer_type}"


def recorded_settings(configured: Configuration) -> dict[str, str]:
    """The file's place and every value that was set, as `load_recorded` wants them; without what is secret."""
    variables = {setting.name: setting.variable for setting in configuration.SETTINGS}
    found = {} if configured.path is None else {FILE_SETTING: os.path.abspath(configured.path)}
    for value in configured.values:
        if value.secret or value.value is None or value.origin == "default":
            continue
        # A variable or flag overrules the file also when the session that resumes has it no more.
        overruling = value.origin.startswith(("environment ", "flag "))
        found[variables[value.name] if overruling else value.name] = str(value.value)
    return found


def load_recorded(
    settings: Mapping[str, str], to: str | None = None, flags: Mapping[str, str] | None = None
) -> Configuration:
    """The configuration that a journal recorded: the file as it is now (`to`, if it has moved), variables and flags
    over it.

    A file that is gone stands as it was recorded.
    """
    path = to or settings.get(FILE_SETTING)
    known = {setting.name: setting.variable for setting in configuration.SETTINGS}
    variables = {name: settings[name] for name in known.values() if name in settings}
    if to is None and path is not None and not os.path.exists(path):
        variables = {known[name]: value for name, value in settings.items() if name in known} | variables
        path = None
    # An empty variable counts as not set.
    given = {name: value for name, value in os.environ.items() if value}
    return configuration.load(None if path is None else Path(path), environ=variables | given, flags=flags)


def ports(configured: Configuration, request: WiringRequest, person: Person) -> AwsPorts:
    """The AWS side of a delivery; raises `ConfigurationError` for settings that cannot work."""
    from upload_adapters.aws.assembly import aws_ports
    from upload_core.wire import Keys

    keys = Keys(request.dataset, request.delivery_id, request.transfer_type)
    return aws_ports(configured, keys, person, SystemClock(), browser=request.browser)


def identity(configured: Configuration, person: Person, *, browser: bool) -> LateIdentity:
    """Who a person is to the archive, for `login` and `logout`: there is no delivery yet."""
    from upload_adapters.aws.assembly import aws_identity

    return aws_identity(configured, person, browser=browser)


def demand_same(recorded: str, found: str) -> None:
    """Raises `ConfigurationError` if the configuration names another archive than the journal."""
    if recorded != found:
        raise ConfigurationError(
            f"the delivery belongs to the archive {quoted(recorded, 200)}, and the configuration now names "
            f"{quoted(found, 200)}; name the deployment file that the delivery was begun with (--to)"
        )
