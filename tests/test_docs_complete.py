"""The pages are complete and their links lead somewhere: what the code knows is documented, what a page shows exists.

Each check is a function from text to its findings; small wrong examples show that it finds something.
"""

import ast
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import upload_core
from tests.command_line import ROOT
from tests.pages import DOCS, Block, all_pages, blocks, commands
from tests.promises import PROMISES
from upload_adapters import configuration
from upload_adapters.cli import COMMANDS, cli
from upload_adapters.cli.exit_codes import ERROR_CODES, MEANINGS
from upload_adapters.cli.output import summary_json
from upload_core import errors, outcomes, ports
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.outcomes import Summary

PAGES = all_pages()
CODE = sorted([*ROOT.glob("upload_core/**/*.py"), *ROOT.glob("adapters/upload_adapters/**/*.py")])
OWN = re.compile(r"UPLOAD_CORE_\w+|NO_COLOR|FORCE_COLOR|TERM|AWS_\w+|REQUESTS_CA_BUNDLE")


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ── what the code knows ──────────────────────────────────────────────────────────────────────────


def all_commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it, groups and what is in them included."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from all_commands(found, (*path, name))


def undocumented_options(text: str, path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """The command if it has no section of its own, and each option that its section does not show."""
    section = re.search(rf"^#+ {re.escape(path[-1])}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    if section is None:
        yield f"{' '.join(path)}: no section"
        return
    for option in command.params:
        if isinstance(option, click.Option):
            for flag in (*option.opts, *option.secondary_opts):
                if not re.search(rf"{re.escape(flag)}(?![\w-])", section[1]):
                    yield f"{' '.join(path)} {flag}"


def unnamed(text: str, names: list[str]) -> list[str]:
    """The names that do not stand in the text as code."""
    return [name for name in names if f"`{name}`" not in text]


def variables_read(source: str) -> Iterator[str]:
    """Every environment variable that a module reads by name, and every one of ours that it names."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called, asked = ast.unparse(node.func), node.args[:1]
        elif isinstance(node, ast.Subscript):
            called, asked = ast.unparse(node.value), [node.slice]
        else:
            continue
        if called.rpartition(".")[2] in ("environ", "getenv") or re.search(r"\benviron\.(get|pop|setdefault)$", called):
            for name in asked:
                value = name.value if isinstance(name, ast.Constant) else constants.get(ast.unparse(name))
                if isinstance(value, str):
                    yield value
    # What another module's constant names, or what is handed to a command, stands somewhere as a whole.
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"UPLOAD_CORE(_[A-Z]+)+", node.value):
                yield node.value


def test_every_command_and_option_is_on_the_page_of_the_command_line():
    text = page("cli.md")
    found = [
        finding for path, command in all_commands() if path for finding in undocumented_options(text, path, command)
    ]
    assert found == []
    assert len(list(all_commands())) > len(COMMANDS)


def test_every_key_of_the_json_summary_is_on_the_page_of_the_command_line():
    failed = [outcomes.FailedFile("a", "invalid", "why")]
    summary = outcomes.Summary(
        "incomplete", 1, {"valid": 0}, 1, 0, 0, 0.0, "journal", failed, message="why", copy_jobs=1
    )
    shown = summary_json(summary)
    assert unnamed(page("cli.md"), [*shown, *shown["failed"][0], "problems"]) == []
    assert set(Summary.__struct_fields__) - {*shown} <= {"reason"}


def test_every_event_and_field_is_on_the_page_of_events():
    rows = {row.split("`")[1]: row for row in page("events.md").splitlines() if row.startswith("| `")}
    for kind in ev.EVENTS:
        assert unnamed(rows[kind.__name__], [*kind.__struct_fields__]) == []


def test_every_error_is_on_the_page_of_the_api():
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]
    assert len(kinds) > 20
    assert unnamed(page("reference/api.md"), [kind.__name__ for kind in kinds]) == []


def test_every_exit_code_says_what_it_means_and_which_errors_lead_to_it():
    text = page("exit-codes.md")
    assert {*outcomes.EXIT_CODES.values(), *ERROR_CODES.values()} == {*MEANINGS}
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in text
    assert unnamed(text, [kind.__name__ for kind in ERROR_CODES]) == []


def test_every_exit_code_but_success_says_on_the_page_about_resuming_what_to_do():
    table = page("how-to/resume.md").partition("| exit code |")[2]
    told = {int(number) for cell in re.findall(r"^\| ([^|]+) \|", table, re.M) for number in re.findall(r"\d+", cell)}
    assert told - {137} == {*MEANINGS} - {0}


def test_every_setting_and_its_variable_is_on_the_page_of_settings():
    text = page("reference/settings.md")
    assert unnamed(text, [setting.name for setting in configuration.SETTINGS]) == []
    assert unnamed(text, [setting.variable for setting in configuration.SETTINGS]) == []
    assert unnamed(text, [*configuration.AWS_VARIABLES]) == []


def test_every_environment_variable_that_is_read_is_on_the_page_of_settings():
    read = {name for path in CODE for name in variables_read(path.read_text("utf-8"))}
    assert {"UPLOAD_CORE_TO", "UPLOAD_CORE_DEBUG", "TERM", "AWS_CA_BUNDLE"} <= read
    assert unnamed(page("reference/settings.md"), sorted(name for name in read if OWN.fullmatch(name))) == []


def test_no_page_names_a_variable_of_ours_that_nobody_reads():
    known = {name for path in CODE for name in variables_read(path.read_text("utf-8"))}
    known |= {setting.variable for setting in configuration.SETTINGS}
    for path in PAGES:
        named = set(re.findall(r"UPLOAD_CORE_[A-Z_]+(?![A-Z_<])", path.read_text("utf-8")))
        assert {name for name in named - known if not name.endswith("_")} == set(), path


def test_every_public_name_and_method_is_on_the_page_of_the_api():
    text = page("reference/api.md") + page("reference/ports.md")
    for name in upload_core.__all__:
        thing = getattr(upload_core, name)
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            assert f"\n## {name}\n" in text
            for member in vars(thing):
                if not member.startswith("_"):
                    assert f"\n### {name}.{member}\n" in text or f"| `{member}` |" in text, f"{name}.{member}"
        else:
            assert re.search(rf"\b{name}\b", text), name


def test_every_promise_is_told_to_those_who_deliver():
    told = set(re.findall(r"^- (R\d+):", page("explanation/promises.md"), re.M))
    assert {*PROMISES} - told == {"R2", "R23"}  # about the tests themselves


def test_every_port_and_method_is_on_the_page_of_ports():
    text = page("reference/ports.md")
    kinds = [kind for kind in vars(ports).values() if inspect.isclass(kind) and getattr(kind, "_is_protocol", False)]
    assert len(kinds) > 10
    for kind in kinds:
        if kind.__module__ == ports.__name__:
            assert f"\n## {kind.__name__}\n" in text
            methods = [name for name in vars(kind) if not name.startswith("_")]
            assert [name for name in methods if f"\n### {kind.__name__}.{name}\n" not in text] == []


# ── what a page shows ────────────────────────────────────────────────────────────────────────────


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and MyST make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", ""))
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def without_code(text: str) -> str:
    text = re.sub(r"^( *)(`{3,}).*?^\1\2[ \t]*$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(text: str) -> set[str]:
    """Every place of a page that a link may lead to."""
    plain = re.sub(r"^( *)(`{3,}).*?^\1\2[ \t]*$", "", text, flags=re.M | re.S)
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", plain, re.M):
        name = slug(heading)
        count = sum(1 for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
        found.append(f"{name}-{count}" if count else name)
    return {*found, *re.findall(r"^\(([\w-]+)\)=$", plain, re.M)}


def broken_links(text: str, place: Path) -> Iterator[str]:
    """Every link of a page to a file or a heading that is not there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (place.parent / name).resolve() if name else place
        if name and not found.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(text if found == place else found.read_text("utf-8")):
            yield f"{target}: no such heading"


def wrong_python(block: Block) -> Iterator[str]:
    """A Python block that is none: examples of one line may be calls with `...`, signatures are left out by `->`."""
    if block.language != "python":
        return
    try:
        compile(block.text, f"line {block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        yield f"line {block.line}: {error}"


def wrong_data(block: Block) -> Iterator[str]:
    """A TOML block that no deployment file may hold, a JSON block whose lines are not JSON."""
    if block.language == "toml":
        try:
            content = tomllib.loads(block.text)
            list(configuration._from_content(content, "the page"))
        except (tomllib.TOMLDecodeError, ConfigurationError) as error:
            yield f"line {block.line}: {error}"
    if block.language == "json":
        try:
            json.loads(block.text)
        except ValueError:
            for line in block.text.splitlines():
                try:
                    json.loads(line)
                except ValueError as error:
                    yield f"line {block.line}: {error}"


_SHELL = ("sh", "console", "bash", "")


def calls(text: str) -> Iterator[list[str]]:
    """Every call of `upload-core` that a page shows: in blocks for a shell, and in `code` that begins with it."""
    lines = [line for block in blocks(text) if block.language in _SHELL for line in _lines(block)]
    lines += re.findall(r"`(upload-core [^`\n]+)`", re.sub(r"^( *)(`{3,}).*?^\1\2[ \t]*$", "", text, flags=re.M | re.S))
    for line in lines:
        for part in re.split(r"\s*(?:\||&&|;|&(?!>)|\|\||[()]|\s\d?>>?)\s*", line.replace("\\\n", " ")):
            words = re.split(r"\bupload-core ", part, maxsplit=1)
            if len(words) == 2 and not words[0].strip().strip("$").endswith(("#", "/")):
                if words[0].endswith('="'):  # kept in a variable, to be typed more often
                    words[1] = words[1].removesuffix('"')
                try:
                    yield shlex.split(words[1], comments=True)
                except ValueError:
                    yield words[1].split()


def _lines(block: Block) -> list[str]:
    if block.language == "console":
        return [command for command, _ in commands(block.text)]
    return re.sub(r"\\\n\s*", " ", block.text).splitlines()


def wrong_call(words: list[str]) -> Iterator[str]:
    """What the command line would not understand of such a call."""
    path: tuple[str, ...] = ()
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = dict(all_commands()).get((*path, words[0]))
        if found is None:
            yield f"{' '.join([*path, words[0]])} is no command"
            return
        path, command, words = (*path, words[0]), found, words[1:]
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    for word in words:
        if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in {*known, "--help", "-h", "--version"}:
            yield f"{' '.join(path)} has no {word}"


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_its_links_lead_somewhere(path):
    assert list(broken_links(path.read_text("utf-8"), path)) == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_its_blocks_are_what_they_say(path):
    found = list(blocks(path.read_text("utf-8")))
    generated = path.name in ("api.md", "ports.md")  # signatures, which are no program
    assert [finding for block in found for finding in wrong_python(block) if not generated] == []
    assert [finding for block in found for finding in wrong_data(block)] == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_the_commands_it_shows_exist(path):
    wrong = [finding for words in calls(path.read_text("utf-8")) for finding in wrong_call(words)]
    assert wrong == []


def test_many_commands_are_seen():
    assert sum(len(list(calls(path.read_text("utf-8")))) for path in PAGES) > 70


# ── the checks can see ───────────────────────────────────────────────────────────────────────────


def test_a_command_or_option_without_a_word_is_seen():
    text = page("cli.md")
    deliver = dict(all_commands())[("deliver",)]
    assert list(undocumented_options(text, ("deliver",), deliver)) == []
    assert list(undocumented_options(text.replace("## deliver\n", "## send\n"), ("deliver",), deliver)) == [
        "deliver: no section"
    ]
    assert list(undocumented_options(text.replace("--max-retries", "--tries"), ("deliver",), deliver)) == [
        "deliver --max-retries"
    ]


def test_a_name_without_a_word_is_seen():
    assert unnamed("`One` and Two", ["One", "Two"]) == ["Two"]


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ.get('UPLOAD_CORE_X')",
        "import os\nos.environ['UPLOAD_CORE_X']",
        "import os\nos.getenv('UPLOAD_CORE_X', '')",
        "from os import environ\nenviron.get('UPLOAD_CORE_X')",
        "import os\nNAME = 'UPLOAD_CORE_X'\nos.environ.get(NAME)",
        "import os\nfrom typing import Final\nNAME: Final = 'UPLOAD_CORE_X'\nos.environ.get(NAME)",
    ],
)
def test_a_variable_that_is_read_is_seen(source):
    assert set(variables_read(source)) == {"UPLOAD_CORE_X"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](nowhere.md)", True),
        ("[a](#nowhere)", True),
        ("[a](cli.md#nowhere)", True),
        ("[a](../nowhere.py)", True),
        ("# Some where\n[a](#somewhere)", True),
        ("[a](cli.md)", False),
        ("[a](cli.md#deliver)", False),
        ("[a](../README.md)", False),
        ("# Some `where`!\n[a](#some-where)", False),
        ("# A\n# A\n[a](#a-1)", False),
        ("[a](https://example.org/nowhere)", False),
        ("`[a](nowhere.md)`", False),
        ("```text\n[a](nowhere.md)\n```", False),
    ],
)
def test_broken_links_are_seen(text, wrong):
    assert bool(list(broken_links(text, DOCS / "x.md"))) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```python\ndef f(:\n```", True),
        ("```python\nprint(1)\n```", False),
        ('```toml\n[identity]\nkind = "aws"\n```', False),
        ('```toml\n[identity]\nkimd = "aws"\n```', True),
        ('```toml\n[identity]\nkind = "x"\n```', True),
        ("```toml\n[identity\n```", True),
        ('```json\n{"a": 1}\n{"b": 2}\n```', False),
        ('```json\n{"a": 1,}\n```', True),
    ],
)
def test_wrong_blocks_are_seen(text, wrong):
    [block] = blocks(text)
    assert bool([*wrong_python(block), *wrong_data(block)]) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`upload-core frob`", True),
        ("`upload-core deliver --frob`", True),
        ("```sh\nupload-core deliver A B --frob x\n```", True),
        ("```sh\nupload-core index A \\\n  --frob\n```", True),
        ("```console\n$ cd x && upload-core deliver --frob\n```", True),
        ("```console\n$ (upload-core plan A B & sleep 1; upload-core stat J)\n```", True),
        ("`upload-core config shwo`", True),
        ('```sh\ndeliver="upload-core deliver A B --frob"\n```', True),
        ('```sh\ndeliver="upload-core deliver A B -q"\n```', False),
        ("`upload-core config show --frob`", True),
        ("`upload-core config show --to mast.toml`", False),
        ("`upload-core deliver SOURCE INDEX --max-bandwidth 5K`", False),
        ("```console\n$ upload-core plan A B\nupload-core frob\n```", False),
        ("```text\nupload-core frob\n```", False),
        ("`upload-core --version`", False),
    ],
)
def test_calls_that_would_be_refused_are_seen(text, wrong):
    assert bool([finding for words in calls(text) for finding in wrong_call(words)]) == wrong
