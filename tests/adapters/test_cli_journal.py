"""What can be asked of a journal afterwards: its state at any moment, one file's story, and whether all is whole."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.command_line import Desk, last_json
from upload_adapters.cli import main
from upload_adapters.cli.reading import moment
from upload_adapters.journal_reader import JournalReader
from upload_core.errors import ConfigurationError
from upload_core.timestamps import iso, parse_iso


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A delivery with one bad file; tests only read it."""
    desk = Desk(tmp_path_factory.mktemp("finished"), count=5)
    (desk.data / "bad [red]name").write_text("bad")
    desk.index()
    assert desk.run(*desk.deliver_slowly).returncode == 1
    return desk


def records(desk: Desk) -> list[dict[str, object]]:
    lines = (desk.journal / "events-000001.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


# --- replay ---


def test_replaying_twice_gives_the_same_bytes(finished):
    for options in ([], ["--json"], ["--files"], ["--files", "--json"], ["--until", "20", "--json"]):
        outputs = {finished.run("replay", str(finished.journal), *options).stdout for _ in range(2)}
        assert len(outputs) == 1
        assert outputs != {""}


def test_the_replayed_state_is_the_one_that_the_delivery_ended_with(finished):
    state = last_json(finished.run("replay", str(finished.journal), "--json").stdout)
    assert list(state) == ["seq", "time", "client_state", "counts", "files", "digest"]
    last = records(finished)[-1]
    assert (state["seq"], state["time"]) == (last["seq"], last["time"])
    assert state["client_state"] == "quit"
    assert (state["counts"]["valid"], state["counts"]["invalid"], state["files"]) == (5, 1, 6)
    reader = JournalReader(finished.journal)
    reader.advance()
    assert state["digest"] == reader.delivery.digest


def test_every_record_can_be_named_as_the_moment_to_replay_to(finished):
    told = records(finished)
    for record in told[:: len(told) // 6]:
        state = last_json(finished.run("replay", str(finished.journal), "--until", str(record["seq"]), "--json").stdout)
        assert (state["seq"], state["time"]) == (record["seq"], record["time"])


def test_a_time_is_understood_with_and_without_date_and_zone(finished):
    record = next(record for record in records(finished) if record["kind"] == "FileValidated")
    time = str(record["time"])
    spellings = [time, time[:-1], time[11:], time[11:-1], time.replace("T", " ")]
    states = [
        last_json(finished.run("replay", str(finished.journal), "--until", s, "--json").stdout) for s in spellings
    ]
    assert all(state == states[0] for state in states)
    assert states[0]["time"] == time
    assert states[0]["counts"]["valid"] >= 1


@pytest.mark.parametrize("until", ["0", "2001-01-01T00:00:00Z", "noon", "25:00:00", "12:34:56:78", ""])
def test_a_moment_that_is_none_is_refused(finished, until):
    done = finished.run("replay", str(finished.journal), "--until", until)
    assert done.returncode == 2
    assert done.stderr


def test_a_time_of_day_is_its_latest_occurrence():
    last = parse_iso("2026-11-22T12:00:00.000Z")
    assert iso(moment("12:00:00", last)) == "2026-11-22T12:00:00.000Z"
    assert iso(moment("12:00:00.001", last)) == "2026-11-21T12:00:00.001Z"
    assert iso(moment("9:30", last)) == "2026-11-22T09:30:00.000Z"
    with pytest.raises(ConfigurationError):
        moment("yesterday", last)


def test_files_are_listed_with_their_state_and_reason(finished):
    lines = finished.run("replay", str(finished.journal), "--files", "--json").stdout.splitlines()
    rows = [json.loads(line) for line in lines[:-1]]
    assert [row["relpath"] for row in rows] == sorted(path.name for path in finished.data.iterdir())
    assert {row["state"] for row in rows} == {"valid", "invalid"}
    plain = finished.run("replay", str(finished.journal), "--files").stdout
    assert "file 00.txt\tvalid\t0\n" in plain


# --- history, status ---


def test_a_files_story_is_told_in_plain_words_and_in_order(finished):
    told = finished.run("history", str(finished.journal), "bad [red]name").stdout
    steps = ["is invalid", "session 1 began", "put in line", "handed to a worker", "stored in the archive: 3 bytes"]
    steps += [
        "announced to the validator",
        "found invalid: bad [red]name is [bold]bad\\x1b[31m",
        "session ended incomplete",
    ]
    places = [told.find(step) for step in steps]
    assert -1 not in places, told
    assert places == sorted(places)
    assert told.replace("\n", "").isprintable()


def test_the_parts_of_a_large_file_are_told_together(tmp_path, capsys):
    """The golden journal holds a file whose upload was begun twice, and one that was interrupted in the middle."""
    shutil.copytree(Path(__file__).parents[1] / "data" / "journal-v1" / "in-parts", tmp_path / "journal")
    told, attempts = {}, {}
    for name in ("plain.dat", "naïve ☃.txt"):
        assert main(["history", str(tmp_path / "journal"), name]) == 0
        lines = capsys.readouterr().out.splitlines()
        told[name] = [re.sub(r" \(.*", "", line[25:]) for line in lines[1:-1]]
        attempts[name] = lines[-1]
    assert told["plain.dat"][3:12] == [
        "it is sent in parts of 6 bytes",
        "it has 1 of 2 parts in the archive",
        "it has no open upload in parts any more",
        "it was not stored: it changed while it was read",
        "it was put in line for another attempt",
        "it was handed to a worker",
        "it is sent in parts of 6 bytes",
        "it has 2 of 2 parts in the archive",
        "it has no open upload in parts any more",
    ]
    assert attempts["plain.dat"].startswith("in all 2 attempts to send it, ")
    assert [line for line in told["naïve ☃.txt"] if "part" in line] == [
        "it is sent in parts of 8 bytes",
        "it has 3 of 3 parts in the archive",
    ]


def test_a_file_that_is_not_indexed_is_a_usage_error_with_a_hint(finished):
    done = finished.run("history", str(finished.journal), "data/file 00.txt")
    assert done.returncode == 2
    assert "do you mean 'file 00.txt'" in done.stderr


def test_status_shows_who_failed_and_why(finished):
    done = finished.run("status", str(finished.journal))
    assert "d-1 (staging): incomplete" in done.stdout
    assert "6 files: 5 valid, 1 invalid" in done.stdout
    assert "    bad [red]name" in done.stdout
    listed = finished.run("status", str(finished.journal), "--failed")
    assert "bad [red]name: invalid: bad [red]name is [bold]bad\\x1b[31m\n" in listed.stdout


@pytest.mark.parametrize("command", ["status", "replay", "verify", "resume"])
def test_a_place_without_a_journal_is_a_usage_error(finished, command):
    done = finished.run(command, "data", "--json")
    assert done.returncode == 2
    assert "no journal" in done.stderr
    assert last_json(done.stdout)["exit_code"] == 2


def test_the_story_of_no_file_shows_the_name_as_it_may_be_shown(finished):
    done = finished.run("history", str(finished.journal), "new\nline")
    assert done.returncode == 2
    assert "'new\\x0aline' is not in the index" in done.stderr


# --- verify ---


def test_a_whole_journal_and_archive_agree(finished):
    done = finished.run("verify", str(finished.journal), "--archive", "--json")
    assert done.returncode == 0, done.stderr
    found = last_json(done.stdout)
    assert (found["compared"], found["different"], found["notes"]) == (5, [], [])
    assert found["digest"] == last_json(finished.run("replay", str(finished.journal), "--json").stdout)["digest"]


@pytest.fixture
def copied(finished: Desk, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.journal, tmp_path / "journal"))


def test_what_the_archive_lost_or_changed_is_listed(tmp_path):
    desk = Desk(tmp_path, count=4)
    desk.index()
    desk.run(*desk.deliver)
    (desk.archive / "file 00.txt").unlink()
    (desk.archive / "file 01.txt").write_text("longer than it was\n")
    (desk.archive / "file 02.txt").write_text("CONTENT 2\n")
    done = desk.run("verify", str(desk.journal), "--archive", "--json")
    assert done.returncode == 1
    different = last_json(done.stdout)["different"]
    assert [row["relpath"] for row in different] == ["file 00.txt", "file 01.txt", "file 02.txt"]
    assert ["not in the archive" in row["message"] for row in different] == [True, False, False]
    assert "bytes" in different[1]["message"]
    assert "CRC32" in different[2]["message"]


def test_the_command_that_verify_names_puts_back_what_the_archive_lost(tmp_path):
    desk = Desk(tmp_path, count=4)
    desk.index()
    desk.run(*desk.deliver)
    (desk.archive / "file 00.txt").unlink()
    done = desk.run("verify", ".upload-core/d-1-staging", "--archive")
    assert done.returncode == 1
    assert "4 files compared with the archive: 1 differs\n" in done.stdout
    said = done.stdout.splitlines()[-1]
    again = desk.run(*shlex.split(said.removeprefix("next: upload-core ")), "--json")
    assert again.returncode == 0, (said, again.stderr)
    assert last_json(again.stdout)["bytes"] == len("content 0\n")
    assert desk.equal()


def test_verify_says_how_many_files_are_valid_and_not_that_all_were_delivered(finished):
    assert "; 5 of 6 files valid\n" in finished.run("verify", str(finished.journal)).stdout


def test_an_unfinished_last_batch_is_noted_and_no_damage(finished, copied):
    segment = copied / "events-000001.ndjson"
    segment.write_bytes(segment.read_bytes()[:-7])
    for snapshot in copied.glob("snapshot-*"):
        snapshot.unlink()
    done = finished.run("verify", str(copied))
    assert done.returncode == 0, done.stderr
    assert "unfinished batch" in done.stdout


READ_FROM_THE_START = (
    ["history", "J", "file 00.txt"],
    ["replay", "J", "--until", "5000"],
    ["replay", "J", "--until", "2999-01-01 00:00:00"],
    ["diff", "J", "start", "end"],
    ["verify", "J"],
    ["export", "J", "-o", "NEW.csv"],
    ["report", "J", "-o", "NEW.html"],
)
READ_FROM_A_SNAPSHOT_ON = (["status", "J"], ["status", "J", "--follow"], ["replay", "J"])


@pytest.mark.parametrize("command", READ_FROM_THE_START, ids=" ".join)
@pytest.mark.parametrize("place", [0.3, 0.6])
def test_damage_in_the_middle_is_exit_code_7_although_a_snapshot_lies_beyond_it(copied, place, command, capsys):
    damage(copied, place)
    assert_refused(copied, command, capsys)


@pytest.mark.parametrize("command", [*READ_FROM_THE_START, *READ_FROM_A_SNAPSHOT_ON], ids=" ".join)
def test_what_comes_before_a_damage_is_never_taken_for_the_whole(copied, command, capsys):
    for snapshot in copied.glob("snapshot-*"):
        snapshot.unlink()
    damage(copied, 0.6)
    assert_refused(copied, command, capsys)


def damage(journal: Path, place: float) -> None:
    """Flip one bit of its first segment."""
    segment = journal / "events-000001.ndjson"
    data = bytearray(segment.read_bytes())
    data[int(len(data) * place)] ^= 4
    segment.write_bytes(data)


def assert_refused(journal: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    made = journal.with_name("made")
    assert (
        main([{"J": str(journal), "NEW.csv": f"{made}.csv", "NEW.html": f"{made}.html"}.get(w, w) for w in command])
        == 7
    )
    assert "events-000001.ndjson is damaged after record" in capsys.readouterr().err
    assert not list(journal.parent.glob("made*"))


def test_a_changed_file_table_is_exit_code_7(finished, copied):
    table = copied / "files-0000.ndjson"
    table.write_bytes(table.read_bytes().replace(b"file 00.txt", b"file 09.txt"))
    done = finished.run("verify", str(copied))
    assert done.returncode == 7
    assert "files-0000.ndjson" in done.stderr


def test_a_broken_snapshot_is_noted_because_it_is_ignored(finished, copied):
    (snapshot,) = copied.glob("snapshot-*")
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    done = finished.run("verify", str(copied))
    assert done.returncode == 0
    assert snapshot.name in done.stdout


def test_a_snapshot_that_is_whole_but_lies_is_exit_code_7(finished, copied):
    from upload_adapters import snapshot_file

    reader = JournalReader(copied, snapshots=False)
    reader.advance()
    reader.delivery.facts.retries_total += 1
    snapshot_file.write(copied, reader.delivery, reader.position, reader.header.nonce)
    done = finished.run("verify", str(copied))
    assert done.returncode == 7
    assert "contradicts the journal" in done.stderr


def test_reading_a_journal_changes_nothing_in_it(finished, copied):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in copied.iterdir()}
    for command in ("status", "replay", "verify"):
        assert finished.run(command, str(copied)).returncode == 0
    assert finished.run("history", str(copied), "file 00.txt").returncode == 0
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in copied.iterdir()} == before
