"""What a delivery should do, in plain words and ifs: written from the pages, without a look at the tables it is compared with.

The model knows files by their number and keeps of each a word and a few facts. Told what happened, it says what must be
true now; asked what is due, it says how many orders of which kind. It shares no code with the delivery.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

SETTLED = {"valid", "invalid", "abandoned"}
UNDER_WAY = {"pending", "transferring"}
SHOWN = {"unresolved": "ready", "abandoned": "failed", "reported": "done"}
"""Words of ours that callers see as another."""


@dataclass
class File:
    """One file: its word, the retries it has spent, until when it rests, and a verdict that waits."""

    word: str = "ready"
    retries: int = 0
    promised: int = 0
    rests_until: int = 0
    waiting: str = ""
    """A verdict ("ok" or another status) that came before anybody knew whether the file is stored."""
    announced_in: int = 0
    """The last run that was told of it."""


class Model:
    """The whole delivery."""

    def __init__(self, count: int) -> None:
        self.files = [File() for _ in range(count)]
        self.phase = "closed"
        """closed, catching up, awaiting (a run), running, over (the run ended)."""
        self.max_retries = 255
        self.run = 0
        self.asked = False
        """A run was asked for and has not been heard of."""
        self.at_work = False
        """A run was asked for, and its end has not been heard."""
        self.disturbed = False
        """The run may have given us up through no fault of its own: we were away, or another process."""
        self.trusted = False
        """The validator has judged a file that this run was told of: it reads what we write."""
        self.outage = False
        self.outcome = ""

    def copy(self) -> Model:
        return copy.deepcopy(self)

    # --- what callers see -------------------------------------------------------------------------

    def shown(self) -> list[str]:
        return [SHOWN.get(file.word, file.word) for file in self.files]

    def words(self) -> list[str]:
        return [file.word for file in self.files]

    def all_in(self, words: set[str]) -> bool:
        return all(file.word in words for file in self.files)

    @property
    def sending_is_over(self) -> bool:
        return self.all_in(SETTLED | {"done", "reported"})

    # --- sessions ---------------------------------------------------------------------------------

    def session_begins(self, max_retries: int) -> None:
        for file in self.files:
            if file.word == "pending":
                file.word = "ready"
            elif file.word == "transferring":
                file.word = "unresolved"
            if self.outcome in ("complete", "incomplete") and file.word in ("failed", "abandoned", "invalid"):
                # An invalid file may lie in the archive; one that failed does not.
                file.word = "unresolved" if file.word == "invalid" else "ready"
                file.retries, file.waiting = 0, ""
        self.max_retries, self.phase, self.outcome = max_retries, "catching up", ""
        self.outage = False
        self.disturbed = self.at_work

    def outage_begins(self) -> None:
        if not self.outage:
            self.outage = True
            self.disturbed = self.disturbed or self.at_work

    def restarted(self) -> None:
        """A new process knows of no rest."""
        for file in self.files:
            file.rests_until = 0

    def session_ends(self, outcome: str) -> None:
        self.outcome, self.phase = outcome, "closed"

    def run_is_asked_for(self) -> None:
        if not self.asked:  # else it is the same one again
            self.run += 1
            self.disturbed = False
        self.phase, self.asked, self.at_work, self.trusted = "awaiting", True, True, False
        for file in self.files:
            if file.word == "reported":
                file.word = "done"

    def run_begins(self) -> None:
        self.asked = False
        if self.phase == "awaiting":
            self.phase = "running"

    def run_ends(self) -> None:
        if self.phase == "running":
            self.phase, self.at_work = "over", False

    # --- sending ----------------------------------------------------------------------------------

    def may_send(self) -> bool:
        return self.phase in ("catching up", "awaiting", "running")

    def due(self, now: int, *, queue: bool) -> int:
        """How many files could be handed to a worker now."""
        found = sum(file.word == "pending" for file in self.files)
        if queue:
            found += sum(file.word == "ready" for file in self.files)
            found += sum(file.word == "failed" and file.rests_until <= now for file in self.files)
        return found

    def in_doubt(self, busy: set[int]) -> list[int]:
        return [number for number, file in enumerate(self.files) if file.word == "unresolved" and number not in busy]

    def is_queued(self, number: int, now: int) -> None:
        """It was put in line; one that rests only if no other was left."""
        file = self.files[number]
        assert file.word in ("ready", "failed"), f"file {number} was put in line while {file.word}"
        if file.word == "failed":
            file.retries += 1
            assert file.retries <= file.promised, "a retry that it does not have"
            if file.rests_until > now:
                assert not any(other.word == "ready" for other in self.files), "a resting file went before a ready one"
        file.word = "pending"

    def is_sent(self, number: int, now: int) -> None:
        """It was handed to a worker."""
        file = self.files[number]
        if file.word != "pending":
            assert not (file.word == "failed" and file.rests_until > now), "it still rests"
            self.is_queued(number, now)
        file.word = "transferring"

    def is_stored(self, number: int) -> None:
        self.outage = False
        file = self.files[number]
        if file.word != "transferring":
            return
        file.word = "done"

    def is_not_stored(self, number: int, fault: str, now: int) -> None:
        """Whose fault it was decides: the world's costs nothing, the file's own a retry or all."""
        if fault == "world":
            self.outage_begins()
        file = self.files[number]
        if file.word != "transferring":
            return
        if fault in ("world", "identity", "stopped"):
            file.word = "unresolved"
            return
        for_good = fault == "file for good" or (fault == "checksum" and file.retries >= 1)
        if for_good or file.retries >= self.max_retries:
            file.word = "abandoned"
        else:
            # What it was promised it keeps, also where a later session allows fewer.
            file.word, file.promised = "failed", file.retries + 1
            file.rests_until = now + min(30_000, 500 * 2**file.retries)

    def is_looked_at(self, number: int, holds: str) -> None:
        """The archive said what it holds of a file that was in doubt."""
        file = self.files[number]
        if holds == "unknown":
            self.outage_begins()
            return
        if file.word != "unresolved":
            return
        if holds == "equal":
            file.word = "valid" if file.waiting == "ok" else "done"
        else:
            file.word = "ready"
        file.waiting = ""

    # --- the validator ----------------------------------------------------------------------------

    def may_announce(self) -> list[int]:
        return [number for number, file in enumerate(self.files) if file.word == "done"]

    def is_announced(self, number: int) -> None:
        file = self.files[number]
        assert file.announced_in != self.run, f"file {number} was announced twice in run {self.run}"
        file.announced_in = self.run
        if file.word == "done":  # else it was judged before our own answer came
            file.word = "reported"

    def is_judged(self, number: int, status: str) -> None:
        file = self.files[number]
        never_sent = file.word in ("ready", "failed", "abandoned")
        if file.word == "reported" and self.phase != "catching up":  # then it is an earlier session's
            self.trusted = True
        if file.word == "unresolved":
            file.waiting = status
        elif never_sent and self.phase == "catching up":
            # Said in an earlier session: somebody sent it, so the archive is asked.
            file.word, file.waiting = "unresolved", status
        elif file.word in ("done", "reported") and status == "ok":
            file.word = "valid"
        elif file.word == "valid" and status == "ok":
            pass  # said again
        else:
            # Rejected, contradicted, or judged though nobody sent it.
            file.word = "invalid"
