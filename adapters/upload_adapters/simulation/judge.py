"""An independent judge: it reads the journal's lines, both logs and the archive, and never asks the client what it thinks.

It shares no code with what it judges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator

from upload_adapters.simulation.evidence import Evidence
from upload_adapters.simulation.invariants import Violation
from upload_adapters.simulation.judge_journal import MOVES, JournalJudge
from upload_adapters.simulation.logs_seen import seen_rows
from upload_core.checksum import crc32_base64, crc_of


def judge(evidence: Evidence) -> list[Violation]:
    """Everything that is not as it must be."""
    return list(_Judge(evidence).findings())


class _Judge:
    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.facts = {fact.path: fact for fact in evidence.files}
        self.journal = JournalJudge(evidence)
        self.states = self.journal.states

    def findings(self) -> Iterator[Violation]:
        evidence = self.evidence
        yield from (Violation("it ends" if text.startswith("it does") else "no bug", text) for text in evidence.broken)
        yield from self.journal.findings()
        yield from self._end()
        yield from self._archive()
        yield from self._locks()
        yield from self._runs()

    # --- the end ----------------------------------------------------------------------------------

    def _end(self) -> Iterator[Violation]:
        evidence = self.evidence
        odd = {path: state for path, state in self.states.items() if state not in set(MOVES.values())}
        if odd:
            yield Violation("every file has a state", f"{odd}")
        if not evidence.finished:
            if not evidence.broken:
                yield Violation("it ends", "it did not")
            return
        wrong = {path: state for path, state in self.states.items() if state != self.facts[path].ends}
        if wrong:
            yield Violation("it ends", f"but not as it must: {wrong}")

    def _archive(self) -> Iterator[Violation]:
        evidence = self.evidence
        for path, data in evidence.shown:
            fact = self.facts.get(path)
            if fact is None:
                yield Violation("others", f"an object {path} was written")
            elif data not in fact.versions or len(data) != fact.size:
                yield Violation("bytes", f"{path} was visible with bytes that no file ever had")
            elif fact.checksum is not None and crc32_base64(crc_of([data])) != fact.checksum:
                yield Violation("bytes", f"{path} was visible with another checksum than indexed")
        for path, state in self.states.items():
            stored = evidence.contents.get(path)
            if state == "valid" and (stored is None or stored not in self.facts[path].versions):
                yield Violation("bytes", f"{path} is valid, but the archive does not hold it")
        if any(evidence.contents.get(path) != data for path, data in evidence.foreign_objects.items()):
            yield Violation("others", "somebody else's object was changed")
        if not evidence.foreign_uploads.items() <= evidence.uploads.items():
            yield Violation("others", "somebody else's upload was ended")
        quiet = len(evidence.ended) < 2 or evidence.ended[-2].step >= evidence.calm_step
        if evidence.finished and quiet and evidence.calm_step < evidence.steps:
            left = evidence.uploads.keys() - evidence.foreign_uploads.keys()
            if left:
                yield Violation("others", f"uploads are left open: {sorted(left)}")
            if evidence.final_lock == evidence.agent:
                yield Violation("others", "the lock is left behind")

    def _locks(self) -> Iterator[Violation]:
        ours = self.evidence.agent
        for change in self.evidence.locks:
            foreign = change.before not in ("", ours) and change.before_age_ms <= self.evidence.staleness_ms
            if change.how == "client" and foreign and change.holder != change.before:
                yield Violation("one holder", f"the fresh lock of {change.before} was overwritten at {change.time_ms}")

    # --- validation runs --------------------------------------------------------------------------

    def _runs(self) -> Iterator[Violation]:
        evidence = self.evidence
        keys = Counter(start.key for start in evidence.starts)
        yield from (Violation("one start", f"{key} was started {n} times") for key, n in keys.items() if n > 1)
        for start in evidence.starts:
            if start.alive:
                yield Violation("one start", f"{start.key} was started beside another run")
        yield from (Violation("manners", f"a validator died: {reason}") for reason in evidence.validators_killed)
        told: dict[int, Counter[str]] = defaultdict(Counter)
        begins = [start.client_log_size for start in evidence.starts]
        for row in seen_rows(evidence.client_log):
            if row.category == "transfer" and row.status == "ok" and row.agent == evidence.agent:
                told[bisect_right(begins, row.start)][row.ref] += 1
        for run, counts in told.items():
            twice = [path for path, count in counts.items() if count > 1]
            if twice:
                yield Violation("manners", f"run {run} was told twice of {twice}")
            if not run:
                yield Violation("manners", f"{sorted(counts)} were announced before any run")
        yield from self._in_its_turn()

    def _in_its_turn(self) -> Iterator[Violation]:
        """Nothing is announced before the run's first word, and one file alone before its first verdict."""
        evidence = self.evidence
        times = [start.time_ms for start in evidence.starts]
        for request in evidence.requests:
            if request.kind != "append" or request.about != "log/client_staging":
                continue
            ok = sum(row.category == "transfer" and row.status == "ok" for row in seen_rows(request.data))
            run = bisect_right(times, request.time_ms)
            if not ok or not run:
                continue
            began_ms, now_ms = times[run - 1], request.time_ms
            if not any(began_ms <= time_ms <= now_ms for time_ms in evidence.spoke_ms):
                yield Violation("manners", f"step {request.step}: files are announced before the validator spoke")
            elif ok > 1 and not any(began_ms <= time_ms <= now_ms for time_ms in evidence.judged_ms):
                yield Violation("manners", f"step {request.step}: {ok} files are announced before any was judged")
