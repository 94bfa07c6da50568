"""The published API, name by name: classes, arguments, kinds, defaults, annotations, properties, methods, return values.

What is ours in addition is keyword-only and has a default, so that code written for the published API runs unchanged.
"""

import dataclasses
import inspect
from inspect import Parameter
from typing import Any

import pytest

import upload_core
from upload_core import ClientFile, DataRoot, NothingToDoError, UploadClient, UploadClientError

POSITIONAL, KEYWORD, ANY = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL
NONE = Parameter.empty
FILE_STATES = "Literal['ready', 'pending', 'failed', 'transferring', 'done', 'valid', 'invalid']"
MESSAGE_TYPES = "Literal['warning', 'error', 'info', 'complete', 'success']"

# class -> callable -> (arguments as (name, kind, annotation, default), return annotation)
SIGNATURES: dict[type, dict[str, tuple[list[tuple[Any, ...]], str]]] = {
    ClientFile: {
        "__init__": (
            [
                ("abspath", POSITIONAL, "str", NONE),
                ("relpath", POSITIONAL, "str", NONE),
                ("state", POSITIONAL, FILE_STATES, NONE),
                ("retries", POSITIONAL, "int", NONE),
                ("max_retries", POSITIONAL, "int", NONE),
                ("message", POSITIONAL, "str | None", None),
                ("checksum", POSITIONAL, "str | None", None),
            ],
            "None",
        ),
    },
    DataRoot: {
        "__init__": ([("source", POSITIONAL, "Path | Bucket", NONE)], "None"),
        "cp": (
            [("source", POSITIONAL, "ClientFile", NONE), ("destination_bucket", POSITIONAL, "Bucket", NONE)],
            "str | None",
        ),
        "ls": ([("key", POSITIONAL, "str | Path | None", None)], "tuple[str, ...]"),
    },
    UploadClient: {
        "__init__": (
            [
                ("dataset", KEYWORD, "str", NONE),
                ("delivery_id", KEYWORD, "str", NONE),
                ("file_index", KEYWORD, "DataFrame", NONE),
                ("transfer_type", KEYWORD, "TransferType", NONE),
                ("source", KEYWORD, "str | Path | Bucket", NONE),
                ("lambda_client_config", KEYWORD, "dict[str, Any] | None", None),
                ("own_agent_id", KEYWORD, "str | None", None),
                ("n_threads", KEYWORD, "int", 1),
                ("debug", KEYWORD, "bool", False),
                ("max_retries", KEYWORD, "int", 2),
            ],
            "None",
        ),
        "acquire_lock": ([("refresh", KEYWORD, "bool", False)], "bool"),
        "cmessage": ([("text", POSITIONAL, "str", NONE), ("mtype", POSITIONAL, MESSAGE_TYPES, NONE)], "None"),
        "cognito_authenticate": ([], "None"),
        "cprint": ([("renderable", POSITIONAL, "str", NONE), ("padded", KEYWORD, "bool", True)], "None"),
        "crash": ([("exception", POSITIONAL, "BaseException", NONE)], "None"),
        "dump_state": ([], "None"),
        "excformat": ([("exc", POSITIONAL, "BaseException", NONE)], "str"),
        "initiate_transfer": ([], "None"),
        "quit": ([("_exception", POSITIONAL, "BaseException | None", None)], "None"),
        "release_lock": ([], "None"),
        "transfer_next_file": ([], "None | ClientFile"),
        "update": ([], "bool"),
    },
    UploadClientError: {"__init__": ([("args", ANY, "Any", NONE)], "None")},
}
PROPERTIES = {
    UploadClient: {
        "done": "bool",
        "n_complete": "int",
        "next_file": "ClientFile | None",
        "transfer_complete": "bool",
        "validation_complete": "bool",
    },
}
# What completes the published API.
OURS = {"connect", "run", "resume", "subscribe", "stop", "__enter__", "__exit__"}
CASES = [(owner, name) for owner, callables in SIGNATURES.items() for name in callables]


def written(annotation):
    """An annotation as it is written, in one spelling."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("typing.", "").replace('"', "'")


def signature(owner, name):
    found = inspect.signature(getattr(owner, name))
    parameters = [p for p in found.parameters.values() if p.name != "self"]
    return parameters, found.return_annotation


@pytest.mark.parametrize(("owner", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_arguments_are_as_published_in_name_order_kind_annotation_and_default(owner, name):
    parameters, returned = signature(owner, name)
    expected, expected_return = SIGNATURES[owner][name]
    ours = parameters[len(expected) :]
    found = [(p.name, p.kind, written(p.annotation), p.default) for p in parameters[: len(expected)]]
    assert found == expected
    assert written(returned) in (expected_return, "None" if returned is None else expected_return)
    for parameter in ours:
        assert parameter.kind is KEYWORD, f"{parameter.name} could take the place of a published argument"
        assert parameter.default is not NONE, f"{parameter.name} would have to be given"


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PROPERTIES.items() for name in names])
def test_properties_are_as_published(owner, name):
    found = getattr(owner, name)
    assert isinstance(found, property)
    assert found.fget is not None
    assert written(inspect.signature(found.fget).return_annotation) == PROPERTIES[owner][name]
    assert found.fset is None


def test_client_file_is_a_dataclass_with_the_published_fields_in_order():
    assert dataclasses.is_dataclass(ClientFile)
    assert [field.name for field in dataclasses.fields(ClientFile)] == [
        "abspath",
        "relpath",
        "state",
        "retries",
        "max_retries",
        "message",
        "checksum",
    ]


def test_the_errors_are_of_the_published_kinds():
    assert issubclass(NothingToDoError, ValueError)
    assert issubclass(UploadClientError, Exception)
    assert UploadClientError("any", 1, None).args == ("any", 1, None)
    assert UploadClientError().args == ()


def test_the_methods_that_complete_the_api_are_there():
    assert {name for name in OURS if callable(getattr(UploadClient, name))} == OURS
    assert upload_core.resume == UploadClient.resume
    assert "journal" in inspect.signature(UploadClient.resume).parameters


def test_every_published_name_is_exported():
    assert {"UploadClient", "ClientFile", "DataRoot", "NothingToDoError", "UploadClientError"} <= set(
        upload_core.__all__
    )
    assert all(hasattr(upload_core, name) for name in upload_core.__all__)


# The published texts begin like this; ours say the same in our own words.
PUBLISHED_TEXTS = [
    "Representation of a file potentially intended for transfer",
    "Compatibility layer for S3",
    "Upload a file from local to S3, or initiate",
    "List the contents of a directory or prefix",
    "all files already validated",
    "Manager class for data provider-side",
    "Have we either finished our work",
    "How many files have either been transferred",
    "Next file available for transfer",
    "Are we totally done with our transfer",
    "Do we have nothing left to do at all",
    "Attempt to acquire transfer lock",
    "Print a message in a predefined",
    "Retrieve tokens/creds",
    "Print a message to our virtual console",
    "Call if client has entered",
    "Dump transfer/validation state",
    "Format an exception for printing",
    "Attempt to start the validation pipeline",
    "Release the transfer lock",
    "If possible, queue the next file",
    "Update the state of the client",
    "alias for botocore",
]


def test_every_class_method_and_property_says_what_it_does_in_our_own_words():
    for owner in (ClientFile, DataRoot, UploadClient, NothingToDoError, UploadClientError):
        texts = {owner.__name__: owner.__doc__}
        for name, member in vars(owner).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
                texts[f"{owner.__name__}.{name}"] = member.__doc__
        for name, text in texts.items():
            assert text, name
            assert len(text.split()) > 3, name
            assert not any(published.lower() in " ".join(text.split()).lower() for published in PUBLISHED_TEXTS), name
