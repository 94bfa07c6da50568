"""What every `Archive` promises. An adapter joins by a class of its own with the fixtures `archive` and `stored`."""

import threading
import zlib
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from tests.contracts.bodies import Body, ChangedBody, UnreadableBody
from upload_core.attempt import FreeAttempt
from upload_core.checksum import crc32_base64
from upload_core.errors import ChecksumMismatchError, LockLostError, SourceChangedError, SourceError
from upload_core.ports import Archive

ODD_NAMES = [
    "plain.fits",
    "NA",
    "00123",
    "a/b/c/d/e/f/g.txt",
    "with space and 'quotes' \"too\".txt",
    "Größe/大きさ.dat",
    "e\u0301 decomposed.txt",
    "-rf",
    "#1 100%25+&?=.txt",
    ".hidden/.file",
    "trailing.dot.",
    "back\\slash",
    "x" * 200,
    "$HOME `id` ;.txt",
]


def crc(data: bytes) -> str:
    return crc32_base64(zlib.crc32(data))


class Recorded(FreeAttempt):
    """An attempt that remembers what it is told, and in which order slots are taken and bytes spent."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[object, ...]] = []
        self.spent: list[int] = []
        self.open_slots = self.spent_without_slot = 0
        self._mutex = threading.Lock()

    def upload_begun(self, upload):
        self.told.append(("begun", upload))

    def part_stored(self, part):
        self.told.append(("stored", part.number))

    def upload_ended(self):
        self.told.append(("ended",))

    @contextmanager
    def slot(self):
        with self._mutex:
            self.open_slots += 1
        yield
        with self._mutex:
            self.open_slots -= 1

    def spend(self, size_bytes):
        with self._mutex:
            self.spent.append(size_bytes)
            self.spent_without_slot += not self.open_slots


class ArchiveContract:
    """Join by a subclass that defines both fixtures."""

    @pytest.fixture
    def archive(self) -> Archive:
        """An empty archive."""
        raise NotImplementedError

    @pytest.fixture
    def stored(self, archive: Archive) -> Callable[[str], bytes | None]:
        """Relpath -> the bytes that anybody can see under it, or None; read past the adapter."""
        raise NotImplementedError

    def test_an_empty_archive_holds_nothing(self, archive, stored):
        assert archive.stat("a") is None
        assert list(archive.list()) == []
        assert stored("a") is None

    @pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) - 1, 1 << 20, 3 * (1 << 20) + 17])
    def test_what_is_put_is_what_is_stored(self, archive, stored, size):
        data = bytes(range(256)) * (size // 256) + b"\x00" * (size % 256)
        acknowledged = archive.put("dir/file", Body(data), checksum=crc(data))
        assert stored("dir/file") == data
        for seen in (acknowledged, archive.stat("dir/file")):
            assert (seen.relpath, seen.size, seen.checksum) == ("dir/file", size, crc(data))
        assert acknowledged.etag == archive.stat("dir/file").etag

    def test_without_a_checksum_the_stored_one_is_told(self, archive):
        assert archive.put("a", Body(b"data"), checksum=None).checksum == crc(b"data")
        assert archive.stat("a").checksum == crc(b"data")

    @pytest.mark.parametrize("relpath", ODD_NAMES)
    def test_any_name_that_an_index_may_hold_is_kept_as_it_is(self, archive, stored, relpath):
        archive.put(relpath, Body(b"data"), checksum=crc(b"data"))
        assert archive.stat(relpath).relpath == relpath
        assert [found.relpath for found in archive.list()] == [relpath]
        assert stored(relpath) == b"data"

    def test_a_second_put_replaces_the_first(self, archive, stored):
        archive.put("a", Body(b"first"), checksum=crc(b"first"))
        archive.put("a", Body(b"second!"), checksum=crc(b"second!"))
        assert stored("a") == b"second!"
        assert (archive.stat("a").size, archive.stat("a").checksum) == (7, crc(b"second!"))
        assert len(list(archive.list())) == 1

    def test_every_object_is_listed_once_with_its_size(self, archive):
        expected = {f"dir{number % 7}/file{number}": number for number in range(50)}
        for relpath, size in expected.items():
            archive.put(relpath, Body(b"x" * size), checksum=None)
        listed = [(found.relpath, found.size) for found in archive.list()]
        assert len(listed) == len(expected)
        assert dict(listed) == expected

    # --- whole and equal, or not at all ------------------------------------------------------------

    @pytest.fixture(params=["new", "there already"])
    def before(self, request, archive) -> bytes | None:
        if request.param == "new":
            return None
        archive.put("a", Body(b"as before"), checksum=None)
        return b"as before"

    def refuses(self, archive, stored, before, body, error, **arguments) -> None:
        with pytest.raises(error):
            archive.put("a", body, **{"checksum": None, **arguments})
        assert stored("a") == before
        seen = archive.stat("a")
        assert (seen and seen.checksum) == (before and crc(before))
        assert len(list(archive.list())) == (before is not None)

    def test_bytes_with_another_checksum_are_refused(self, archive, stored, before):
        self.refuses(archive, stored, before, Body(b"data"), ChecksumMismatchError, checksum=crc(b"other"))

    def test_the_refusal_names_both_checksums(self, archive):
        with pytest.raises(ChecksumMismatchError) as caught:
            archive.put("a", Body(b"data"), checksum=crc(b"other"))
        assert (caught.value.expected, caught.value.actual) == (crc(b"other"), crc(b"data"))

    def test_a_file_that_changed_is_refused(self, archive, stored, before):
        self.refuses(archive, stored, before, ChangedBody(b"data"), SourceChangedError)

    @pytest.mark.parametrize("size", [3, 5])
    def test_a_file_of_another_length_than_it_had_is_refused(self, archive, stored, before, size):
        self.refuses(archive, stored, before, Body(b"data", size=size), SourceError)

    def test_a_file_that_cannot_be_read_to_its_end_is_refused(self, archive, stored, before):
        self.refuses(archive, stored, before, UnreadableBody(bytes(1 << 20)), SourceError)

    def test_what_commit_raises_is_passed_on_and_nothing_is_stored(self, archive, stored, before):
        def commit():
            raise LockLostError("too late")

        self.refuses(archive, stored, before, Body(b"data"), LockLostError, attempt=FreeAttempt(commit))

    def test_whatever_a_read_raises_is_passed_on_and_nothing_is_stored(self, archive, stored, before):
        def at_read():
            raise LockLostError("cut")

        self.refuses(archive, stored, before, Body(b"data", at_read=at_read), LockLostError)

    def test_commit_is_asked_last_after_the_last_read_and_before_anybody_sees_the_object(self, archive, stored):
        seen: list[tuple[object, ...]] = []
        reads: list[None] = []
        body = Body(b"data", at_read=lambda: reads.append(None))

        def commit():
            seen.append((stored("a"), archive.stat("a"), body.verified, len(reads)))

        archive.put("a", body, checksum=None, attempt=FreeAttempt(commit))
        assert [before[:2] for before in seen] == [(None, None)] * len(seen)
        assert seen[-1][2:] == (1, len(reads))
        assert reads

    def test_each_request_with_bytes_takes_a_slot_and_spends_its_bytes_while_it_has_it(self, archive):
        attempt = Recorded()
        archive.put("a", Body(bytes(700_000)), checksum=None, attempt=attempt)
        assert attempt.open_slots == 0
        assert sum(attempt.spent) in (0, 700_000), "a local archive need not be paced"
        assert attempt.spent_without_slot == 0

    def test_of_a_free_attempt_nothing_is_left_to_go_on_with(self, archive, stored):
        attempt = Recorded()
        archive.put("a", Body(bytes(700_000)), checksum=None, attempt=attempt)
        begun = [told for told in attempt.told if told[0] == "begun"]
        assert attempt.told == [] or (
            len(begun) == 1 and attempt.told[0] == begun[0] and attempt.told[-1] == ("ended",)
        )
        assert stored("a") == bytes(700_000)

    def test_ending_uploads_takes_no_object_away(self, archive, stored):
        archive.put("a", Body(b"data"), checksum=None)
        archive.end_uploads({"a": "an upload that was completed long ago"}, lambda _: True)
        assert stored("a") == b"data"

    def test_after_a_refusal_the_same_name_can_be_stored(self, archive, stored):
        with pytest.raises(ChecksumMismatchError):
            archive.put("a", Body(b"data"), checksum=crc(b"other"))
        archive.put("a", Body(b"data"), checksum=crc(b"data"))
        assert stored("a") == b"data"

    def test_of_all_who_write_one_name_at_once_exactly_one_is_seen_whole(self, archive, stored):
        bodies = [bytes([number]) * 100_000 for number in range(8)]
        threads = [
            threading.Thread(target=archive.put, args=("a", Body(data)), kwargs={"checksum": crc(data)})
            for data in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stored("a") in bodies
        assert archive.stat("a").checksum == crc(stored("a"))
        assert len(list(archive.list())) == 1
