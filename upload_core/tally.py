"""What a story counts, in bounded room: reasons, parts of large files, durations and sizes by class, what is stored."""

from __future__ import annotations

import functools
import re
from array import array
from collections.abc import Iterator
from typing import Final

import attrs

from upload_core.checksum import crc32_base64, parse_checksum
from upload_core.messages import plain

GROUPS_MAX: Final = 500
NAMES_MAX: Final = 5
SAMPLES_MAX: Final = 64
DURATIONS_MS: Final = (
    *(1, 3, 10, 30, 100, 300),
    *(1000 * seconds for seconds in (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000, 86_400, 259_200)),
)
"""Upper ends of the classes of durations: 1 ms, 3 ms, 10 ms and so on to 3 days; what takes longer is the last."""


def without_name(reason: str, path: str) -> str:
    """The reason without the file's own name, which would make it another one for each file.

    >>> without_name("a: bytes are missing at the end of 'a'", "a")
    "…: bytes are missing at the end of '…'"
    """
    if path not in reason:
        return reason
    return re.sub(rf"(?<![\w/.-]){re.escape(path)}(?![\w/-])", "…", reason)


@attrs.define
class Group:
    """Files (or attempts) with the same reason, numbers in it aside; `reason` is the first one's, word for word.

    `varies` tells that others have other numbers in it.
    """

    state: str
    reason: str
    count: int = 0
    names: list[str] = attrs.field(factory=list)
    varies: bool = False


class Groups:
    """Reasons and how often each was given, in bounded room."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, state: str, message: str, path: str) -> None:
        """Count one more.

        >>> groups = Groups()
        >>> groups.add("invalid", "a: 3 bytes are too few", "a")
        >>> groups.add("invalid", "b: 4 bytes are too few", "b")
        >>> [(group.reason, group.count, group.names, group.varies) for group in groups]
        [('…: 3 bytes are too few', 2, ['a', 'b'], True)]
        """
        self.include(Group(state, without_name(plain(message or "no reason was given"), path), 1, [path]))

    def include(self, found: Group) -> None:
        """Count a group of another delivery.

        >>> one, whole = Groups(), Groups()
        >>> one.add("failed", "3 bytes", "a")
        >>> for group in [*one, *one]:
        ...     whole.include(group)
        >>> [(group.count, group.names) for group in whole]
        [(2, ['a'])]
        """
        state, reason = found.state, found.reason
        key = state, _NUMBERS.sub("0", reason)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                key, reason = (state, ""), "other reasons"
            group = self._groups.setdefault(key, Group(state, reason))
        group.count += found.count
        group.varies = group.varies or found.varies or reason != group.reason
        group.names += [name for name in found.names if name not in group.names][: NAMES_MAX - len(group.names)]

    def __iter__(self) -> Iterator[Group]:
        """The groups, the largest first."""
        return iter(sorted(self._groups.values(), key=lambda group: -group.count))

    def __len__(self) -> int:
        return len(self._groups)


_NUMBERS: Final = re.compile(r"\d[\d,.]*")


@attrs.define
class LargeFile:
    """A file that was sent in parts: how often it was begun, and how its parts came together."""

    file: int
    part_size: int
    begin_ms: int
    end_ms: int
    uploads: int = 0
    """Multipart uploads that were opened for it; more than one if what was stored could not be gone on with."""
    interruptions: int = 0
    sent_again: int = 0
    """Parts that were acknowledged although the same upload had them."""
    parts: int = 0
    samples: list[tuple[int, int]] = attrs.field(factory=list)
    """Moments and how many parts were there."""

    def look(self, time_ms: int, parts: int) -> None:
        """Note how many parts are there now; every other sample goes when there are too many."""
        self.end_ms, self.parts = time_ms, parts
        if len(self.samples) >= SAMPLES_MAX:
            del self.samples[1:-1:2]
        self.samples.append((time_ms, parts))


class StoredColumn:
    """What the archive acknowledged of each file, packed: CRC32, etag and when."""

    def __init__(self, files: int) -> None:
        self.times = array("q", bytes(8 * files))
        """When it was stored, 0 if it is not known to be."""
        self._crcs = array("q", bytes(8 * files))
        self._places = array("Q", bytes(8 * files))
        self._etags = bytearray(b"\0")

    def put(self, file: int, time_ms: int, checksum: str, etag: str) -> None:
        """Take down what was acknowledged, instead of what was before."""
        self.times[file] = time_ms
        try:
            self._crcs[file] = parse_checksum(checksum)
        except ValueError:  # an archive that said none
            self._crcs[file] = -1
        self._places[file] = len(self._etags) if etag else 0
        if etag:
            self._etags += etag.encode() + b"\0"

    def drop(self, file: int) -> None:
        """Nothing is known to be stored any more."""
        self.times[file] = 0

    def checksum(self, file: int) -> str:
        """The CRC32 (base64) that the archive asserted, "" if it said none."""
        return crc32_base64(self._crcs[file]) if self._crcs[file] >= 0 else ""

    def etag(self, file: int) -> str:
        """The archive's own mark of the object, "" if it gave none."""
        place = self._places[file]
        return self._etags[place : self._etags.index(b"\0", place)].decode() if place else ""


@functools.cache
def size_class(bit_length: int) -> int:
    """The class of a size of that bit length: 0 for nothing, else n for less than 1 KiB times 4 to the power n - 1.

    >>> [size_class(size.bit_length()) for size in (0, 1, 1023, 1024, 4095, 4096)]
    [0, 1, 1, 2, 2, 3]
    """
    return 0 if bit_length == 0 else max(0, (bit_length - 10 + 1) // 2) + 1
