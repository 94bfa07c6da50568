#!/usr/bin/env python
"""A client that connects when it is told to, and says whether it holds the delivery's lock; one process of a race.

It runs under the interpreter that has the package to be raced: `theirs` is the client of mast-transfer-tools, `ours` that
of upload-core. For each line `go` it answers `ready`, `held` or `refused`, and quits before the next.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

DATASET, DELIVERY = sys.argv[2:4]
SOURCE, INDEX = Path("data").absolute(), pd.read_csv("index.csv")


def theirs(_: int) -> Any:
    """Its client, signed in by the keys of the environment instead of a person in front of a browser; nothing else of it is changed."""
    import boto3
    from mast_transfer_tools.upload.client import UploadClient

    client = UploadClient(
        dataset=DATASET, delivery_id=DELIVERY, file_index=INDEX, transfer_type="staging", source=SOURCE
    )
    client.session = boto3.Session()
    return client


def ours(number: int) -> Any:
    """Ours, each time with a journal of its own, as on a machine of its own."""
    from upload_adapters.wiring import wire
    from upload_core import UploadClient
    from upload_core.wiring import WiringRequest

    journal = f"journal-{os.getpid()}-{number}"
    ports = wire(WiringRequest(DATASET, DELIVERY, "staging", to="mast.toml", journal=journal, source=SOURCE))
    return UploadClient(
        dataset=DATASET, delivery_id=DELIVERY, file_index=INDEX, transfer_type="staging", source=SOURCE, ports=ports
    )


def race(make: Callable[[int], Any]) -> None:
    """Connect at each `go`; quit at the line after it."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a client prints is no answer
    print("ready", file=answers, flush=True)
    for number, _ in enumerate(iter(sys.stdin.readline, "")):
        client = make(number)
        print("ready", file=answers, flush=True)
        sys.stdin.readline()
        try:
            client.connect()
        except Exception as error:  # noqa: BLE001 - by whatever error, it was refused
            print(type(error).__name__, error, file=sys.stderr)
        held = client.state in ("ready", "connected")
        print("held" if held else "refused", file=answers, flush=True)
        sys.stdin.readline()
        client.quit()
        print("gone", file=answers, flush=True)


if __name__ == "__main__":
    race({"theirs": theirs, "ours": ours}[sys.argv[1]])
