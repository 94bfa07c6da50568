"""The journal's records as a JSON Schema (draft 2020-12), made from the events themselves.

Rule: it describes what this release writes. A reader of a later release's journal ignores fields it does not know, so
none are forbidden.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import msgspec

from upload_core import events as ev
from upload_core.journal import FORMAT_VERSION, Header

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
_CRC: Final = "^[0-9a-f]{8}$"


def journal_schema() -> dict[str, Any]:
    """The schema of one line of a segment: its header, or a record of one of the kinds of event."""
    shapes, definitions = msgspec.json.schema_components([Header, *ev.EVENTS], ref_template="#/$defs/{name}")
    header, records = shapes[0]["$ref"], [shape["$ref"] for shape in shapes[1:]]
    for shape in definitions.values():
        # a docstring, which Python indents as its source up to 3.12, and no longer from 3.13 on
        if "description" in shape:
            shape["description"] = inspect.cleandoc(shape["description"])
    for kind in ev.EVENTS:
        shape = definitions[kind.__name__]
        shape["properties"] = {
            "seq": {"type": "integer", "minimum": 1},
            "time": {"type": "string", "pattern": _TIME},
            **shape["properties"],
            "batch": {"type": "integer", "minimum": 1},
            "crc": {"type": "string", "pattern": _CRC},
        }
        shape["required"] = ["seq", "time", *shape["required"]]
        shape["dependentRequired"] = {"batch": ["crc"], "crc": ["batch"]}
    definitions["Header"]["properties"]["crc"] = {"type": "string", "pattern": _CRC}
    definitions["Header"]["required"].append("crc")
    return {
        "$schema": DIALECT,
        "title": f"A line of an upload-core journal, format {FORMAT_VERSION}",
        "oneOf": [{"$ref": header}, {"oneOf": [{"$ref": ref} for ref in records]}],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }
