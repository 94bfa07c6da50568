"""What the archive deploys around its public package: the init function's handler and the validator's container.

Runs in the environment of `requirements.txt`, as `archive_side.py function` (payload on stdin, answer on stdout) and as
`archive_side.py container`. Rule: everything that decides is the unmodified package; here is only what starts it.
"""

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


if __name__ == "__main__":
    {"function": function, "container": container}[sys.argv[1]]()
