"""Everything a report's page shows, as plain values: the template only arranges them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from upload_adapters.report import charts, tables, words
from upload_adapters.report.answers import Answers, Standing, answers, ended
from upload_adapters.report.axis import Axis, Block, Tick
from upload_adapters.report.reading import Reading
from upload_core.release import __version__
from upload_core.story import LEFT_OUT_MS, Entry, Row, Story
from upload_core.tally import Group, Groups
from upload_core.timeline import Span, Timeline, joined, merged, without

GROUPS_SHOWN: Final = 20
LARGE_SHOWN: Final = 10
BREAKS_SHOWN: Final = 60
DIARY_SHOWN: Final = 120
SESSIONS_SHOWN: Final = 50
LANES_MAX: Final = 8
MANIFEST_MAX: Final = 200
"""Deliveries of more files have their list in the receipt only."""


@attrs.frozen
class Lane:
    """One line of what happened, beside the charts."""

    name: str
    blocks: tuple[Block, ...]
    labelled: bool = False


@attrs.frozen
class Legend:
    """A state, how many files are in it, and what share of all (per cent of the width)."""

    key: str
    name: str
    word: str
    count: int
    width: float


@attrs.frozen
class Receipt:
    """Where the receipt is: beside the page as `name`, or, if it is short, in it as `text` as well."""

    name: str
    sha256: str
    files: int
    size: int
    text: str = ""


@attrs.frozen
class View:
    """What the template is given."""

    title: str
    subtitle: str
    places: tuple[tuple[str, str], ...]
    release: str
    answers: Answers
    legend: tuple[Legend, ...]
    charts: tuple[charts.Chart, ...]
    ticks: tuple[Tick, ...]
    shades: tuple[Block, ...]
    lanes: tuple[Lane, ...]
    breaks: tuple[tuple[str, ...], ...]
    """The outages, pauses and naps of the lanes, in words."""
    breaks_more: int
    failed: tuple[Group, ...]
    failed_more: int
    setbacks: tuple[Group, ...]
    sizes: tuple[tables.Bar, ...]
    sending: tuple[tables.Bar, ...]
    judging: tuple[tables.Bar, ...]
    sending_said: str
    judging_said: str
    slowest: tuple[tables.Bar, ...]
    large: tuple[tables.Large, ...]
    large_more: int
    sessions: tuple[tuple[str, ...], ...]
    sessions_more: int
    diary: tuple[tuple[str, str, str], ...]
    diary_more: int
    deliveries: tuple[tuple[str, ...], ...]
    integrity: tuple[dict[str, Any], ...]
    manifest: tuple[Row, ...]
    receipt: Receipt


def view(readings: Sequence[Reading], standings: Sequence[Standing], receipt: Receipt) -> View:
    """The view of one delivery, or of several side by side."""
    stories = [reading.story for reading in readings]
    timeline = joined([(story.timeline, story.first_counts) for story in stories])
    first = tuple(map(sum, zip(*(story.first_counts for story in stories), strict=True)))
    axis = Axis(_worked(stories, timeline))
    level = charts.level(timeline, axis)
    failed = _groups(story.failed() for story in stories)
    large = sorted(
        (
            (story.table.size(file.file), number, file)
            for number, story in enumerate(stories)
            for file in story.large.values()
        ),
        key=lambda row: (-row[0], row[1], row[2].file),
    )
    sessions = _sessions(readings, standings)
    diary = _diary(readings)
    breaks = _breaks(stories)
    several = len(readings) > 1
    created = [story.created for story in stories]
    names = list(dict.fromkeys(f"{c.dataset} · {c.delivery_id}" for c in created))
    counts = [sum(column) for column in zip(*(story.delivery.counts for story in stories), strict=True)]
    total = sum(counts)
    return View(
        title=" + ".join(names[:3]) + (f" + {len(names) - 3} more" if len(names) > 3 else ""),
        subtitle=", ".join(dict.fromkeys(c.transfer_type for c in created)),
        places=tuple(
            dict.fromkeys(
                place
                for story in stories
                for place in (("from", story.delivery.facts.source), ("to", story.created.archive))
            )
        ),
        release=__version__,
        answers=answers(readings, standings, receipt.name),
        legend=tuple(
            Legend(kind.key, kind.name, kind.word, kind.of(counts), 100 * kind.of(counts) / max(1, total))
            for kind in charts.KINDS
        ),
        charts=(
            charts.states(timeline, first, axis),
            charts.throughput(timeline, axis),
            *((level,) if level is not None else ()),
        ),
        ticks=tuple(axis.ticks()),
        shades=tuple(
            axis.blocks(merged(_all(stories, "outages")), "outage", "the archive was out of reach")
            + axis.blocks(merged(_all(stories, "pauses")), "pause", "paused")
            + axis.gaps()
        ),
        lanes=tuple(_lanes(readings, standings, timeline, axis)),
        breaks=tuple(breaks[:BREAKS_SHOWN]),
        breaks_more=len(breaks[BREAKS_SHOWN:]),
        failed=tuple(failed[:GROUPS_SHOWN]),
        failed_more=len(failed[GROUPS_SHOWN:]),
        setbacks=tuple(_groups(story.setbacks for story in stories)[:GROUPS_SHOWN]),
        sizes=tuple(tables.sizes(stories)),
        sending=tuple(tables.durations([story.sending for story in stories])),
        judging=tuple(tables.durations([story.judging for story in stories])),
        sending_said=tables.said([story.sending for story in stories]),
        judging_said=tables.said([story.judging for story in stories]),
        slowest=tuple(tables.slowest(stories)),
        large=tuple(tables.large(stories[number], file) for _, number, file in large[:LARGE_SHOWN]),
        large_more=len(large[LARGE_SHOWN:]) + sum(story.large_left_out for story in stories),
        sessions=tuple(sessions[-SESSIONS_SHOWN:]),
        sessions_more=max(0, len(sessions) - SESSIONS_SHOWN),
        diary=tuple(diary[: DIARY_SHOWN // 2] + diary[DIARY_SHOWN // 2 :][-DIARY_SHOWN // 2 :]),
        diary_more=max(0, len(diary) - DIARY_SHOWN) + sum(story.diary_left_out for story in stories),
        deliveries=tuple(_deliveries(readings, standings)) if several else (),
        integrity=tuple(_integrity(reading) for reading in readings),
        manifest=tuple(row for story in stories for row in story.rows()) if total <= MANIFEST_MAX else (),
        receipt=receipt,
    )


def _all(stories: Sequence[Story], name: str) -> list[Span]:
    found: list[Span] = []
    for story in stories:
        found += getattr(story, name)
    return found


def _worked(stories: Sequence[Story], timeline: Timeline) -> list[Span]:
    """The time that charts show: while a session was open and its machine awake."""
    worked: list[Span] = []
    for story in stories:
        asleep = [span for span in story.standstills if span.end_ms - span.begin_ms >= LEFT_OUT_MS]
        worked += without((Span(session.begin_ms, session.end_ms) for session in story.sessions), asleep)
    if not worked:
        worked = [Span(number * timeline.width_ms, (number + 1) * timeline.width_ms) for number in timeline.bins]
    found = merged(worked)
    # the last bin is shown whole, however early in it the end came
    last = max(timeline.bins, default=0)
    if found and timeline.bins:
        found[-1] = attrs.evolve(found[-1], end_ms=max(found[-1].end_ms, (last + 1) * timeline.width_ms))
    return found


def _lanes(
    readings: Sequence[Reading], standings: Sequence[Standing], timeline: Timeline, axis: Axis
) -> Iterable[Lane]:
    stories = [reading.story for reading in readings]
    lanes: dict[str, list[Block]] = {}
    for number, (reading, standing) in enumerate(zip(readings, standings, strict=True), 1):
        # side by side as long as there is room: what overlaps hides each other
        name = f"sessions {number}" if 1 < len(readings) <= LANES_MAX else "sessions"
        blocks = lanes.setdefault(name, [])
        for session in reading.story.sessions:
            how = session.outcome or ended(reading, standing)
            span = Span(session.begin_ms, session.end_ms, session.message)
            kind = "good" if how in ("complete", "running") else "cut" if how == "cut off" else "session"
            blocks += axis.blocks([span], kind, f"session {session.number}, {how}", f"{session.number}: {how}")
    for name, blocks in lanes.items():
        yield Lane(name, tuple(blocks), labelled=True)
    for name, key, kind, text in BREAKS:
        spans = _all(stories, key)
        if spans:
            yield Lane(name, tuple(axis.blocks(spans, kind, text)))
    for name, attribute, kind in (("failed attempts", "faults", "fault"), ("retries", "retries", "retry")):
        found = [
            block
            for number, bin_ in timeline.bins.items()
            if (count := getattr(bin_, attribute))
            for block in axis.blocks(
                [Span(number * timeline.width_ms, (number + 1) * timeline.width_ms)], kind, f"{count:,} {name}"
            )
        ]
        if found:
            yield Lane(name, tuple(found))


BREAKS: Final = (
    ("outages", "outages", "outage", "the archive was out of reach"),
    ("pauses", "pauses", "pause", "paused"),
    ("asleep", "standstills", "asleep", "the machine slept or the process was stopped"),
)
"""Lane, attribute of a story, look, and what it means."""


def _breaks(stories: Sequence[Story]) -> list[tuple[str, ...]]:
    rows = [(span, text) for _, attribute, _, text in BREAKS for span in _all(stories, attribute)]
    rows.sort(key=lambda row: row[0].begin_ms)
    return [
        (
            words.moment(span.begin_ms),
            words.duration(span.end_ms - span.begin_ms),
            f"{text}: {span.text}" if span.text else text,
        )
        for span, text in rows
    ]


def _groups(of: Iterable[Iterable[Group]]) -> list[Group]:
    """The groups of several deliveries together, the largest first."""
    whole = Groups()
    for groups in of:
        for group in groups:
            whole.include(group)
    return list(whole)


def _sessions(readings: Sequence[Reading], standings: Sequence[Standing]) -> list[tuple[str, ...]]:
    rows = []
    for reading, standing in zip(readings, standings, strict=True):
        for session in reading.story.sessions:
            how = session.outcome or ended(reading, standing)
            rows.append(
                (
                    session.begin_ms,
                    f"{session.number}",
                    words.moment(session.begin_ms),
                    words.duration(session.end_ms - session.begin_ms),
                    session.host or "–",
                    f"{session.sent_files:,}",
                    words.size(session.sent_bytes),
                    f"{session.judged:,}",
                    f"{session.retries:,}",
                    f"{how}: {session.message}" if session.message else how,
                )
            )
    rows.sort(key=lambda row: row[0])
    return [tuple(map(str, row[1:])) for row in rows]


def _diary(readings: Sequence[Reading]) -> list[tuple[str, str, str]]:
    entries: list[tuple[Entry, str]] = []
    for reading in readings:
        created = reading.story.created
        name = f"{created.dataset}-{created.delivery_id}: " if len(readings) > 1 else ""
        entries += [(entry, name) for entry in reading.story.diary]
    entries.sort(key=lambda row: row[0].time_ms)
    return [(words.moment(entry.time_ms), _TONES.get(entry.kind, ""), name + entry.text) for entry, name in entries]


_TONES: Final = {
    "OutageBegan": "bad",
    "LockLost": "bad",
    "ClientCrashed": "bad",
    "ValidatorLost": "bad",
    "PipelineRefused": "bad",
    "ValidatorStartFailed": "bad",
    "JournalRepaired": "bad",
    "SuspensionNoticed": "note",
    "TransfersPaused": "note",
    "UnexpectedVerdictFound": "note",
    "LogLineRejected": "note",
    "OutageEnded": "good",
}


def _deliveries(readings: Sequence[Reading], standings: Sequence[Standing]) -> Iterable[tuple[str, ...]]:
    for reading, standing in zip(readings, standings, strict=True):
        story = reading.story
        counts = story.delivery.public_counts()
        total = len(story.table)
        yield (
            f"{story.created.dataset} · {story.created.delivery_id} ({story.created.transfer_type})",
            f"{total:,}",
            words.size(story.table.total_bytes),
            f"{counts['valid']:,}",
            f"{counts['invalid']:,}",
            f"{counts['failed']:,}",
            f"{total - counts['valid'] - counts['invalid'] - counts['failed']:,}",
            ended(reading, standing),
            reading.path,
        )


def _integrity(reading: Reading) -> dict[str, Any]:
    return {
        "path": reading.path,
        "records": f"{reading.records:,}",
        "until": words.moment(reading.story.now_ms),
        "sha256": reading.sha256,
        "digest": reading.story.delivery.digest,
        "whole": reading.whole,
        "segments": [
            (
                segment.name,
                f"{segment.first_seq:,} to {segment.last_seq:,}",
                words.size(segment.size),
                segment.crc,
                segment.sha256,
            )
            for segment in reading.segments
        ],
    }
