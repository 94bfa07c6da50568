"""Reading what the pipeline's function answers: a JSON string that holds a little YAML.

Rule: it is read as text from outside: bounded, without aliases, tags or types, and nothing in it is guessed.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec
import yaml

from upload_adapters.aws.errors import AwsPipelineError
from upload_core.errors import PipelineError
from upload_core.text import printable

ANSWER_BYTES_MAX: Final = 1 << 18
"""A failure may bring a traceback; nothing the pipeline says is longer."""
EVENTS_MAX: Final = 2_000
DEPTH_MAX: Final = 8
FAILED_TO_START: Final = "pipeline application failed to start"
"""The one refusal that comes as plain text: the machine runs, but no validator was heard of for a minute."""
SHOWN_MAX: Final = 300


@attrs.frozen
class Answer:
    """What the pipeline's function said of one invocation."""

    succeeded: bool
    details: str = ""
    step: str = ""


def parse_answer(payload: bytes) -> Answer:
    """Raises `PipelineError`, quoting it, for anything that is not an answer of the pipeline.

    >>> parse_answer(b'"status: error\\\\ndetails: a validation task is already running\\\\nstep: lock"')
    Answer(succeeded=False, details='a validation task is already running', step='lock')
    """
    if len(payload) > ANSWER_BYTES_MAX:
        raise _not_understood(payload, f"it has more than {ANSWER_BYTES_MAX} bytes")
    try:
        text = msgspec.json.decode(payload, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _not_understood(payload, "it is no JSON string") from None
    if text.strip() == FAILED_TO_START:
        return Answer(False, FAILED_TO_START)
    try:
        fields = _mapping(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _not_understood(payload, printable(str(error), 100)) from None
    status = fields.get("status")
    if status not in ("success", "error"):
        raise _not_understood(payload, "its status is neither success nor error")
    return Answer(status == "success", fields.get("details", ""), fields.get("step", ""))


def _mapping(text: str) -> dict[str, str]:
    """The top mapping, every value as text; raises for anything else, and for what only an attacker would write."""
    stack: list[_Node] = []
    top: _Node | None = None
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if count > EVENTS_MAX or len(stack) > DEPTH_MAX:
            raise ValueError("it is too large or too deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("it holds an alias")
        if getattr(event, "tag", None):
            raise ValueError("it holds a tag")
        if isinstance(event, yaml.DocumentStartEvent) and top is not None:
            raise ValueError("it holds a second document")
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            stack.append(_Node(isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.ScalarEvent):
            if not stack:
                raise ValueError("it is no mapping")
            stack[-1].items.append(event.value)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            top = stack.pop()
            if stack:
                stack[-1].items.append(str(top))
    if top is None or not top.is_mapping:
        raise ValueError("it is no mapping")
    names = top.items[::2]
    if len(set(names)) != len(names):
        raise ValueError("it says the same thing twice")
    return dict(zip(names, top.items[1::2], strict=True))


@attrs.define
class _Node:
    """A mapping or sequence while it is read; a mapping's items are key, value, key, value."""

    is_mapping: bool
    items: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        if not self.is_mapping:
            return "; ".join(self.items)
        return "; ".join(f"{name}: {value}" for name, value in zip(self.items[::2], self.items[1::2], strict=True))


def _not_understood(payload: bytes, why: str) -> PipelineError:
    shown = printable(payload[: 2 * SHOWN_MAX].decode("utf-8", "replace"), SHOWN_MAX)
    return AwsPipelineError(
        f"the pipeline's answer is not understood ({why}): {shown!r}; resume looks whether it started nevertheless, "
        "otherwise show this to the archive's staff"
    )
