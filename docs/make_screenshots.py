#!/usr/bin/env python
"""Makes the pictures of docs/how-to/report.md: a made-up delivery's report, as Chromium shows it on a desk and on a phone.

python docs/make_screenshots.py     writes docs/pictures/report-*.png; look at them before they are committed
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURES: Final = ROOT / "docs" / "pictures"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


class Shot(NamedTuple):
    """A picture: its name, the window it is taken in, and the colour scheme (0 is dark, 1 light)."""

    name: str
    width: int
    height: int
    scheme: int


SHOTS: Final = (Shot("report-desk", 1000, 2190, 1), Shot("report-phone", 390, 1560, 0))


def main() -> int:
    """Make every picture; 1 if there is no browser."""
    sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]
    from tests.sample_delivery import write_sample
    from upload_adapters.cli import main as command_line

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"no browser here: install one of {', '.join(BROWSERS)} (scripts/install-system-packages)")
        return 1
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        write_sample(place / "ridge-survey-2026-11-staging")
        page = place / "report.html"
        if command_line(["report", str(place / "ridge-survey-2026-11-staging"), "-o", str(page)]):
            return 1
        # the place that the page names is one of this machine
        page.write_text(page.read_text("utf-8").replace(f"{place}/", ""), "utf-8")
        for shot in SHOTS:
            take(browser, page, shot, place / "profile")
    return 0


def take(browser: str, page: Path, shot: Shot, profile: Path) -> None:
    """One picture; raises `CalledProcessError` if the browser fails."""
    picture = PICTURES / f"{shot.name}.png"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
    flags += [f"--window-size={shot.width},{shot.height}", f"--blink-settings=preferredColorScheme={shot.scheme}"]
    subprocess.run([browser, *flags, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
