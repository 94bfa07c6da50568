"""The report's page in a real browser: it fits, asks for nothing, and runs nothing, on a desk and on a phone."""

from pathlib import Path

import pytest

from tests.adapters.test_report_page import HOSTILE, OPENED, made, sent
from tests.chromium import running
from tests.sample_delivery import write_sample
from upload_adapters.journal_reader import JournalReader
from upload_adapters.report.page import write_report
from upload_adapters.report.reading import read
from upload_core import events as ev


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with running(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    write_sample(place / "journal", files=300)
    write_report(place / "report.html", [read(JournalReader(place / "journal"))], ["cut off"])
    return place / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    names = [text.replace("\n", "_").replace("\r", "_") * 5 for text in HOSTILE]
    events: list[ev.Event] = list(OPENED)
    for file, name in enumerate(names):
        events += [*sent(file), ev.FileInvalidated(file, name)]
    reading = made(place / "j", dict.fromkeys(names, 1), events, source=names[0])
    write_report(place / "report.html", [reading], ["cut off"])
    return place / "report.html"


def shown(chromium, page: Path, width: int, scheme: str = "light") -> None:
    chromium.heard.clear()
    chromium.open("about:blank")
    for domain in ("Log", "Network", "Runtime"):
        chromium.call(f"{domain}.enable")
    chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.call("Emulation.setEmulatedMedia", features=features)
    chromium.call("Page.navigate", url=page.as_uri())
    chromium.until("document.readyState + (document.querySelector('footer') ? ' whole' : '')", "complete whole")


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window_however_narrow(chromium, page, hostile, width):
    for path in (page, hostile):
        shown(chromium, path, width)
        chromium.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = """
            [...document.querySelectorAll('body *')]
                .filter(e => !e.closest('.scroll, pre, .track, .unseen, svg') && e.getBoundingClientRect().right > innerWidth + 1)
                .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 30)).join('\\n')
        """
        assert chromium.value(wide) == ""
        assert chromium.value("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.slow
def test_it_asks_for_nothing_but_itself_and_no_policy_is_broken(chromium, page, hostile):
    for path in (page, hostile):
        shown(chromium, path, 1280)
        asked = {
            said["params"]["request"]["url"] for said in chromium.heard if said["method"] == "Network.requestWillBeSent"
        }
        assert asked == {path.as_uri()}
        logged = [
            said["params"] for said in chromium.heard if said["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        assert logged == []
        assert chromium.value("document.scripts.length") == 0
        assert chromium.value("document.querySelectorAll('img, iframe, a, form, link').length") == 0


@pytest.mark.slow
def test_what_a_hole_in_the_escaping_would_let_in_does_not_run(chromium, page, tmp_path):
    """The page with a script in it all the same: its policy keeps it from running."""
    text = page.read_text("utf-8")
    inside = "<script>document.title = 'ran'</script><p onclick=\"document.title = 'ran'\" id=hole>x</p>"
    (tmp_path / "hole.html").write_text(text.replace("<main>", f"<main>{inside}"), "utf-8")
    shown(chromium, tmp_path / "hole.html", 1280)
    chromium.value("document.getElementById('hole').click()")
    assert chromium.value("document.title") != "ran"
    assert chromium.value("document.scripts.length") == 1, "it is there, and did nothing"


@pytest.mark.slow
def test_the_dark_scheme_is_dark_and_the_charts_have_a_size(chromium, page):
    grounds = {}
    for scheme in ("light", "dark"):
        shown(chromium, page, 1280, scheme)
        grounds[scheme] = chromium.value("getComputedStyle(document.body).backgroundColor")
        sizes = "[...document.querySelectorAll('.plot svg')].map(s => Math.min(s.clientWidth, s.clientHeight)).join()"
        assert all(int(size) >= 60 for size in chromium.value(sizes).split(","))
        assert chromium.value("document.querySelectorAll('.plot path').length") >= 6
    assert grounds == {"light": "rgb(250, 249, 246)", "dark": "rgb(21, 23, 26)"}
