"""What a session does for other programs: `--on-finish CMD` and `--metrics FILE`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from upload_adapters.cli.output import summary_json
from upload_core.outcomes import Summary

PATIENCE_S: Final = 600
"""A command that takes longer is ended: whoever waits for our exit code should not wait for it."""

Function = TypeVar("Function", bound=Callable[..., Any])


def hook_options(function: Function) -> Function:
    """The options of commands that run a session."""
    function = click.option(
        "--on-finish", metavar="CMD", help="Run CMD at the end, with the summary as JSON on its standard input."
    )(function)
    return click.option(
        "--metrics", metavar="FILE", type=click.Path(), help="Keep the delivery's figures in FILE for Prometheus."
    )(function)


def finish(command: str, summary: Summary) -> str:
    """Run the command with the summary on standard input; returns what went wrong with it, or "".

    It is split into words like a shell's line, but no shell runs it: what a name or a message holds is never executed.
    """
    import shlex
    import subprocess  # a session without a hook starts without it

    try:
        words = shlex.split(command)
        done = subprocess.run(
            words,
            input=json.dumps(summary_json(summary)).encode() + b"\n",
            env={
                **os.environ,
                "UPLOAD_CORE_OUTCOME": summary.outcome,
                "UPLOAD_CORE_EXIT_CODE": str(summary.exit_code),
                "UPLOAD_CORE_JOURNAL": summary.journal,
            },
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, ValueError, IndexError) as error:
        return f"--on-finish: {command!r} could not be run ({error}); the delivery is as it says above"
    except subprocess.TimeoutExpired:
        return f"--on-finish: {command!r} was ended after {PATIENCE_S} s; the delivery is as it says above"
    if done.returncode:
        return f"--on-finish: {command!r} ended with code {done.returncode}; the delivery is as it says above"
    return ""
