"""What the archive deploys around its public package: the init function's handler and the validator's container.

Runs in the environment of `requirements.txt`, as `archive_side.py function` (payload on stdin, answer on stdout), as
`archive_side.py container`, and as `archive_side.py reader` (texts on stdin, what is read from them on stdout). Rule: everything that decides is the unmodified package; here is only what starts it.
"""

import io
import json
import os
import sys
from contextlib import redirect_stdout


def function() -> None:
    """Lambda's part: one payload in, one answer out; what the function prints goes to its log."""
    from mast_transfer_tools.lambda_.core import main

    payload = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):
        answer = main(payload, None)
    json.dump(answer, sys.stdout)


def container() -> None:
    """The task's part: take the parameters that the function encoded, validate until the session is over."""
    print("Initializing pipeline", flush=True)
    from mast_transfer_tools.config import VAL_PIPE_SETTINGS
    from mast_transfer_tools.lambda_.core import load_kwargs
    from mast_transfer_tools.server.core import ValidationSession

    settings = VAL_PIPE_SETTINGS | json.loads(os.environ.get("VALIDATOR_SETTINGS", "{}"))
    session = ValidationSession.from_launch_parameters(**load_kwargs(os.environ["KWARGBLOB"]), settings=settings)
    session.start()
    session.pipe_future.result()
    print(f"ended: {session.exception!r}", flush=True)


def reader() -> None:
    """The paths of each index, None for one that the validator cannot read; data set and delivery of each label."""
    from mast_transfer_tools.labels import Label
    from mast_transfer_tools.server.core import parse_index_file

    def paths_of(index: str) -> list[str] | None:
        try:
            return list(parse_index_file(io.BytesIO(index.encode()), labels[0])["path"])
        except TypeError:  # a path that is no text
            return None

    texts = json.load(sys.stdin)
    labels = [Label.from_text(text) for text in texts["labels"]]
    read = {"labels": [[label.dataset, str(label.delivery_id)] for label in labels]}
    json.dump({**read, "indexes": [paths_of(index) for index in texts["indexes"]]}, sys.stdout)


if __name__ == "__main__":
    {"function": function, "container": container, "reader": reader}[sys.argv[1]]()
