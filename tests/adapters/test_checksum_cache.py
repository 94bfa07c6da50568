"""What is remembered of checksums is believed only where it is whole, and whatever else is found costs nothing but time."""

import os
import stat
import zlib

import pytest

from upload_adapters.checksums import index, measuring
from upload_adapters.checksums.cache import ChecksumCache, line_of
from upload_adapters.checksums.columns import SETTLED, UNSETTLED, Columns, State
from upload_adapters.source_directory import DirectorySource
from upload_core.checksum import crc32_base64

NAMES = ["a", "b", "größe", 'q"uote']
STATE = State(1, 2, 3, 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "beside" / "index.csv.checksums"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RACY_NS", -(1 << 62))
    (tmp_path / "root").mkdir()
    for name in NAMES:
        (tmp_path / "root" / name).write_bytes(name.encode())
    with DirectorySource(tmp_path / "root") as source:
        yield source


def remembered(path, relpaths=NAMES):
    cache = ChecksumCache(path)
    columns, pieces = cache.open(relpaths)
    cache.close()
    assert cache.problem == ""
    found = {
        relpath: (columns.state(row), columns.crcs[row])
        for row, relpath in enumerate(relpaths)
        if columns.kinds[row] == SETTLED
    }
    return found, pieces


def right(found):
    return found.columns.checksums == [crc32_base64(zlib.crc32(name.encode())) for name in NAMES]


def test_what_was_appended_is_there_whatever_came_of_the_process(path):
    cache = ChecksumCache(path)
    cache.open(NAMES)
    cache.append(line_of([("a", STATE, 7), ("größe", STATE, 8)]))
    cache.append(line_of([("b", STATE, 9)], (0, 100)))
    # Nobody closes it.
    found, pieces = remembered(path)
    assert found == {"a": (STATE, 7), "größe": (STATE, 8)}
    assert pieces == {1: {(STATE, 0, 100): 9}}


def test_the_later_line_counts(path):
    cache = ChecksumCache(path)
    cache.open(NAMES)
    cache.append(line_of([("a", STATE, 7)]))
    cache.append(line_of([("a", State(9, 9, 9, 9), 8)]))
    assert remembered(path)[0] == {"a": (State(9, 9, 9, 9), 8)}


def test_only_settled_files_are_kept_in_the_end(path):
    columns = Columns(2)
    columns.put(0, SETTLED, STATE, 7)
    columns.put(1, UNSETTLED, STATE, 8)
    cache = ChecksumCache(path)
    cache.open(["a", "b"])
    cache.append(line_of([("gone", STATE, 7)]))
    cache.replace(["a", "b"], columns)
    assert remembered(path, ["a", "b", "gone"])[0] == {"a": (STATE, 7)}


def test_many_files_survive_being_written_anew(path):
    names = [f"f{number}" for number in range(1001)]
    columns = Columns(len(names))
    for row in range(len(names)):
        columns.put(row, SETTLED, State(row, -row, row, 2**64 - 1 - row), row)
    cache = ChecksumCache(path)
    cache.open(names)
    cache.replace(names, columns)
    found, _ = remembered(path, names)
    assert found == {name: (State(row, -row, row, 2**64 - 1 - row), row) for row, name in enumerate(names)}


def test_it_is_for_its_owner_alone(source, path):
    cache = ChecksumCache(path)
    cache.open(NAMES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cache.close()
    index(source, NAMES, cache=ChecksumCache(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_written_when_nothing_has_changed(source, path):
    index(source, NAMES, cache=ChecksumCache(path))
    before = State.shown_by(path.stat())
    assert index(source, NAMES, cache=ChecksumCache(path)).believed == len(NAMES)
    assert State.shown_by(path.stat()) == before


def test_a_file_that_was_cut_anywhere_is_believed_as_far_as_it_is_whole(source, path):
    cache = ChecksumCache(path)
    cache.open(NAMES)
    whole = path.read_bytes()
    for name in NAMES:
        row = NAMES.index(name)
        state = State.shown_by(source.status(NAMES[row]))
        whole += line_of([(name, state, zlib.crc32(name.encode()))])
    ends = [end + 1 for end, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        found = index(source, NAMES, cache=ChecksumCache(path))
        assert right(found)
        assert found.believed == sum(end - 1 <= length for end in ends[1:])  # less the line end, which is added
        assert index(source, NAMES, cache=ChecksumCache(path)).believed == len(NAMES)


def test_no_damaged_byte_is_ever_believed(source, path):
    index(source, NAMES, cache=ChecksumCache(path))
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = index(source, NAMES, cache=ChecksumCache(path))
        assert right(found)
        assert found.believed == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\0" * 5000,
        b"not one of ours\n" * 100,
        line_of([("a", STATE, 7)]),  # no header
        b'00000000 "upload-core checksums 1"\n',
    ],
)
def test_a_file_that_is_none_of_ours_remembers_nothing(source, path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    found = index(source, NAMES, cache=ChecksumCache(path))
    assert right(found)
    assert found.believed == 0
    assert index(source, NAMES, cache=ChecksumCache(path)).believed == len(NAMES)


@pytest.mark.parametrize(
    "body",
    [
        [["a"]],
        [["a", "x", 2, 3, 4, 5]],
        [["a", 1, 2, 3, 4, 2**40]],
        [["a", 1, 2, 3, -4, 5]],
        [["a", 2**70, 2, 3, 4, 5]],
        {"a": 1},
        None,
    ],
)
def test_a_whole_line_that_says_nothing_we_understand_is_passed_over(path, body):
    import msgspec

    cache = ChecksumCache(path)
    cache.open(NAMES)
    text = msgspec.json.encode(body)
    cache.append(b"%08x %s\n" % (zlib.crc32(text), text))
    cache.append(line_of([("b", STATE, 9)]))
    assert remembered(path)[0] == {"b": (STATE, 9)}


def test_a_line_between_two_whole_ones_may_be_torn(path):
    cache = ChecksumCache(path)
    cache.open(NAMES)
    cache.append(line_of([("a", STATE, 7)])[:-9])
    again = ChecksumCache(path)
    again.open(NAMES)
    again.append(line_of([("b", STATE, 9)]))
    assert remembered(path)[0] == {"b": (STATE, 9)}


def in_place_of(what):
    def link(path, tmp_path):
        (tmp_path / "other").write_bytes(b"precious")
        path.symlink_to(tmp_path / "other")

    return {"folder": lambda path, _: path.mkdir(), "fifo": lambda path, _: os.mkfifo(path), "link": link}[what]


@pytest.mark.parametrize("what", ["folder", "fifo", "link"])
def test_whatever_stands_in_its_place_stays_and_the_index_is_right(source, path, tmp_path, what):
    path.parent.mkdir()
    in_place_of(what)(path, tmp_path)
    for _ in range(2):
        cache = ChecksumCache(path)
        found = index(source, NAMES, cache=cache)
        assert right(found)
        assert cache.problem
        assert found.believed == 0
    if what == "link":
        assert (tmp_path / "other").read_bytes() == b"precious"


def test_a_full_disk_ends_the_remembering_and_nothing_else(source, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    cache = ChecksumCache(path)
    monkeypatch.setattr(os, "write", full)
    found = index(source, NAMES, cache=cache)
    assert right(found)
    assert cache.problem == "No space left on device"


def test_two_writers_at_a_time_do_not_spoil_each_others_lines(path):
    one, two = ChecksumCache(path), ChecksumCache(path)
    one.open(NAMES)
    two.open(NAMES)
    one.append(line_of([("a", STATE, 7)]))
    two.append(line_of([("b", STATE, 8)]))
    one.append(line_of([("größe", STATE, 9)]))
    assert set(remembered(path)[0]) == {"a", "b", "größe"}
