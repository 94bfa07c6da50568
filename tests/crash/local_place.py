"""A delivery to a local directory by the command line, and a judge of how it ended who shares no code with it.

The judge compares the stored bytes with the sources, and reads the logs and the journal's lines itself.
"""

import csv
import io
import json
import random
import sys
from collections import Counter
from pathlib import Path

import attrs

BAD = "odd/name with space & ünïcode.txt"
"""The validator's check rejects this one, killed or not: a delivery ends with exit code 1."""

COMMAND = (str(Path(sys.executable).with_name("upload-core")),)
CHECK = f"""
def check(path, relpath):
    return ["bad on purpose"] if relpath == {BAD!r} else []
"""

COLUMNS = 6
ITS_END = "the process that it lived in ended it"
"""The one error that a validator may end by."""


@attrs.frozen
class Place:
    """One delivery's directories."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def archive(self) -> Path:
        return self.root / "archive" / "kills-1-staging"

    @property
    def control(self) -> Path:
        return self.root / "archive" / "kills-1-control"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.source)): p.read_bytes() for p in self.source.rglob("*") if p.is_file()}

    @property
    def arguments(self) -> list[str]:
        return [
            *("deliver", str(self.source), str(self.root / "index.csv")),
            *("--dataset", "kills", "--delivery-id", "1", "--to", f"file://{self.root / 'archive'}"),
            *("--journal", str(self.journal), "--check", "kills_check:check", "--jobs", "3", "--json", "-q"),
        ]

    def deliver(self) -> list[str]:
        return [*COMMAND, *self.arguments]

    def journal_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.journal.glob("events-*.ndjson"))

    def records(self) -> list[dict[str, object]]:
        lines = [line for p in sorted(self.journal.glob("events-*.ndjson")) for line in p.read_bytes().splitlines()]
        return [record for line in lines if "kind" in (record := json.loads(line))]


def make_place(root: Path, rng: random.Random, *, count: int = 120, largest: int = 60_000) -> Place:
    """Sources, index and check of a delivery of so many files, some of them odd."""
    place = Place(root)
    names = [f"d{n % 7}/f{n:03}.bin" for n in range(count - 3)] + [BAD, "empty.dat", "NA"]
    for name in names:
        path = place.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty.dat" else rng.randbytes(rng.randrange(1, largest)))
    with (root / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([name] for name in sorted(names))])
    (root / "kills_check.py").write_text(CHECK)
    return place


def rows(place: Place, log: str) -> list[list[str]]:
    """The rows of a log's file; one that was cut at its end was never acknowledged, and the next append replaces it."""
    text = (place.control / "log" / log).read_bytes().decode()
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", escapechar="\\"))
    if found and (not text.endswith("\n") or len(found[-1]) < COLUMNS):
        del found[-1]
    assert {len(row) for row in found} <= {COLUMNS}
    return found


def judge(place: Place) -> None:
    """Everything that must be so at the end of a delivery, whatever happened to it on the way."""
    sources = place.files()
    stored = {str(p.relative_to(place.archive)): p.read_bytes() for p in place.archive.rglob("*") if p.is_file()}
    assert stored == sources, "the archive holds exactly the source files"
    assert not (place.control / "lock" / "client").exists()

    verdicts: Counter[tuple[str, str]] = Counter()
    told: Counter[str] = Counter()
    for row in rows(place, "validator_staging"):
        if row[1] == "shutdown" and row[3] == "error":
            assert ITS_END in row[4], f"we broke the validator's rules: {row}"
        if row[1] == "validation":
            verdicts[row[2], row[3]] += 1
    for row in rows(place, "client_staging"):
        told[row[2]] += row[1] == "transfer" and row[3] == "ok"
    good = set(sources) - {BAD}
    assert {path: n for (path, status), n in verdicts.items() if status == "ok"} == dict.fromkeys(good, 1)
    assert {path for path, status in verdicts if status != "ok"} == {BAD}
    assert good <= set(told), "a verdict was given on what we told"

    valid: set[object] = set()
    for record in place.records():
        if record["kind"] in ("FileValidated", "FileFoundValid"):
            assert record["file"] not in valid, "a file is judged valid once"
            valid.add(record["file"])
        assert not (record["kind"] == "TransferStarted" and record["file"] in valid), "a valid file is never sent again"
    assert len(valid) == len(good)
