"""Seeded bugs: each turns one protection of the real program off, and names a seed whose simulation goes wrong by it.

`python -m tests.reliability.mutants NAME...` looks for the first such seed again (all mutants without a name).
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

import attrs
import pytest

from upload_adapters.simulation import Violation, journal, simulate
from upload_core import closing, facts, lifecycle, recovery, retry, sessions, transfers, verdicts, worker
from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.commands import Decision
from upload_core.conversation import Conversation
from upload_core.delivery import DECIDERS
from upload_core.engine import Engine
from upload_core.errors import ArchiveUnavailableError, LockLostError, NotReadyError, PreconditionFailedError
from upload_core.journal import encode_batch
from upload_core.logs import AppendLog, LogReader
from upload_core.owner_lock import OwnerLock, Ownership
from upload_core.timestamps import iso

SEEDS_MAX = 5_000

Patch = Callable[[pytest.MonkeyPatch], None]


@attrs.frozen
class Mutant:
    """A bug: what it does, how it is put in, the seed that finds it, and by which invariant."""

    does: str
    patch: Patch
    seed: int
    breaks: str


def found_by(mutant: Mutant, seed: int) -> list[Violation]:
    """What a seed's simulation says while the bug is in."""
    with pytest.MonkeyPatch.context() as patching:
        mutant.patch(patching)
        return simulate(seed, in_time=True).violations


def search(mutant: Mutant, seeds: Iterable[int]) -> tuple[int, Violation] | None:
    """The first of these seeds that finds the bug, and what it says."""
    for seed in seeds:
        if violations := found_by(mutant, seed):
            return seed, violations[0]
    return None


# --- the journal ---------------------------------------------------------------------------------


def acknowledge_before_sync(patching):
    def append(self, events, *, time_ms):
        data, self._end = encode_batch(events, time_ms, self._end)
        self._on_call("append")
        self._synced_bytes, self.synced = len(self._data), self._end.seq - len(events)  # what came before, by now
        self._data += data
        self._on_call("synced")

    patching.setattr(journal.SimulatedJournal, "append", append)


def believe_before_append(patching):
    def record(self, events):
        if not events:
            return
        time_ms, first = self.now_ms(), self.delivery.facts.seq + 1
        self.delivery.check(events)
        for event in events:
            self.delivery.apply(event, time_ms)
        self._tell(events, first, iso(time_ms))
        self.ports.journal.append(events, time_ms=time_ms)

    patching.setattr(Engine, "record", record)


def act_before_append(patching):
    def take(self, what):
        decision = self.delivery.decide(what, self.now_ms())
        self._perform([effect for effect in decision.effects if not isinstance(effect, fx.CloseSession)])
        self.record(decision.events)
        self._perform([effect for effect in decision.effects if isinstance(effect, fx.CloseSession)])

    patching.setattr(Engine, "take", take)


def lose_torn_tail_handling(patching):
    patching.setattr(journal, "is_torn", lambda *_: False)


def append_after_the_torn_tail(patching):
    original = journal.SimulatedJournal.open

    def keep_the_tail(self):
        before = bytes(self._data)
        delivery = original(self)
        if delivery is not None and len(self.torn) and self.torn[-1] == before:
            self._data = bytearray(before)
        return delivery

    patching.setattr(journal.SimulatedJournal, "open", keep_the_tail)


# --- the validator's log -------------------------------------------------------------------------


def forget_the_cursor(patching):
    opened = facts.FACT_CHANGES[ev.SessionOpened]

    def forget(f, e, time_ms):
        opened(f, e, time_ms)
        f.validator_log_offset, f.validator_log_mark = 0, ""

    patching.setitem(facts.FACT_CHANGES, ev.SessionOpened, forget)


def move_the_cursor_first(patching):
    original = Engine.take

    def take(self, what):
        decision = self.delivery.decide(what, self.now_ms())
        if decision.events and isinstance(decision.events[-1], ev.ValidatorLogRead):
            self.record(decision.events[-1:])
            self.record(decision.events[:-1])
            self._perform(decision.effects)
        else:
            original(self, what)

    patching.setattr(Engine, "take", take)


def apply_a_verdict_twice(patching):
    def hear(self, *, final=False):
        found = self.conversation.hear(final=final)
        self.take(found)
        if found.entries:
            self.take(found)
        return bool(found.entries)

    patching.setattr(Engine, "hear", hear)


def know_the_log_by_its_last_row_alone(patching):
    original = LogReader.read_from

    def read_from(self, offset, mark=""):
        assert isinstance(mark, str)
        return original(self, offset)

    patching.setattr(LogReader, "read_from", read_from)


def accept_what_is_under_way(patching):
    row = bytearray(lifecycle.FILE_TABLE["FileValidated"])
    row[lifecycle.TRANSFERRING] = lifecycle.VALID
    patching.setitem(verdicts.VERDICTS, "transferring", {True: "accept", False: "reject"})
    patching.setattr(
        verdicts,
        "_MEANINGS",
        {
            (catching_up, ok): [
                verdicts.meaning_of(state.name, ok=ok, catching_up=catching_up) for state in lifecycle.FILE_STATES
            ]
            for catching_up in (True, False)
            for ok in (True, False)
        },
    )


def take_a_repetition_for_a_contradiction(patching):
    for table in (lifecycle.FILE_TABLE, lifecycle.FILE_TABLE_SPENT):
        row = bytearray(table["VerdictRepeated"])
        row[lifecycle.VALID] = lifecycle.INVALID
        patching.setitem(table, "VerdictRepeated", bytes(row))


# --- our log, and what the validator is told -----------------------------------------------------


def announce_what_is_not_journaled(patching):
    original = Engine.take

    def take(self, what):
        news = getattr(what, "outcomes", ())
        stored = tuple(told.file for told in news if isinstance(told, fx.FileStored))
        if stored and self.delivery.facts.run_confirmed and self.conversation.unsent is None:
            self.conversation.report(fx.ReportFiles(stored), self.now_ms())
        original(self, what)

    patching.setattr(Engine, "take", take)


def announce_again_after_reattach(patching):
    original = sessions.open_session

    def open_session(d, command, now_ms):
        lapsed = [ev.ReportLapsed(file) for file in d.files_in(lifecycle.REPORTED)]
        return Decision([*lapsed, *original(d, command, now_ms).events])

    patching.setitem(DECIDERS, cmd.OpenSession, open_session)


def announce_all_at_once(patching):
    requested = facts.FACT_CHANGES[ev.PipelineRequested]

    def request(f, e, time_ms):
        requested(f, e, time_ms)
        f.run_confirmed = True

    patching.setitem(facts.FACT_CHANGES, ev.PipelineRequested, request)


def announce_to_a_validator_that_is_blind(patching):
    patching.setattr(sessions, "follows", lambda *_: True)
    patching.setattr(closing, "follows", lambda *_: True)


def append_wherever_the_log_ends(patching):
    def append(self, rows):
        trouble: Exception = NotReadyError("never")
        for _ in range(3):
            info = self._control.head(self._key)
            try:
                return self._control.append(self._key, rows, offset=0 if info is None else info.size).size
            except ArchiveUnavailableError as error:
                trouble = error
        raise trouble

    patching.setattr(AppendLog, "append", append)


def forget_rows_in_doubt(patching):
    original = Conversation.report

    def report(self, effect, now_ms):
        self._unsent = None
        return original(self, effect, now_ms)

    patching.setattr(Conversation, "report", report)


def say_stop_twice(patching):
    original = Engine.say_stop

    def say_stop(self):
        original(self)
        original(self)

    patching.setattr(Engine, "say_stop", say_stop)


# --- the run -------------------------------------------------------------------------------------


def start_the_validator_twice(patching):
    original = Engine.start_pipeline

    def start_pipeline(self):
        original(self)
        with suppress(Exception):
            self.ports.pipeline.start(
                agent_id=self.delivery.facts.agent_id,
                idempotency_key=f"{self.delivery.facts.run_key}-again",
                client_config=None,
            )

    patching.setattr(Engine, "start_pipeline", start_pipeline)


def ask_under_a_new_key_each_time(patching):
    def request_run(d, command, now_ms):
        key = f"{d.facts.agent_id}:{d.facts.run + 1}:{now_ms}"
        lapsed = [ev.ReportLapsed(file) for file in d.files_in(lifecycle.REPORTED)]
        return Decision([*lapsed, ev.PipelineRequested(key, d.facts.client_log_size)])

    patching.setitem(DECIDERS, cmd.RequestRun, request_run)


def believe_the_answer_alone(patching):
    original = Engine.start_pipeline

    def start_pipeline(self):
        original(self)
        if self.delivery.client_state == "starting":
            self.record([ev.ValidatorStarted("believed"), ev.ValidatorKeptAlive("believed")])

    patching.setattr(Engine, "start_pipeline", start_pipeline)


# --- files ---------------------------------------------------------------------------------------


def send_a_valid_file_again(patching):
    original = sessions.open_session

    def open_session(d, command, now_ms):
        again = [ev.FileRevised(file) for file in d.files_in(lifecycle.VALID)]
        return Decision([*original(d, command, now_ms).events, *again])

    patching.setitem(DECIDERS, cmd.OpenSession, open_session)


def send_what_is_stored(patching):
    def case_of(state, holds, verdict):
        found = recovery.file_case(state, holds, verdict)
        if found.event in (ev.FileFoundStored, ev.FileFoundValid):
            return found._replace(event=ev.FileFoundMissing)
        return found

    patching.setattr(transfers, "file_case", case_of)


def believe_that_stored_is_valid(patching):
    def case_of(state, holds, verdict):
        found = recovery.file_case(state, holds, verdict)
        return found._replace(event=ev.FileFoundValid) if found.event is ev.FileFoundStored else found

    patching.setattr(transfers, "file_case", case_of)


def count_slow_down_as_a_retry(patching):
    rule = retry.FAULT_RULES[fx.Fault.WORLD]._replace(event=ev.TransferFailed)
    patching.setitem(retry.FAULT_RULES, fx.Fault.WORLD, rule)


def retry_a_wrong_checksum_for_ever(patching):
    rule = retry.FaultRule(ev.TransferInterrupted, None, outage=False)
    patching.setitem(retry.FAULT_RULES, fx.Fault.CHECKSUM, rule)


def skip_the_checksum(patching):
    def transfer(order, source, archive, attempt):
        with source.open(order.relpath) as file:
            body = worker._StoppableFile(file, attempt.commit)
            stored = archive.put(order.relpath, body, checksum=None, attempt=attempt)
        return fx.FileStored(order.file, stored.size, stored.checksum, stored.etag)

    patching.setattr(worker, "_transfer", transfer)


def accept_a_changed_source(patching):
    patching.setattr(worker._StoppableFile, "verify_unchanged", lambda _: None)


def send_parts_again(patching):
    original = transfers._left_open

    def left_open(d, file):
        upload = original(d, file)
        return upload and fx.OpenUpload(upload.upload_id, upload.part_size, "as good as any", {})

    patching.setattr(transfers, "_left_open", left_open)


def leave_uploads_open(patching):
    patching.setattr(closing, "end_uploads", lambda _: None)


def end_foreign_uploads(patching):
    def end_uploads(engine):
        engine.insist(lambda: engine.ports.archive.end_uploads({}, lambda _: True))

    patching.setattr(closing, "end_uploads", end_uploads)


# --- the lock ------------------------------------------------------------------------------------


def take_any_lock(patching):
    original = OwnerLock.__init__

    def init(self, control, key, agent_id, staleness_s):
        original(self, control, key, agent_id, -1.0)

    patching.setattr(OwnerLock, "__init__", init)


def renew_without_a_condition(patching):
    def renew(self):
        info = self._control.put(self._key, self._body)
        self._etag = info.etag
        return Ownership(info.etag, "", info.modified + self._staleness_s)

    patching.setattr(OwnerLock, "renew", renew)


def write_after_a_lost_lock(patching):
    original = OwnerLock.renew

    def renew(self):
        try:
            return original(self)
        except LockLostError:
            self._etag = "lost"
            return Ownership("lost", "", 0.0)

    patching.setattr(OwnerLock, "renew", renew)


def never_renew(patching):
    patching.setattr(Engine, "renew_lock", lambda _: None)


def hold_for_ever(patching):
    patching.setattr(Engine, "_hold", lambda _: None)


def release_before_the_workers_end(patching):
    original = Engine.cut_transfers

    def cut(self):
        with suppress(ArchiveUnavailableError, PreconditionFailedError):
            self.lock.release()
        original(self)

    patching.setattr(Engine, "cut_transfers", cut)


def release_before_the_last_rows(patching):
    original = closing.stop_validator

    def stop(engine, *, patient):
        with suppress(ArchiveUnavailableError, PreconditionFailedError):
            engine.lock.release()
        original(engine, patient=patient)

    patching.setattr(closing, "stop_validator", stop)


def say_complete_too_early(patching):
    patching.setattr(closing, "ENDED_BY_VERDICTS", frozenset({"interrupted"}))


MUTANTS = {
    patch.__name__.replace("_", " "): Mutant(does, patch, seed, breaks)
    for patch, does, seed, breaks in [
        (
            take_a_repetition_for_a_contradiction,
            "A verdict that comes twice makes a valid file invalid.",
            5,
            "state is the fold",
        ),
        (
            believe_that_stored_is_valid,
            "What the archive holds counts as valid without a verdict.",
            6,
            "valid means judged",
        ),
        (acknowledge_before_sync, "An append returns before its bytes are on the disk.", 0, "told is synced"),
        (believe_before_append, "Events are applied and told before they are journaled.", 0, "told is synced"),
        (act_before_append, "Effects come before the events that they follow from are journaled.", 29, "never again"),
        (lose_torn_tail_handling, "A torn tail is taken for damage.", 5, "no bug"),
        (append_after_the_torn_tail, "A torn tail stays, and records are written behind it.", 5, "no bug"),
        (forget_the_cursor, "A new session reads the validator's log from its beginning.", 5, "once"),
        (move_the_cursor_first, "The cursor is journaled before the verdicts that it passes.", 0, "once"),
        (apply_a_verdict_twice, "What was found in the validator's log is taken in twice.", 0, "once"),
        (know_the_log_by_its_last_row_alone, "After a torn row the log is taken for another one.", 14, "cursor"),
        (
            accept_what_is_under_way,
            "A verdict counts although it is not known whether the file is stored.",
            545,
            "no bug",
        ),
        (announce_what_is_not_journaled, "A file is announced before its storage is journaled.", 6, "told is synced"),
        (announce_again_after_reattach, "A run that goes on is told everything anew.", 99, "manners"),
        (announce_all_at_once, "No file is announced alone first.", 0, "manners"),
        (
            announce_to_a_validator_that_is_blind,
            "The validator is told before it has found its place in our log.",
            0,
            "",
        ),
        (append_wherever_the_log_ends, "An append whose answer was lost is repeated without a look.", 27, "no bug"),
        (forget_rows_in_doubt, "Rows whose fate is unknown are forgotten.", 8, "no bug"),
        (say_stop_twice, "The stop row is written twice.", 0, "manners"),
        (start_the_validator_twice, "The pipeline is asked for a second run.", 0, "it ends"),
        (
            ask_under_a_new_key_each_time,
            "A request whose answer was lost is repeated under another key.",
            8,
            "one start",
        ),
        (believe_the_answer_alone, "A run counts as started because the pipeline said so.", 0, "it ends"),
        (send_a_valid_file_again, "What is valid is sent again.", 5, "never again"),
        (send_what_is_stored, "What the archive holds already is sent again.", 6, "never again"),
        (
            believe_that_stored_is_valid,
            "What the archive holds counts as valid without a verdict.",
            6,
            "valid means judged",
        ),
        (count_slow_down_as_a_retry, "What the world is at fault for spends retries.", 5, "retries"),
        (retry_a_wrong_checksum_for_ever, "A wrong checksum spends no retries.", 1, "it ends"),
        (skip_the_checksum, "The indexed checksum is not asserted.", 1, "it ends"),
        (accept_a_changed_source, "A source that changes while it is read is not noticed.", 15, "bytes"),
        (leave_uploads_open, "Uploads in parts are left open at the end.", 1798, "others"),
        (end_foreign_uploads, "Every open upload is ended, whoever's it is.", 0, "others"),
        (take_any_lock, "A fresh lock of somebody else is taken over.", 8, "one holder"),
        (renew_without_a_condition, "A renewal overwrites whatever is there.", 47, "one holder"),
        (write_after_a_lost_lock, "Losing the lock is not taken seriously.", 44, "lock first"),
        (never_renew, "The lock is never renewed.", 23, "lock first"),
        (hold_for_ever, "Workers know no time at which the lock may be somebody else's.", 388, "lock first"),
        (release_before_the_workers_end, "The lock is given back while files are still being sent.", 0, "lock first"),
        (release_before_the_last_rows, "The lock is given back before the last rows are written.", 0, "lock first"),
        (say_complete_too_early, "A verdict that comes after the end of sending does not count.", 864, "honest end"),
    ]
}


def main(names: Iterable[str]) -> None:
    for name in names or MUTANTS:
        if MUTANTS[name].seed:
            continue
        found = search(MUTANTS[name], range(SEEDS_MAX))
        print(f"{name}: {'nothing' if found is None else f'seed {found[0]}, {found[1]}'}", flush=True)


if __name__ == "__main__":
    main([" ".join(sys.argv[1:])] if sys.argv[1:] else [])
