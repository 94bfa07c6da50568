"""A journal in a notebook: replayed, as a data frame, and as the block of HTML that is shown."""

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

import upload_core
from tests.command_line import environment
from tests.crash.world import World
from tests.sample_delivery import write_sample
from upload_adapters.journal_reader import JournalReader
from upload_core import ConfigurationError, JournalDamagedError, JournalError
from upload_core import events as ev
from upload_core.lifecycle import INVALID
from upload_core.notebook import delivery_html
from upload_core.timestamps import parse_iso

COLUMNS = ["relpath", "state", "retries", "size", "checksum", "message"]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "journal"
    write_sample(path, files=300)
    return path


@pytest.fixture(scope="module")
def records(journal):
    return list(JournalReader(journal).records())


# --- replaying -----------------------------------------------------------------------------------


def test_all_of_a_journal_is_replayed_unless_a_moment_is_named(journal, records):
    whole = upload_core.replay(journal)
    assert (whole.seq, whole.time) == (records[-1].seq, records[-1].time)
    assert whole.delivery.client_state == "quit"
    assert [file.relpath for file in whole.files()] == list(whole.delivery.table.paths())
    assert {file.state for file in whole.files()} == {"valid", "invalid", "failed"}


def test_a_moment_is_a_records_number_a_text_or_a_datetime(journal, records):
    at = next(r for r in records if isinstance(r.event, ev.OutageBegan))
    last = next(r for r in reversed(records) if r.time == at.time)
    moment = datetime.fromtimestamp(at.time_ms / 1000, UTC)
    states = [upload_core.replay(journal, until=until) for until in (last.seq, at.time, moment)]
    assert [(state.seq, state.time) for state in states] == [(last.seq, at.time)] * 3
    assert len({state.delivery.digest for state in states}) == 1
    assert states[0].delivery.facts.outage_ms == parse_iso(at.time)


@pytest.mark.parametrize("until", [0, "noon", "2001-01-01T00:00:00.000Z", datetime(2026, 1, 1)])
def test_what_is_no_moment_of_the_journal_is_refused(journal, until):
    with pytest.raises(ConfigurationError):
        upload_core.replay(journal, until=until)


def test_a_place_without_a_journal_is_an_error_that_says_so(tmp_path):
    with pytest.raises(JournalError, match="there is no journal"):
        upload_core.replay(tmp_path)


@pytest.mark.parametrize("until", [None, 10**9, "2036-01-01T00:00:00.000Z"])
def test_a_damaged_journal_is_refused_whatever_moment_is_named(journal, tmp_path, until):
    copied = Path(shutil.copytree(journal, tmp_path / "j"))
    for snapshot in copied.glob("snapshot-*"):
        snapshot.unlink()
    segment = copied / "events-000001.ndjson"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 4
    segment.write_bytes(data)
    with pytest.raises(JournalDamagedError):
        upload_core.replay(copied, until=until)


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_the_frame_of_each_library_holds_the_same_rows(journal, library):
    state = upload_core.replay(journal)
    frame = state.to_dataframe(library)
    assert type(frame).__module__.partition(".")[0] in (library, "pyarrow")
    rows = (
        frame.to_pylist()
        if library == "pyarrow"
        else frame.to_dict("records")
        if library == "pandas"
        else frame.to_dicts()
    )
    assert list(rows[0]) == COLUMNS
    expected = state.columns()
    for name in ("relpath", "state", "retries", "size", "checksum"):
        assert [row[name] for row in rows] == expected[name]
    messages = [row["message"] if isinstance(row["message"], str) else None for row in rows]
    assert messages == expected["message"]
    assert sum(message is not None for message in messages) == sum(
        s in ("failed", "invalid") for s in expected["state"]
    )


def test_numbers_are_numbers_so_that_a_frame_can_add_them_up(journal):
    state = upload_core.replay(journal)
    total = state.delivery.table.total_bytes
    assert state.to_dataframe("pandas").groupby("state")["size"].sum().sum() == total
    assert state.to_dataframe("polars")["size"].sum() == total


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_without_a_name_it_is_the_library_that_the_program_uses(journal, library):
    code = f"import {library}, upload_core, sys; f = upload_core.replay(sys.argv[1]).to_dataframe(); print(type(f).__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code, journal], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.startswith(library)


def test_a_library_that_is_unknown_or_missing_is_named(journal, monkeypatch):
    state = upload_core.replay(journal)
    with pytest.raises(ConfigurationError, match="'numpy' is no library for data frames"):
        state.to_dataframe("numpy")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigurationError, match="pip install polars"):
        state.to_dataframe("polars")


def test_importing_the_core_imports_no_data_frames():
    code = "import sys, upload_core.replayed; print({'pandas', 'polars', 'pyarrow', 'narwhals'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "set()"


# --- what a notebook shows -----------------------------------------------------------------------


class Nesting(HTMLParser):
    """Tags in order, and whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_replayed_delivery_shows_its_states_and_its_reasons(journal):
    shown = Nesting(upload_core.replay(journal)._repr_html_())
    text = "".join(shown.texts)
    assert shown.open == []
    assert set(shown.tags) <= {"div", "span", "strong", "ul", "li"}
    for words in ("ridge-survey · 2026-11", "300 files", "valid", "AccessDenied", str(journal)):
        assert words in text


def test_a_client_shows_how_it_stands_before_and_after():
    world = World(bad=["d/001.dat"])
    client = world.client()
    assert "8 files: 8 ready" in "".join(Nesting(client._repr_html_()).texts)
    client.run()
    text = "".join(Nesting(client._repr_html_()).texts)
    assert "8 files: 7 valid, 1 invalid" in text
    assert "the client is quit" in text
    assert "1 invalid: " in text


def test_hostile_names_and_reasons_are_text(tmp_path):
    golden = Path(__file__).resolve().parents[1] / "data" / "journal-v1" / "every-kind"
    state = upload_core.replay(shutil.copytree(golden, tmp_path / "j"))
    state.delivery.messages[0] = "<script>alert(1)</script>\u202e & \n'\""
    state.delivery.states[0] = INVALID
    html = delivery_html(state.delivery, "<b>place</b>", "\x1b[31m<i>")
    shown = Nesting(html)
    assert set(shown.tags) <= {"div", "span", "strong", "ul", "li"}
    assert "<script>alert(1)</script>" in "".join(shown.texts)
    assert not re.search("[\u202e\x1b]", html)
