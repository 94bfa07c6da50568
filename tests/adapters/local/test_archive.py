"""A directory as archive, beyond the contract: links, odd things in the way, full disks, dead processes, power cuts."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.contracts.bodies import Body
from upload_adapters.local import DirectoryArchive, archive, disk
from upload_core.errors import ArchiveError, ArchiveUnavailableError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "place" / "objects"


@pytest.fixture
def objects(root):
    return DirectoryArchive(root)


def put(objects, relpath="a", data=b"data"):
    return objects.put(relpath, Body(data), checksum=None)


def leftovers(root):
    """Everything beside the archive's directory."""
    return sorted(p.relative_to(root.parent).as_posix() for p in root.parent.rglob("*") if root not in (p, *p.parents))


def test_nothing_is_made_before_something_is_stored(objects, root):
    assert objects.stat("a") is None
    assert list(objects.list()) == []
    assert not root.parent.exists()


@pytest.mark.parametrize("relpath", ["", "/a", "a//b", "a/", "./a", "a/../b", "..", "a\0b"])
def test_a_name_that_could_leave_the_root_is_refused(objects, root, relpath):
    with pytest.raises(ArchiveError, match="no relative path"):
        put(objects, relpath)
    with pytest.raises(ArchiveError, match="no relative path"):
        objects.stat(relpath)
    assert not root.exists()


def test_a_directory_that_is_a_link_is_not_followed(objects, root, tmp_path):
    put(objects, "dir/a")
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside)
    for refused in (
        lambda: put(objects, "link/a"),
        lambda: put(objects, "link/deep/a"),
        lambda: objects.stat("link/a"),
    ):
        with pytest.raises(ArchiveError, match="symbolic link") as caught:
            refused()
        assert not isinstance(caught.value, ArchiveUnavailableError)
    assert list(outside.iterdir()) == []


def test_a_file_that_is_a_link_is_not_an_object_and_is_replaced_not_followed(objects, root, tmp_path):
    put(objects, "other")
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (root / "a").symlink_to(outside)
    with pytest.raises(ArchiveError, match="symbolic link"):
        objects.stat("a")
    assert [found.relpath for found in objects.list()] == ["other"]
    put(objects, "a")
    assert outside.read_bytes() == b"precious"
    assert not (root / "a").is_symlink()


def test_a_fifo_does_not_stop_anybody(objects, root):
    put(objects, "other")
    os.mkfifo(root / "a")
    with pytest.raises(ArchiveError, match="another kind"):
        objects.stat("a")


def test_a_directory_in_the_way_is_named(objects):
    put(objects, "dir/a")
    assert objects.stat("dir") is None
    with pytest.raises(ArchiveError, match=r"'dir' in the archive .*: a directory has that name; move it away"):
        put(objects, "dir")


def test_a_file_in_the_way_is_named(objects):
    put(objects, "a")
    assert objects.stat("a/b") is None
    with pytest.raises(ArchiveError, match="a part of its path is a file"):
        put(objects, "a/b")


def test_a_name_that_is_too_long_is_this_files_own_fault(objects):
    with pytest.raises(ArchiveError, match="longer than the file system allows") as caught:
        put(objects, "x" * 300)
    assert not isinstance(caught.value, ArchiveUnavailableError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_disk_that_is_full_or_fails_is_no_fault_of_the_file(objects, root, monkeypatch, number, call):
    put(objects, "other")

    def failing(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        with pytest.raises(ArchiveUnavailableError, match=r"then resume$"):
            put(objects, "a")
    assert objects.stat("a") is None
    assert put(objects, "a").size == 4


def test_an_unwritable_place_is_no_fault_of_the_file(objects, monkeypatch):
    def failing(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", failing)
    with pytest.raises(ArchiveUnavailableError, match="permission denied; give this user access"):
        put(objects, "a")


def test_every_new_directory_and_name_is_synced_before_the_answer(objects, root, monkeypatch):
    synced = []
    monkeypatch.setattr(disk, "sync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(archive, "sync", disk.sync)
    put(objects, "x/y/a")
    expected = {root.parent.parent, root.parent, root, root / "x", root / "x" / "y"}
    assert {str(path) for path in expected} <= set(synced)
    synced.clear()
    put(objects, "x/y/b")
    assert len(synced) == 2  # the file and its directory
    assert synced[1] == str(root / "x" / "y")


def test_a_directory_removed_under_our_feet_is_made_and_synced_again(objects, root):
    put(objects, "x/a")
    (root / "x" / "a").unlink()
    (root / "x").rmdir()
    put(objects, "x/a")
    assert (root / "x" / "a").read_bytes() == b"data"


def test_an_archive_can_be_sent_to_another_process(objects):
    put(objects)
    assert pickle.loads(pickle.dumps(objects)).stat("a") == objects.stat("a")


# ── temporary files ──────────────────────────────────────────────────────────────────────────────

CHILD = """
    import os, signal, sys
    from tests.contracts.bodies import Body
    from upload_adapters.local import DirectoryArchive
    from upload_core.attempt import FreeAttempt

    objects = DirectoryArchive(sys.argv[1])
    objects.put("whole", Body(b"data"), checksum=None)
    if sys.argv[2] == "die":
        objects.put("torn", Body(b"data"), checksum=None, attempt=FreeAttempt(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    print("stored", flush=True)
    if sys.argv[2] == "wait":
        objects.put("late", Body(b"data"), checksum=None, attempt=FreeAttempt(lambda: print(sys.stdin.readline())))
"""


def child(root, what, **options):
    code = textwrap.dedent(CHILD)
    return subprocess.Popen([sys.executable, "-c", code, str(root), what], text=True, env=with_path(), **options)


def with_path():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_a_process_that_ends_leaves_nothing_behind(root):
    assert child(root, "end", stdout=subprocess.DEVNULL).wait() == 0
    assert leftovers(root) == []


@pytest.mark.crash
def test_what_a_killed_process_left_is_invisible_and_removed_by_the_next(root):
    assert child(root, "die").wait() == -signal.SIGKILL
    assert len(leftovers(root)) == 3  # the directory, the process's own in it, and its file
    objects = DirectoryArchive(root)
    assert [found.relpath for found in objects.list()] == ["whole"]
    put(objects, "next")
    assert len(leftovers(root)) == 2  # our own
    objects.sweep()
    assert len(leftovers(root)) == 2
    del objects
    assert leftovers(root) == []


@pytest.mark.crash
def test_temporary_files_of_a_living_process_are_left_alone(root):
    other = child(root, "wait", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == "stored\n"
    for _ in range(20):
        put(DirectoryArchive(root))
    other.communicate("go\n")
    assert other.returncode == 0
    assert (root / "late").read_bytes() == b"data"
