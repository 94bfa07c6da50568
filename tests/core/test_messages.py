"""Every event can be said in plain words, whatever text from outside it carries."""

import msgspec
import pytest

from upload_core import events as ev
from upload_core.messages import MESSAGES, describe

HOSTILE = "\x1b[31mred\x1b[0m\nnext line\t\u202e[bold]"


def example(kind: type[ev.Event], text: str) -> ev.Event:
    """An event of that kind whose every text field holds `text`."""
    values: dict[object, object] = {str: text, int: 3, bool: True, ev.FileNumber: 3, ev.FileRuns: "0-2,7"}
    fields = msgspec.structs.fields(kind)
    known = {field.name: values[field.type] for field in fields if field.type in values}
    return kind(**known)


def test_every_kind_of_event_has_its_sentence_and_nothing_else_has():
    assert set(MESSAGES) == set(ev.EVENTS)


@pytest.mark.parametrize("kind", ev.EVENTS, ids=lambda kind: kind.__name__)
def test_a_sentence_is_one_printable_line_whatever_the_event_carries(kind):
    for text in ("", "plain", HOSTILE, "x" * 100_000):
        sentence = describe(example(kind, text))
        assert sentence.isprintable(), sentence
        assert 5 < len(sentence) < 3_000


def test_a_sentence_about_a_file_continues_the_files_name():
    for kind in ev.FILE_EVENTS:
        assert describe(example(kind, "why")).split()[0] in {"was", "is", "has", "gets"}


def test_the_reason_is_part_of_the_sentence():
    assert describe(ev.TransferFailed(0, "no space left")) == "was not stored: no space left"
    assert describe(ev.FileInvalidated(0, "bad header")) == "was found invalid: bad header"
