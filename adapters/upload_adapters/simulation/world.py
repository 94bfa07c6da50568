"""One simulated world: what outlives a client's process, and the person who starts the client again until it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from upload_adapters.memory import MemoryConsole, MemoryControlBucket, MemoryStateDump
from upload_adapters.simulation.archive import PART_SIZE, SimulatedArchive
from upload_adapters.simulation.chance import Chance
from upload_adapters.simulation.dispatcher import SimulatedDispatcher
from upload_adapters.simulation.evidence import Ended, Evidence, LockChange, Start, Told
from upload_adapters.simulation.faults import Swarm
from upload_adapters.simulation.journal import SimulatedJournal
from upload_adapters.simulation.life import Killed, Life
from upload_adapters.simulation.others import Rival, delete_lock, steal_lock
from upload_adapters.simulation.ports import SimulatedControl, SimulatedIdentity, SimulatedPipeline
from upload_adapters.simulation.scenario import SCENARIO_LIMITS, draw_files
from upload_adapters.simulation.source import Content, SimulatedSource, unreadable
from upload_adapters.simulation.store import Store
from upload_adapters.simulation.timeline import START_MS, Timeline, WorldClock
from upload_adapters.simulation.validator import SimulatedValidator
from upload_core.checksum import crc32_base64, crc_of
from upload_core.client import UploadClient
from upload_core.errors import NothingToDoError, UploadClientError
from upload_core.files import FileTable
from upload_core.journal import Record, decode_record
from upload_core.messages import describe
from upload_core.ports import Ports, TransferType
from upload_core.text import printable
from upload_core.wire import Keys

LIVES_MAX: Final = 80
STEPS_MAX: Final = 20_000
AGENT: Final = "simulated-agent"
DATASET: Final = "demo"
DELIVERY_ID: Final = "1"
KIND: Final[TransferType] = "staging"
FOREIGN: Final = {"not/ours.dat": b"somebody else's"}


class TooLongError(BaseException):
    """The run does not come to its end."""


class World:
    """Everything there is in one simulation."""

    def __init__(
        self, seed: int, *, steps: int | None = None, telling: bool = False, swarm: Swarm | None = None
    ) -> None:
        """`steps` is after how many nothing goes wrong any more; with `telling` the story is kept.

        `swarm` decides what goes wrong, if the seed shall not.
        """
        chance = Chance(seed)
        facts, self.options = draw_files(chance)
        self.limits = SCENARIO_LIMITS
        self.chance = Chance(seed ^ 0x5EED)
        self.swarm = swarm or Swarm(Chance(seed ^ 0xFA17), steps)
        self.story: list[str] | None = [] if telling else None
        self.timeline = Timeline()
        self.clock = WorldClock(self.timeline)
        self.keys = Keys(DATASET, DELIVERY_ID, KIND)
        self.control = MemoryControlBucket(self.clock)
        self.store = Store()
        self.evidence = Evidence(
            seed=seed, agent=AGENT, staleness_ms=int(self.limits.lock_staleness_s * 1000), files=facts
        )
        self._facts = {fact.path: fact for fact in facts}
        self.files = {fact.path: Content(fact.versions[0]) for fact in facts}
        self.lag_ms = self.options.lag_ms
        self.skew_ms = self.error_ms = 0
        self.outage_until_ms = 0
        self.deaths = 0
        self.validators: list[SimulatedValidator] = []
        self._accepted: set[str] = set()
        self.life: Life | None = None
        self.journal = SimulatedJournal(self._on_journal, lambda: self.swarm.strikes("full disk"), self.chance)
        self._told_bytes = 0
        for path, data in FOREIGN.items():
            self.store.put(path, data, crc32_base64(crc_of([data])))
        self.store.shown.clear()
        self.store.begin("not/ours.big")
        self.evidence.foreign_objects = dict(FOREIGN)
        self.evidence.foreign_uploads = self.store.open_uploads()
        if self.swarm.has("rival"):
            Rival(self)

    # --- telling ----------------------------------------------------------------------------------

    def tell(self, who: str, text: str) -> None:
        """Add a line to the story, if anybody wants one."""
        if self.story is not None:
            seconds = (self.timeline.now_ms() - START_MS) / 1000
            self.story.append(f"{self.evidence.steps:>5} {seconds:>9.3f} s  {who:<9}  {printable(text, 300)}")

    def _on_journal(self, moment: str) -> None:
        life = self.life
        assert life is not None, "only a client's process calls its journal"
        if moment in ("open", "create", "append"):
            life.local(f"before journal.{moment}")
            return
        life.boundary("while the journal is written" if moment == "written" else f"after journal.{moment}")
        if moment in ("synced", "created") and self.story is not None:
            data = self.journal.data
            for line in data[self._told_bytes :].splitlines():
                if line.startswith(b'{"seq"'):
                    self._tell_record(decode_record(line))
            self._told_bytes = len(data)

    def _tell_record(self, record: Record) -> None:
        file = getattr(record.event, "file", None)
        words = describe(record.event)
        self.tell("journal", words if file is None else f"{self.evidence.files[file].path} {words}")

    # --- steps ------------------------------------------------------------------------------------

    def count_step(self) -> None:
        """One call of a port is made."""
        evidence, swarm = self.evidence, self.swarm
        evidence.steps += 1
        if evidence.steps > STEPS_MAX:
            raise TooLongError
        if swarm.calm:
            return
        if evidence.steps >= swarm.last_step:
            self._calm_down()
            return
        if swarm.strikes("lock stolen"):
            steal_lock(self)
        if swarm.strikes("lock deleted"):
            delete_lock(self)
        if swarm.strikes("parts gone"):
            ours = [key for key in self.store.uploads if key not in self.evidence.foreign_uploads]
            if ours:
                self.store.abort(self.chance.pick(ours))
                self.tell("fault", "the store forgets an upload in parts")

    def _calm_down(self) -> None:
        self.swarm.calm = True
        self.evidence.calm_step = self.evidence.steps
        self.outage_until_ms = 0
        self.skew_ms = self.error_ms = 0
        if self.life is not None:
            self.life.clock.skew_ms = self.life.clock.error_ms = 0
        for path, content in self.files.items():
            self._restore(path, content)
        self.tell("world", "from here on nothing goes wrong any more")

    def begin_outage(self) -> None:
        """From now on nobody answers."""
        seconds = round(self.chance.magnitude(1, 1.5 * self.limits.outage_s))
        self.outage_until_ms = self.timeline.now_ms() + seconds * 1000
        self.tell("fault", f"no request arrives for {seconds} s")

    # --- the lock ---------------------------------------------------------------------------------

    def lock_holder(self) -> str:
        """Who is named in the lock object; "" if there is none."""
        found = self.control.read(self.keys.client_lock)
        return "" if found is None else found[0].decode()

    def lock_age_ms(self) -> int:
        """How old the lock object is; 0 if there is none."""
        found = self.control.head(self.keys.client_lock)
        return 0 if found is None else int(found.age_s * 1000)

    @contextmanager
    def watching_lock(self, key: str, life: int, how: str) -> Iterator[None]:
        """Note what a write does to the lock object."""
        if key != self.keys.client_lock:
            yield
            return
        before, age_ms = self.lock_holder(), self.lock_age_ms()
        yield
        self.evidence.locks.append(LockChange(self.timeline.now_ms(), life, before, age_ms, self.lock_holder(), how))

    # --- the validator ----------------------------------------------------------------------------

    def problems_of(self, relpath: str, data: bytes) -> list[str]:
        """What the validator finds wrong with a stored file."""
        return ["the header is wrong"] if self._facts[relpath].bad else []

    def start_validator(self, agent_id: str, key: str) -> str:
        """What the archive's function does; returns why it refuses, or "" where it starts one."""
        if key not in self._accepted and self.swarm.strikes("start refused"):
            return "the machine could not be had"
        if self.lock_holder() != agent_id or self.lock_age_ms() > self.evidence.staleness_ms:
            return "transfer app lockfile invalid or not present"
        if any(validator.alive and validator.begun for validator in self.validators):
            return "a validation task is already running for this transfer"
        if key in self._accepted:
            return ""
        self._accepted.add(key)
        self.evidence.starts.append(
            Start(
                self.timeline.now_ms(),
                key,
                self.journal.synced,
                sum(validator.alive for validator in self.validators),
                self.control.size(self.keys.client_log),
            )
        )
        validator = SimulatedValidator(self)
        self.validators.append(validator)
        delay_ms = self.chance.between(200, 3_000)
        if self.swarm.strikes("start dawdles"):
            delay_ms = self.chance.between(10_000, 60_000)
        self.timeline.after(delay_ms, validator.next_turn)
        self.tell("world", "the archive starts a validator")
        return ""

    def validator_seems_at_work(self) -> bool:
        """What lock and log say, as the client's adapter for the archive reads them."""
        lock = self.control.head(self.keys.validator_lock)
        if lock is None:
            return False
        log = self.control.read(self.keys.validator_log)
        if log is None:
            return lock.age_s <= self.limits.validator_silence_s
        if min(lock.age_s, log[1].age_s) > self.limits.validator_silence_s:
            return False
        rows = log[0].rstrip(b"\n").rsplit(b"\n", 1)[-1].split(b"\t")
        return len(rows) < 2 or rows[1] != b"stop"

    def keep_replaced_log(self) -> None:
        """Before the validator's log is replaced: what is in it stays evidence."""
        found = self.control.read(self.keys.validator_log)
        self.evidence.validator_logs.append(b"" if found is None else found[0])

    # --- files ------------------------------------------------------------------------------------

    def holds_original(self, relpath: str) -> bool:
        """Whether the archive has the file as it was indexed."""
        fact = self._facts.get(relpath)
        return fact is not None and self.store.contents().get(relpath) == fact.content

    def note_late(self, about: str) -> None:
        """A request about this, if it is a file, takes effect after its time."""
        if about in self._facts:
            self._facts[about].late = True

    def _on_open(self, relpath: str) -> None:
        if self.files[relpath].data is not self._facts[relpath].content:
            self._facts[relpath].faults += 1
        if self.swarm.strikes("source unreadable"):
            self._facts[relpath].faults += 1
            self.tell("fault", f"{relpath} cannot be read for a moment")
            raise unreadable(relpath)

    def _on_read(self, relpath: str) -> None:
        if self.swarm.strikes("source unreadable"):
            self._facts[relpath].faults += 1
            self.tell("fault", f"{relpath} cannot be read for a moment")
            raise unreadable(relpath)
        if self.swarm.strikes("source changes"):
            fact, content = self._facts[relpath], self.files[relpath]
            fact.faults += 1
            size = len(content.data) if self.chance.happens(0.7) else self.chance.between(0, 2 * PART_SIZE)
            data = self.chance.data(size)
            if data and crc32_base64(crc_of([data])) == fact.checksum:
                data = data[:-1] + bytes([data[-1] ^ 1])  # a file of a byte or two can be hit: that is no change
            content.rewrite(data)
            fact.versions.append(data)
            self.tell("fault", f"{relpath} is rewritten while it is read")
            self.timeline.after(self.chance.between(0, 20_000), lambda: self._restore(relpath, content))

    def _restore(self, path: str, content: Content) -> None:
        original = self._facts[path].versions[0]
        if content.data != original:
            content.rewrite(original)
            self.tell("world", f"{path} is as it was")

    # --- lives ------------------------------------------------------------------------------------

    def run(self) -> Evidence:
        """Start clients until the delivery is done, and gather what there is to judge it by."""
        gap_ms = 0
        for number in range(1, LIVES_MAX + 1):
            try:
                ended = self._live(number)
            except TooLongError:
                self.evidence.broken.append(f"it does not end: {STEPS_MAX} steps and no end")
                break
            if ended is None:
                break
            if ended == "done":
                self.evidence.finished = True
                break
            # a validator that died leaves a lock that has to get stale: whoever is told so is in no hurry
            least_ms = 60_000 if self.evidence.ended[-1].outcome.endswith(" 6") else 10_000
            gap_ms = min(300_000, max(least_ms, 2 * gap_ms)) if ended == "again" else 10_000
            self.timeline.pass_ms(gap_ms)
        else:
            self.evidence.broken.append(f"it does not end: {LIVES_MAX} sessions and no end")
        return self._gathered()

    def _live(self, number: int) -> str | None:
        """One life of a client: "done", "again", or "killed"; None if it broke in a way that no client may."""
        life = self.life = Life(self, number)
        self.tell("person", f"starts the client (life {number})")
        client: UploadClient | None = None
        try:
            client = self._client(life)
            client.subscribe(self._hear)
            life.on_stop = client.stop
            client.run()
            how = "done" if self._is_done(client) else "again"
        except Killed:
            how = "killed"
        except NothingToDoError:
            how = "done"
        except UploadClientError as error:
            self.tell("client", f"ends with {type(error).__name__}: {error}")
            how = "again"
            if type(error).__name__ in ("JournalDamagedError", "JournalInUseError", "IllegalEventError"):
                self.evidence.broken.append(f"{type(error).__name__}: {error}")
                how = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we are looking for
            self.evidence.broken.append(f"life {number} ended in {type(error).__name__}: {error}")
            how = ""
        self._note_end(life, client, how)
        life.dead = True
        self.journal.die(power=life.power_cut)
        self.life = None
        return how or None

    def _client(self, life: Life) -> UploadClient:
        source = SimulatedSource(self.files, self._on_open, self._on_read)
        ports = Ports(
            journal=self.journal,
            source=source,
            archive=SimulatedArchive(life),
            control=SimulatedControl(life),
            pipeline=SimulatedPipeline(life),
            identity=SimulatedIdentity(life),
            dispatcher=SimulatedDispatcher(life),
            console=MemoryConsole(),
            clock=life.clock,
            dump=MemoryStateDump(),
            index=lambda _index, _source: self._table(),
            limits=self.limits,
            archive_name="memory:archive",
            label=b"dataset: demo\n" if self.options.label else None,
            agent_id=AGENT,
            host="simulated",
            pid=life.number,
        )
        if life.number > 1 and self.journal.synced and self.chance.happens(0.5):
            return UploadClient.resume(ports=ports)
        return UploadClient(
            dataset=DATASET,
            delivery_id=DELIVERY_ID,
            file_index=None,
            transfer_type=KIND,
            source="memory:source",
            n_threads=self.options.n_threads,
            max_retries=self.options.max_retries,
            ports=ports,
        )

    def _table(self) -> FileTable:
        facts = self.evidence.files
        sums = [fact.checksum for fact in facts]
        return FileTable.from_columns(
            [fact.path for fact in facts],
            [fact.size for fact in facts],
            None if None in sums else [checksum or "" for checksum in sums],
        )

    def _hear(self, record: Record) -> None:
        self.evidence.told.append(Told(record.seq, type(record.event).__name__, self.journal.synced))

    def _is_done(self, client: UploadClient) -> bool:
        """What a person goes by: exit code 0, or only those files left that are wrong for good."""
        summary = client.summary()
        if summary.exit_code == 0:
            return True
        ends = {fact.path: fact.ends for fact in self.evidence.files}
        return summary.exit_code == 1 and all(ends[f.relpath] == f.state for f in summary.failed)

    def _note_end(self, life: Life, client: UploadClient | None, how: str) -> None:
        states: dict[str, str] = {} if client is None else {file.relpath: file.state for file in client.files()}
        seq = 0 if client is None else client.delivery.facts.seq
        outcome = ""
        if client is not None and how in ("done", "again"):
            summary = client.summary()
            outcome = f"{summary.outcome} {summary.exit_code}"
            self.tell("client", f"ended {summary.outcome} {summary.reason}: {summary.message}".rstrip(": "))
        self.evidence.ended.append(Ended(life.number, self.evidence.steps, how or "broken", seq, states, outcome))

    def _gathered(self) -> Evidence:
        evidence, keys = self.evidence, self.keys
        if not self.swarm.calm:
            evidence.calm_step = evidence.steps
        evidence.journal = self.journal.data
        found = self.control.read(keys.client_log)
        evidence.client_log = b"" if found is None else found[0]
        found = self.control.read(keys.validator_log)
        evidence.validator_logs.append(b"" if found is None else found[0])
        evidence.contents = self.store.contents()
        evidence.shown = self.store.shown
        evidence.uploads = self.store.open_uploads()
        evidence.final_lock = self.lock_holder()
        return evidence
