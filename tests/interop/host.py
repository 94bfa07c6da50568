"""A host program that delivers as the command line does, with limits of its own: `host.py LIMITS COMMAND...`.

LIMITS is JSON; what is not in it stays as the archive has it.
"""

import importlib
import json
import sys
from typing import Any

import attrs

from upload_adapters.cli import main
from upload_core.ports import Ports


def with_limits(wire: Any, limits: dict[str, float]) -> Any:
    def wired(*arguments: Any) -> Ports:
        ports: Ports = wire(*arguments)
        ports.limits = attrs.evolve(ports.limits, **limits)
        return ports

    return wired


if __name__ == "__main__":
    chosen = json.loads(sys.argv.pop(1))
    for command, name in (("deliver", "wire"), ("resume", "wire_journal")):
        module = importlib.import_module(f"upload_adapters.cli.{command}")
        setattr(module, name, with_limits(getattr(module, name), chosen))
    sys.exit(main())
