"""The tutorial and the how-to pages are true: what they say is typed and run, and prints what they show.

The pages about AWS are tried in `tests/adapters/aws/test_docs_aws.py`, where there is an archive for them.
"""

import pytest

from tests.command_line import ROOT
from tests.pages import DOCS, Desk, blocks, commands, matches, without_figures_of_the_day

TUTORIAL = sorted((DOCS / "tutorial").glob("*.md"))
ON_AWS = {"bucket-to-bucket", "headless-login", "proxy", "s3-batch"}
HOW_TO = sorted(page for page in (DOCS / "how-to").glob("*.md") if page.stem not in ON_AWS)


def wrong_in(text: str, root, **options) -> list[str]:
    desk = Desk(root, **options)
    try:
        return desk.follow(text)
    finally:
        desk.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIAL, ids=lambda page: page.stem)
def test_a_tutorial_is_true_from_an_empty_directory(page, tmp_path):
    wrong = wrong_in(page.read_text("utf-8"), tmp_path)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_page_is_true_beside_a_directory_of_images(page, tmp_path):
    wrong = wrong_in(page.read_text("utf-8"), tmp_path, images=True)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_the_program_on_the_page_of_the_api_delivers(tmp_path):
    desk = Desk(tmp_path, images=True)
    try:
        assert desk.shell.run("upload-core index images -o images.csv -q") == ("", 0)
        assert desk.follow((DOCS / "reference" / "api.md").read_text("utf-8").partition("[[[cog")[0]) == []
        printed, _ = desk.shell.run('python -c "$(cat .program.py)"')
    finally:
        desk.close()
    assert printed.splitlines()[-1] == "complete []"


def test_the_pages_about_aws_are_tried_with_an_archive():
    tried = (ROOT / "tests/adapters/aws/test_docs_aws.py").read_text("utf-8")
    for page in ON_AWS:
        assert f'"{page}.md"' in tried


@pytest.mark.parametrize("page", [*TUTORIAL, *(DOCS / "how-to").glob("*.md")], ids=lambda page: page.stem)
def test_what_is_not_run_says_why(page):
    for block in blocks(page.read_text("utf-8")):
        assert block.note != "not run" or block.about, f"{page.name}, line {block.line}"


# ── what reads the pages can see ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ false\n```",
        "```console\n$ true\nsomething\n```",
        "```console\n$ echo something\n```",
        "```console\n$ no-such-command\n```",
        "```console\n$ (exit 3)\n...\n$ echo $?\n4\n```",
        "```console\n$ upload-core frobnicate\n```",
        "```python\nprint(1)\n```\n\n```text\n2\n```",
        "```python\nraise SystemExit(1)\n```",
        "```python\nimport warnings\nwarnings.warn('x')\n```",
        "- in a list\n\n  ```console\n  $ echo one\n  two\n  ```",
    ],
)
def test_a_page_that_says_something_else_is_seen(text, tmp_path):
    assert len(wrong_in(text, tmp_path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ echo one\none\n```",
        "```console\n$ (exit 3)\n...\n$ echo $?\n3\n```",
        "```console\n$ cd /\n$ pwd\n/\n```",
        "```console\n$ x=1\n$ echo $x\n1\n```",
        "```console\n$ echo a \\\n>   b\na b\n```",
        "```console\n$ echo took 1.25 s at 2026-11-22T07:24:36.959Z\ntook 0.5 s at 2027-01-01T00:00:00.000Z\n```",
        "<!-- figures vary -->\n```console\n$ echo 12 of 1,000 files\n7 of 9 files\n```",
        "```console\n$ printf 'a\\nb\\nc\\n'\na\n...\n```",
        "<!-- not run: there is no such thing -->\n```console\n$ no-such-command\n```",
        "<!-- file: sub/x.py -->\n```python\nVALUE = 7\n```\n\n```console\n$ cat sub/x.py\nVALUE = 7\n```",
        "```python\nprint(1)\n```\n\n```text\n1\n```",
        "```sh\nno-such-command\n```",
    ],
)
def test_a_page_that_is_true_is_not(text, tmp_path):
    assert wrong_in(text, tmp_path) == []


def test_a_command_that_hangs_is_ended(tmp_path):
    desk = Desk(tmp_path)
    try:
        with pytest.raises(AssertionError, match="more than"):
            desk.shell.run("sleep 100", timeout_s=0.2)
    finally:
        desk.close()


def test_figures_of_the_day_are_left_open_and_no_others():
    assert without_figures_of_the_day("process 12 on a.b: 3 files") == "process N on HOST: 3 files"
    assert not matches("4 files valid", "5 files valid")
    assert matches("4 files valid", "5 files valid", vary=True)
    assert [command for command, _ in commands("$ a\nx\n$ b\n")] == ["a", "b"]
