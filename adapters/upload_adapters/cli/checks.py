"""What `doctor` looks at: each check is a function that yields findings, each with a verdict and what to do about it.

Rule: nothing is changed, nobody is asked, and no check can keep the next one from being made.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import attrs

from upload_adapters.cli.output import size
from upload_core.text import printable

Verdict = Literal["ok", "warn", "fail"]

FREE_ENOUGH: Final = 1 << 30
FREE_NEEDED: Final = 50 << 20
"""A journal takes some 600 bytes per file."""
FILES_ENOUGH: Final = 1_024
FILES_NEEDED: Final = 256
"""Open files: a connection and a source file for each transfer, and what Python itself holds."""
OLDEST_PYTHON: Final = (3, 11)
SHARED_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "lustre"})
FASTER: Final = {
    "pycurl": "boto3 carries the bytes to AWS instead, which is several times slower for many small files",
    "zlib-ng": "zlib computes the CRC32s instead, at a third of the speed",
    "pyarrow": "an index can be CSV, not Parquet; pip install 'upload-core[parquet]'",
    "keyring": "a sign-in is kept in memory only; pip install 'upload-core[keyring]'",
}
"""Package that may be missing -> what that means."""


@attrs.frozen
class Finding:
    """One line of the doctor; `code` is the exit code that a delivery would end with."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    code: int = 0


Check = Callable[[], Iterator[Finding]]


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(name, "warn", found, remedy)


def fail(name: str, found: str, remedy: str, code: int) -> Finding:
    """A delivery would end because of it, with that exit code."""
    return Finding(name, "fail", found, remedy, code)


# --- this machine --------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    """The interpreter."""
    found = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    if sys.version_info < OLDEST_PYTHON:
        yield fail("python", found, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer", 2)
    elif sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        yield warn("python", f"{found}, file names are {sys.getfilesystemencoding()}", "set LANG=C.UTF-8")
    else:
        yield ok("python", found)


def packages() -> Iterator[Finding]:
    """What is installed, and whether it is as new as needed."""
    from upload_core import __version__
    from upload_core.journal import FORMAT_VERSION

    yield ok("upload-core", f"{__version__}, journal format {FORMAT_VERSION}")
    there: list[str] = []
    for name, least in _required():
        version = _version(name)
        if version is None:
            if name in FASTER:
                yield warn(name, "is not installed", FASTER[name])
            else:
                yield fail(name, "is not installed", f"pip install '{name}>={least}'", 2)
            continue
        if _numbers(version) < _numbers(least):
            yield fail(name, f"is {version}", f"pip install --upgrade '{name}>={least}'", 2)
        there.append(f"{name} {version}")
    yield ok("packages", ", ".join(there) or "their versions are unknown: upload-core was not installed, only found")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required() -> Iterator[tuple[str, str]]:
    """Packages and least versions by our own metadata: all we need, and those extras that change what we can do."""
    try:
        requires = metadata.requires("upload-core") or []
    except metadata.PackageNotFoundError:
        return
    seen: set[str] = set()
    for line in requires:
        found = re.match(r"([A-Za-z0-9_.-]+)[^>;]*(?:>=\s*([\d.]+))?", line)
        if found is None or found[1] in seen:
            continue
        if "extra ==" in line and found[1] not in FASTER:
            continue
        seen.add(found[1])
        yield found[1], found[2] or "0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:4])


def open_files() -> Iterator[Finding]:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} (at most {hard:,})"
    if soft != resource.RLIM_INFINITY and soft < FILES_ENOUGH:
        remedy = f"ulimit -n {min(4_096, hard) if hard != resource.RLIM_INFINITY else 4_096}"
        yield fail("open files", shown, remedy, 8) if soft < FILES_NEEDED else warn("open files", shown, remedy)
    else:
        yield ok("open files", shown)


def screen() -> Iterator[Finding]:
    """What messages look like here."""
    from upload_adapters.console import TerminalConsole

    console = TerminalConsole()
    kind = f"a terminal of {shutil.get_terminal_size().columns} columns" if console.is_terminal else "no terminal"
    found = f"{kind}, {console.encoding}, {'with' if console.is_colored else 'without'} colours"
    if console.is_terminal and "utf" not in console.encoding.lower():
        yield warn("screen", found, "set LANG=C.UTF-8; until then other letters show as escapes")
    else:
        yield ok("screen", found)


def disk(path: Path, what: str) -> Callable[[], Iterator[Finding]]:
    """The place where something is written: writable, with room, and on a disk of this machine."""

    def check() -> Iterator[Finding]:
        place = path.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        shown = printable(str(place), 200)
        if not os.access(place, os.W_OK | os.X_OK) or not place.is_dir():
            yield fail(what, f"{shown} cannot be written", "choose another place, or ask whoever owns it", 8)
            return
        stat = os.statvfs(place)
        free = stat.f_bavail * stat.f_frsize
        found = f"{size(free)} free at {shown}"
        if free < FREE_NEEDED or (stat.f_files and not stat.f_favail):
            without = "" if free < FREE_NEEDED else ", but no further file can be made (inodes)"
            yield fail(what, found + without, "make room there", 8)
        elif free < FREE_ENOUGH:
            yield warn(what, found, "make room there: a journal takes some 600 bytes per file")
        else:
            yield ok(what, found)
        kind = _file_system(place)
        if kind in SHARED_FILE_SYSTEMS:
            yield warn(
                what,
                f"{shown} is on a network file system ({kind})",
                "keep the journal on a disk of this machine: locks and syncs over a network may not hold what they say",
            )

    return check


def _file_system(place: Path) -> str:
    """The kind of file system that a place is on, "" if that cannot be told."""
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    real = os.path.realpath(place)
    for line in lines:
        _, mounted, kind, *_ = line.split(" ")
        mounted = mounted.replace("\\040", " ")
        within = real == mounted or real.startswith(mounted.rstrip("/") + "/")
        if within and len(mounted) >= longest:
            found, longest = kind, len(mounted)
    return found
