"""The four questions at the top of a report: did it arrive, when, what went wrong, what now."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import attrs

from upload_adapters.report import words
from upload_adapters.report.reading import Reading
from upload_core.timeline import Span, merged

Tone = Literal["good", "bad", "open"]
Standing = Literal["running", "unknown", "cut off"]
"""What is known of a session that was not closed: its process works, perhaps works, or is gone."""


@attrs.frozen
class Step:
    """Something to do; `command` is to be typed, if there is one."""

    text: str
    command: str = ""


@attrs.frozen
class Answers:
    """What the top of the page says."""

    tone: Tone
    headline: str
    lead: str
    arrived: tuple[str, ...]
    when: tuple[str, ...]
    wrong: tuple[str, ...]
    steps: tuple[Step, ...]


def ended(reading: Reading, standing: Standing) -> str:
    """How the latest session ended, or `running`, `unknown` or `cut off`."""
    return reading.story.delivery.facts.outcome or standing


def answers(readings: Sequence[Reading], standings: Sequence[Standing], receipt: str) -> Answers:
    """Answers for these deliveries together; `receipt` is what to name to `verify --receipt`."""
    counts: Counter[str] = Counter()
    for reading in readings:
        counts.update({str(state): count for state, count in reading.story.delivery.public_counts().items()})
    total, valid = sum(counts.values()), counts["valid"]
    bad = counts["invalid"] + counts["failed"]
    ends = [ended(reading, standing) for reading, standing in zip(readings, standings, strict=True)]
    bytes_ = words.size(sum(reading.story.table.total_bytes for reading in readings))
    tone: Tone
    if valid == total:
        tone, headline = "good", "Everything arrived."
        all_of = "The file is" if total == 1 else f"All {words.files(total)} are"
        lead = f"{all_of} in the archive ({bytes_}), and the archive's validator accepted " + (
            "it." if total == 1 else "every one of them."
        )
    elif "running" in ends or "unknown" in ends:
        tone, headline = "open", f"Under way: {words.share(valid, total)} accepted."
        lead = f"{valid:,} of {words.files(total)} are accepted so far. This page shows the moment it was made."
    elif all(end == "incomplete" for end in ends if end != "complete"):
        tone = "bad"
        headline = f"{bad:,} of {words.files(total)} did not make it."
        lead = f"The other {valid:,} are in the archive and were accepted by its validator."
    else:
        tone, headline = "bad", f"Not finished: {valid:,} of {words.files(total)} accepted."
        why = next((r.story.delivery.facts.message for r in readings if r.story.delivery.facts.message), "")
        words_of = ", ".join(dict.fromkeys(_ENDS.get(end, end) for end in ends if end != "complete"))
        lead = f"The last session {words_of}{f': {why}' if why else ''}. Nothing is lost: it can go on where it was."
    return Answers(
        tone,
        headline,
        lead,
        tuple(_arrived(counts, total, bytes_)),
        tuple(_when(readings, ends)),
        tuple(_wrong(readings, counts)) or ("Nothing.",),
        tuple(_steps(readings, ends, counts, receipt)),
    )


_ENDS: Final = {
    "interrupted": "was interrupted",
    "cut off": "was cut off: its process ended without a word",
    "crashed": "met an error that it could not go on from",
    "refused": "was refused",
    "incomplete": "ended with some files left",
}


def _arrived(counts: Counter[str], total: int, bytes_: str) -> list[str]:
    valid = counts["valid"]
    found = [f"{valid:,} of {total:,} accepted ({words.share(valid, total)}); the index lists {bytes_}."]
    if counts["invalid"]:
        found.append(f"{counts['invalid']:,} rejected by the validator.")
    if counts["failed"]:
        found.append(f"{counts['failed']:,} could not be stored.")
    if counts["done"]:
        found.append(f"{counts['done']:,} stored and waiting for a verdict.")
    waiting = counts["ready"] + counts["pending"] + counts["transferring"]
    if waiting:
        found.append(f"{waiting:,} still to be sent.")
    return found


def _when(readings: Sequence[Reading], ends: Sequence[str]) -> list[str]:
    sessions = [session for reading in readings for session in reading.story.sessions]
    first = min(reading.story.first_ms for reading in readings)
    last = max(reading.story.now_ms for reading in readings)
    running = "running" in ends or "unknown" in ends
    found = [f"From {words.moment(first)} {'to the present, ' if running else 'to '}{words.moment(last)} (UTC)."]
    worked = merged(Span(session.begin_ms, session.end_ms) for session in sessions)
    took = sum(span.end_ms - span.begin_ms for span in worked)
    found.append(f"{words.duration(took)} of work in {words.many(len(sessions), 'session')}.")
    sent = sum(reading.story.sent_bytes for reading in readings)
    if took and sent:
        found.append(f"{words.size(sent)} sent, {words.size(1000 * sent / took)}/s on average.")
    return found


def _wrong(readings: Sequence[Reading], counts: Counter[str]) -> list[str]:
    stories = [reading.story for reading in readings]
    found = []
    if counts["invalid"]:
        found.append(f"The validator rejected {words.files(counts['invalid'])}.")
    if counts["failed"]:
        found.append(f"{words.files(counts['failed'])} could not be stored.")
    rejected = sum(bin_.rejected for story in stories for bin_ in story.timeline.bins.values())
    if rejected and counts["valid"] == sum(counts.values()):
        found.append(
            f"{words.files(rejected)} {'was' if rejected == 1 else 'were'} rejected at first, and accepted later."
        )
    outages = [span for story in stories for span in story.outages]
    if outages:
        lasted = words.duration(sum(span.end_ms - span.begin_ms for span in merged(outages)))
        found.append(f"The archive was out of reach {_times(len(outages))}, {lasted} in all.")
    asleep = [span for story in stories for span in story.standstills]
    if asleep:
        lasted = words.duration(sum(span.end_ms - span.begin_ms for span in merged(asleep)))
        found.append(f"The machine slept or stood still {_times(len(asleep))}, {lasted} in all.")
    cut = sum(session.outcome == "cut off" for story in stories for session in story.sessions)
    if cut:
        found.append(f"The process was cut off {_times(cut)}, and the delivery went on from its journal.")
    setbacks = sum(group.count for story in stories for group in story.setbacks)
    if setbacks:
        repaired = "" if counts["failed"] or counts["ready"] else "; each was made good by another one"
        found.append(f"{words.many(setbacks, 'attempt')} failed or broke off{repaired}.")
    return found


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count:,} times"


def _steps(readings: Sequence[Reading], ends: Sequence[str], counts: Counter[str], receipt: str) -> list[Step]:
    steps: list[Step] = []
    if "running" in ends:
        return [Step("Nothing: it is at work. Look again later.", _command("status", readings[0].path))]
    for reading, end in zip(readings, ends, strict=True):
        if end not in ("complete", "incomplete"):
            steps.append(Step("Go on; nothing that is stored is sent again.", _command("resume", reading.path)))
    if counts["invalid"] or counts["failed"]:
        steps.append(Step("Mend the files below as their reasons say, and index the data again."))
        steps.append(Step("Then run the same deliver command once more: it sends only these."))
        left = [reading.path for reading, end in zip(readings, ends, strict=True) if end == "incomplete"]
        steps += [
            Step("" if number else "All of them, with reasons:", _command("status --failed", path))
            for number, path in enumerate(left)
        ]
    if not steps:
        steps.append(Step("Nothing. Keep this page and its receipt."))
        steps.append(Step("Whether the archive still has it all, you can ask at any time:", _verify(receipt)))
    return steps


def _verify(receipt: str) -> str:
    return f"upload-core verify --receipt {shlex.quote(receipt)}"


def _command(name: str, journal: str) -> str:
    return f"upload-core {name} {shlex.quote(journal)}"
