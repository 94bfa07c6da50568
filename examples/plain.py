"""Deliver a directory from a program: index it, deliver it to a directory as archive, and say how it ended.

python examples/plain.py SOURCE ARCHIVE
"""

import sys

from upload_core import UploadClient
from upload_core import events as ev


def main(source: str, archive: str) -> int:
    """Deliver every file below `source`; the exit code is the delivery's."""
    import pandas as pd

    from upload_adapters.source_directory import DirectorySource

    with DirectorySource(source) as directory:
        index = pd.DataFrame({"path": directory.scan().relpaths})
    client = UploadClient(
        dataset="example",
        delivery_id="1",
        file_index=index,
        transfer_type="staging",
        source=source,
        to=f"file://{archive}",
        journal=f"{archive}-journal",
        n_threads=0,
    )
    client.subscribe(lambda record: print(record.time, record.event), kinds={ev.SessionOpened, ev.SessionClosed})
    summary = client.run()
    for file in summary.failed:
        print(f"{file.relpath}: {file.message}")
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
