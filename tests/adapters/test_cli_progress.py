"""What a delivery says while it runs where nobody watches, and what it says of endings that nobody wants."""

import io
import re
import time
from typing import Any

from upload_adapters.cli import main, output, progress
from upload_adapters.cli.ending import GROUPS_MAX, NAMES_MAX, ending
from upload_adapters.cli.progress import LINES_MAX, SHOWN, Progress
from upload_adapters.console import TerminalConsole
from upload_adapters.memory import MemoryPorts, memory_ports
from upload_core import events as ev
from upload_core.client import UploadClient
from upload_core.journal import Record
from upload_core.outcomes import FailedFile, Summary

COUNTS = dict.fromkeys(["ready", "pending", "failed", "transferring", "done", "valid", "invalid"], 0)


def client_of(count: int) -> UploadClient:
    def check(relpath: str, data: bytes) -> list[str]:
        return ["no good"]

    ports: MemoryPorts = memory_ports({f"{number:03d}": b"x" for number in range(count)}, check=check)
    return UploadClient(
        dataset="demo",
        delivery_id="1",
        file_index={"path": [f"{number:03d}" for number in range(count)]},
        transfer_type="staging",
        source="memory:",
        ports=ports,
    )


def test_files_that_fail_are_a_line_each_up_to_a_limit(monkeypatch):
    out = io.StringIO()
    client = client_of(LINES_MAX + 15)
    with Progress(TerminalConsole(file=out), client):
        assert client.run().exit_code == 1
    lines = out.getvalue().splitlines()
    assert re.fullmatch(r"2\d{3}-[\d-]+T[\d:.]+Z 000 was found invalid: no good", lines[0])
    assert sum("was found invalid" in line for line in lines) == LINES_MAX
    assert lines[-1].startswith("further files are counted only")


def test_without_a_terminal_there_is_a_line_per_interval_and_none_when_quiet(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.05)
    for quiet in (False, True):
        out = io.StringIO()
        with Progress(TerminalConsole(quiet=quiet, file=out), client_of(3)):
            deadline = time.monotonic() + (0.3 if quiet else 20)
            while out.getvalue().count("\n") < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
        lines = out.getvalue().splitlines()
        assert (2 <= len(lines) <= 3) if not quiet else not lines
        assert all(
            re.match(r"[\dT:-]+Z 0 of 3 files sent \(0 B of 3 B\), 0 judged; beginning$", line) for line in lines
        )


def test_the_interval_is_half_a_minute():
    assert progress.PLAIN_INTERVAL_S == 30


def test_no_everyday_event_is_shown():
    everyday = {ev.TransferQueued, ev.TransferStarted, ev.TransferCompleted, ev.FileReported, ev.FileValidated}
    assert not everyday & set(SHOWN)


def test_the_report_groups_files_by_reason_and_names_a_few():
    failed = [FailedFile(f"a/{number}", "invalid", f"a/{number} is too short") for number in range(40)]
    failed += [FailedFile(f"b/{number}", "failed", f"reason {chr(97 + number)}") for number in range(10)]
    summary = Summary("incomplete", 1, COUNTS | {"invalid": 40, "failed": 10}, 50, 0, 0, 1.0, "", failed)
    lines = [text for text, _ in ending(summary)]
    assert lines[0] == "incomplete: 0 of 50 files valid"
    assert "40 files invalid: … is too short" in lines
    assert lines.count("    a/0") == 1
    assert f"    and {40 - NAMES_MAX} more" in lines
    assert len(lines) < 4 * GROUPS_MAX
    assert lines[-1] == f"{10 - (GROUPS_MAX - 1)} files for {10 - (GROUPS_MAX - 1)} other reasons"


def test_reasons_that_differ_in_numbers_are_one_and_a_name_is_no_part_of_words():
    failed = [FailedFile(name, "failed", f"{size} bytes are missing") for size, name in enumerate("abcd", 5)]
    summary = Summary("incomplete", 1, COUNTS | {"failed": 4}, 4, 0, 0, 1.0, "", failed)
    assert "4 files failed: 5 bytes are missing (numbers as for the first)" in [text for text, _ in ending(summary)]


def test_the_end_of_a_session_that_could_not_open_its_journal_counts_nothing(tmp_path):
    summary = Summary("interrupted", 8, {}, 4, 0, 0, 0.0, str(tmp_path), [], message="the disk is full")
    assert [text for text, _ in ending(summary)][:2] == [
        "interrupted: the journal could not be opened, so nothing was sent",
        "the disk is full",
    ]
    assert not any(" of 4 " in text or "still to be" in text for text, _ in ending(summary))


def test_a_bug_is_exit_code_70_with_a_hint_and_on_request_its_traceback(monkeypatch, capsys, tmp_path):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("upload_adapters.cli.plan.read_index", broken)
    monkeypatch.delenv(output.DEBUG_VARIABLE, raising=False)
    assert main(["plan", str(tmp_path), "x.csv", "--json"]) == 70
    shown = capsys.readouterr()
    assert "ZeroDivisionError: a bug" in shown.err
    assert "report it" in shown.err
    assert "Traceback" not in shown.err
    assert '"outcome": "crashed", "exit_code": 70' in shown.out
    monkeypatch.setenv(output.DEBUG_VARIABLE, "1")
    main(["plan", str(tmp_path), "x.csv"])
    assert "Traceback" in capsys.readouterr().err


def deliver_by(client: UploadClient, **options: Any) -> list[str]:
    out = io.StringIO()
    with Progress(TerminalConsole(file=out), client, **options):
        client.run()
    return out.getvalue().splitlines()


def test_verbose_tells_what_happens_and_very_verbose_everything():
    told = [deliver_by(client_of(30), verbosity=verbosity) for verbosity in (0, 1, 2)]
    assert sum("was found invalid" in line for line in told[0]) == LINES_MAX
    for lines in told[1:]:
        assert sum("was found invalid" in line for line in lines) == 30
        assert sum("was stored in the archive" in line for line in lines) == 30
    assert not any("was put in line" in line for line in told[1])
    assert sum("was put in line" in line for line in told[2]) == 30


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_on_a_few_times_a_second_however_much_happens(monkeypatch):
    """Tens of thousands of lines a second (`-vv`) must not draw as many pictures."""
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Screen()
    client = client_of(1)
    began = time.monotonic()
    with Progress(TerminalConsole(file=out), client, verbosity=2) as seen:
        # a busy machine may give the thread that draws no turn within that time
        while (passed_s := time.monotonic() - began) < 0.7 or ("too fast" not in out.getvalue() and passed_s < 60):
            seen._notice(Record(1, "2026-11-22T07:24:36.959Z", ev.FileValidated(0)))
    refreshes = 1 + (time.monotonic() - began) / progress.REFRESH_S
    assert 2 <= out.getvalue().count("judged") <= 2 + 2 * refreshes
    assert progress.WAITING_MAX <= out.getvalue().count("was accepted") <= progress.WAITING_MAX * (1 + refreshes)
    assert "lines that came too fast" in out.getvalue()


def test_a_flood_of_one_kind_is_cut_and_says_so():
    out = io.StringIO()
    seen = Progress(TerminalConsole(file=out), client_of(1))
    for offset in range(100):
        seen._notice(Record(offset, "2026-11-22T07:24:36.959Z", ev.LogLineRejected(offset, "no row", "x")))
    lines = out.getvalue().splitlines()
    assert len(lines) == LINES_MAX + 1
    assert "further lines like this (LogLineRejected)" in lines[-1]
