"""No path leaves its root: what lies outside is neither read nor written, whatever a name says and whoever swaps links.

The rules one by one are in `tests/core/test_index_check.py`, the source's own cases in `tests/adapters/test_source_directory.py`.
"""

import os
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from tests.contracts.bodies import Body
from tests.paths import HOSTILE
from upload_adapters.index_file import read_index
from upload_adapters.local import DirectoryArchive, DirectoryControlBucket
from upload_adapters.memory import MemorySource
from upload_adapters.opened_file import OpenedFile
from upload_adapters.source_directory import DirectorySource
from upload_adapters.state_dump import DirectoryStateDump
from upload_core.errors import ArchiveError, ConfigurationError, IndexProblemsError, SourceError
from upload_core.index_check import IndexColumns, check_columns

SECRET = b"secret of another directory"

# Beyond those that every rule has: what Windows, macOS and other readers of names make of them.
FOREIGN = [
    *("CON", "con.txt", "PRN", "AUX", "NUL", "nul.tar.gz", "COM1", "COM9.log", "LPT1", "CONIN$", "a/NUL/b"),
    *(
        "a.",
        "a..",
        "a. . .",
        "a ",
        " a",
        "a/b. ",
        "file.txt:stream",
        "file.txt::$DATA",
        "a<b",
        "a>b",
        "a|b",
        "a?",
        "a*",
    ),
    *(
        "\u202egnp.exe",
        "a\u2066b\u2069",
        "\u200fabc",
        "a\u200bb",
        "a\u2028b",
        "\ufeffa",
        "ｅtc/passwd",
        "．．/x",
        "..\u2215x",
        "..\u2044x",
    ),
    *(
        "%2e%2e/x",
        "%2e%2e%2fx",
        "..%2fx",
        "..%5cx",
        "%00",
        "~root/x",
        "$HOME/x",
        "${HOME}",
        "`id`",
        "$(id)",
        "-rf",
        "--help",
    ),
]
"""Each is a file's name on POSIX and stays one: kept byte for byte below the root, or refused where the store cannot hold it."""

ALL = [*((rule, path) for rule, paths in HOSTILE.items() for path in paths), *(("foreign", path) for path in FOREIGN)]


@pytest.fixture
def place(tmp_path):
    """A root three levels deep, and at every place where a path that climbs could end a file that must not be read."""
    root = tmp_path / "one" / "two" / "root"
    root.mkdir(parents=True)
    (root / "a").mkdir()
    (root / "a" / "b").mkdir()
    for folder in (tmp_path, tmp_path / "one", tmp_path / "one" / "two"):
        (folder / "x").write_bytes(SECRET)
        (folder / "c").write_bytes(SECRET)
        (folder / "b").write_bytes(SECRET)
        (folder / "etc").mkdir()
        (folder / "etc" / "passwd").write_bytes(SECRET)
    return root


def tree(place):
    """What lies outside, but for the place beside an archive where its unfinished files are."""
    own = {place, place.with_name(f".{place.name}.tmp")}
    found = [path for path in place.parents[2].rglob("*") if not own & {path, *path.parents}]
    return {path: path.read_bytes() if path.is_file() else b"" for path in found}


@pytest.mark.promise("R20")
def test_no_hostile_path_gets_past_the_index_the_source_or_a_store(place, figure):
    before = tree(place)
    source = DirectorySource(place)
    archive, control = DirectoryArchive(place), DirectoryControlBucket(place)
    outside = 0
    for rule, path in ALL:
        hostile = rule != "foreign"
        if hostile:
            assert check_columns(IndexColumns([path])), path
        with suppress(SourceError), source.open(path) as file:
            outside += len(file.read())
        with suppress(SourceError):
            source.size(path)
        with suppress(SourceError):
            MemorySource({"a": b""}).open(path)
        with suppress(SourceError):
            outside += sum(name in source.ls(path) for name in ("one", "two", "passwd"))
        for ask in (
            lambda p: archive.put(p, Body(b"written"), checksum=None),
            archive.stat,
            lambda p: control.put(p, b"written"),
            lambda p: control.append(p, b"written\n", offset=0),
            control.read,
            control.delete,
        ):
            with suppress(ArchiveError):
                outside += SECRET in repr(ask(path)).encode()
        with suppress(ValueError):
            made = DirectoryStateDump(place).write(path, ("a",), [])
            assert os.path.dirname(os.path.realpath(made)) == str(place.resolve())
            os.unlink(made)
    source.close()
    assert outside == 0
    assert tree(place) == before, "something outside was made, changed or removed"
    assert len(ALL) >= 100
    figure(len(ALL), "hostile paths")


@pytest.mark.promise("R20")
def test_no_hostile_path_gets_through_an_index_file(tmp_path, figure):
    """As a person's CSV would bring them: quoted, so that every byte arrives."""
    rejected = 0
    for rule, path in ALL:
        if rule == "foreign":
            continue
        data = path.encode(
            "utf-8", "surrogateescape" if "\ud800" not in path and "\udfff" not in path else "surrogatepass"
        )
        (tmp_path / "index.csv").write_bytes(b'path\n"' + data.replace(b'"', b'""') + b'"\n')
        try:
            problems = check_columns(read_index(tmp_path / "index.csv"))
        except (ConfigurationError, IndexProblemsError):
            problems = ["refused whole"]  # type: ignore[list-item]  # only whether there are any counts
        assert problems, (rule, path)
        rejected += 1
    figure(rejected, "hostile paths in an index file")


class Flipping:
    """A folder of the root that is itself, then a link to the outside, as fast as the disk can do it."""

    def __init__(self, root, outside):
        self._root, self._outside = root, outside
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._flip)
        self.flips = 0

    def _flip(self):
        trap, spare = self._root.parent / "trap", self._root.parent / "spare"
        while not self._done.is_set():
            with suppress(OSError):
                trap.symlink_to(self._outside)
            with suppress(OSError):
                os.rename(self._root / "data", spare)
                os.rename(trap, self._root / "data")
                self.flips += 1
                os.unlink(self._root / "data")
                os.rename(spare, self._root / "data")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


@pytest.mark.promise("R20")
def test_a_link_swapped_in_leads_neither_reader_nor_writer_outside(tmp_path, size, figure):
    seconds = size(pr=2, nightly=120)
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "data").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    (outside / "b.txt").write_bytes(SECRET)
    (root / "data" / "b.txt").write_bytes(b"beta!")
    archive, control = DirectoryArchive(root), DirectoryControlBucket(root)
    done = refused = 0
    with DirectorySource(root) as source, Flipping(root, outside) as flipping:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for act in (
                lambda: source.open("data/b.txt"),
                lambda: archive.put("data/new.txt", Body(b"written"), checksum=None),
                lambda: archive.stat("data/secret"),
                lambda: control.put("data/lock", b"written"),
                lambda: control.read("data/secret"),
                lambda: control.delete("data/secret"),
            ):
                try:
                    found: Any = act()
                    if isinstance(found, OpenedFile):
                        with found:
                            assert found.read() != SECRET
                    else:
                        assert found is None or SECRET not in repr(found).encode()
                    done += 1
                except (SourceError, ArchiveError):
                    refused += 1
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": SECRET, "b.txt": SECRET}
    assert done
    assert refused
    assert flipping.flips
    figure(flipping.flips, "links swapped in")
    figure(done + refused, "accesses during the swaps")
    figure(0, "bytes read or written outside")
