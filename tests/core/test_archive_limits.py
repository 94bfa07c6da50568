"""What only the archive knows of its limits is asked once it knows us; a wrong configuration is refused, and no crash."""

import attrs
import pytest

from tests.crash.world import World
from upload_core.errors import ArchiveUnavailableError, ConfigurationError, IdentityError, LockHeldError


def test_the_archives_own_staleness_of_locks_counts_from_the_first_look_at_the_lock():
    world = World()
    world.real["control"].put("lock/client", b"somebody else")
    world.ports.archive_limits = lambda limits: attrs.evolve(limits, lock_staleness_s=30.0)
    with pytest.raises(LockHeldError):
        world.client().run()
    world.ports.clock.sleep(31)
    assert world.client().run().exit_code in (0, 1)
    assert world.ports.limits.lock_staleness_s == 30.0


def test_they_are_asked_for_after_signing_in_and_before_the_lock(monkeypatch):
    world = World()
    order = []
    sign_in = world.ports.identity.sign_in

    def signing_in():
        order.append("sign in")
        return sign_in()

    def limits(known):
        order.append("limits")
        return known

    def watch(port, name):
        if port == "control":
            order.append(name)

    monkeypatch.setattr(world.ports.identity, "sign_in", signing_in)
    world.ports.archive_limits, world.calls.watcher = limits, watch
    world.client().run()
    assert order[:2] == ["sign in", "limits"]


def test_a_configuration_that_shows_itself_wrong_only_then_is_refused_and_no_crash():
    world = World()

    def wrong(limits):
        raise ConfigurationError("there is no such parameter; mend mast.toml")

    world.ports.archive_limits = wrong
    client = world.client()
    with pytest.raises(ConfigurationError, match="mend"):
        client.run()
    assert (client.summary().outcome, client.summary().exit_code) == ("refused", 2)
    assert "ClientCrashed" not in world.kinds()


@pytest.mark.parametrize("key", ["lock/client", "demo-1-staging-index.csv"])
def test_one_write_that_fails_at_the_beginning_ends_no_session(key):
    world = World()
    failures = [key]

    def fail(port, name, args):
        if (port, name) == ("control", "put") and args[0] in failures:
            failures.remove(args[0])
            raise ArchiveUnavailableError("once")

    world.calls.before = fail
    assert world.client().run().exit_code == 1  # one file is bad
    assert failures == []
    world.judge()


def test_a_worker_that_is_refused_for_its_credentials_ends_the_session_and_spends_no_retry():
    world = World()

    def refuse(port, name, args):
        if (port, name) == ("archive", "put"):
            raise IdentityError("the sign-in was revoked")

    world.calls.before = refuse
    summary = world.client().run()
    assert (summary.outcome, summary.exit_code) == ("interrupted", 5)
    assert summary.retries == 0
    assert "revoked" in summary.message
    world.calls.before = None
    assert world.client().run().exit_code == 1
    world.judge()
