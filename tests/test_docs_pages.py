"""The tutorial and the how-to pages are true: what they say is typed and run, and prints what they show."""

import pytest

from tests.pages import DOCS, Desk, blocks, commands, matches

TUTORIAL = sorted((DOCS / "tutorial").glob("*.md"))
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))


def wrong_in(text: str, root, **options) -> list[str]:
    desk = Desk(root, **options)
    try:
        return desk.follow(text)
    finally:
        desk.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIAL, ids=lambda page: page.stem)
def test_the_tutorial_is_true_from_an_empty_directory(page, tmp_path):
    assert wrong_in(page.read_text("utf-8"), tmp_path) == []
