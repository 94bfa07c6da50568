"""New keys are fetched aside while the old ones work: a person who is asked meanwhile stops nobody's work."""

import threading
import time

import pytest

from upload_adapters.aws import credentials
from upload_adapters.aws.credentials import Renewal, RoleCredentials, renewing_session
from upload_core.errors import ArchiveUnavailableError, IdentityError

LIFETIME_S = 3600.0


class Source:
    """Gives keys that live an hour; each fetch after the first waits until it is `let`, and then raises `error`."""

    def __init__(self):
        self.now_s = 0.0
        self.fetched = 0
        self.threads = []
        self.error = None
        self.go = threading.Event()

    def now(self):
        return self.now_s

    def fetch(self):
        self.fetched += 1
        self.threads.append(threading.current_thread())
        if self.fetched > 1:
            assert self.go.wait(60)
            if self.error is not None:
                raise self.error
        return RoleCredentials(f"key{self.fetched}", "s", "t", self.now_s + LIFETIME_S)


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(credentials, "SOON_S", 0.05)
    made = Source()
    yield made
    made.go.set()


@pytest.fixture
def renewal(source):
    return Renewal(source.fetch, source.now)


def settled(renewal):
    renewal._aside.join(60)
    return renewal.keys().access_key


def test_keys_that_are_good_for_long_are_not_fetched_anew(renewal, source):
    source.now_s = LIFETIME_S - credentials.RENEW_S - 1
    assert (renewal.keys().access_key, source.fetched) == ("key1", 1)


def test_what_comes_at_once_is_waited_for(renewal, source, monkeypatch):
    monkeypatch.setattr(credentials, "SOON_S", 60)
    source.go.set()
    source.now_s = LIFETIME_S - credentials.RENEW_S + 1
    assert (renewal.keys().access_key, source.fetched) == ("key2", 2)


def test_a_person_who_thinks_keeps_nobody_from_the_old_keys_and_is_asked_once(renewal, source):
    for left_s in (credentials.RENEW_S - 1, 500, credentials.BLOCK_S + 1):
        source.now_s = LIFETIME_S - left_s
        assert renewal.keys().access_key == "key1"
    assert source.fetched == 2
    assert source.threads[1] is not threading.current_thread()
    assert source.threads[1].daemon, "it keeps no process from ending"
    source.go.set()
    assert settled(renewal) == "key2"
    assert source.fetched == 2


def test_whoever_cannot_wait_any_longer_waits_for_the_answer_that_is_under_way(renewal, source):
    source.now_s = LIFETIME_S - credentials.RENEW_S + 1
    renewal.keys()
    source.now_s = LIFETIME_S - credentials.BLOCK_S + 1
    threading.Timer(0.2, source.go.set).start()
    assert (renewal.keys().access_key, source.fetched) == ("key2", 2)


def test_a_failure_aside_is_told_to_nobody_until_the_old_keys_end(renewal, source):
    source.error = ArchiveUnavailableError("away")
    source.go.set()
    for left_s, fetched in ((800, 2), (790, 2), (700, 3)):  # it is tried now and then
        source.now_s = LIFETIME_S - left_s
        assert renewal.keys().access_key == "key1"
        assert settled(renewal) == "key1"
        assert source.fetched == fetched
    source.error = IdentityError("no")
    source.now_s = LIFETIME_S - 1
    with pytest.raises(IdentityError, match="no"):
        renewal.keys()
    assert source.threads[-1] is threading.current_thread()


def test_requests_go_on_through_boto3_while_a_person_is_asked(monkeypatch):
    monkeypatch.setattr(credentials, "BLOCK_S", 0.5)
    asked, answered = threading.Event(), threading.Event()
    fetched = []

    def fetch():
        fetched.append(threading.current_thread())
        if len(fetched) > 1:
            asked.set()
            assert answered.wait(60)
        return RoleCredentials(f"key{len(fetched)}", "s", "t", time.time() + 12)

    keys = renewing_session(fetch, region="us-east-1").get_credentials()
    time.sleep(6.1)  # half their life
    began = time.monotonic()
    assert keys.get_frozen_credentials().access_key == "key1"
    assert time.monotonic() - began < 4, "it waits a second at most"
    assert asked.is_set()
    assert [keys.get_frozen_credentials().access_key for _ in range(20)] == ["key1"] * 20
    answered.set()
    fetched[1].join(60)
    assert keys.get_frozen_credentials().access_key == "key2"
    assert len(fetched) == 2
