"""A real Chromium for tests of pages; where there is none, a test that needs it is skipped and says so."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@attrs.define
class Chromium:
    """A headless Chromium driven through its debugging pipe: JSON messages that end in NUL, on descriptors 3 and 4."""

    process: subprocess.Popen[bytes]
    into: int
    out: int
    count: int = 0
    session: str = ""
    rest: bytes = b""
    heard: list[dict[str, Any]] = attrs.field(factory=list)
    """What it told without being asked, since it was opened."""

    def call(self, method, session=True, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if session and self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.heard.append(answer)

    def receive(self):
        while b"\0" not in self.rest:
            piece = os.read(self.out, 1 << 16)
            assert piece, "Chromium has ended"
            self.rest += piece
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, url):
        target = self.call("Target.createTarget", session=False, url=url)["targetId"]
        self.session = self.call("Target.attachToTarget", session=False, targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        return target

    def value(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script, text):
        """Wait until the script's value contains the text."""
        found = None
        for _ in range(200):
            with contextlib.suppress(AssertionError):  # between two pages there is nothing to ask
                found = self.value(script)
                if found and text in found:
                    return found
            time.sleep(0.05)
        raise AssertionError(f"{script} never had {text!r}; last: {found!r}")


@contextlib.contextmanager
def running(profile: Path) -> Iterator[Chromium]:
    """A browser with that directory for whatever it keeps; it has ended when the context is left."""
    if CHROMIUM is None:
        pytest.skip(reason="no Chromium on the PATH (Debian: apt-get install chromium)")
    to_browser, into = os.pipe()
    out, from_browser = os.pipe()
    options = [
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # as root it refuses to start with one
    # The shell puts the pipes on descriptors 3 and 4, where the browser looks for them.
    script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        [
            "/bin/bash",
            "-c",
            script,
            "bash",
            CHROMIUM,
            *options,
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    browser = Chromium(process, into, out)
    try:
        yield browser
        browser.call("Browser.close", session=False)
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(into)
        os.close(out)
