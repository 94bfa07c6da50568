"""Every error says which thing, why, and what to do next; the gallery shows all of them, and so does the page."""

import importlib.util
import inspect
from pathlib import Path

import pytest

from upload_adapters.aws.errors import AwsError
from upload_adapters.cli.exit_codes import ERROR_CODES
from upload_core import errors

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load_gallery():
    spec = importlib.util.spec_from_file_location("error_cases", DOCS / "error_cases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery = load_gallery()
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.fixture(scope="module")
def rendered():
    """Each case, run: what raises it is the real thing."""
    return [gallery.shown(case) for case in gallery.CASES]


def test_every_kind_of_error_is_in_the_gallery():
    assert {kind.__name__ for kind in KINDS} - {case.kind.__name__ for case in gallery.CASES} == set()
    assert set(ERROR_CODES) - {case.kind for case in gallery.CASES} == {KeyboardInterrupt, BaseException}


def test_every_message_names_the_thing_the_cause_and_the_next_step(rendered):
    for found in rendered:
        for part in found.case.says:
            assert part, found.case.when
            assert part in found.message, (found.case.when, part, found.message)
        assert found.message.replace("\n", "").isprintable()
        assert len(found.message) < 700


def test_a_message_is_the_same_wherever_it_is_made(rendered):
    again = [gallery.shown(case) for case in gallery.CASES[::5]]
    assert [found.message for found in again] == [found.message for found in rendered[::5]]


def test_the_page_is_the_gallery(rendered, monkeypatch):
    """`make fix` writes it."""
    monkeypatch.setattr(gallery, "every_case", lambda: iter(rendered))
    written = (DOCS / "errors.md").read_text("utf-8")
    for part in gallery.page():
        assert part.strip() in written


def test_whatever_an_adapter_raises_is_of_a_kind_in_the_gallery():
    """What AWS raises has no messages of its own: it is one of these kinds, and botocore's as well."""

    def below(kind):
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    shown = {case.kind for case in gallery.CASES}
    for kind in below(errors.UploadClientError):
        if kind.__module__.startswith("upload_adapters"):
            assert issubclass(kind, AwsError) or kind in shown, kind
            assert shown & set(kind.__mro__) - {errors.UploadClientError}
