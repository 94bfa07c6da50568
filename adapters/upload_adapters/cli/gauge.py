"""How far a delivery is, how fast it goes and when it will end: figures for whoever watches, at a cost that no number
of files raises.

Rule: an estimate is made of what was seen, or there is none. Files end with their verdict, so the end is the later of two:
when the last byte is sent at the pace of sending, and when the last file is judged at the pace of judging.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from itertools import compress, islice
from typing import Final

import attrs

from upload_core import events as ev
from upload_core.client import UploadClient
from upload_core.delivery import Delivery
from upload_core.journal import Record
from upload_core.lifecycle import (
    ABANDONED,
    DONE,
    FAILED,
    FILE_STATES,
    INVALID,
    PUBLIC_STATES,
    REPORTED,
    TRANSFERRING,
    VALID,
)
from upload_core.ports import Ports, expiry_of

SAMPLE_S: Final = 1.0
PACE_S: Final = 15.0
"""Over this long a pace is shown: long enough not to flicker, short enough to see what happens."""
FORECAST_S: Final = 300.0
"""Over this long the pace is taken that an end is told from."""
SEEN_S: Final = 3.0
"""A pace that was seen for a shorter time says nothing."""
UPLOADS_LOOKED_AT: Final = 64
BUCKET: Final = 10
"""Samples that count as one where costs are told apart: within seconds, files come in bursts."""
STEPS_MIN: Final = 4
"""Buckets without which nothing is told apart: of two or three anything could be concluded."""
UNEXPLAINED: Final = 0.2
"""Share of what happened that bytes alone leave unexplained, below which they are believed alone."""
ALIKE: Final = 0.05
"""Files and bytes that vary together so closely cannot be told apart."""
AT_WORK_S: Final = 10.0
"""A validator that was at work for a shorter time does not show its pace: its first words are seconds on their way."""
BUSY_S: Final = 5.0
"""A validator with more than so long a queue is busy all the time; a shorter one is how the conversation works."""

STORED: Final = (DONE, REPORTED, VALID, INVALID)
_IS_STORED: Final = bytes(code in STORED for code in range(len(FILE_STATES))).ljust(256, b"\0")


@attrs.frozen
class Large:
    """A file that is sent in parts: how much of it is stored."""

    relpath: str
    stored: int
    size: int


@attrs.frozen
class Reading:
    """Everything that a screen shows, at one moment; times in seconds, None where nothing can be said."""

    name: str
    state: str
    elapsed_s: float
    files: int
    bytes: int
    sent: int
    """Files that are in the archive."""
    sent_bytes: int
    judged: int
    given_up: int
    invalid: int
    to_retry: int
    retries: int
    level: int
    in_flight: int
    large: Large | None = None
    bytes_per_s: float | None = None
    files_per_s: float | None = None
    judged_per_s: float | None = None
    sending_s: float | None = None
    """Until everything is sent."""
    judging_s: float | None = None
    """Until everything is judged: never before everything is sent."""
    outage_s: float | None = None
    """How long the archive has been out of reach."""
    outage_left_s: float | None = None
    paused: Mapping[str, str] = {}
    stopping: bool = False
    """Whether an end was asked for."""
    silent_s: float | None = None
    """How long nothing was heard of a validator that is at work."""
    silent_left_s: float | None = None
    jobs: int = 0
    """Jobs that a service carries out."""
    jobs_done: int = 0
    jobs_files: int = 0
    """Of so many files of those jobs so many have been tried."""
    lock_s: float | None = None
    credentials_s: float | None = None

    @property
    def behind(self) -> int:
        """Files that are in the archive and not judged."""
        return max(0, self.sent - self.judged)

    @property
    def all_sent(self) -> bool:
        """Whether no file is left to send."""
        return self.sent + self.given_up >= self.files

    @property
    def left_s(self) -> float | None:
        """Until nothing is left to do; None where that cannot be told."""
        return self.sending_s if self.judging_s is None and not self.behind else self.judging_s


@attrs.frozen
class _Sample:
    time_s: float
    sent: int
    sent_bytes: int
    judged: int


class Gauge:
    """Readings of one delivery. Whoever changes the delivery may do so meanwhile in another thread."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=int(FORECAST_S / SAMPLE_S) + 1)
        self._latest = _Sample(0.0, 0, 0, 0)
        self._began_s: float | None = None

    def forget(self) -> None:
        """What was seen so far says nothing about the time to come."""
        self._samples.clear()

    def read(
        self,
        delivery: Delivery,
        sent_bytes: int,
        *,
        now_ms: int,
        steady_s: float,
        credentials_ms: int | None = None,
    ) -> Reading:
        """The delivery as it stands, of which so many bytes are stored.

        `now_ms` is the time by which the delivery's events are stamped, `steady_s` a clock that nobody sets.
        """
        if self._began_s is None:
            self._began_s = steady_s
        counts, facts, limits = tuple(delivery.counts), delivery.facts, delivery.limits
        sent = sum(counts[code] for code in STORED)
        judged = counts[VALID] + counts[INVALID]
        total_bytes = delivery.table.total_bytes
        sent_bytes = min(sent_bytes, total_bytes)
        self._see(_Sample(steady_s, sent, sent_bytes, judged))
        pace = self._since(steady_s, PACE_S)
        to_send = len(delivery) - sent - counts[ABANDONED]
        sending_s = self._sending_s(to_send, total_bytes - sent_bytes)
        judging_s = _judging_s(
            len(delivery) - judged - counts[ABANDONED], sent - judged, self._judging_pace(), sending_s
        )
        level = facts.level or facts.n_threads
        created = delivery.created
        silence_s = (now_ms - facts.heard_ms) / 1000 if facts.heard_ms and delivery.client_state == "running" else None
        return Reading(
            name=f"{created.dataset}-{created.delivery_id} ({created.transfer_type})",
            state=delivery.client_state,
            elapsed_s=steady_s - self._began_s,
            files=len(delivery),
            bytes=total_bytes,
            sent=sent,
            sent_bytes=sent_bytes,
            judged=judged,
            given_up=counts[ABANDONED],
            invalid=counts[INVALID],
            to_retry=counts[FAILED],
            retries=facts.retries_total,
            level=level,
            in_flight=min(max(0, counts[TRANSFERRING] - sum(job.size for job in facts.jobs.values())), level),
            large=_largest(delivery),
            bytes_per_s=pace[1],
            files_per_s=pace[0],
            judged_per_s=pace[2],
            sending_s=sending_s,
            judging_s=judging_s,
            outage_s=(now_ms - facts.outage_ms) / 1000 if facts.outage_ms else None,
            outage_left_s=limits.outage_s - (now_ms - facts.outage_ms) / 1000 if facts.outage_ms else None,
            paused=dict(facts.paused),
            stopping=bool(facts.stop_requested),
            silent_s=silence_s,
            silent_left_s=None if silence_s is None else limits.validator_silence_s - silence_s,
            jobs=len(facts.jobs),
            jobs_done=sum(job.copied + job.failed for job in facts.jobs.values()),
            jobs_files=sum(job.size for job in facts.jobs.values()),
            lock_s=limits.lock_staleness_s - (now_ms - facts.lock_ms) / 1000 if facts.lock_etag else None,
            credentials_s=None if credentials_ms is None else (credentials_ms - now_ms) / 1000,
        )

    def _see(self, sample: _Sample) -> None:
        if not self._samples or sample.time_s - self._samples[-1].time_s >= SAMPLE_S:
            self._samples.append(sample)
        self._latest = sample

    def _since(self, now_s: float, span_s: float) -> tuple[float | None, float | None, float | None]:
        """Files sent, bytes sent and files judged per second, over the last `span_s`."""
        latest = self._latest
        # as many samples back as the span has seconds: at most one more or less, and no search
        back = min(len(self._samples), int(span_s / SAMPLE_S) + 1)
        first = self._samples[-back]
        while back > 1 and now_s - first.time_s > span_s * 1.5:  # the samples themselves came late
            back -= 1
            first = self._samples[-back]
        passed = latest.time_s - first.time_s
        if passed < SEEN_S:
            return None, None, None
        return (
            max(0, latest.sent - first.sent) / passed,
            max(0, latest.sent_bytes - first.sent_bytes) / passed,
            max(0, latest.judged - first.judged) / passed,
        )

    def _judging_pace(self) -> float | None:
        """Files judged per second while there was work for the validator all the time; else it does not show its pace."""
        passed_s, judged = 0.0, 0
        for before, after in itertools.pairwise([*self._samples, self._latest]):
            done = after.judged - before.judged
            if before.sent - before.judged > max(0, done) and after.sent > after.judged:
                passed_s, judged = passed_s + after.time_s - before.time_s, judged + max(0, done)
        return judged / passed_s if passed_s >= AT_WORK_S else None

    def _sending_s(self, files: int, size: int) -> float | None:
        """How long sending so much more takes, by what files and bytes were seen to cost."""
        if not files:
            return 0.0
        by_file, by_byte = self._costs()
        seconds = by_file * files + by_byte * max(0, size)
        return seconds if by_file or by_byte else None

    def _costs(self) -> tuple[float, float]:
        """Seconds per file and per byte that account for what was sent; (0, 0) if that says nothing.

        A time of many small files and one of a few large ones tell the two apart; where all files are alike they cannot
        be, and need not be: then it is told by bytes.
        """
        samples = [*list(self._samples)[::BUCKET], self._latest]
        steps = [
            (
                after.time_s - before.time_s,
                max(0, after.sent - before.sent),
                max(0, after.sent_bytes - before.sent_bytes),
            )
            for before, after in itertools.pairwise(samples)
        ]
        time_s, files, size = (sum(column) for column in zip(*steps, strict=True)) if steps else (0.0, 0, 0)
        if time_s < SEEN_S or not (files or size):
            return 0.0, 0.0
        by_file, by_byte = (0.0, time_s / size) if size else (time_s / files, 0.0)
        if files and size and len(steps) >= STEPS_MIN:
            # least squares of time by files and bytes; the unit of bytes is the mean file, so that both weigh the same
            unit = size / files
            ff, fb = sum(f * f for _, f, _ in steps), sum(f * b for _, f, b in steps) / unit
            bb, tt = sum(b * b for _, _, b in steps) / unit**2, sum(t * t for t, _, _ in steps)
            ft, bt = sum(t * f for t, f, _ in steps), sum(t * b for t, _, b in steps) / unit
            apart, by_bytes_alone = ff * bb - fb * fb, tt - bt * bt / bb
            if apart > ALIKE * ff * bb and by_bytes_alone > UNEXPLAINED * tt:
                by_file, by_byte = max(0.0, ft * bb - bt * fb) / apart, max(0.0, bt * ff - ft * fb) / apart / unit
        told = by_file * files + by_byte * size
        return (by_file * time_s / told, by_byte * time_s / told) if told else (0.0, 0.0)


def _judging_s(to_judge: int, behind: int, per_s: float | None, sending_s: float | None) -> float | None:
    """How long it takes until everything is judged.

    A validator that has nothing to do does not show how fast it is: then the last verdict follows the last file.
    """
    if not to_judge:
        return 0.0
    if sending_s is None:
        return None
    if not per_s:
        return None if behind else sending_s
    waiting_s = behind / per_s
    return max(to_judge / per_s, sending_s) if waiting_s > BUSY_S else sending_s + waiting_s


def _largest(delivery: Delivery) -> Large | None:
    """The largest of the files that are sent in parts now (of the first few, should there be many)."""
    found: Large | None = None
    try:
        for file, upload in list(islice(delivery.uploads.items(), UPLOADS_LOOKED_AT)):
            size = delivery.table.size(file)
            if delivery.states[file] == TRANSFERRING and (found is None or size > found.size):
                stored = min(size, len(upload.parts) * upload.part_size)
                found = Large(delivery.table.path(file), stored, size)
    except RuntimeError:  # one was begun or ended meanwhile
        return found
    return found


def stored_bytes(delivery: Delivery) -> int:
    """How many bytes of the delivery are in the archive, parts of open uploads included; looks at every file once."""
    flags = delivery.states.translate(_IS_STORED)
    sizes = delivery.table.raw_columns().sizes
    whole = delivery.table.total_bytes if flags.count(1) == len(flags) else sum(compress(sizes, flags))
    return whole + sum(
        min(delivery.table.size(file), len(upload.parts) * upload.part_size)
        for file, upload in delivery.uploads.items()
        if not flags[file]
    )


def bytes_by_state(delivery: Delivery) -> dict[str, int]:
    """How many bytes the files of each of the seven states have; looks at every file once per state."""
    sizes = delivery.table.raw_columns().sizes
    found: dict[str, int] = dict.fromkeys(PUBLIC_STATES, 0)
    for code, state in enumerate(FILE_STATES):
        if delivery.counts[code]:
            flags = delivery.states.translate(bytes(number == code for number in range(256)))
            found[state.shown_as] += sum(compress(sizes, flags))
    return found


class ClientGauge:
    """Readings of a client at work; may be taken from any thread."""

    def __init__(self, client: UploadClient, ports: Ports | None = None) -> None:
        self._client = client
        self._ports = ports
        self._gauge = Gauge()
        self._before = 0
        """Bytes that were stored before this session sent any, or that it found stored."""
        client.subscribe(self._begin, kinds=(ev.SessionOpened, ev.OutageEnded, ev.TransfersContinued))
        client.subscribe(self._find, kinds=(ev.FileFoundStored, ev.FileFoundValid))

    def _begin(self, record: Record) -> None:
        if isinstance(record.event, ev.SessionOpened):
            self._before = stored_bytes(self._client.delivery)
        self._gauge.forget()  # while nothing could be sent, nothing was seen of the pace

    def _find(self, record: Record) -> None:
        event = record.event
        if isinstance(event, ev.FileFoundStored | ev.FileFoundValid):
            self._before += event.size

    def read(self, *, now_ms: int, steady_s: float) -> Reading:
        """The delivery as it stands."""
        client, ports = self._client, self._ports
        return self._gauge.read(
            client.delivery,
            self._before + client.bytes_sent,
            now_ms=now_ms if ports is None else ports.clock.now_ms(),
            steady_s=steady_s,
            credentials_ms=None if ports is None else expiry_of(ports.identity),
        )
