"""What every `Source` promises. An adapter joins with the fixtures `make` and `write`."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contracts.archive import ODD_NAMES
from upload_core.errors import SourceChangedError, SourceError, SourceMissingError
from upload_core.ports import Source

FILES = {
    "plain.fits": b"SIMPLE" * 1000,
    "empty": b"",
    "dir/a.txt": b"a",
    "dir/b.txt": b"bb",
    "dir/deeper/c.txt": b"ccc",
    "dir.txt": b"sorts between dir and dir/",
}

HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "/",
    "../secret",
    "dir/../../secret",
    "dir/../../../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "./plain.fits",
    "dir//a.txt",
    "dir/./a.txt",
    "dir/../plain.fits",
    "dir/a.txt/",
    "plain.fits/x",
    "nul\x00byte",
    "x" * 5000,
    "a/" * 3000,
    "~/x",
    "\udcff",
]


class SourceContract:
    """Join by a subclass that defines both fixtures."""

    @pytest.fixture
    def make(self) -> Callable[[Mapping[str, bytes]], Source]:
        """Files -> a source that holds exactly these."""
        raise NotImplementedError

    @pytest.fixture
    def write(self) -> Callable[[str, bytes | None], None]:
        """(relpath, data): change a file of the source that was made, behind its back; None removes it."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, make: Callable[[Mapping[str, bytes]], Source]) -> Source:
        return make(FILES)

    def test_it_has_a_name(self, source):
        assert source.name

    @pytest.mark.parametrize("relpath", FILES)
    def test_each_file_is_there_with_its_bytes(self, source, relpath):
        assert source.problem_with(relpath) is None
        assert source.size(relpath) == len(FILES[relpath])
        with source.open(relpath) as file:
            assert file.size == len(FILES[relpath])
            assert file.read() == FILES[relpath]
            assert file.read() == b""
            file.verify_unchanged()

    @pytest.mark.parametrize("relpath", ODD_NAMES)
    def test_any_name_that_an_index_may_hold_can_be_read(self, make, relpath):
        source = make({relpath: b"data"})
        assert source.problem_with(relpath) is None
        with source.open(relpath) as file:
            assert file.read() == b"data"

    def test_a_file_is_read_in_pieces_and_again_from_its_beginning(self, source):
        with source.open("plain.fits") as file:
            pieces = []
            while piece := file.read(1234):
                assert len(piece) <= 1234
                pieces.append(piece)
            assert b"".join(pieces) == FILES["plain.fits"]
            file.rewind()
            assert file.read(6) == b"SIMPLE"

    def test_any_bytes_can_be_read_without_moving_what_is_read_next(self, source):
        whole = FILES["plain.fits"]
        with source.open("plain.fits") as file:
            assert file.read(7) == whole[:7]
            for offset, size in [(0, 1), (1234, 777), (len(whole) - 5, 5), (0, len(whole))]:
                assert file.read_at(offset, size) == whole[offset : offset + size]
            assert file.read(7) == whole[7:14]

    def test_beyond_the_end_there_is_nothing_to_read(self, source):
        whole = FILES["plain.fits"]
        with source.open("plain.fits") as file:
            assert file.read_at(len(whole) - 5, 100) == whole[-5:]
            assert file.read_at(len(whole), 1) == b""
            assert file.read_at(len(whole) + 10, 1) == b""
        with source.open("empty") as file:
            assert file.read_at(0, 10) == b""

    def test_many_threads_may_read_at_once(self, source):
        whole = FILES["plain.fits"]
        with source.open("plain.fits") as file, ThreadPoolExecutor(8) as pool:
            pieces = pool.map(lambda start: file.read_at(start, 100), range(0, len(whole), 100))
            assert b"".join(pieces) == whole

    def test_the_fingerprint_stays_as_long_as_nothing_changes(self, source, write):
        prints = []
        for _ in range(2):
            with source.open("plain.fits") as file:
                prints.append(file.fingerprint)
                file.read()
                prints.append(file.fingerprint)
            write("dir/a.txt", b"changed")
        with source.open("dir.txt") as file:
            other = file.fingerprint
        assert len(set(prints)) == 1
        assert other not in prints
        assert all(found.isprintable() and found for found in [*prints, other])

    @pytest.mark.parametrize("data", [b"other!" * 1000, b"longer" * 2000, b""], ids=["same size", "longer", "empty"])
    def test_the_fingerprint_tells_one_content_from_another(self, source, write, data):
        with source.open("plain.fits") as file:
            before = file.fingerprint
        write("plain.fits", data)
        with source.open("plain.fits") as file:
            assert file.fingerprint != before

    @pytest.mark.parametrize("relpath", ["missing", "dir/missing", "missing/a.txt"])
    def test_a_file_that_does_not_exist_is_missing(self, source, relpath):
        assert source.problem_with(relpath)
        with pytest.raises(SourceMissingError):
            source.size(relpath)
        with pytest.raises(SourceMissingError), source.open(relpath):
            pass

    @pytest.mark.parametrize("relpath", ["dir", *HOSTILE_NAMES], ids=lambda name: ascii(name[:20]))
    def test_nothing_but_the_files_it_holds_can_be_opened(self, source, relpath):
        assert source.problem_with(relpath)
        with pytest.raises(SourceError):
            source.size(relpath)
        with pytest.raises(SourceError), source.open(relpath):
            pass

    @pytest.mark.parametrize(
        ("prefix", "names"),
        [
            ("", ("dir", "dir.txt", "empty", "plain.fits")),
            ("dir", ("a.txt", "b.txt", "deeper")),
            ("dir/", ("a.txt", "b.txt", "deeper")),
            ("dir/deeper", ("c.txt",)),
        ],
    )
    def test_what_lies_directly_under_a_place_is_listed(self, source, prefix, names):
        assert source.ls(prefix) == names

    @pytest.mark.parametrize("prefix", ["missing", "dir/missing", "di"])
    def test_a_place_that_does_not_exist_is_missing(self, source, prefix):
        with pytest.raises(SourceMissingError):
            source.ls(prefix)

    @pytest.mark.parametrize(
        "data", [b"other!" * 1000, b"longer" * 2000, b"", None], ids=["same", "longer", "empty", "gone"]
    )
    def test_a_file_that_changes_while_it_is_read_is_noticed(self, source, write, data):
        with source.open("plain.fits") as file:
            file.read(100)
            write("plain.fits", data)
            try:
                while file.read(1000):
                    pass
            except SourceError:
                return  # noticed early
            with pytest.raises(SourceChangedError):
                file.verify_unchanged()

    def test_a_change_of_another_file_is_none(self, source, write):
        with source.open("plain.fits") as file:
            write("dir/a.txt", b"changed")
            file.read()
            file.verify_unchanged()

    def test_the_state_of_now_is_seen(self, source, write):
        write("dir/a.txt", b"longer now")
        assert source.size("dir/a.txt") == 10
        write("dir/a.txt", None)
        assert source.problem_with("dir/a.txt")
        with pytest.raises(SourceMissingError):
            source.size("dir/a.txt")
