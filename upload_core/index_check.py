"""What an index must be like before anything starts, as tables of rules; every problem is found, not just the first.

A rule sees one path, checksum or size at a time and says what is wrong and how to mend it. Nearly every path passes
by one regular expression; only the others meet the rules. Nothing here touches the disk:
`checked_table` asks the `Source` port, and only about rows that break no rule.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from operator import lt
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unicodedata import normalize

import attrs

from upload_core.columns import CHUNK_ROWS, TextColumn, are_checksum_lines, lines_of
from upload_core.errors import ConfigurationError, IndexProblemsError, SourceError, SourceMissingError
from upload_core.files import FileTable
from upload_core.pandas_reading import READ_AS_MISSING, parts_without_text
from upload_core.text import printable

if TYPE_CHECKING:
    from upload_core.ports import Source

PATH_BYTES_MAX: Final = 1024
"""S3 takes no longer key."""
NO_FILES: Final = "the index lists no files; add a row for each, or make one with `upload-core index`"


class IndexColumns(NamedTuple):
    """An index as it was read, cell by cell; None stands for an empty cell, and for a column that is not there."""

    paths: Sequence[str | None]
    checksums: Sequence[str | None] | None = None
    sizes: Sequence[int | float | str | None] | None = None


@attrs.frozen
class Problem:
    """One reason why the index cannot be delivered; `row` counts from 1, without the header."""

    row: int
    path: str
    rule: str
    message: str
    """What is wrong and what to do, continuing "this row's path ..."."""

    def __str__(self) -> str:
        return f'row {self.row}, "{printable(self.path, 300)}": {self.message}'


class PathRule(NamedTuple):
    """A rule on a single path: `breaks` is true for paths that are refused."""

    name: str
    breaks: Callable[[str], bool]
    message: str


def _is_unc(path: str) -> bool:
    return path.startswith(("//", "\\\\"))


def _is_unencodable(path: str) -> bool:
    # A name on disk that is not UTF-8 reaches Python with lone surrogates in place of the bytes.
    return re.search("[\ud800-\udfff]", path) is not None


# A backslash is an ordinary character of a POSIX name. Only what a reader on Windows would take for a way out of the
# root is refused, since whoever fetches the data from the archive may be on Windows.
PATH_RULES: Final = (
    PathRule("empty", lambda path: not path, "is empty; give every row a path"),
    PathRule("not-utf-8", _is_unencodable, "is not valid UTF-8, as keys of an archive must be; rename the file"),
    PathRule("nul", lambda path: "\0" in path, "holds a NUL character, which no file name can; mend the index"),
    # CR, LF and TAB delimit rows and fields of the logs; NEL (U+0085) ends a line in YAML, in which the validator's
    # messages are; the other controls of C0, DEL and C1 steer terminals and have no place in S3's XML listings.
    PathRule(
        "control-character",
        lambda path: re.search("[\x01-\x1f\x7f-\x9f]", path) is not None,
        "holds a control character, which the logs between client and validator cannot carry; rename the file",
    ),
    PathRule("unc", _is_unc, "is a network (UNC) path; write it relative to the source"),
    PathRule(
        "absolute",
        lambda path: path.startswith(("/", "\\")) and not _is_unc(path),
        "is absolute; write it relative to the source",
    ),
    PathRule(
        "drive",
        lambda path: re.match("[A-Za-z]:", path) is not None,
        "begins with a drive letter; write it relative to the source, or rename the file",
    ),
    PathRule(
        "traversal",
        lambda path: ".." in re.split(r"[/\\]", path),
        "climbs up with '..'; write it relative to the source, without '..'",
    ),
    PathRule("dot-part", lambda path: "." in path.split("/"), "has a part '.'; leave it out"),
    PathRule("empty-part", lambda path: "//" in path.strip("/"), "has an empty part ('//'); write a single '/'"),
    PathRule(
        "trailing-slash",
        lambda path: path.endswith("/") and path.strip("/") != "",
        "ends with '/' and so names a folder; list the files in it",
    ),
    PathRule(
        "too-long",
        lambda path: len(path) * 4 > PATH_BYTES_MAX and len(path.encode(errors="surrogatepass")) > PATH_BYTES_MAX,
        f"is longer than {PATH_BYTES_MAX:,} bytes in UTF-8, an archive's limit for keys; shorten it",
    ),
)

WIRE_RULES: Final = (
    PathRule(
        "wire-missing-value",
        READ_AS_MISSING.__contains__,
        "is read by this archive's validator as a missing value; rename the file or put it in a folder",
    ),
)
"""Rules that hold only for archives whose validator reads the index with pandas' defaults."""

# No group is repeated possessively here, as in `(?:...)*+`: Python 3.11.0 to 3.11.4 (Debian 12 has 3.11.2) go on in the
# middle of one that did not match, and "a/.." passed (https://github.com/python/cpython/issues/106052).
_SIZE_LINES: Final = re.compile(r"(?:[0-9]{1,18}+\n)*")
_PART: Final = r"(?!\.\.?(?:/|\n|\Z))[^/\\" + "\x00-\x1f\x7f-\x9f\ud800-\udfff" + r"]++"
_CLEAN: Final = re.compile(f"(?![A-Za-z]:){_PART}(?:/{_PART})*")
"""Nearly every path of a real index; one that matches and is short breaks none of `PATH_RULES` (0.3 us a path)."""

_CLEAN_LINES: Final = re.compile(f"(?:(?![A-Za-z]:){_PART}(?:/{_PART})*\n)*")

_SHORT: Final = PATH_BYTES_MAX // 4  # characters that no encoding makes too long

_WRONG_CHECKSUM: Final = ", which is not a CRC32 as base64 of its four bytes, such as yH2GHg==; compute it again"
_WIRE_NO_CHECKSUM: Final = "has no checksum, but this archive wants one in every row or in none; add it or drop all"

_SHORT_LINES: Final = re.compile(rf"(?:[^\n]{{1,{_SHORT}}}+\n)*")

_LF_AS_SLASH: Final = bytes.maketrans(b"\n", b"/")
_NOT_PLAIN: Final = bytes([*range(ord("\n")), *range(ord("\n") + 1, 32), 127]) + b"\\:"
_ODD_PART: Final = re.compile(b"/[/.]")


def path_problems(path: str) -> list[PathRule]:
    """The rules that this one path breaks, whatever the archive."""
    if len(path) <= _SHORT and _CLEAN.fullmatch(path):
        return []
    return [rule for rule in PATH_RULES if rule.breaks(path)]


def check_columns(
    columns: IndexColumns, *, allow_case_duplicates: bool = False, strict_wire: bool = False
) -> list[Problem]:
    """Every problem that can be seen without the files, in row order.

    `allow_case_duplicates` lets paths differ by letter case or Unicode form alone. `strict_wire` adds the rules of
    archives whose validator reads the index with pandas' defaults. Raises `ConfigurationError` for uneven columns.
    """
    lengths = {len(column) for column in columns if column is not None}
    if len(lengths) > 1:
        raise ConfigurationError(f"the index's columns differ in length: {sorted(lengths)}")
    found: list[tuple[int, str, str]] = []
    found.extend(_of_paths(columns.paths))
    if strict_wire:
        found.extend(_of_wire(columns.paths))
    found.extend(_of_duplicates(columns.paths, folded=not allow_case_duplicates))
    if columns.checksums is not None:
        found.extend(_of_checksums(columns.checksums, strict_wire))
    if columns.sizes is not None:
        found.extend(_of_sizes(columns.sizes))
    found.sort(key=lambda item: item[0])
    return [_problem(columns, *item) for item in found]


def checked_table(
    columns: IndexColumns, source: Source, *, allow_case_duplicates: bool = False, strict_wire: bool = False
) -> FileTable:
    """The file table of an index whose every row obeys the rules and names a file of `source`, of the size indexed.

    Sizes that the index does not give are those of the files. Raises `IndexProblemsError` with all problems in row
    order. A row that breaks a rule is never looked for in the source.
    """
    problems = check_columns(columns, allow_case_duplicates=allow_case_duplicates, strict_wire=strict_wire)
    refused = {problem.row for problem in problems}
    sizes, size_of = array("q"), source.size
    cells: Iterable[int | float | str | None] = repeat(None) if columns.sizes is None else columns.sizes
    for row, (path, cell) in enumerate(zip(columns.paths, cells, strict=False)):
        size = 0
        if path is not None and row + 1 not in refused:
            try:
                size = size_of(path)
            except SourceError as error:
                rule = "missing" if isinstance(error, SourceMissingError) else "source"
                problems.append(Problem(row + 1, path, rule, source.problem_with(path) or str(error)))
            else:
                if cell != size and (indexed := parse_size(cell)) is not None and indexed != size:
                    message = f"is {size:,} bytes long, but {indexed:,} in the index; index it again"
                    problems.append(Problem(row + 1, path, "size-differs", message))
        sizes.append(size)
    if problems:
        raise IndexProblemsError(sorted(problems, key=lambda problem: problem.row))
    # Without problems no path is None; an empty checksum cell means that there is none.
    paths = (
        columns.paths if isinstance(columns.paths, TextColumn) else (path for path in columns.paths if path is not None)
    )
    checksums: Iterable[str | None] | None = columns.checksums
    if checksums is not None and not (isinstance(checksums, TextColumn) and not checksums.holds_empty):
        checksums = (text or None for text in checksums)
    return FileTable.from_columns(paths, sizes, checksums)


def parse_size(cell: int | float | str | None) -> int | None:
    """The size that a cell holds, None for an empty one; raises `ValueError` for what is no number of bytes.

    >>> parse_size("4096"), parse_size(4096.0), parse_size(""), parse_size(float("nan"))
    (4096, 4096, None, None)
    """
    if type(cell) is str and len(cell) < 19 and cell.isascii() and cell.isdigit():  # nearly every cell of a CSV
        return int(cell)
    if cell is None or cell == "" or cell != cell:
        return None
    if isinstance(cell, str):
        if not re.fullmatch(r"[0-9]{1,19}(\.0+)?", cell):
            raise ValueError(cell)
        cell = int(cell.partition(".")[0])
    if isinstance(cell, bool) or cell in (float("inf"), float("-inf")):
        raise ValueError(cell)
    size = int(cell)
    if size != cell or not 0 <= size < 2**63:
        raise ValueError(cell)
    return size


def fold(path: str) -> str:
    """What is left of a path when letter case and Unicode form do not count, as on a default Mac or Windows disk.

    >>> fold("R\u00e9sum\u00e9.TXT") == fold("re\u0301sume\u0301.txt")
    True
    """
    return path.lower() if path.isascii() else normalize("NFC", normalize("NFD", path).casefold())


def _problem(columns: IndexColumns, row: int, rule: str, message: str) -> Problem:
    path = columns.paths[row]
    return Problem(row + 1, "" if path is None else str(path), rule, message)


def _chunks(cells: Sequence[object]) -> Iterator[tuple[int, str | None]]:
    """First row and lines of every `CHUNK_ROWS` cells; None for those that are not all texts without LF."""
    if isinstance(cells, TextColumn):
        yield from zip(range(0, len(cells), CHUNK_ROWS), cells.chunks, strict=True)
        return
    for first in range(0, len(cells), CHUNK_ROWS):
        chunk = cells[first : first + CHUNK_ROWS]
        lines: str | None = None
        with suppress(TypeError):
            lines = lines_of(chunk)  # type: ignore[arg-type]  # what is no text raises
        yield first, lines if lines is not None and lines.count("\n") == len(chunk) else None


def _of_paths(paths: Sequence[str | None]) -> Iterator[tuple[int, str, str]]:
    for first, lines in _chunks(paths):
        if lines is not None and _are_clean(lines):
            continue
        for row, path in enumerate(paths[first : first + CHUNK_ROWS], first):
            if path is None:
                yield row, "no-path", "has no path; perhaps a reader took a name such as NA for an empty cell"
            else:
                for rule in path_problems(path):
                    yield row, rule.name, rule.message


def _are_clean(lines: str) -> bool:
    """True only if no path of these lines breaks a rule; false says nothing. One search is quicker than one for each."""
    if not _SHORT_LINES.fullmatch(lines):
        return False
    return (lines.isascii() and _are_plain(lines.encode())) or _CLEAN_LINES.fullmatch(lines) is not None


def _are_plain(lines: bytes) -> bool:
    """True only if these ASCII paths hold no character that a rule may ask about, and no part is empty or begins with a dot.

    With LF turned into a slash, a slash at an end of a path is an empty part as well.
    """
    parts = b"/" + lines.translate(_LF_AS_SLASH, _NOT_PLAIN)
    return len(parts) == len(lines) + 1 and not _ODD_PART.search(parts)


def _of_wire(paths: Sequence[str | None]) -> Iterator[tuple[int, str, str]]:
    for first, lines in _chunks(paths):
        if lines is not None and READ_AS_MISSING.isdisjoint(lines.split("\n")):
            continue
        for row, path in enumerate(paths[first : first + CHUNK_ROWS], first):
            for rule in WIRE_RULES:
                if path is not None and rule.breaks(path):
                    yield row, rule.name, rule.message
    for first, end in parts_without_text(paths):
        others = "all others" if end - first == len(paths) else f"all others from row {first + 1:,} to {end:,}"
        message = f"is, like {others}, read by this archive's validator as a number; put the files in a folder"
        yield first, "wire-only-numbers", message


def _keys(paths: Sequence[str | None], folded: bool) -> Iterator[list[str]]:
    """What must differ between these paths, some at a time; empty ones are left out."""
    for first, lines in _chunks(paths):
        if lines is not None and (lines.isascii() or not folded):
            keys = (lines.lower() if folded else lines).split("\n")
            keys.pop()
            yield [key for key in keys if key] if "" in keys else keys
        else:
            texts = [path for path in paths[first : first + CHUNK_ROWS] if path]
            yield [fold(path) for path in texts] if folded else texts


def _ascend(paths: Sequence[str | None], folded: bool) -> bool:
    """True if what must differ is sorted, each greater than the one before: then nothing stands twice."""
    last = ""
    for keys in _keys(paths, folded):
        if not all(map(lt, [last, *keys], keys)):
            return False
        last = keys[-1] if keys else last
    return True


def _of_duplicates(paths: Sequence[str | None], *, folded: bool) -> Iterator[tuple[int, str, str]]:
    if _ascend(paths, folded):
        return
    # Hashes first: a set of numbers takes half the memory of folded strings, and is nearly always the whole answer.
    seen: set[int] = set()
    count = 0
    for keys in _keys(paths, folded):
        seen.update(map(hash, keys))
        count += len(keys)
    if len(seen) == count:
        return
    seen.clear()
    twice: set[int] = set()
    for keys in _keys(paths, folded):
        for value in map(hash, keys):
            (twice if value in seen else seen).add(value)
    firsts: dict[str, int] = {}
    exact: dict[str, int] = {}
    for row, path in enumerate(paths):
        if not path:
            continue
        key = fold(path) if folded else path
        if hash(key) not in twice:
            continue
        if path in exact:
            yield row, "duplicate", f"stands in row {exact[path] + 1} already; remove one of them"
        elif key in firsts:
            message = f"differs from row {firsts[key] + 1} only by letter case or Unicode form"
            yield row, "duplicate-by-form", f"{message}, so many disks could not hold both; rename one, or allow it"
        exact.setdefault(path, row)
        firsts.setdefault(key, row)


def _of_checksums(cells: Sequence[str | None], strict_wire: bool) -> Iterator[tuple[int, str, str]]:
    some = any(cells)
    for first, lines in _chunks(cells):
        if lines is not None and are_checksum_lines(lines):
            continue
        for row, cell in enumerate(cells[first : first + CHUNK_ROWS], first):
            if cell is None or cell == "":
                if strict_wire and some:
                    yield row, "wire-no-checksum", _WIRE_NO_CHECKSUM
            elif not _is_checksum(cell):
                yield row, "checksum", f'has the checksum "{printable(str(cell), 40)}"{_WRONG_CHECKSUM}'


def _is_checksum(cell: object) -> bool:
    return isinstance(cell, str) and "\n" not in cell and are_checksum_lines(cell + "\n")


def _are_sizes(cells: Sequence[Any]) -> bool:
    """True only if every cell is a plain int that can be a size, or its digits; false says nothing."""
    if isinstance(cells, TextColumn):
        return all(_SIZE_LINES.fullmatch(chunk) for chunk in cells.chunks)
    return set(map(type, cells)) == {int} and min(cells) >= 0 and max(cells) < 2**63


def _of_sizes(cells: Sequence[int | float | str | None]) -> Iterator[tuple[int, str, str]]:
    if _are_sizes(cells):
        return
    for row, cell in enumerate(cells):
        try:
            parse_size(cell)
        except (ValueError, TypeError):
            shown = printable(str(cell), 40)
            yield row, "size", f'has the size "{shown}", which is not a whole number of bytes; correct or empty it'
