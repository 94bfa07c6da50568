"""Follow a delivery from asyncio: it runs on a thread, and the loop is never blocked.

python examples/in_an_event_loop.py SOURCE ARCHIVE
"""

import asyncio
import sys

from upload_adapters.streams import afollow
from upload_core import UploadClient
from upload_core import events as ev


async def main(source: str, archive: str) -> int:
    """Deliver `source`, count verdicts as they come, and stop it if the task is cancelled."""
    import pandas as pd

    from upload_adapters.source_directory import DirectorySource

    with DirectorySource(source) as directory:
        index = pd.DataFrame({"path": directory.scan().relpaths})
    client = UploadClient(
        dataset="example",
        delivery_id="2",
        file_index=index,
        transfer_type="staging",
        source=source,
        to=f"file://{archive}",
        journal=f"{archive}-journal",
        n_threads=4,
    )
    judged = 0
    async for _ in afollow(client, kinds={ev.FileValidated, ev.FileInvalidated}):
        judged += 1
    print(f"{judged} verdicts, exit code {client.summary().exit_code}")
    return client.summary().exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
