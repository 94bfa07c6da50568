"""Lambda functions for the emulator: any callable from payload to result, or a command in another environment."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

Function = Callable[[Any], Any]


class FunctionError(Exception):
    """The function failed by itself; the caller sees it as Lambda shows an unhandled exception."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


@attrs.frozen
class CommandFunction:
    """Runs a command with the payload as JSON on its standard input; its standard output is the JSON result."""

    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    timeout_s: float = 300.0

    def __call__(self, payload: Any) -> Any:
        """Raises `FunctionError` if the command fails."""
        done = subprocess.run(
            list(self.argv),
            input=json.dumps(payload),
            env=dict(self.env) if self.env is not None else None,
            capture_output=True,
            text=True,
            timeout=self.timeout_s,
            check=False,
        )
        if done.returncode:
            raise FunctionError("Runtime.ExitError", done.stderr[-2000:])
        return json.loads(done.stdout)
