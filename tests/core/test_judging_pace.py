"""How many files the validator is told of before it has judged some: it writes of none before it has judged all it has."""

from upload_core import commands as cmd
from upload_core import effects as fx
from upload_core import events as ev
from upload_core.delivery import Delivery
from upload_core.files import FileTable
from upload_core.lifecycle import DONE, REPORTED
from upload_core.sessions import UNJUDGED_MIN, UNJUDGED_S
from upload_core.validation import Entry

COUNT = 60_000
NAMES = [f"{number:06}" for number in range(COUNT)]
CREATED = ev.DeliveryCreated("d", "1", "staging", "us", "src", "dst", "digest", files=COUNT)
RUN = [ev.SessionOpened(1, "us", 1, 3), ev.LockAcquired("etag"), ev.PipelineRequested("key", 0)]


class Talk:
    """A delivery whose files are all stored, and a validator that judges so many in a second."""

    def __init__(self) -> None:
        self.delivery = Delivery.begin(CREATED, FileTable.from_columns(NAMES, [1] * COUNT, None))
        for event in [*RUN, ev.ValidatorStarted("", "v"), ev.RunConfirmed()]:
            self.delivery.apply(event, 1_000)
        self.delivery.states[:] = bytes([DONE]) * COUNT
        self.delivery.refresh_derived()
        self.now_ms, self.judged, self.offset = 1_000, 0, 0

    def tell(self) -> int:
        """One turn of ours: how many files are announced."""
        self.now_ms += 1_000
        decision = self.delivery.decide(cmd.Tick(), self.now_ms)
        told = [effect for effect in decision.effects if isinstance(effect, fx.ReportFiles)]
        assert len(told) <= 1
        for effect in told:
            for event in self.delivery.decide(cmd.FilesReported(effect.stored, (), 1), self.now_ms).events:
                self.delivery.apply(event, self.now_ms)
        return sum(len(effect.stored) for effect in told)

    def judge(self, count: int) -> None:
        """The validator writes of the next so many that it was told of."""
        found = []
        for name in NAMES[self.judged : self.judged + min(count, self.delivery.counts[REPORTED])]:
            self.offset += 50
            found.append(Entry(self.offset, "2027-01-15T08:00:00.000Z", "validation", name, "ok", "", "v"))
        self.judged += len(found)
        for event in self.delivery.decide(cmd.ValidatorLogFound(found, self.offset + 50), self.now_ms).events:
            self.delivery.apply(event, self.now_ms)


def test_before_it_has_judged_any_it_is_told_of_so_many():
    talk = Talk()
    assert [talk.tell() for _ in range(5)] == [UNJUDGED_MIN, 0, 0, 0, 0]


def test_a_slow_one_is_never_owed_more_than_it_judges_in_a_while():
    talk = Talk()
    for _ in range(600):
        talk.tell()
        assert talk.delivery.counts[REPORTED] <= max(UNJUDGED_MIN, 80 * UNJUDGED_S)
        talk.judge(80)
    assert talk.judged == 600 * 80, "it never had to wait for us"


def test_a_fast_one_is_soon_told_of_all_that_is_stored():
    talk = Talk()
    turns = 0
    while talk.delivery.counts[DONE]:
        talk.tell()
        talk.judge(COUNT)
        turns += 1
    assert turns < 20


def test_one_that_writes_in_bursts_is_not_taken_for_slow():
    talk = Talk()
    for turn in range(200):
        talk.tell()
        if turn % 5 == 4:
            talk.judge(1_000)
    assert talk.judged > 0.9 * 200 / 5 * 1_000


def test_a_validator_that_judges_nothing_more_is_noticed_although_files_are_left_to_tell_it_of():
    talk = Talk()
    talk.tell()
    talk.now_ms += int(talk.delivery.limits.verdict_wait_s * 1000) + 1
    talk.delivery.facts.heard_ms = talk.now_ms
    kinds = [type(event) for event in talk.delivery.decide(cmd.Tick(), talk.now_ms).events]
    assert kinds == [ev.ValidatorLost]
