"""The report's page: whole, by itself, readable by everybody, and safe whatever a name or a validator says."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks import deliveries
from tests.sample_delivery import write_sample
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_adapters.report.answers import answers
from upload_adapters.report.axis import Axis
from upload_adapters.report.page import receipt_path, render, write_report
from upload_adapters.report.reading import Reading, read
from upload_adapters.report.view import view
from upload_core import events as ev
from upload_core.files import FileTable
from upload_core.timeline import Span

VOID = {"meta", "br", "link", "img", "input", "hr"}
FOREIGN = {"path"}
"""Elements of SVG that close themselves."""


class Page(HTMLParser):
    """What a browser would make of it, and whatever does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in FOREIGN:
            self.wrong.append(f"<{tag}/> closes itself")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, style sheet included."""
        return "".join(self.texts)

    def all(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [a for name, a in self.elements if name == tag and all(a.get(k) == v for k, v in having.items())]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "journal"
    write_sample(path, files=500)
    return path


@pytest.fixture(scope="module")
def reading(journal: Path) -> Reading:
    return read(JournalReader(journal, snapshots=False))


@pytest.fixture(scope="module")
def written(reading: Reading, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, [reading], ["cut off"])
    return path


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text("utf-8"))


def made(
    path: Path, files: dict[str, int], events: list[ev.Event], *, dataset: str = "d", source: str = "/s"
) -> Reading:
    """A journal of these files and events, half a second apart, read."""
    table = FileTable.from_columns(list(files), list(files.values()))
    created = ev.DeliveryCreated(dataset, "1", "staging", "me", source, "file:///a", table.digest, len(table))
    journal = DirectoryJournal(path)
    journal.create(created, table, time_ms=1_000)
    for number, event in enumerate(events):
        journal.append([event], time_ms=1_500 + 500 * number)
    journal.close()
    return read(JournalReader(path, snapshots=False))


def shown(tmp_path: Path, *readings: Reading, standing: Any = "cut off") -> Page:
    page = tmp_path / "page.html"
    write_report(page, readings, [standing] * len(readings))
    return Page(page.read_text("utf-8"))


def sent(file: int, size: int = 1) -> list[ev.Event]:
    return [ev.TransferQueued(file), ev.TransferStarted(file), ev.TransferCompleted(file, size, "yH2GHg==", '"e"')]


OPENED = [ev.SessionOpened(1, "me", 4, 2), ev.LockAcquired("e"), ev.PipelineRequested("k", 0), ev.ValidatorStarted("s")]


# --- structure -----------------------------------------------------------------------------------


def test_every_tag_is_closed_where_it_was_opened(page):
    assert page.wrong == []
    assert page.open == []


def test_the_page_loads_nothing_and_runs_nothing(written, page):
    text = written.read_text("utf-8")
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "base", "a", "use", "image"})
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not {"src", "href", "srcset", "xlink:href", "action", "data"} & attributes.keys(), tag
    assert not re.search(r"url\(|@import|https?://", text.replace("s3.example.org", ""))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert str(policy["content"]).startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_every_chart_says_what_it_shows_and_has_its_table(written, page):
    text = written.read_text("utf-8")
    figures = re.findall(r'<figure class="chart.*?</figure>', text, re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        inside = Page(figure)
        (drawing,) = inside.all("svg")
        assert drawing["role"] == "img"
        for name in str(drawing["aria-labelledby"]).split():
            assert f'id="{name}"' in figure
        assert len(inside.all("table")) == len(inside.all("details")) == 1
        assert inside.all("path")
        rows = len(inside.all("tr"))
        assert 2 <= rows <= 42
    assert all(
        svg["role"] == "img" and (svg.get("aria-label") or svg.get("aria-labelledby")) for svg in page.all("svg")
    )


def test_every_table_has_a_caption_and_heads(written):
    for table in re.findall(r"<table.*?</table>", written.read_text("utf-8"), re.DOTALL):
        inside = Page(table)
        assert len(inside.all("caption")) == 1
        assert {head["scope"] for head in inside.all("th")} == {"col", "row"}


def test_headings_go_down_one_step_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html", lang="en")
    assert page.all("meta", name="viewport")


def test_ids_are_there_once(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def colors(style: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", style))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_and_marks_can_be_seen_in_both_schemes(written, scheme):
    style = re.findall(r"<style>(.*?)</style>", written.read_text("utf-8"), re.DOTALL)[0]
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    of = colors(light) if scheme == "light" else {**colors(light), **colors(dark[: dark.index("}\n}")])}
    grounds = ("paper", "card", "good-soft", "bad-soft", "open-soft")
    texts = [(text, ground) for text in ("ink", "soft") for ground in grounds]
    texts += [("link", "paper"), ("ink", "code"), ("on", "valid"), ("on", "session"), ("on", "cut")]
    weak = {pair: round(contrast(of[pair[0]], of[pair[1]]), 2) for pair in texts}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    marks = [(mark, "paper") for mark in ("valid", "done", "failed", "invalid", "rate", "outage")]
    seen = {pair: round(contrast(of[pair[0]], of[pair[1]]), 2) for pair in marks}
    assert {pair: ratio for pair, ratio in seen.items() if ratio < 3} == {}


# --- what it says --------------------------------------------------------------------------------


def test_the_numbers_behind_the_chart_end_as_the_delivery_did(written, reading):
    text = written.read_text("utf-8")
    table = re.search(r'<figure class="chart states".*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    assert table is not None
    last = re.findall(r"<td>([\d,]+)</td>", table[1].strip().splitlines()[-1])
    counts = reading.story.delivery.public_counts()
    assert last == [f"{counts['valid']:,}", "0", "0", "0", f"{counts['failed']:,}", f"{counts['invalid']:,}"]


def section(written: Path, title: str) -> str:
    """The HTML of the section with that heading."""
    return written.read_text("utf-8").split(f"<h2>{title}</h2>")[1].split("</section>")[0]


def test_reasons_are_the_validators_own_words_grouped_and_counted(written, page, reading):
    counts = reading.story.delivery.public_counts()
    told = re.findall(
        r'class="group (\w+)">\s*<p class="reason"><strong>([\d,]+)', section(written, "What did not make it")
    )
    for state in ("invalid", "failed"):
        assert sum(int(count) for of, count in told if of == state) == counts[state] >= 1
    assert "are no multiple of 2880" in page.text or "keyword TELESCOP" in page.text
    assert "the archive refuses this object: AccessDenied (403)" in page.text


def test_the_same_journal_gives_the_same_bytes(reading, tmp_path):
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        receipt = write_report(tmp_path / name / "report.html", [reading], ["cut off"])
        pages.append(((tmp_path / name / "report.html").read_bytes(), receipt.read_bytes()))
    assert pages[0] == pages[1]


END = {
    "all valid": (
        [*OPENED, *sent(0), ev.FileValidated(0), ev.SessionClosed("complete")],
        "good",
        "Everything arrived.",
        "verify --receipt",
    ),
    "one invalid": (
        [*OPENED, *sent(0), ev.FileInvalidated(0, "no header"), ev.SessionClosed("incomplete")],
        "bad",
        "1 of 1 file did not make it.",
        "status --failed",
    ),
    "interrupted": (
        [*OPENED, *sent(0), ev.SessionClosed("interrupted", "outage", "no route to host")],
        "bad",
        "Not finished: 0 of 1 file accepted.",
        "resume",
    ),
    "cut off": ([*OPENED, *sent(0)], "bad", "Not finished: 0 of 1 file accepted.", "resume"),
}


@pytest.mark.parametrize("end", END)
def test_the_top_says_how_it_ended_and_what_to_do(tmp_path, end):
    events, tone, headline, command = END[end]
    reading = made(tmp_path / "j", {"a": 1}, events)
    said = answers([reading], ["cut off"], "r.ndjson")
    assert (said.tone, said.headline) == (tone, headline)
    assert any(command in step.command for step in said.steps)
    page = shown(tmp_path, reading)
    assert headline in page.text
    assert "no route to host" in page.text if end == "interrupted" else True
    assert page.wrong == []


def test_a_delivery_that_runs_is_said_to_be_under_way(tmp_path):
    reading = made(tmp_path / "j", {"a": 1, "b": 1}, [*OPENED, *sent(0), ev.FileValidated(0)])
    said = answers([reading], ["running"], "r.ndjson")
    assert (said.tone, said.headline) == ("open", "Under way: 50 % accepted.")
    assert [step.command.split()[1] for step in said.steps] == ["status"]


def test_several_journals_make_one_page(tmp_path):
    events = [*OPENED, *sent(0), ev.FileValidated(0), ev.SessionClosed("complete")]
    one = made(tmp_path / "one", {"a": 10}, events, dataset="north")
    other = made(tmp_path / "other", {"b": 20, "c": 5}, [*OPENED, *sent(0)], dataset="south")
    page = shown(tmp_path, one, other)
    assert page.wrong == []
    for words in ("north · 1 + south · 1", "Not finished: 1 of 3 files accepted.", "The deliveries in this report"):
        assert words in page.text
    assert str(tmp_path / "other") in page.text
    receipt = receipt_path(tmp_path / "page.html").read_text()
    assert '"path":"c","size":5' in receipt
    assert receipt.count('"delivery":1') == 2


def test_a_journal_with_hardly_anything_in_it_has_a_page(tmp_path):
    reading = made(tmp_path / "j", {"a": 0}, [])
    page = shown(tmp_path, reading)
    assert page.wrong == []
    assert "0 of 1 file" in page.text


@pytest.mark.parametrize("name", ["every-kind", "delivered", "in-parts", "paced"])
def test_every_golden_journal_has_a_page(tmp_path, name):
    golden = Path(__file__).resolve().parents[1] / "data" / "journal-v1" / name
    page = shown(tmp_path, read(JournalReader(golden, snapshots=False)))
    assert page.wrong == []
    assert page.open == []


def test_the_integrity_is_that_of_the_files(page, reading, journal):
    import hashlib

    lines = ""
    for path in sorted(journal.glob("events-*.ndjson")):
        lines += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    assert hashlib.sha256(lines.encode()).hexdigest() == reading.sha256
    assert reading.sha256 in page.text
    assert reading.story.delivery.digest in page.text
    last = sorted(journal.glob("events-*.ndjson"))[-1].read_text().splitlines()[-1]
    assert f'"crc":"{reading.segments[-1].crc}"' not in last, "the CRC at the very end covers the last line's own field"


def test_the_receipt_of_the_page_is_the_file_beside_it(written, page):
    import hashlib

    beside = receipt_path(written)
    assert hashlib.sha256(beside.read_bytes()).hexdigest() in page.text
    assert beside.name in page.text


# --- text from outside ---------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></pre><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&amp;",
    "a\u202egnp.exe",
    "red \x1b[31m",
    "two\nlines\u2028three",
    "tab\tand\rreturn",
    "\ufeff\u200bzero",
    "https://evil.example/x",
    "javascript:alert(1)",
    "=cmd|' /C calc'!A1",
)


@pytest.mark.promise("R17")
def test_text_from_outside_is_shown_as_text(tmp_path, figure):
    """Each hostile text as a path, a message, a source, a host, a reason: the page has the elements of a tame one."""
    pages = []
    for number, texts in enumerate((HOSTILE, [f"tame {number}" for number in range(len(HOSTILE))])):
        files = dict.fromkeys((text.replace("\n", "_").replace("\r", "_") for text in texts), 1)
        events: list[ev.Event] = [
            ev.SessionOpened(1, "me", 0, 2, source=texts[0], host=texts[1]),
            ev.LockAcquired("e"),
            ev.PipelineRequested("k", 0),
            ev.ValidatorStarted(texts[2]),
            ev.ConcurrencyChanged(4, texts[3]),
            ev.OutageBegan(texts[4]),
            ev.OutageEnded(),
            ev.TransfersPaused("user", texts[5]),
            ev.UnexpectedVerdictFound(texts[6], texts[7], texts[8]),
            ev.LogLineRejected(3, texts[9], texts[10]),
            ev.TransfersContinued("user"),
        ]
        for file, text in enumerate(texts):
            first = [ev.TransferQueued(file), ev.TransferStarted(file)]
            if file == 0:
                first += [ev.UploadBegun(file, text, 1, text), ev.PartStored(file, 1, "AAAAAQ=="), ev.UploadEnded(file)]
            events += [*first, ev.TransferFailed(file, f"{text} {chr(97 + file)}"), ev.TransferRetried(file)]
            events += [ev.TransferStarted(file), ev.TransferCompleted(file, 1, "yH2GHg==", text)]
            events += [ev.FileInvalidated(file, f"{text} {chr(97 + file)}")]
        events += [ev.ClientCrashed(texts[1], texts[0]), ev.SessionClosed("crashed", "error", texts[3])]
        reading = made(tmp_path / f"j{number}", files, events, dataset="d", source=texts[0])
        page = shown(tmp_path, reading)
        assert page.wrong == []
        pages.append((text, page))
    (text, hostile), (_, tame) = pages
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [sorted(a) for _, a in hostile.elements] == [sorted(a) for _, a in tame.elements]
    assert "<script>alert(1)</script>" in hostile.text, "it is there, as text"
    assert not re.search("[\u202e\u200b\ufeff\u2028\x1b\r\t]", hostile.text)
    assert hostile.open == []
    figure(len(HOSTILE), "hostile texts")


# --- axis and scale ------------------------------------------------------------------------------


def test_a_night_between_two_sessions_takes_no_room_and_is_marked():
    hour = 3_600_000
    axis = Axis([Span(0, hour), Span(13 * hour, 14 * hour)])
    (gap,) = axis.gaps()
    assert gap.text == "12 h left out"
    assert axis.x(hour) == pytest.approx(gap.x, abs=0.01)
    assert axis.x(5 * hour) == axis.x(hour)
    assert axis.x(13 * hour) == pytest.approx(gap.x + gap.width, abs=0.01)
    assert (axis.x(0), axis.x(14 * hour), axis.x(20 * hour)) == (0, 100, 100)
    places = [axis.x(ms) for ms in range(0, 15 * hour, 60_000)]
    assert places == sorted(places)


def test_gaps_that_are_not_worth_one_are_closed_and_never_too_many():
    assert len(Axis([Span(0, 1000), Span(1001, 2000)]).spans) == 1
    assert len(Axis([Span(n * 100_000, n * 100_000 + 1000) for n in range(100)]).spans) <= 20


def test_ticks_keep_their_distance_and_say_the_day():
    for whole in (1, 950, 61_000, 3_600_000, 40 * 3_600_000, 90 * 86_400_000):
        ticks = Axis([Span(1_795_332_276_959, 1_795_332_276_959 + whole)]).ticks()
        assert len(ticks) <= 11
        assert all(after.x - before.x >= 9 for before, after in pairwise(ticks))
        if ticks:
            assert ticks[0].day


def test_a_hundred_thousand_files_are_a_small_page(tmp_path):
    files = 100_000
    table = deliveries.table(files)
    journal = DirectoryJournal(tmp_path / "j", sync=no_sync)
    created = deliveries.created(table)
    journal.create(created, table, time_ms=deliveries.TIME_MS)
    journal.append(OPENED, time_ms=deliveries.TIME_MS)
    for number, batch in enumerate(deliveries.batches(deliveries.lives(files), 2_000)):
        journal.append(batch, time_ms=deliveries.TIME_MS + 500 * number)
    journal.close()
    reading = read(JournalReader(tmp_path / "j", snapshots=False))
    receipt = write_report(tmp_path / "report.html", [reading], ["cut off"])
    assert (tmp_path / "report.html").stat().st_size < 500_000
    assert 'id="receipt"' not in (tmp_path / "report.html").read_text()
    with receipt.open("rb") as lines:
        assert sum(1 for _ in lines) == files + 2


def no_sync(descriptor: int) -> None:
    """Nobody cuts the power."""


def test_the_view_is_rendered_strictly(reading):
    """A name that the template knows and the view does not is an error, not an empty place."""
    import jinja2

    from upload_adapters.report.view import Receipt

    whole = view([reading], ["cut off"], Receipt("r", "0" * 64, 1, 1))
    assert render(whole)

    @attrs.frozen
    class Partly:
        title: str = "only a title"

    with pytest.raises(jinja2.UndefinedError):
        render(Partly())  # type: ignore[arg-type]  # that is the point


def test_journals_side_by_side_have_a_lane_each_and_share_their_reasons(tmp_path):
    readings = []
    for number in range(3):
        why = f"not whole: {number} bytes are no multiple of 2880"
        events = [*OPENED, *sent(0), ev.FileInvalidated(0, why), ev.SessionClosed("incomplete")]
        readings.append(made(tmp_path / str(number), {f"file {number}": 1}, events))
    page = shown(tmp_path, *readings)
    assert [name for name in page.texts if name.startswith("sessions ")] == ["sessions 1", "sessions 2", "sessions 3"]
    assert page.all("li", **{"class": "group invalid"}) == [{"class": "group invalid"}], "one reason, thrice"
    assert "(numbers as for the first)" in page.text
    (title,) = re.findall(r"<h1>(.*?) <span", (tmp_path / "page.html").read_text())
    assert title == "d · 1"
