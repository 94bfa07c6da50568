"""The command that delivers a delivery's index again, as its journal knows it: `resume` reads no index."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from upload_adapters import configuration, deployments
from upload_adapters.cli.ending import shown_path
from upload_adapters.wiring import default_journal
from upload_core import events as ev
from upload_core.wiring import WiringRequest

INDEX_SETTING: Final = "index"
"""Under it `deliver` records the place of the index in a new journal."""
UNKNOWN_INDEX: Final = "INDEX"
"""Stands for the index of a delivery that a program began, or an earlier release."""


def deliver_command(created: ev.DeliveryCreated, source: str, journal: str, *, to: str | None = None) -> str:
    """What to type; `source` is that of the latest session, `to` a deployment file that has moved since."""
    directory = created.settings.get("check_directory", "")
    elsewhere = bool(directory) and not _is_here(directory)
    words = ["upload-core", "deliver", *_words(created, source, journal, to=to, whole_paths=elsewhere)]
    # a check is looked for where the command is typed
    return f"cd {shlex.quote(directory)} && {shlex.join(words)}" if elsewhere else shlex.join(words)


def fresh_journal(journal: str) -> str:
    """A place beside that journal where there is none yet."""
    number = 2
    while os.path.lexists(f"{journal}-{number}"):
        number += 1
    return f"{journal}-{number}"


def _words(
    created: ev.DeliveryCreated, source: str, journal: str, *, to: str | None, whole_paths: bool
) -> Iterator[str]:
    settings = created.settings

    def shown(path: str) -> str:
        return path if whole_paths or "://" in path else shown_path(path)

    index = settings.get(INDEX_SETTING)
    yield from (shown(source), UNKNOWN_INDEX if index is None else shown(index))
    yield from ("--dataset", created.dataset, "--delivery-id", created.delivery_id)
    if created.transfer_type == "sample":
        yield "--sample"
    if not created.archive.startswith(deployments.SCHEME):
        yield from ("--to", created.archive)
    elif to or deployments.FILE_SETTING in settings:
        yield from ("--to", shown(to or settings[deployments.FILE_SETTING]))
    if "label" in settings:
        yield from ("--label", shown(settings["label"]))
    if index is None or default_journal(_request(created), beside=index) != Path(journal).absolute():
        yield from ("--journal", shown(os.path.abspath(journal)))
    for name in ("check", "dispatch"):
        if name in settings:
            yield from (f"--{name}", settings[name])
    for setting in configuration.SETTINGS:
        if setting.variable in settings:
            yield from ("--set", f"{setting.name}={settings[setting.variable]}")


def _request(created: ev.DeliveryCreated) -> WiringRequest:
    return WiringRequest(
        created.dataset, created.delivery_id, "sample" if created.transfer_type == "sample" else "staging", ""
    )


def _is_here(directory: str) -> bool:
    try:
        return os.path.samefile(directory, os.getcwd())
    except OSError:
        return False
