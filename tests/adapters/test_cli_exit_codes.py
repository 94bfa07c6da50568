"""Every error has its exit code, and every exit code its meaning."""

import inspect

import pytest

from upload_adapters.cli.exit_codes import ERROR_CODES, MEANINGS, OUTCOMES, exit_code_of_error
from upload_core import errors
from upload_core.outcomes import EXIT_CODES

ALL_ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind is not Exception
]


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_has_an_exit_code_that_means_something(kind):
    error = kind.__new__(kind)
    assert exit_code_of_error(error) in MEANINGS
    if kind not in (errors.UploadClientError, errors.NotReadyError, errors.IllegalEventError):
        assert exit_code_of_error(error) != 70, "only a bug may look like one"


def test_every_row_of_the_table_is_an_error_that_exists():
    assert set(ERROR_CODES) <= {*ALL_ERRORS, KeyboardInterrupt, BaseException}


def test_every_ending_of_a_session_has_a_meaning():
    assert set(EXIT_CODES.values()) <= set(MEANINGS)
    assert set(OUTCOMES) == set(MEANINGS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.IndexProblemsError([]), 2),
        (errors.LockHeldError("x"), 4),
        (errors.JournalInUseError("x"), 4),
        (errors.IdentityError("x"), 5),
        (errors.ValidatorStoppedError("x"), 6),
        (errors.JournalDamagedError("x"), 7),
        (errors.JournalVersionError("x"), 7),
        (errors.ArchiveUnavailableError("x"), 8),
        (errors.PreconditionFailedError("x"), 8),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 70),
    ],
)
def test_the_nearest_class_decides(error, code):
    assert exit_code_of_error(error) == code
