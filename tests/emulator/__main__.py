"""The emulator as a process: prints its URL as JSON on one line and serves until it is ended.

python -m tests.emulator --port 0 --bucket name --parameter NAME=VALUE --function NAME=COMMAND
"""

import argparse
import json
import os
import shlex
import signal
import threading

from tests.emulator import CommandFunction, CommandRunner, Emulator, Settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="an SSM parameter")
    parser.add_argument(
        "--function",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="a Lambda function: JSON on stdin, JSON out",
    )
    parser.add_argument(
        "--skew", type=float, default=0.0, metavar="SECONDS", help="how far the server's clock is ahead"
    )
    parser.add_argument("--task", default="", metavar="COMMAND", help="what ECS RunTask starts")
    options = parser.parse_args()

    with Emulator(Settings(skew_s=options.skew), port=options.port) as emulator:
        for name in options.bucket:
            emulator.store.create_bucket(name)
        for given in options.parameter:
            name, _, value = given.partition("=")
            emulator.parameters.values[name] = ("String", value)
        if options.task:
            emulator.tasks.runner = CommandRunner(shlex.split(options.task), emulator.environment())
        for given in options.function:
            name, _, command = given.partition("=")
            emulator.functions.by_name[name] = CommandFunction(
                shlex.split(command), {**os.environ, **emulator.environment()}
            )
        print(json.dumps({"url": emulator.url, "environment": emulator.environment()}), flush=True)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        ended.wait()


if __name__ == "__main__":
    main()
