"""What a worker answers: the whole file, the right fault, and never an exception."""

import zlib

import pytest

from upload_adapters.memory import MemoryArchive, MemorySource
from upload_core import errors
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.effects import (
    ArchiveHolds,
    Fault,
    FileInspected,
    FileNotStored,
    FileStored,
    InspectFile,
    TransferFile,
)
from upload_core.worker import FAULTS, execute, explain, fault_of

NAME = "a/b.fits"
DATA = b"SIMPLE  =                    T" * 100
SIZE = len(DATA)
CRC = crc32_base64(zlib.crc32(DATA))
OTHER_CRC = crc32_base64(1)


def transfer(size=SIZE, checksum=CRC):
    return TransferFile(7, NAME, size, checksum)


def inspect(size=SIZE, checksum=CRC):
    return InspectFile(7, NAME, size, checksum)


def run(order, files=None, archive=None, commit=lambda: None):
    source = MemorySource({NAME: DATA} if files is None else files)
    return execute(order, source, archive or MemoryArchive(), FreeAttempt(commit))


def archive_with(data):
    archive = MemoryArchive()
    files = {NAME: data}
    with MemorySource(files).open(NAME) as body:
        archive.put(NAME, body, checksum=None)
    return archive


class Unreadable(MemorySource):
    """A source where every open fails in the same way."""

    def __init__(self, error):
        super().__init__({})
        self.error = error

    def open(self, relpath):
        raise self.error


class RefusingArchive(MemoryArchive):
    """An archive where every question and every put fails in the same way."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def stat(self, relpath):
        raise self.error

    def put(self, relpath, body, *, checksum, attempt=None):
        raise self.error


# --- transfers -----------------------------------------------------------------------------------


def test_a_file_is_stored_whole_under_its_checksum():
    archive = MemoryArchive()
    outcome = run(transfer(), archive=archive)
    assert isinstance(outcome, FileStored)
    assert (outcome.file, outcome.size, outcome.checksum) == (7, len(DATA), CRC)
    assert archive.contents() == {NAME: DATA}


def test_without_an_indexed_checksum_the_stored_one_is_told():
    outcome = run(transfer(checksum=None))
    assert isinstance(outcome, FileStored)
    assert outcome.checksum == CRC


@pytest.mark.parametrize(
    ("order", "files", "fault", "words"),
    [
        (transfer(), {}, Fault.FILE, "does not exist"),
        (transfer(size=5), None, Fault.FILE, "3000 bytes, the index says 5"),
        (transfer(checksum=OTHER_CRC), None, Fault.CHECKSUM, OTHER_CRC),
    ],
)
def test_a_fault_of_the_file_is_told_and_nothing_is_stored(order, files, fault, words):
    archive = MemoryArchive()
    outcome = run(order, files, archive)
    assert isinstance(outcome, FileNotStored)
    assert outcome.fault is fault
    assert words in outcome.message
    assert archive.contents() == {}


def test_a_file_that_changes_while_it_is_read_is_not_stored():
    archive, files = MemoryArchive(), {NAME: DATA}
    outcome = run(transfer(), files, archive, commit=lambda: files.update({NAME: DATA[:-1] + b"x"}))
    assert isinstance(outcome, FileNotStored)
    assert (outcome.fault, archive.contents()) == (Fault.FILE, {})
    assert "changed" in outcome.message


def test_a_cut_stops_a_file_before_its_next_read():
    def commit():
        calls.append("asked")
        if len(calls) > 2:
            raise errors.LockLostError("cut")

    calls: list[str] = []
    data = bytes(5 << 20)  # five reads
    archive = MemoryArchive()
    outcome = run(TransferFile(7, NAME, len(data), None), {NAME: data}, archive, commit)
    assert isinstance(outcome, FileNotStored)
    assert (outcome.fault, len(calls), archive.contents()) == (Fault.STOPPED, 3, {})


def test_an_archive_that_acknowledges_something_else_is_not_believed():
    class Confused(MemoryArchive):
        def put(self, relpath, body, *, checksum, attempt=None):
            return super().put(relpath, MemorySource({NAME: b"else"}).open(NAME).__enter__(), checksum=None)

    outcome = run(transfer(), archive=Confused())
    assert isinstance(outcome, FileNotStored)
    assert outcome.fault is Fault.FILE_FOR_GOOD
    assert "acknowledged" in outcome.message


# --- faults --------------------------------------------------------------------------------------


def subclasses(base):
    return {base, *(deep for child in base.__subclasses__() for deep in subclasses(child))}


EXPECTED = {
    errors.SourceError: Fault.FILE,
    errors.SourceMissingError: Fault.FILE,
    errors.SourceChangedError: Fault.FILE,
    errors.ChecksumMismatchError: Fault.CHECKSUM,
    errors.ArchiveUnavailableError: Fault.WORLD,
    errors.ConfigurationError: Fault.WORLD,
    errors.IdentityError: Fault.IDENTITY,
    errors.ArchiveError: Fault.FILE_FOR_GOOD,
    errors.PreconditionFailedError: Fault.FILE_FOR_GOOD,
    errors.OffsetConflictError: Fault.FILE_FOR_GOOD,
    errors.LockLostError: Fault.STOPPED,
    ConnectionResetError: Fault.WORLD,
    TimeoutError: Fault.WORLD,
    OSError: Fault.FILE,
    ValueError: Fault.FILE,
    MemoryError: Fault.FILE,
    KeyboardInterrupt: Fault.FILE,
}


@pytest.mark.parametrize(("kind", "fault"), EXPECTED.items())
def test_every_kind_of_error_has_its_fault(kind, fault):
    assert fault_of(kind.__new__(kind)) is fault


@pytest.mark.parametrize("kind", sorted(subclasses(errors.UploadClientError), key=str))
def test_every_error_of_ours_gets_an_answer_and_never_an_exception(kind):
    error = kind.__new__(kind)
    Exception.__init__(error, "why")
    outcome = run(transfer(), archive=RefusingArchive(error))
    assert isinstance(outcome, FileNotStored)
    # What an adapter raises is a subclass, and there may be some, depending on what was imported.
    assert outcome.fault is next((EXPECTED[base] for base in kind.__mro__ if base in EXPECTED), Fault.FILE)
    assert "why" in outcome.message


def test_every_fault_has_its_row():
    assert set(FAULTS.values()) == set(Fault)


def test_an_error_that_is_also_an_sdks_counts_as_ours():
    class SdkError(Exception):
        pass

    class BothError(SdkError, errors.ArchiveUnavailableError):
        pass

    assert fault_of(BothError("slow down")) is Fault.WORLD


def test_an_unexpected_error_is_named_by_its_type():
    assert explain(ZeroDivisionError("division by zero")) == "unexpected ZeroDivisionError: division by zero"
    assert explain(MemoryError()) == "unexpected MemoryError"


def test_an_error_without_words_says_what_its_class_means():
    assert explain(errors.SourceMissingError()) == "The indexed file does not exist (any more)."


def test_a_message_is_printable_encodable_and_bounded():
    message = explain(errors.SourceError("\x1b[31m\udcff" * 10_000))
    assert message.isprintable()
    assert len(message.encode()) <= 1100


# --- inspections ---------------------------------------------------------------------------------


def holds(order, archive, files=None):
    outcome = run(order, files, archive)
    assert isinstance(outcome, FileInspected)
    return outcome.holds


def test_an_empty_archive_holds_nothing():
    assert holds(inspect(), MemoryArchive()) is ArchiveHolds.NOTHING


@pytest.mark.parametrize("checksum", [CRC, None])
def test_the_indexed_file_is_found_equal(checksum):
    outcome = run(inspect(checksum=checksum), archive=archive_with(DATA))
    assert isinstance(outcome, FileInspected)
    assert (outcome.holds, outcome.size, outcome.checksum) == (ArchiveHolds.EQUAL, len(DATA), CRC)
    assert outcome.etag


@pytest.mark.parametrize("checksum", [CRC, None])
@pytest.mark.parametrize("stored", [b"", DATA[:-1], DATA[:-1] + b"x"])
def test_anything_else_is_found_different(checksum, stored):
    assert holds(inspect(checksum=checksum), archive_with(stored)) is ArchiveHolds.DIFFERENT


def test_with_an_indexed_checksum_the_source_is_not_needed():
    assert holds(inspect(), archive_with(DATA), files={}) is ArchiveHolds.EQUAL


def test_the_source_is_read_only_if_the_sizes_match():
    outcome = execute(
        inspect(size=4, checksum=None),
        Unreadable(AssertionError("opened")),
        archive_with(DATA),
        FreeAttempt(),
    )
    assert isinstance(outcome, FileInspected)
    assert "AssertionError" not in outcome.message


def test_a_source_of_another_size_by_now_is_not_equal():
    assert holds(inspect(checksum=None), archive_with(DATA), files={NAME: DATA + b"x"}) is ArchiveHolds.DIFFERENT


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.SourceMissingError("gone"), ArchiveHolds.DIFFERENT),
        (PermissionError("denied"), ArchiveHolds.DIFFERENT),
        (errors.ArchiveUnavailableError("the source is remote, too"), ArchiveHolds.UNKNOWN),
    ],
)
def test_an_unreadable_source_is_left_to_the_transfer_to_report(error, expected):
    outcome = execute(inspect(checksum=None), Unreadable(error), archive_with(DATA), FreeAttempt())
    assert isinstance(outcome, FileInspected)
    assert outcome.holds is expected
    assert str(error) in outcome.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ArchiveUnavailableError("503"), ArchiveHolds.UNKNOWN),
        (errors.IdentityError("expired"), ArchiveHolds.UNKNOWN),
        (ConnectionResetError(), ArchiveHolds.UNKNOWN),
        (errors.ArchiveError("no such key could ever be"), ArchiveHolds.DIFFERENT),
    ],
)
def test_an_archive_that_does_not_answer_leaves_it_unknown(error, expected):
    assert holds(inspect(), RefusingArchive(error)) is expected


def test_an_object_without_a_checksum_is_not_taken_for_equal():
    class Forgetful(MemoryArchive):
        def stat(self, relpath):
            found = super().stat(relpath)
            return found and type(found)(relpath, found.size)

    archive = Forgetful()
    run(transfer(), archive=archive)
    assert holds(inspect(), archive) is ArchiveHolds.DIFFERENT
