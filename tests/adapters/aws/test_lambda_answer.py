"""What the pipeline's function answers is read strictly: understood wholly, or quoted and refused."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upload_adapters.aws.lambda_answer import ANSWER_BYTES_MAX, Answer, parse_answer
from upload_core.errors import PipelineError


def said(text: str) -> bytes:
    return json.dumps(text).encode()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("status: success", Answer(True)),
        ("status: success\n", Answer(True)),
        ("{status: success}", Answer(True)),
        ("status: error\ndetails: no lock\nstep: check", Answer(False, "no lock", "check")),
        ("details: 1e5\nstatus: error\nstep: 007", Answer(False, "1e5", "007")),
        ("status: error\ndetails: |\n  one\n  two\n", Answer(False, "one\ntwo\n")),
        ("status: error\ndetails: 'it''s: odd'\nstep:", Answer(False, "it's: odd", "")),
        ("status: error\ndetails:\n- a\n- b: c\n", Answer(False, "a; b: c")),
        ("status: success\nunknown: field\n", Answer(True)),
        ("pipeline application failed to start", Answer(False, "pipeline application failed to start")),
    ],
)
def test_an_answer_is_understood(text, answer):
    assert parse_answer(said(text)) == answer


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nstatus: success"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"{}",
        b'{"status": "success"}',
        b'"status: success',
        said(""),
        said("success"),
        said("- status: success"),
        said("status: Success"),
        said("status: maybe"),
        said("details: nothing"),
        said("status: success\nstatus: error"),
        said("status: [success]\n&"),
        said("status: success\n---\nstatus: error"),
        said(BOMB),
        said("status: !!python/object/apply:os.system [true]"),
        said("status: !!str success"),
        said("status: success\nx: " + "[" * 50 + "]" * 50),
        said("status: success\nx: [" + "a," * 5_000 + "]"),
        said("status: success" + " " * ANSWER_BYTES_MAX),
        said("status: success\nx: \x00"),
        b"\xff\xfe",
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_anything_else_is_refused_and_quoted(payload):
    with pytest.raises(PipelineError, match="not understood") as caught:
        parse_answer(payload)
    assert len(str(caught.value)) < 2_000
    assert str(caught.value).isprintable()


QUARTER = ANSWER_BYTES_MAX // 4
BOMBS = {
    "a long list": "a: [" + "x," * QUARTER,
    "deep lists": "[" * QUARTER,
    "deep mappings": "{a: " * QUARTER,
    "deep blocks": "".join(" " * depth + "a:\n" for depth in range(500)),
    "one long text": "status: success\nx: " + "y " * QUARTER,
    "a text of many lines": "status: success\nx:\n" + "  y\n" * (QUARTER // 2),
    "many escapes": 'status: success\nx: "' + "\\x41" * QUARTER,
    "comments only": "#\n" * QUARTER,
    "many keys": "".join(f"k{number}: v\n" for number in range(QUARTER // 3)),
    "anchors": "".join(f"&a{number} " for number in range(QUARTER // 3)),
    "aliases of aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 99)),
    "tags": "!a " * QUARTER,
    "documents": "---\n" * QUARTER,
    "questions": "? " * QUARTER,
    "colons": "a:" * QUARTER,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_little_and_says_nothing(bomb):
    payload = said(BOMBS[bomb])[:ANSWER_BYTES_MAX]
    with suppress(PipelineError):
        assert parse_answer(payload) == Answer(True)


def test_json_bombs_are_no_answer():
    for payload in (b"[" * ANSWER_BYTES_MAX, b'{"a":' * (QUARTER // 2), b'"' + b"a" * 2 * ANSWER_BYTES_MAX):
        with pytest.raises(PipelineError):
            parse_answer(payload)


@given(st.binary(max_size=200))
def test_whatever_comes_it_is_an_answer_or_an_error_of_ours(payload):
    try:
        parse_answer(payload)
    except PipelineError:
        return


@given(st.text(max_size=200))
def test_whatever_text_comes_it_is_an_answer_or_an_error_of_ours(text):
    try:
        parse_answer(json.dumps(text).encode())
    except PipelineError:
        return


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn"]), min_size=1, max_size=100))
def test_details_come_as_they_were_written(details):
    quoted = json.dumps(details, ensure_ascii=False)
    assert parse_answer(said(f"status: error\ndetails: {quoted}")).details == details
