"""A host's process that delivers an emulated archive's bucket by S3 Batch Operations, or goes on with it.

python -m tests.adapters.aws.batch_host ROOT SETTING=VALUE ...
"""

import json
import sys
from pathlib import Path

from tests.adapters.aws.emulated_archive import DATASET, DELIVERY, QUICK
from upload_adapters.wiring import wire, wire_journal
from upload_core import UploadClient
from upload_core.wiring import WiringRequest


def main(root: Path, *settings: str) -> None:
    """Deliver to the end, and print how it ended."""
    chosen = dict(setting.split("=", 1) for setting in settings)
    journal = root / "journal"
    if journal.joinpath("events-000001.ndjson").exists():
        ports = wire_journal(journal, {"settings": chosen})
        client = UploadClient.resume(ports=ports)
    else:
        request = WiringRequest(
            DATASET,
            DELIVERY,
            "staging",
            "s3://observatory",
            str(root / "mast.toml"),
            journal,
            settings=chosen,
            dispatch="s3-batch",
        )
        ports = wire(request)
        index = json.loads((root / "index.json").read_text())
        client = UploadClient(
            dataset=DATASET,
            delivery_id=DELIVERY,
            file_index=index,
            transfer_type="staging",
            source="s3://observatory",
            ports=ports,
            n_threads=3,
        )
    ports.limits = QUICK
    summary = client.run()
    print(json.dumps({"outcome": summary.outcome, "code": summary.exit_code, "retries": summary.retries}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
