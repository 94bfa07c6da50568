"""What we put on the wire: names of control objects, rows of our log, the index object.

Rule: these bytes are the archive's protocol (`protocol.md`), so nothing here may change without its validator.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import attrs
import msgspec

from upload_core.events import OK
from upload_core.ports import TransferType
from upload_core.timestamps import iso

LogRow = tuple[int, str, str, str, str, str]
"""A log row before it is written: time in ms, category, ref, status, message, agent id."""

SELF = "self"
"""The `ref` of rows that concern the writer and no file."""

ROWS_PER_CHUNK = 1_000
"""Index rows joined into one piece: large enough to make the piece's own cost vanish, small enough for memory."""

_QUOTED_IN_LOG = re.compile(r'[\t\n\r"]')
_NOT_PLAIN = re.compile(r'[\t\r"\\]')
_QUOTED_IN_INDEX = re.compile(r'[,\n\r"]')


@attrs.frozen
class Keys:
    """Names of the objects in one delivery's control bucket, and of its buckets."""

    dataset: str
    delivery_id: str
    transfer_type: TransferType

    @property
    def label(self) -> str:
        """The delivery's label."""
        return f"{self.dataset}-{self.delivery_id}-label.yaml"

    @property
    def accepted_label(self) -> str:
        """The accepted label, in the configuration bucket."""
        return f"labels/accepted/{self.label}"

    @property
    def index(self) -> str:
        """The index that a session's validator reads."""
        return f"{self.dataset}-{self.delivery_id}-{self.transfer_type}-index.csv"

    @property
    def client_log(self) -> str:
        """Our log."""
        return f"log/client_{self.transfer_type}"

    @property
    def validator_log(self) -> str:
        """The validator's log."""
        return f"log/validator_{self.transfer_type}"

    @property
    def client_lock(self) -> str:
        """The transfer lock; its body is the agent id of whoever owns the delivery."""
        return "lock/client"

    @property
    def validator_lock(self) -> str:
        """Present while a validator is at work."""
        return "lock/validator"

    @property
    def lambda_lock(self) -> str:
        """Present while the pipeline is being started."""
        return "lock/lambda"

    def transfer_bucket(self, stem: str) -> str:
        """The general-purpose bucket of the delivered objects; bucket names hold `-` where names have `_`."""
        return f"{stem}-{self.dataset}-{self.delivery_id}-{self.transfer_type}".replace("_", "-")

    def control_bucket(self, stem: str, zone: str) -> str:
        """The directory bucket of the control objects."""
        return f"{stem}-{self.dataset}-{self.delivery_id}-control--{zone}--x-s3".replace("_", "-")


# --- log rows ------------------------------------------------------------------------------------


def _log_field(text: str, *, backslash_escapes: bool) -> str:
    if backslash_escapes and "\\" in text:
        text = text.replace("\\", "\\\\")
    if _QUOTED_IN_LOG.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def encode_rows(rows: Iterable[LogRow], *, backslash_escapes: bool = False) -> bytes:
    """The rows as bytes of a log, whole rows only: tab separated, LF, quoted where needed with `"` doubled.

    Backslashes stay as they are in a client's log; a validator's log doubles them (`backslash_escapes`).
    Raises `ValueError` for an empty field other than the message: the other side would not survive it.
    """
    lines: list[str] = []
    for time_ms, category, ref, status, message, agent_id in rows:
        if not (category and ref and status and agent_id):
            raise ValueError(f"a log row needs category, ref, status and agent id: {(category, ref, status, agent_id)}")
        line = f"{category}\t{ref}\t{status}\t{message}\t{agent_id}"
        if line.count("\t") != 4 or '"' in line or "\\" in line or "\n" in line or "\r" in line:
            fields = (category, ref, status, message, agent_id)
            line = "\t".join([_log_field(field, backslash_escapes=backslash_escapes) for field in fields])
        lines.append(f"{iso(time_ms)}\t{line}\n")
    return "".join(lines).encode()


def encode_ok_rows(refs: Sequence[str], time_ms: int, category: str, agent_id: str) -> bytes:
    """What `encode_rows` makes of a row for each ref with this time, category and agent id, status `ok` and no message."""
    together = "\n".join(refs)
    if not all(refs) or together.count("\n") != len(refs) - 1 or _NOT_PLAIN.search(together):
        return encode_rows((time_ms, category, ref, OK, "", agent_id) for ref in refs)
    sample = encode_rows([(time_ms, category, "@", OK, "", agent_id)]).decode()
    before, _, after = sample.partition("@")
    return (before + together.replace("\n", after + before) + after).encode()


# --- the index object ----------------------------------------------------------------------------


class IndexRow(msgspec.Struct, frozen=True, gc=False):
    """One file of an index: whether the session's validator waits for it, and its CRC32 as text if one is known."""

    path: str
    will_transfer: bool
    checksum: str | None = None


def _csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED_IN_INDEX.search(text) else text


def encode_index(rows: Iterable[tuple[str, bool, str | None]], *, checksums: bool) -> Iterator[bytes]:
    """The index object in pieces; with `checksums` every row has one, without none is written.

    Raises `ValueError` for a row without a path, or without a checksum where all have one.
    """
    yield b"path,will_transfer,checksum\n" if checksums else b"path,will_transfer\n"
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS_PER_CHUNK)):
        for path, _, checksum in chunk:
            if not path or (checksums and not checksum):
                raise ValueError(f"an index row lacks its {'checksum' if path else 'path'}: {path!r}")
        if _QUOTED_IN_INDEX.search("\0".join([row[0] for row in chunk])):
            chunk = [(_csv_field(path), will_transfer, checksum) for path, will_transfer, checksum in chunk]
        if checksums:
            lines = [f"{path},{will_transfer},{checksum}\n" for path, will_transfer, checksum in chunk]
        else:
            lines = [f"{path},{will_transfer}\n" for path, will_transfer, _ in chunk]
        yield "".join(lines).encode()


def parse_index(data: bytes) -> Iterator[IndexRow]:
    """The rows of an index object, in order; raises `ValueError`, naming the row, where it is not one.

    Columns are known by their names, in whatever order and beside whatever others, as to the archive's validator.
    """
    # Only LF ends a line here: `splitlines` would also cut a name at U+2028 and its like.
    rows = _csv_rows(data.decode("utf-8").split("\n"))
    header = next(rows, [])
    if len(set(header)) != len(header) or not {"path", "will_transfer"} <= set(header):
        raise ValueError(f"not an index: its first line is {','.join(header)[:80]!r}")
    path, will_transfer = header.index("path"), header.index("will_transfer")
    checksum = header.index("checksum") if "checksum" in header else None
    for number, row in enumerate(rows, 1):
        if not row:  # what follows the last line feed
            continue
        if len(row) != len(header) or not row[path] or row[will_transfer] not in ("True", "False"):
            raise ValueError(f"row {number} of the index cannot be read: {','.join(row)[:80]!r}")
        known = None if checksum is None else row[checksum] or None
        yield IndexRow(row[path], row[will_transfer] == "True", known)


def _csv_rows(lines: list[str]) -> Iterator[list[str]]:
    reader = csv.reader(line + "\n" for line in lines)
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of the index is no CSV: {error}") from None
