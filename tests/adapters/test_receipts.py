"""A receipt proves, without the journal, whether the archive still holds what was delivered."""

import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.command_line import Desk
from tests.contracts.bodies import Body
from upload_adapters.cli import main
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.journal_reader import JournalReader
from upload_adapters.memory.buckets import MemoryArchive
from upload_adapters.report.comparing import Comparison
from upload_adapters.report.page import EMBEDDED_MAX
from upload_adapters.report.reading import read
from upload_adapters.report.receipt import Line, Receipt, receipt
from upload_core import events as ev
from upload_core.checksum import crc32_base64
from upload_core.errors import ArchiveError, ArchiveUnavailableError, ConfigurationError
from upload_core.files import FileTable
from upload_core.ports import StoredObject


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A delivery with one file that was found invalid, its report, and no journal any more."""
    desk = Desk(tmp_path_factory.mktemp("delivered"), count=5)
    (desk.data / "bad <b>name").write_text("bad")
    desk.index()
    assert desk.run(*desk.deliver_slowly).returncode == 1
    assert main(["report", str(desk.journal), "-o", str(desk.root / "report.html")]) == 0
    shutil.rmtree(desk.journal)
    return desk


@pytest.fixture
def desk(delivered: Desk, tmp_path: Path) -> Desk:
    """A copy of it, in the same place for whoever goes by the receipt's `--to`."""
    copied = Desk.__new__(Desk)
    shutil.copytree(delivered.root, tmp_path / "desk")
    copied.root = tmp_path / "desk"
    copied.data, copied.journal = copied.root / "data", copied.root / ".upload-core" / "d-1-staging"
    copied.archive, copied.control = copied.root / "archive" / "d-1-staging", copied.root / "archive" / "d-1-control"
    return copied


def verify(
    desk: Desk, capsys: pytest.CaptureFixture[str], name: str = "report.receipt.ndjson"
) -> tuple[int, list[tuple[str, str]]]:
    """The exit code, and kind and path of every difference."""
    code = main(["verify", "--receipt", str(desk.root / name), "--to", f"file://{desk.root}/archive", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["exit_code"] == code
    return code, sorted((row["kind"], row["relpath"]) for row in found["different"])


# --- the archive beside it -----------------------------------------------------------------------


def test_where_nothing_changed_everything_agrees(delivered, capsys):
    for name in ("report.receipt.ndjson", "report.html"):
        assert main(["verify", "--receipt", str(delivered.root / name)]) == 0
        said = capsys.readouterr().out
        assert "5 files of the receipt of" in said
        assert said.endswith("compared with the archive: all agree\n")


CHANGES = {
    "missing": lambda path: path.unlink(),
    "size": lambda path: path.write_text("longer than it was\n"),
    "bytes": lambda path: path.write_text("CONTENT 2\n"),
    "extra": lambda path: path.with_name("file 99.txt").write_text("nobody sent this"),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("name", ["report.receipt.ndjson", "report.html"])
def test_each_kind_of_difference_is_found_and_named(desk, capsys, kind, name):
    CHANGES[kind](desk.archive / "file 02.txt")
    changed = "file 99.txt" if kind == "extra" else "file 02.txt"
    assert verify(desk, capsys, name) == (1, [(kind, changed)])


def test_bytes_that_changed_although_size_and_time_are_the_same_are_found(desk, capsys):
    import os

    path = desk.archive / "file 03.txt"
    info = path.stat()
    with path.open("r+b") as file:
        file.write(b"C")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert verify(desk, capsys) == (1, [("bytes", "file 03.txt")])


def test_all_differences_are_told_together_and_to_people_in_words(desk, capsys):
    for number, change in enumerate(CHANGES.values()):
        change(desk.archive / f"file 0{number}.txt")
    code, found = verify(desk, capsys)
    assert (code, [kind for kind, _ in found]) == (1, ["bytes", "extra", "missing", "size"])
    to = ["--to", f"file://{desk.root}/archive"]
    assert main(["verify", "--receipt", str(desk.root / "report.html"), *to]) == 1
    said = capsys.readouterr().out
    assert "file 00.txt is not in the archive" in said
    assert "file 01.txt has 19 bytes in the archive, 10 in the receipt" in said
    assert "1 with other bytes, 1 not in the receipt, 1 missing, 1 of another size" in said
    assert said.splitlines()[-1].startswith("next: deliver as before, with --journal NEW")


def test_a_file_that_was_rejected_may_be_there_or_not(desk, capsys):
    assert verify(desk, capsys) == (0, [])
    (desk.archive / "bad <b>name").unlink(missing_ok=True)
    assert verify(desk, capsys) == (0, [])


def test_an_archive_that_is_gone_has_lost_everything(desk, capsys):
    shutil.rmtree(desk.root / "archive")
    code, found = verify(desk, capsys)
    assert (code, found) == (1, [("missing", f"file 0{number}.txt") for number in range(5)])


def test_without_to_the_archive_is_the_one_that_was_delivered_to(delivered, desk, capsys):
    (desk.archive / "file 00.txt").unlink()
    assert main(["verify", "--receipt", str(desk.root / "report.html")]) == 0, "the copy is not looked at"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["j", "--receipt", "r"],
        ["--receipt", "r", "--archive"],
        ["j", "--to", "file:///a"],
        ["--receipt", "nowhere"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments, capsys):
    assert main(["verify", *arguments]) == 2
    assert capsys.readouterr().err


# --- a receipt that is none ----------------------------------------------------------------------


@pytest.mark.promise("R5")
def test_a_receipt_that_was_changed_anywhere_is_refused(delivered, tmp_path, figure):
    data = (delivered.root / "report.receipt.ndjson").read_bytes()
    path = tmp_path / "r"
    places = range(0, len(data), 7)
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ConfigurationError):
            Receipt(str(path))
    figure(len(places), "flipped bits of a receipt")


def test_a_receipt_that_was_cut_or_added_to_is_refused(delivered, tmp_path):
    lines = (delivered.root / "report.receipt.ndjson").read_bytes().splitlines(keepends=True)
    path = tmp_path / "r"
    for kept in ([], lines[:1], lines[:-1], [*lines, lines[1]], [*lines, lines[-1]], lines[1:], lines[:2] + lines[3:]):
        path.write_bytes(b"".join(kept))
        with pytest.raises(ConfigurationError, match="is no whole receipt"):
            Receipt(str(path))
    path.write_bytes(b"".join(lines).rstrip(b"\n")[:-3])
    with pytest.raises(ConfigurationError):
        Receipt(str(path))


def test_a_receipt_of_a_later_release_is_refused(delivered, tmp_path):
    data = (delivered.root / "report.receipt.ndjson").read_bytes()
    path = tmp_path / "r"
    path.write_bytes(data.replace(b'"version":1', b'"version":2', 1))
    with pytest.raises(ConfigurationError, match="version 2"):
        Receipt(str(path))


def test_a_page_that_was_changed_is_refused_and_one_without_a_receipt_names_the_file_beside_it(delivered, tmp_path):
    text = (delivered.root / "report.html").read_text()
    page = tmp_path / "p.html"
    begin = text.index('<pre id="receipt"')
    page.write_text(text[:begin] + text[begin:].replace("file 01.txt", "file 09.txt"))
    with pytest.raises(ConfigurationError, match="seal does not fit"):
        Receipt(str(page))
    page.write_text(text[:begin] + text[text.index("</pre>", begin) :])
    with pytest.raises(ConfigurationError, match="without a receipt"):
        Receipt(str(page))


# --- what stands in it ---------------------------------------------------------------------------

SETTINGS = {"deployment_file": "/é/mast.toml", "deployment.endpoint": "https://evil.example"}
NAMES = [
    "a",
    "naïve ☃.txt",
    'quo"ted\\.csv',
    "tab\there",
    "a\u202egnp.exe",
    "</pre><script>",
    "NA",
    "{{x}}",
    "back\\slash",
]


def test_every_name_comes_back_as_it_was_and_the_file_is_ascii(tmp_path):
    table = FileTable.from_columns(NAMES, range(len(NAMES)), ["AAAAAQ=="] * len(NAMES))
    created = ev.DeliveryCreated("d", "1", "staging", "me", "/s", "file:///a", table.digest, len(table), SETTINGS)
    journal = DirectoryJournal(tmp_path / "j")
    journal.create(created, table, time_ms=1_000)
    journal.append([ev.SessionOpened(1, "me", 1, 1), ev.LockAcquired("e")], time_ms=2_000)
    for file in range(len(NAMES)):
        moves = [ev.TransferQueued(file), ev.TransferStarted(file)]
        done = [ev.TransferCompleted(file, file, "AAAAAQ==", f'"é{file}"'), ev.FileInvalidated(file, "\u202e no\n<b>")]
        journal.append([*moves, *done], time_ms=3_000)
    journal.close()
    reading = read(JournalReader(tmp_path / "j", snapshots=False))
    (tmp_path / "r").write_bytes(b"".join(receipt([reading])))
    assert (tmp_path / "r").read_bytes().isascii()
    back = Receipt(str(tmp_path / "r"))
    assert [line.path for line in back.lines()] == NAMES
    assert [(line.size, line.crc32, line.etag) for line in back.lines()] == [
        (file, "AAAAAQ==", f'"é{file}"') for file in range(len(NAMES))
    ]
    assert {line.message for line in back.lines()} == {"\u202e no\n<b>"}
    head = back.head.deliveries[0]
    assert (head.files, head.counts["invalid"], head.deployment_file) == (len(NAMES), len(NAMES), "/é/mast.toml")
    assert b"evil" not in (tmp_path / "r").read_bytes(), "what else was set stays in the journal"
    assert back.created(0).archive == "file:///a"
    from upload_adapters.report.page import write_report

    write_report(tmp_path / "page.html", [reading], ["cut off"])
    assert [line.path for line in Receipt(str(tmp_path / "page.html")).lines()] == NAMES


def test_a_long_receipt_is_beside_the_page_only(tmp_path):
    count = EMBEDDED_MAX // 50
    table = FileTable.from_columns([f"file {number:06d}" for number in range(count)], [1] * count)
    created = ev.DeliveryCreated("d", "1", "staging", "me", "/s", "file:///a", table.digest, count)
    journal = DirectoryJournal(tmp_path / "j")
    journal.create(created, table, time_ms=1_000)
    journal.close()
    assert main(["report", str(tmp_path / "j"), "-o", str(tmp_path / "page.html")]) == 0
    with pytest.raises(ConfigurationError, match="without a receipt"):
        Receipt(str(tmp_path / "page.html"))
    assert sum(1 for _ in Receipt(str(tmp_path / "page.receipt.ndjson")).lines()) == count


# --- comparing, request by request ---------------------------------------------------------------


class Shop(MemoryArchive):
    """An archive whose listing has etags, as S3's has, and that counts what else it is asked."""

    def __init__(self, listing: Exception | None = None) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._listing = listing

    def list(self) -> Iterator[StoredObject]:
        if self._listing is not None:
            raise self._listing
        for found in super().list():
            yield attrs.evolve(found, etag=self.etag(found.relpath))

    def etag(self, relpath: str) -> str:
        stored = super().stat(relpath)
        assert stored is not None
        return stored.etag

    def stat(self, relpath: str) -> StoredObject | None:
        self.asked.append(relpath)
        return super().stat(relpath)

    def line(self, relpath: str, verdict: str = "valid") -> Line:
        stored = super().stat(relpath)
        assert stored is not None
        return Line(relpath, stored.size, stored.checksum, stored.etag, verdict)

    def lose(self, relpath: str) -> None:
        del self._objects[relpath]


def shop(*names: str, listing: Exception | None = None) -> Shop:
    made = Shop(listing)
    for name in names:
        made.put(name, Body(name.encode()), checksum=None)
    return made


def test_what_the_listing_proves_is_not_asked_for():
    archive = shop("a", "b", "c")
    lines = [archive.line("a"), archive.line("b"), archive.line("c", "done")]
    archive.put("b", Body(b"b"), checksum=None)
    comparison = Comparison(lines)
    assert list(comparison.differences(archive)) == []
    assert archive.asked == ["b"], "the same bytes under a new etag are looked at, the others are not"
    assert comparison.compared == 3


def test_an_archive_that_may_not_be_listed_is_asked_file_by_file():
    archive = shop("a", "b", listing=ArchiveError("AccessDenied"))
    comparison = Comparison([archive.line("a"), archive.line("b")])
    archive.lose("b")
    assert [(found.kind, found.relpath) for found in comparison.differences(archive)] == [("missing", "b")]
    assert sorted(archive.asked) == ["a", "b"]
    assert "nothing can be said of what else it holds" in comparison.notes[0]


def test_an_archive_out_of_reach_is_no_difference():
    archive = shop("a", listing=ArchiveUnavailableError("no route to host"))
    with pytest.raises(ArchiveUnavailableError):
        list(Comparison([archive.line("a")]).differences(archive))


def test_two_deliveries_to_one_place_know_of_each_others_files(tmp_path, capsys):
    """A delivery that was split in disjoint indexes, both under one name."""
    archive = tmp_path / "archive" / "d-1-staging"
    archive.mkdir(parents=True)
    for half in ("a", "b"):
        names = [f"{half}1", f"{half}2"]
        crcs = [crc32_base64(zlib.crc32(name.encode())) for name in names]
        table = FileTable.from_columns(names, [2, 2], crcs)
        place = f"file://{tmp_path}/archive"
        journal = DirectoryJournal(tmp_path / half)
        created = ev.DeliveryCreated("d", "1", "staging", "me", "/s", place, table.digest, 2)
        journal.create(created, table, time_ms=1_000)
        journal.append([ev.SessionOpened(1, "me", 1, 1), ev.LockAcquired("e")], time_ms=2_000)
        for file, name in enumerate(names):
            (archive / name).write_text(name)
            stored = ev.TransferCompleted(file, 2, crcs[file])
            journal.append([ev.TransferQueued(file), ev.TransferStarted(file), stored], time_ms=3_000)
        journal.close()
    both, one = tmp_path / "both.html", tmp_path / "one.html"
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(both)]) == 0
    assert main(["verify", "--receipt", str(both)]) == 0
    assert "4 files of the receipt" in capsys.readouterr().out
    (archive / "b2").unlink()
    assert main(["verify", "--receipt", str(both)]) == 1
    assert "b2 is not in the archive" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "a"), "-o", str(one)]) == 0
    assert main(["verify", "--receipt", str(one)]) == 1
    assert "b1 is in the archive (2 bytes), not in the receipt" in capsys.readouterr().out
