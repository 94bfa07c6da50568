"""Nothing outside the root is ever read, nothing blocks, and a file that changes under the reader is noticed."""

import os
import pickle
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.paths import HOSTILE, ODD
from upload_adapters import held_folders
from upload_adapters.source_directory import DirectorySource
from upload_core.errors import ConfigurationError, SourceChangedError, SourceError, SourceMissingError

SECRET = b"secret of another directory"


@pytest.fixture
def place(tmp_path):
    """A source `root` with a few files, beside it a folder that is none of its business."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "data" / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"alpha")
    (root / "data" / "b.txt").write_bytes(b"beta!")
    (root / "data" / "deep" / "c.txt").write_bytes(b"")
    return tmp_path


@pytest.fixture
def root(place):
    return place / "root"


@pytest.fixture
def source(root):
    with DirectorySource(root) as source:
        yield source


def content(source, relpath):
    with source.open(relpath) as file:
        data = file.read()
        file.verify_unchanged()
        return data


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_read_in_pieces_and_again_from_the_start(source):
    with source.open("data/b.txt") as file:
        assert file.size == 5
        assert [file.read(2), file.read(2), file.read(2), file.read(2)] == [b"be", b"ta", b"!", b""]
        file.rewind()
        assert file.read() == b"beta!"
        file.verify_unchanged()


def test_sizes_and_names_are_those_on_disk(source, root):
    assert [source.size(path) for path in ("a.txt", "data/b.txt", "data/deep/c.txt")] == [5, 5, 0]
    assert source.name == str(root)
    assert source.ls() == ("a.txt", "data")
    assert source.ls("data") == source.ls("data/") == ("b.txt", "deep")


@pytest.mark.parametrize("prefix", ["nothing", "a.txt", "data/nothing", "a.txt/b"])
def test_listing_what_is_no_folder_says_so(source, prefix):
    with pytest.raises(SourceMissingError):
        source.ls(prefix)


@pytest.mark.parametrize("prefix", ["..", "/", "/etc", "data/../..", "./data", "a\0"])
def test_nothing_but_the_source_is_listed(source, prefix):
    with pytest.raises(SourceError):
        source.ls(prefix)


def test_a_folder_that_may_be_entered_but_not_listed_is_passed_through(source, root):
    (root / "data").chmod(0o311)
    try:
        assert content(source, "data/b.txt") == b"beta!"
    finally:
        (root / "data").chmod(0o755)


@pytest.mark.parametrize("path", ["nothing", "data/nothing", "nothing/a.txt", "a.txt/b"])
def test_a_missing_file_is_missing_however_one_asks(source, path):
    assert "does not exist" in source.problem_with(path)
    for ask in (source.size, source.open):
        with pytest.raises(SourceMissingError, match=f'"{path}" does not exist'):
            ask(path)


def test_a_name_too_long_for_the_disk_is_an_error_of_that_file(source):
    assert "too long" in source.problem_with("a" * 300)
    with pytest.raises(SourceError, match="too long"):
        source.open("a" * 300)


def test_a_source_that_is_no_directory_is_refused_at_once(root):
    for wrong in (root / "a.txt", root / "nothing"):
        with pytest.raises(ConfigurationError, match="not a readable directory"):
            DirectorySource(wrong)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_known_before_it_is_opened(source, root):
    (root / "a.txt").chmod(0)
    assert "permissions" in source.problem_with("a.txt")
    with pytest.raises(SourceError):
        source.open("a.txt")


def test_a_source_can_be_sent_to_another_process(source):
    with pickle.loads(pickle.dumps(source)) as again:
        assert content(again, "a.txt") == b"alpha"


# ── paths that want out ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [path for paths in HOSTILE.values() for path in paths])
def test_a_hostile_path_opens_nothing(source, path):
    assert source.problem_with(path)
    for ask in (source.size, source.open):
        with pytest.raises(SourceError):
            ask(path)


@pytest.mark.parametrize("path", [path for path in ODD if max(map(len, path.encode().split(b"/"))) < 256])
def test_an_odd_name_is_delivered_like_any_other(source, root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(path.encode())
    assert source.problem_with(path) is None
    assert content(source, path) == path.encode()


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link", "../outside/secret", "link"),
        ("link", "{outside}/secret", "link"),
        ("link", "../outside", "link/secret"),
        ("link", "..", "link/outside/secret"),
        ("link", "/", "link/etc/passwd"),
        ("data/link", "../../outside/secret", "data/link"),
        ("data/link", "../../outside", "data/link/secret"),
        ("link", "data/../../outside/secret", "link"),
        ("link", "/proc/self/root/etc/passwd", "link"),
        ("link", "/dev/zero", "link"),
        ("link", "../root-of-another-name/x", "link"),
    ],
)
def test_a_link_out_of_the_root_is_never_followed(source, place, root, link, target, path):
    (place / "root-of-another-name").mkdir()
    (place / "root-of-another-name" / "x").write_bytes(SECRET)
    (root / link).symlink_to(target.format(outside=place / "outside"))
    assert "link" in source.problem_with(path)
    for ask in (source.size, source.open):
        with pytest.raises(SourceError, match="link"):
            ask(path)


def test_a_chain_of_links_is_followed_to_where_it_ends(source, root, place):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("../outside/back")
    (place / "outside" / "back").symlink_to("../root/a.txt")
    assert content(source, "one") == b"alpha"
    (place / "outside" / "back").unlink()
    (place / "outside" / "back").symlink_to("secret")
    with pytest.raises(SourceError, match="link"):
        source.open("one")


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [("link", "data/b.txt", "link"), ("link", "data", "link/b.txt"), ("data/deep/up", "..", "data/deep/up/b.txt")],
)
def test_a_link_that_stays_inside_is_delivered_as_what_it_leads_to(source, root, link, target, path):
    (root / link).symlink_to(target)
    assert source.problem_with(path) is None
    assert source.size(path) == 5
    assert content(source, path) == b"beta!"


def test_links_that_lead_nowhere_or_in_a_circle_are_errors_of_that_file(source, root):
    (root / "nowhere").symlink_to("nothing")
    (root / "circle").symlink_to("circle")
    assert "leads nowhere" in source.problem_with("nowhere")
    with pytest.raises(SourceMissingError, match="leads nowhere"):
        source.open("nowhere")
    assert source.problem_with("circle")
    with pytest.raises(SourceError):
        source.open("circle")


def test_a_source_whose_own_path_is_a_link_is_read(place):
    (place / "alias").symlink_to("root")
    with DirectorySource(place / "alias") as source:
        assert source.name == str(place / "alias")
        assert content(source, "data/b.txt") == b"beta!"
        (place / "root" / "link").symlink_to(place / "alias" / "data")
        assert content(source, "link/b.txt") == b"beta!"


@pytest.mark.promise("R20")
def test_a_link_swapped_in_while_files_are_opened_never_shows_what_is_outside(place, root, source, size, figure):
    """A folder and a file flip between themselves and links to the outside, as fast as the disk can do it."""
    (place / "outside" / "b.txt").write_bytes(SECRET)
    (root / "inside").symlink_to("data")
    done = threading.Event()

    def flip() -> None:
        trap, spare = place / "trap", place / "spare"
        while not done.is_set():
            with suppress(OSError):
                trap.symlink_to(place / "outside")
                os.rename(root / "data", spare)
                os.rename(trap, root / "data")
                os.unlink(root / "data")
                os.rename(spare, root / "data")
            with suppress(OSError):
                trap.symlink_to(place / "outside" / "secret")
                os.rename(trap, root / "a.txt")
                (place / "new").write_bytes(b"alpha")
                os.rename(place / "new", root / "a.txt")

    flipping = threading.Thread(target=flip)
    flipping.start()
    opened = refused = 0
    try:
        end = time.monotonic() + size(pr=3, nightly=60)
        while time.monotonic() < end:
            for path in ("data/b.txt", "a.txt", "inside/b.txt"):
                try:
                    with source.open(path) as file:
                        assert file.read() != SECRET
                        opened += 1
                except SourceError:
                    refused += 1
    finally:
        done.set()
        flipping.join()
    assert opened
    assert refused
    figure(opened + refused, "files opened during swaps")


# ── what is no file ──────────────────────────────────────────────────────────────────────────────


def test_folders_fifos_and_sockets_are_refused_without_waiting(source, root):
    os.mkfifo(root / "fifo")
    (root / "to-fifo").symlink_to("fifo")
    here = os.getcwd()
    os.chdir(root)  # the address of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(here)
    for path, kind in (("data", "folder"), ("fifo", "FIFO"), ("to-fifo", "FIFO"), ("socket", "socket")):
        assert kind in (source.problem_with(path) or "")
        for ask in (source.size, source.open):
            with pytest.raises(SourceError, match=kind):
                ask(path)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs a device")
def test_devices_are_refused():
    with DirectorySource("/dev") as source:
        assert "device" in (source.problem_with("null") or "")
        with pytest.raises(SourceError, match="device"):
            source.open("null")


# ── files that change ────────────────────────────────────────────────────────────────────────────


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path):
    with path.open("r+b") as file:
        file.write(b"ALPHA")


def overwrite_and_forge_the_time(path):
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def move(path):
    path.rename(path.with_name("elsewhere"))


CHANGES = [grow, lambda path: os.truncate(path, 2), overwrite, overwrite_and_forge_the_time, replace, move, os.unlink]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read_before", [0, 2, 5])
def test_every_kind_of_change_is_noticed_at_any_moment(source, root, change, read_before):
    with source.open("a.txt") as file:
        file.read(read_before)
        change(root / "a.txt")
        file.read()
        with pytest.raises(SourceChangedError, match=r'"a\.txt" .*; let it come to rest'):
            file.verify_unchanged()


def test_a_change_right_after_another_is_noticed_although_the_clock_ticks_coarsely(source, root):
    for round_ in range(30):
        (root / "a.txt").write_bytes(b"%05d" % round_)
        with source.open("a.txt") as file:
            file.read(2)
            overwrite(root / "a.txt")
            with pytest.raises(SourceChangedError):
                file.verify_unchanged()


def test_a_file_that_grows_as_fast_as_it_is_read_ends_where_it_ended(source, root):
    with source.open("a.txt") as file:
        data = b""
        while piece := file.read(1):
            grow(root / "a.txt")
            data += piece
        assert data == b"alpha"
        with pytest.raises(SourceChangedError):
            file.verify_unchanged()


def test_a_link_turned_to_another_file_is_noticed(source, root):
    (root / "link").symlink_to("a.txt")
    with source.open("link") as file:
        (root / "link").unlink()
        (root / "link").symlink_to("data/b.txt")
        with pytest.raises(SourceChangedError, match="replaced"):
            file.verify_unchanged()


def test_no_descriptor_is_left_open(root):
    fds = "/dev/fd"
    before = len(os.listdir(fds))
    with DirectorySource(root) as source:
        (root / "link").symlink_to("/etc")
        for path in ("a.txt", "data/b.txt", "data", "nothing", "data/nothing", "link/passwd", "data/deep/c.txt"):
            with suppress(SourceError), source.open(path):
                pass
            source.problem_with(path)
        source.ls("data")
    assert len(os.listdir(fds)) == before


def test_a_file_that_nobody_closed_is_closed_and_told_of(source, root):
    file = source.open("a.txt")
    fd = file.fileno()
    with pytest.warns(ResourceWarning, match=r'"a\.txt" was left open'):
        del file
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_a_closed_file_reads_nothing_whoever_has_its_descriptor_now(source):
    with source.open("a.txt") as file:
        pass
    with source.open("data/b.txt"), pytest.raises(SourceError):
        file.read()
    assert file.fileno() == -1
    file.close()


# ── folders that are held ────────────────────────────────────────────────────────────────────────


def test_the_next_file_of_a_folder_needs_no_walk(source, root, monkeypatch):
    (root / "data" / "deep" / "d.txt").write_bytes(b"delta")
    assert content(source, "data/deep/c.txt") == b""
    monkeypatch.setattr(source, "_open_strictly", None)
    assert content(source, "data/deep/d.txt") == b"delta"


def test_a_file_of_a_folder_that_took_the_place_of_a_held_one_is_found(source, root):
    assert content(source, "data/b.txt") == b"beta!"
    (root / "data").rename(root / "old")
    (root / "data").mkdir()
    (root / "data" / "new.txt").write_bytes(b"new")
    assert content(source, "data/new.txt") == b"new"


def test_a_file_of_a_folder_that_was_moved_away_is_not_taken_for_the_one_of_that_name_now(source, root):
    assert content(source, "data/b.txt") == b"beta!"
    (root / "data").rename(root / "old")
    (root / "data").mkdir()
    (root / "data" / "b.txt").write_bytes(b"gamma")
    for _ in range(2):
        try:
            assert content(source, "data/b.txt") == b"gamma"
        except SourceChangedError:
            (root / "old" / "b.txt").unlink()
            continue
        break
    else:
        raise AssertionError("the folder of that name is never looked for again")


def test_a_link_in_the_place_of_a_held_folder_leads_nowhere_new(source, place, root):
    (place / "outside" / "b.txt").write_bytes(SECRET)
    assert content(source, "data/b.txt") == b"beta!"
    (root / "data").rename(place / "away")
    (root / "data").symlink_to(place / "outside")
    with pytest.raises(SourceError):
        content(source, "data/b.txt")
    with pytest.raises(SourceError, match="link"):
        content(source, "data/secret")


def test_a_held_folder_is_walked_to_anew_after_a_while(source, root, monkeypatch):
    assert content(source, "data/b.txt") == b"beta!"
    (root / "data").rename(root / "old")
    (root / "data").mkdir()
    (root / "data" / "b.txt").write_bytes(b"gamma")
    monkeypatch.setattr(held_folders, "HELD_S", -1.0)  # a while has passed at once
    assert content(source, "data/b.txt") == b"gamma"


def test_however_many_folders_there_are_few_are_held(source, root):
    before = len(os.listdir("/dev/fd"))
    for number in range(3 * held_folders.HELD_MAX):
        (root / str(number)).mkdir()
        (root / str(number) / "x").write_bytes(b"x")
        assert content(source, f"{number}/x") == b"x"
    assert len(os.listdir("/dev/fd")) - before == held_folders.HELD_MAX


def test_folders_are_held_by_many_threads_without_mixing_them_up(source, root):
    paths = [f"{folder}/{number}" for folder in range(5) for number in range(20)]
    for path in paths:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(path)
    wrong: list[object] = []

    def read(start: int) -> None:
        try:
            for turn in range(600):
                path = paths[(start + turn * 7) % len(paths)]
                if content(source, path) != path.encode():
                    wrong.append(path)
        except Exception as error:  # noqa: BLE001 - a thread's failure must reach the test
            wrong.append(error)

    before = len(os.listdir("/dev/fd"))
    threads = [threading.Thread(target=read, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(os.listdir("/dev/fd")) - before <= 5


# ── scanning ─────────────────────────────────────────────────────────────────────────────────────


def test_a_scan_finds_every_file_and_passes_nothing_over_in_silence(source, root, place):
    os.mkfifo(root / "data" / "fifo")
    (root / "inside").symlink_to("a.txt")
    (root / "out").symlink_to("../outside/secret")
    (root / "folder-link").symlink_to("data")
    (root / "broken").symlink_to("nothing")
    (root / "tab\there").write_bytes(b"")
    (root / ".hidden").write_bytes(b"")
    (root / "index.csv").write_bytes(b"")
    scan = source.scan(exclude=frozenset(["index.csv"]))
    assert scan.relpaths == [".hidden", "a.txt", "data/b.txt", "data/deep/c.txt", "inside"]
    assert {skipped.relpath: skipped.reason.partition(";")[0] for skipped in scan.skipped} == {
        "broken": "is, or is reached by, a symbolic link that leads nowhere",
        "data/fifo": "is a FIFO, not a plain file",
        "folder-link": "is a symbolic link to a folder",
        "index.csv": "is excluded",
        "out": "leads out of the source by a symbolic link",
        "tab\there": "holds a control character, which the logs between client and validator cannot carry",
    }


def test_a_name_that_is_not_utf_8_is_reported_and_not_delivered(source, root):
    try:
        with open(os.fsencode(root) + b"/caf\xe9", "wb"):
            pass
    except OSError:
        pytest.skip("this disk takes only UTF-8 names")
    scan = source.scan()
    assert "caf\udce9" not in scan.relpaths
    assert [skipped.relpath for skipped in scan.skipped] == ["caf\udce9"]
