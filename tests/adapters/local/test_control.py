"""A directory as control bucket, beyond the contract: races between processes, killed writers, power cuts."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from upload_adapters.local import DirectoryControlBucket
from upload_core.errors import ArchiveError, ArchiveUnavailableError, ConfigurationError, OffsetConflictError

KEY = "log/client_staging"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "control"


@pytest.fixture
def control(root):
    return DirectoryControlBucket(root)


def process(code, *arguments, **options):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, env=env, text=True, **options)


def content(control, key=KEY):
    found = control.read(key)
    return found and found[0]


def test_looking_makes_nothing(control, root):
    assert control.head(KEY) is None
    control.delete(KEY)
    assert not root.exists()


def test_a_key_is_a_file_of_that_name(control, root):
    control.put("lock/client", b"me")
    assert (root / "lock" / "client").read_bytes() == b"me"


@pytest.mark.parametrize("key", ["../a", "/a", "", ".upload-core/x"])
def test_a_key_that_is_none_is_refused(control, key):
    for call in (lambda: control.put(key, b""), lambda: control.head(key), lambda: control.append(key, b"", offset=0)):
        with pytest.raises(ArchiveError):
            call()


def test_a_link_is_not_followed(control, root, tmp_path):
    control.put("log/other", b"")
    (tmp_path / "outside").write_bytes(b"precious\n")
    (root / "log" / "client_staging").symlink_to(tmp_path / "outside")
    with pytest.raises(ArchiveError, match="symbolic link"):
        control.append(KEY, b"row\n", offset=9)
    assert (tmp_path / "outside").read_bytes() == b"precious\n"


@pytest.mark.parametrize("call", ["look", "put", "append"])
def test_a_place_that_can_never_be_is_no_outage_and_no_crash(tmp_path, call):
    (tmp_path / "file").write_text("in the way")
    calls = {
        "look": lambda control: control.head("lock/client"),
        "put": lambda control: control.put("lock/client", b"me"),
        "append": lambda control: control.append(KEY, b"row\n", offset=0),
    }
    with pytest.raises(ConfigurationError, match="a part of its path is a file; move that away, or use another dir"):
        calls[call](DirectoryControlBucket(tmp_path / "file" / "control"))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_a_file_system_that_makes_no_directories_is_no_disk_that_disappeared():
    with pytest.raises(ConfigurationError, match=r"this user may not use it"):
        DirectoryControlBucket("/proc/archive/control").put("lock/client", b"me")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSYS, ConfigurationError),
        (errno.EOPNOTSUPP, ConfigurationError),
        (errno.ENOLCK, ArchiveUnavailableError),
    ],
)
def test_a_file_system_without_locks_is_named_as_such(control, monkeypatch, number, expected):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(expected, match=r"its file system (has|gives) no locks"):
        control.put("lock/client", b"me")


# ── killed writers ───────────────────────────────────────────────────────────────────────────────

KILLED_IN_APPEND = """
    import os, signal, sys
    from upload_adapters.local import DirectoryControlBucket, control

    def write_half(fd, data):
        os.write(fd, data[: int(sys.argv[2])])
        os.kill(os.getpid(), signal.SIGKILL)

    control.write_all = write_half
    DirectoryControlBucket(sys.argv[1]).append("log/client_staging", b"two\\nthree\\n", offset=4)
"""


@pytest.mark.crash
@pytest.mark.parametrize("written", [0, 1, 4, 6, 9])
def test_an_append_that_was_killed_midway_never_happened(control, root, written):
    control.append(KEY, b"one\n", offset=0)
    assert process(KILLED_IN_APPEND, root, written).wait() == -signal.SIGKILL
    assert (root / KEY).stat().st_size == 4 + written
    assert content(control) == b"one\n"
    assert control.head(KEY).size == 4
    with pytest.raises(OffsetConflictError):
        control.append(KEY, b"x\n", offset=4 + (written or 1))
    control.append(KEY, b"next\n", offset=4)
    assert content(control) == b"one\nnext\n"


@pytest.mark.crash
def test_an_append_that_was_killed_after_its_last_byte_happened(control, root):
    control.append(KEY, b"one\n", offset=0)
    assert process(KILLED_IN_APPEND, root, 10).wait() == -signal.SIGKILL
    assert content(control) == b"one\ntwo\nthree\n"
    control.append(KEY, b"next\n", offset=14)


@pytest.mark.crash
def test_a_first_append_that_was_killed_leaves_a_log_without_rows(control, root):
    code = KILLED_IN_APPEND.replace("offset=4", "offset=0")
    assert process(code, root, 6).wait() == -signal.SIGKILL
    assert control.head(KEY).size == 0
    control.append(KEY, b"one\n", offset=0)
    assert content(control) == b"one\n"


def test_a_log_torn_by_a_power_cut_ends_with_its_last_whole_row(control, root):
    # The bytes of an append survived in part, the note of it did not.
    control.append(KEY, b"one\n", offset=0)
    with (root / KEY).open("ab") as log:
        log.write(b"two\nthr")
    assert content(control) == b"one\ntwo\n"
    control.append(KEY, b"next\n", offset=8)
    assert content(control) == b"one\ntwo\nnext\n"
    for note in (root / ".upload-core").iterdir():
        note.write_bytes(b"torn")
    with (root / KEY).open("ab") as log:
        log.write(b"x" * 100_000)
    assert content(control) == b"one\ntwo\nnext\n"


def test_a_log_cut_by_somebody_is_as_long_as_it_is(control, root):
    control.append(KEY, b"one\n", offset=0)
    control.append(KEY, b"two\n", offset=4)
    os.truncate(root / KEY, 0)
    assert control.head(KEY).size == 0
    control.append(KEY, b"new\n", offset=0)
    assert content(control) == b"new\n"


def test_an_append_that_fails_leaves_the_log_as_it_was(control, root, monkeypatch):
    control.append(KEY, b"one\n", offset=0)

    def full(fd, data):
        os.write(fd, data[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("upload_adapters.local.control.write_all", full)
        with pytest.raises(ArchiveUnavailableError, match="the disk is full; make room"):
            control.append(KEY, b"two\n", offset=4)
    assert (root / KEY).read_bytes() == b"one\n"
    control.append(KEY, b"two\n", offset=4)


@pytest.mark.crash
def test_a_put_that_was_killed_before_its_rename_never_happened(control, root):
    control.append(KEY, b"one\n", offset=0)
    code = """
        import os, signal, sys
        from upload_adapters.local import DirectoryControlBucket

        os.rename = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        DirectoryControlBucket(sys.argv[1]).put("log/client_staging", b"another")
    """
    assert process(code, root).wait() == -signal.SIGKILL
    assert content(control) == b"one\n"
    control.append(KEY, b"two\n", offset=4)
    assert content(control) == b"one\ntwo\n"


def test_a_writer_that_was_stopped_with_the_lock_is_not_waited_for_for_ever(control, root, monkeypatch):
    monkeypatch.setattr("upload_adapters.local.disk.LOCK_WAIT_S", 0.2)
    monkeypatch.setattr("upload_adapters.local.disk.lock.__kwdefaults__", {"wait_s": 0.2})
    control.append(KEY, b"one\n", offset=0)
    rival = DirectoryControlBucket(root)
    with control._locked(KEY):
        assert content(rival) == b"one\n"  # readers never wait
        with pytest.raises(ArchiveUnavailableError, match="holds its lock"):
            rival.append(KEY, b"two\n", offset=4)
    rival.append(KEY, b"two\n", offset=4)


# ── races between processes ──────────────────────────────────────────────────────────────────────

RACE = """
    import sys
    from upload_adapters.local import DirectoryControlBucket
    from upload_core.errors import OffsetConflictError, PreconditionFailedError

    control, name = DirectoryControlBucket(sys.argv[1]), sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()
    won = appended = 0
    for number in range(100):
        try:
            control.put(f"lock/{number}", name.encode(), if_absent=True)
            won += 1
        except PreconditionFailedError:
            pass
        while True:
            info = control.head("log/shared")
            try:
                control.append("log/shared", f"{name} {number}\\n".encode(), offset=info.size if info else 0)
                break
            except OffsetConflictError:
                pass
    print(won, flush=True)
"""


@pytest.mark.crash
def test_of_several_processes_one_wins_each_lock_and_no_append_is_lost(control, root):
    rivals = [process(RACE, root, n, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for n in range(3)]
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    won = [int(rival.communicate()[0]) for rival in rivals]
    assert sum(won) == 100
    rows = content(control, "log/shared").decode().splitlines()
    assert sorted(rows) == sorted(f"{rival} {number}" for rival in range(3) for number in range(100))
