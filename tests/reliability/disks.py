"""Real file systems for a test: mounted where this may be done, and taken down again by whoever mounted them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IMAGE_BYTES = {"ext4": 48 << 20, "xfs": 320 << 20}
"""About the least that each can be made with; an image takes only the room of what is written."""


def _quietly(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class Disk:
    """A file system below `root`, mounted from an image or from memory."""

    def __init__(self, root: Path, kind: str, options: str = "") -> None:
        """Skips the test, saying why, where it cannot be mounted."""
        self.root, self.kind = root, kind
        self._image = root.with_name(root.name + ".image")
        self._options = options
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root may mount file systems, and only Linux's are known here")
        root.mkdir()
        if kind != "tmpfs":
            if shutil.which(f"mkfs.{kind}") is None:
                pytest.skip(f"no mkfs.{kind} on the PATH")
            with self._image.open("wb") as file:
                file.truncate(IMAGE_BYTES[kind])
            made = _quietly(f"mkfs.{kind}", "-q", str(self._image))
            assert made.returncode == 0, made.stderr
        self._mounted = False
        refusal = self._mount()
        if refusal:
            pytest.skip(f"this machine mounts no {kind}: {refusal}")

    def _mount(self) -> str:
        if self.kind == "tmpfs":
            done = _quietly("mount", "-t", "tmpfs", "-o", self._options, "tmpfs", str(self.root))
        else:
            options = ",".join(filter(None, ("loop", self._options)))
            done = _quietly("mount", "-t", self.kind, "-o", options, str(self._image), str(self.root))
        self._mounted = done.returncode == 0
        return done.stderr.strip()

    def remount(self, options: str) -> None:
        """Change the mount's options."""
        done = _quietly("mount", "-o", f"remount,{options}", str(self.root))
        assert done.returncode == 0, done.stderr

    def mount_again(self) -> None:
        """Take it down and mount it anew, as after a power cut: the file system recovers by its own log."""
        done = _quietly("umount", str(self.root))
        assert done.returncode == 0, done.stderr
        refusal = self._mount()
        assert not refusal, refusal

    def close(self) -> None:
        if self._mounted:
            _quietly("umount", str(self.root))
            self._mounted = False
        self._image.unlink(missing_ok=True)


@pytest.fixture
def mounted(tmp_path):
    """`mounted(kind, options)`: a file system of that kind, for this test."""
    disks: list[Disk] = []

    def mount(kind: str, options: str = "") -> Disk:
        made = Disk(tmp_path / f"disk-{len(disks)}", kind, options)
        disks.append(made)
        return made

    yield mount
    for disk in disks:
        disk.close()
