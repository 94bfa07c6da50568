"""The published schema of a journal's lines: every line ever written obeys it, and it is not so wide that all do."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.command_line import ROOT
from upload_core import events as ev
from upload_core.schema import journal_schema

SCHEMA = journal_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)
PUBLISHED = ROOT / "docs" / "journal.schema.json"
LINES = [
    json.loads(line)
    for path in sorted(Path(__file__).parent.parent.glob("data/journal-v*/**/events-*.ndjson"))
    for line in path.read_bytes().split(b"\n")[:-1]
]
RECORD = {"seq": 5, "time": "2027-01-15T08:00:00.250Z", "kind": "TransferStarted", "file": 1}


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_line_of_the_golden_journals_obeys_it():
    assert len(LINES) > 100
    for line in LINES:
        CHECK.validate(line)


def test_every_kind_of_event_is_described():
    assert {kind.__name__ for kind in ev.EVENTS} <= SCHEMA["$defs"].keys()


def test_a_record_may_end_a_batch():
    assert CHECK.is_valid(RECORD)
    assert CHECK.is_valid(RECORD | {"batch": 2, "crc": "f7f6cdff"})


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Unheard"},
        {"file": "one"},
        {"file": None},
        {"time": "yesterday"},
        {"seq": 0},
        {"batch": 2},
        {"batch": 2, "crc": "F7F6CDFF"},
    ],
    ids=str,
)
def test_what_is_no_record_does_not_obey_it(change):
    assert not CHECK.is_valid(RECORD | change)


@pytest.mark.parametrize("field", list(RECORD))
def test_no_field_of_a_record_may_be_missing(field):
    assert not CHECK.is_valid({name: value for name, value in RECORD.items() if name != field})


def test_what_is_published_is_that_of_this_release():
    assert json.loads(PUBLISHED.read_text("utf-8")) == SCHEMA, "scripts/fix writes it anew"
