#!/usr/bin/env python
"""A delivery by mast-transfer-tools 1.0.3, as a process of its own: its `upload()`, as its command calls it.

One thing of it is changed: it is signed in by the keys of the environment instead of a person in front of a browser.
Its `UploadClient.__init__` is wrapped, to remember the client whose files say how it ended; it does what it did.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import boto3
import pandas as pd
from mast_transfer_tools.labels import Label
from mast_transfer_tools.upload.client import UploadClient
from mast_transfer_tools.upload.upload import upload


def sign_in(client: UploadClient) -> None:
    """What `cognito_authenticate` leaves behind."""
    client.session = boto3.Session()


def main() -> int:
    """Deliver `data` by `index.csv`, both in the working directory; 1 unless every file is valid."""
    made: list[UploadClient] = []
    initialize = UploadClient.__init__

    def remembered(self: UploadClient, **options: object) -> None:
        made.append(self)
        initialize(self, **options)

    UploadClient.__init__ = remembered
    UploadClient.cognito_authenticate = sign_in
    label = Label.from_text(Path("label.yaml").read_text("utf-8"))
    with suppress(SystemExit):  # by which it ends in good times and in bad, always with 0
        upload(label, "staging", pd.read_csv("index.csv"), Path("data").absolute())
    states = {file.state for client in made for file in client.file_list}
    print(states, file=sys.stderr)
    return int(states != {"valid"})


if __name__ == "__main__":
    sys.exit(main())
