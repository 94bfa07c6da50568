"""Blocks of the reference pages: the Python API and its ports with signatures and docstrings, errors, settings."""

from __future__ import annotations

import ast
import inspect
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from tables import code, markdown

import upload_core
from upload_adapters.cli.exit_codes import exit_code_of_error
from upload_adapters.configuration import AWS_VARIABLES, SETTINGS
from upload_core import errors, ports

WIDTH = 100


def classes() -> list[type]:
    """The public classes that are no errors, in the order in which a newcomer meets them; `Ports` is with the ports."""
    found = [thing for name in upload_core.__all__ if inspect.isclass(thing := getattr(upload_core, name))]
    kept = [kind for kind in found if not issubclass(kind, BaseException) and kind is not ports.Ports]
    first = [upload_core.UploadClient, upload_core.Summary, upload_core.ClientFile, upload_core.Record]
    return [*first, *(kind for kind in kept if kind not in first)]


def error_classes() -> list[type[BaseException]]:
    """Every error of the library, in the order of its module."""
    return [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]


def port_classes() -> list[type]:
    """Every port, in the order of its module; a Protocol stands for an adapter."""
    return [
        kind
        for kind in vars(ports).values()
        if inspect.isclass(kind) and kind.__module__ == ports.__name__ and getattr(kind, "_is_protocol", False)
    ]


def api() -> Iterator[str]:
    """The page of the Python API."""
    for kind in classes():
        yield from of_class(kind)


def of_ports() -> Iterator[str]:
    """The page of the ports."""
    for kind in port_classes():
        yield from of_class(kind)
    yield from of_class(ports.Ports)
    yield from of_class(ports.Limits)


def of_class(kind: type) -> Iterator[str]:
    """A class: how it is made, what it says of itself, its fields, properties and methods."""
    yield f"\n## {kind.__name__}\n"
    if not getattr(kind, "_is_protocol", False):
        yield signature(kind.__name__, kind)
    yield prose(kind)
    made = vars(kind).get("__init__")
    if inspect.isfunction(made) and made.__doc__ and not hasattr(kind, "__attrs_attrs__"):
        yield prose(made)
    noted = notes_of_fields(kind)
    fields = [name for name in annotations_of(kind) if not name.startswith("_")]
    if fields:
        rows = [[code(name), code(annotations_of(kind)[name]), noted.get(name, "")] for name in fields]
        yield markdown(["field", "type", "meaning"], rows) + "\n"
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        function = inspect.unwrap(getattr(member, "__func__", member))
        if isinstance(member, property):
            assert member.fget is not None
            yield f"### {kind.__name__}.{name}\n"
            annotation = member.fget.__annotations__.get("return", "")
            yield f"```python\n{name}: {annotation}\n```\n\n{prose(member.fget)}"
        elif inspect.isfunction(function):
            yield f"### {kind.__name__}.{name}\n"
            yield signature(name, function) + "\n" + prose(function)


def prose(thing: Any) -> str:
    """What it says of itself; `name` in backticks is what Markdown makes of it, too."""
    return (inspect.getdoc(thing) or "").strip() + "\n"


def annotations_of(kind: type) -> dict[str, str]:
    """The annotations of a class that its callers may read: fields, as they are written."""
    if issubclass(kind, msgspec.Struct) or hasattr(kind, "__attrs_attrs__") or hasattr(kind, "__dataclass_fields__"):
        found = vars(kind).get("__annotations__") or {}
        return {name: str(said) for name, said in found.items()}
    return {}


def notes_of_fields(kind: type) -> dict[str, str]:
    """The text below each field in the source."""
    [tree] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    noted = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                noted[before.target.id] = " ".join(after.value.value.split())
    return noted


def signature(name: str, function: Any) -> str:
    """How it is called, as a block of code."""
    found = inspect.signature(function)
    arguments, kind = [], None
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls", "_exception") and not arguments:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and kind not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL):
            arguments.append("*")
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        said = f": {annotation(parameter.annotation)}" if parameter.annotation is not parameter.empty else ""
        default = "" if parameter.default is parameter.empty else f" = {default_of(parameter.default)}"
        arguments.append(f"{star}{parameter.name}{said}{default if said else default.replace(' ', '')}")
        kind = parameter.kind
    returns = "" if inspect.isclass(function) else f" -> {annotation(found.return_annotation)}"
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) > WIDTH:
        line = f"{name}(\n    " + ",\n    ".join(arguments) + f",\n){returns}"
    return f"```python\n{line}\n```\n"


def annotation(said: Any) -> str:
    """A type as it is written."""
    return said if isinstance(said, str) else getattr(said, "__name__", str(said))


def default_of(value: Any) -> str:
    """A default as somebody would write it; one that is made anew each time stands as `...`."""
    return repr(value) if isinstance(value, str | int | float | bool | type(None)) else "..."


def error_rows() -> str:
    """Every error: what it is a case of, what it means, and the exit code of a command that it ends."""
    rows = []
    for kind in error_classes():
        bases = ", ".join(code(base.__name__) for base in kind.__bases__)
        made = kind.__new__(kind)
        rows.append([code(kind.__name__), bases, " ".join(prose(kind).split()), str(exit_code_of_error(made))])
    return markdown(["error", "is a", "meaning", "exit code"], rows)


def setting_rows() -> str:
    """Every setting of a deployment."""
    rows = []
    for setting in SETTINGS:
        default = "" if setting.default is None else code(str(setting.default))
        values = " or ".join(map(code, setting.choices)) or ("a number" if setting.kind is int else "text")
        rows.append([code(setting.name), code(setting.variable), setting.meaning, values, default])
    return markdown(["setting", "variable", "meaning", "value", "default"], rows)


def aws_variables() -> str:
    """What boto3 and requests read, as `config show` lists it."""
    return ", ".join(map(code, [*AWS_VARIABLES, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_<SERVICE>"])) + "."


EXTRAS = {
    "dask": "transfers on the workers of a Dask cluster",
    "keyring": "keeps a sign-in in the system's keyring",
    "parquet": "reads and writes indexes as Parquet, and exports journals to it",
    "telemetry": "OpenTelemetry: what a delivery does as metrics and spans",
    "report": "`upload-core report`: a delivery's story in one page",
    "bench": "what `make bench` measures us beside",
    "dev": "all that tests, checks and these pages need",
}
"""Extra -> what it is for."""


def extras() -> str:
    """Every extra; one that is not in `EXTRAS` is an error, so that a new one gets its words."""
    project = tomllib.loads(Path(__file__).parent.parent.joinpath("pyproject.toml").read_text("utf-8"))["project"]
    return markdown(
        ["extra", "what it is for"], [[code(name), EXTRAS[name]] for name in project["optional-dependencies"]]
    )


if __name__ == "__main__":
    sys.stdout.write("\n".join([*api(), *of_ports(), error_rows(), setting_rows()]))
