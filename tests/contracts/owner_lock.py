"""What the lock promises on every control bucket. An adapter joins with the fixtures `control` and `make_old`."""

from collections.abc import Callable

import pytest

from tests.contracts.racing import race, winners
from upload_core.errors import LockHeldError, LockLostError
from upload_core.owner_lock import OwnerLock
from upload_core.ports import ControlBucket

KEY = "lock/client"
STALENESS_S = 3600.0
RIVALS = 50


class OwnerLockContract:
    """Join by a subclass that defines both fixtures."""

    @pytest.fixture
    def control(self) -> ControlBucket:
        """An empty bucket."""
        raise NotImplementedError

    @pytest.fixture
    def make_old(self, control: ControlBucket) -> Callable[[str, float], None]:
        """(key, seconds): let the object look as if it had been written that much earlier."""
        raise NotImplementedError

    def lock(self, control, agent="us"):
        return OwnerLock(control, KEY, agent, STALENESS_S)

    def owner(self, control):
        found = control.read(KEY)
        return found and found[0].decode()

    def test_a_free_lock_is_taken_and_given_back(self, control):
        ours = self.lock(control)
        assert ours.acquire().taken_over == ""
        assert self.owner(control) == "us"
        assert ours.release()
        assert control.head(KEY) is None
        assert not ours.release()

    def test_a_held_lock_is_not_taken(self, control):
        self.lock(control, "them").acquire()
        with pytest.raises(LockHeldError) as caught:
            self.lock(control).acquire()
        assert caught.value.holder == "them"
        assert caught.value.since == control.head(KEY).modified
        assert self.owner(control) == "them"

    def test_the_same_agent_re_enters_its_own_lock_at_once(self, control):
        self.lock(control).acquire()
        again = self.lock(control)
        assert again.acquire().taken_over == ""
        again.renew()

    def test_a_stale_lock_is_taken_over(self, control, make_old):
        theirs = self.lock(control, "them")
        theirs.acquire()
        make_old(KEY, STALENESS_S + 5)
        assert self.lock(control).acquire().taken_over == "them"
        with pytest.raises(LockLostError, match="'us'"):
            theirs.renew()
        assert not theirs.release()
        assert self.owner(control) == "us"

    def test_a_lock_that_is_not_quite_stale_is_left_alone(self, control, make_old):
        self.lock(control, "them").acquire()
        make_old(KEY, STALENESS_S - 60)
        with pytest.raises(LockHeldError):
            self.lock(control).acquire()

    def test_renewing_makes_it_young_again(self, control, make_old):
        ours = self.lock(control)
        ours.acquire()
        make_old(KEY, STALENESS_S + 5)
        ours.renew()
        assert control.head(KEY).age_s < 60
        with pytest.raises(LockHeldError):
            self.lock(control, "them").acquire()

    def test_a_lock_can_be_renewed_many_times(self, control):
        ours = self.lock(control)
        etags = {ours.acquire().etag, *(ours.renew().etag for _ in range(20))}
        assert len(etags) == 21
        assert ours.release()

    def test_a_deleted_lock_is_lost(self, control):
        ours = self.lock(control)
        ours.acquire()
        control.delete(KEY)
        with pytest.raises(LockLostError):
            ours.renew()
        assert control.head(KEY) is None

    @pytest.mark.promise("R12")
    def test_of_all_who_race_for_a_free_lock_exactly_one_wins(self, control, figure):
        agents = [f"agent-{number}" for number in range(RIVALS)]
        results = race([self.lock(control, agent).acquire for agent in agents])
        self.check(control, agents, results)
        figure(1, f"races of {RIVALS} clients")

    @pytest.mark.promise("R12")
    def test_of_all_who_race_for_a_stale_lock_exactly_one_wins(self, control, make_old, figure):
        self.lock(control, "them").acquire()
        make_old(KEY, STALENESS_S + 5)
        agents = [f"agent-{number}" for number in range(RIVALS)]
        results = race([self.lock(control, agent).acquire for agent in agents])
        assert self.check(control, agents, results).taken_over == "them"
        figure(1, f"races of {RIVALS} clients")

    def check(self, control, agents, results):
        [won] = winners(results)
        winner = agents[results.index(won)]
        assert self.owner(control) == winner
        losers = [result for result in results if result is not won]
        assert all(isinstance(result, LockHeldError) and result.holder == winner for result in losers)
        return won
