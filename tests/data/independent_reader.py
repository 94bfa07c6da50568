"""A journal reader that knows nothing but `docs/journal-format.md`: no line of it comes from this project's code."""

import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any


def read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All whole records and the present file table; raises `ValueError` where the page says that a reader must refuse."""
    records: list[dict[str, Any]] = []
    previous = "00000000"
    names = sorted(p.name for p in path.glob("events-*.ndjson"))
    for number, name in enumerate(names, 1):
        if name != f"events-{number:06d}.ndjson":
            raise ValueError(f"segment {number} is missing")
        data, whole, start, crc, batch = path.joinpath(name).read_bytes(), 0, 0, 0, []
        while (end := data.find(b"\n", start) + 1) > 0:
            line, start = data[start:end], end
            sealed, mark, seal = line.rpartition(b',"crc":"')
            body = line if not mark else sealed
            crc = zlib.crc32(body, crc)
            batch.append(line)
            if mark:
                if seal != b'%08x"}\n' % crc:
                    break
                crc = zlib.crc32(mark + seal, crc)
                found = [json.loads(one) for one in batch]
                if whole == 0:
                    head = found[0]
                    if head["journal"] != "upload-core" or head["version"] != 1:
                        raise ValueError("not a journal of format 1")
                    if (head["segment"], head["first_seq"], head["previous_crc"]) != (
                        number,
                        len(records) + 1,
                        previous,
                    ):
                        raise ValueError(f"segment {number} does not continue the one before it")
                else:
                    assert [record["seq"] for record in found] == [len(records) + 1 + n for n in range(len(found))]
                    assert found[-1].pop("batch") == len(found)
                    del found[-1]["crc"]
                    records += found
                whole, batch, previous = end, [], f"{crc:08x}"
        tail = data[whole:]
        commits = re.findall(rb'"seq":(\d+),[^\n]*,"batch":(\d+),"crc":"', tail)
        torn = tail.count(b',"crc":"') == len(commits) <= 1 and all(int(a) - int(b) == len(records) for a, b in commits)
        if whole == 0 or (tail and (number < len(names) or not torn)):
            raise ValueError(f"segment {number} is damaged")
    return records, _table(path, records)


def _table(path: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    raw = path.joinpath("files-0000.ndjson").read_bytes()
    if hashlib.sha256(raw).hexdigest() != records[0]["index_digest"]:
        raise ValueError("not the file table of this journal")
    table = [json.loads(line) for line in raw.splitlines()]
    for event in records:
        if event["kind"] == "IndexRevised":
            for line in path.joinpath(f"files-{event['revision']:04d}.ndjson").read_bytes().splitlines():
                row = json.loads(line)
                table[row["file"] :] = [row, *table[row["file"] + 1 :]]
            lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in table]
            if hashlib.sha256("".join(lines).encode()).hexdigest() != event["index_digest"]:
                raise ValueError("the revised file table does not match")
    return table
