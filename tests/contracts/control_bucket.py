"""What every `ControlBucket` promises. An adapter joins by a class of its own with the fixture `control`."""

import threading
from functools import partial

import pytest

from tests.contracts.racing import race, winners
from upload_core.errors import OffsetConflictError, PreconditionFailedError
from upload_core.ports import ControlBucket

KEY = "log/client_staging"
RIVALS = 50


class ControlBucketContract:
    """Join by a subclass that defines the fixture."""

    @pytest.fixture
    def control(self) -> ControlBucket:
        """An empty bucket."""
        raise NotImplementedError

    def content(self, control, key=KEY):
        found = control.read(key)
        return found and found[0]

    # --- reading and writing -----------------------------------------------------------------------

    def test_what_was_never_written_is_not_there(self, control):
        assert control.head(KEY) is None
        assert control.read(KEY) is None

    @pytest.mark.parametrize("data", [b"", b"x", b"line\nline\r\n\x00\xff", bytes(300_000)], ids=len)
    def test_what_is_put_can_be_read(self, control, data):
        info = control.put(KEY, data)
        assert self.content(control) == data
        for seen in (info, control.head(KEY), control.read(KEY)[1]):
            assert (seen.size, seen.etag) == (len(data), info.etag)

    @pytest.mark.parametrize("key", ["d-1-label.yaml", "d-1-staging-index.csv", "lock/client", "log/validator_sample"])
    def test_keys_are_independent(self, control, key):
        control.put(KEY, b"other")
        control.put(key, b"mine")
        assert (self.content(control), self.content(control, key)) == (b"other", b"mine")
        control.delete(key)
        assert (self.content(control), self.content(control, key)) == (b"other", None)

    def test_a_second_put_replaces_the_first(self, control):
        control.put(KEY, b"a longer first one")
        control.put(KEY, b"second")
        assert self.content(control) == b"second"

    @pytest.mark.parametrize(("start", "rest"), [(0, b"12345"), (2, b"345"), (4, b"5"), (5, b""), (6, b""), (999, b"")])
    def test_reading_starts_at_any_byte_and_beyond_the_end_there_is_nothing_yet(self, control, start, rest):
        control.put(KEY, b"12345")
        data, info = control.read(KEY, start)
        assert (data, info.size) == (rest, 5)

    def test_every_write_gives_a_new_etag_even_with_the_same_bytes(self, control):
        # A lock that is renewed must not look like the one that a rival saw before.
        etags = [control.put(KEY, b"same").etag for _ in range(20)]
        control.delete(KEY)
        etags += [control.put(KEY, b"same").etag for _ in range(20)]
        assert len(set(etags)) == len(etags)

    def test_an_age_is_counted_from_the_last_write(self, control):
        control.put(KEY, b"x")
        info = control.head(KEY)
        assert -1 <= info.age_s < 60
        assert control.read(KEY)[1].modified == info.modified

    # --- conditions --------------------------------------------------------------------------------

    def test_if_absent_creates_only_what_is_not_there(self, control):
        control.put(KEY, b"first", if_absent=True)
        with pytest.raises(PreconditionFailedError):
            control.put(KEY, b"second", if_absent=True)
        assert self.content(control) == b"first"

    def test_if_match_replaces_only_what_was_seen(self, control):
        seen = control.put(KEY, b"first").etag
        control.put(KEY, b"second", if_match=seen)
        with pytest.raises(PreconditionFailedError):
            control.put(KEY, b"third", if_match=seen)
        assert self.content(control) == b"second"

    def test_if_match_does_not_create(self, control):
        seen = control.put(KEY, b"first").etag
        control.delete(KEY)
        with pytest.raises(PreconditionFailedError):
            control.put(KEY, b"second", if_match=seen)
        assert control.head(KEY) is None

    def test_deleting_what_is_not_there_is_no_error(self, control):
        control.delete(KEY)
        control.delete(KEY, if_match='"0123"')

    def test_if_match_deletes_only_what_was_seen(self, control):
        seen = control.put(KEY, b"first").etag
        now = control.put(KEY, b"second").etag
        with pytest.raises(PreconditionFailedError):
            control.delete(KEY, if_match=seen)
        assert self.content(control) == b"second"
        control.delete(KEY, if_match=now)
        assert control.head(KEY) is None

    # --- append ------------------------------------------------------------------------------------

    def test_appends_follow_each_other(self, control):
        assert control.append(KEY, b"one\n", offset=0).size == 4
        assert control.append(KEY, b"two\n", offset=4).size == 8
        assert self.content(control) == b"one\ntwo\n"

    def test_an_append_goes_on_after_a_put(self, control):
        control.put(KEY, b"one\n")
        control.append(KEY, b"two\n", offset=4)
        assert self.content(control) == b"one\ntwo\n"

    @pytest.mark.parametrize("offset", [0, 3, 5, 100])
    def test_an_append_at_another_offset_writes_nothing(self, control, offset):
        control.put(KEY, b"one\n")
        with pytest.raises(OffsetConflictError):
            control.append(KEY, b"two\n", offset=offset)
        assert self.content(control) == b"one\n"

    def test_an_append_beyond_nothing_creates_nothing(self, control):
        with pytest.raises(OffsetConflictError):
            control.append(KEY, b"two\n", offset=4)
        assert control.head(KEY) is None

    def test_an_append_changes_the_etag(self, control):
        seen = control.put(KEY, b"one\n").etag
        appended = control.append(KEY, b"two\n", offset=4)
        assert appended.etag == control.head(KEY).etag
        assert appended.etag != seen
        with pytest.raises(PreconditionFailedError):
            control.put(KEY, b"x", if_match=seen)

    # --- races -------------------------------------------------------------------------------------

    def test_of_all_who_create_exactly_one_does(self, control):
        bodies = [b"%d" % number for number in range(RIVALS)]
        results = race([partial(control.put, KEY, body, if_absent=True) for body in bodies])
        assert len(winners(results)) == 1
        assert all(isinstance(r, PreconditionFailedError) for r in results if r not in winners(results))
        assert self.content(control) == bodies[results.index(winners(results)[0])]

    def test_of_all_who_replace_the_same_object_exactly_one_does(self, control):
        seen = control.put(KEY, b"first").etag
        results = race([partial(control.put, KEY, b"%d" % number, if_match=seen) for number in range(RIVALS)])
        assert len(winners(results)) == 1

    def test_of_all_who_append_at_one_offset_exactly_one_does(self, control):
        results = race([partial(control.append, KEY, b"row %02d\n" % number, offset=0) for number in range(RIVALS)])
        assert len(winners(results)) == 1
        assert all(isinstance(r, OffsetConflictError) for r in results if r not in winners(results))
        assert self.content(control) == b"row %02d\n" % results.index(winners(results)[0])

    def test_a_reader_sees_whole_appends_only(self, control):
        row = b"x" * 999 + b"\n"
        done = threading.Event()
        torn = []

        def read() -> None:
            while not done.is_set():
                found = control.read(KEY)
                if found is not None and (len(found[0]) % len(row) or len(found[0]) > found[1].size):
                    torn.append(len(found[0]))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for number in range(100):
                control.append(KEY, row, offset=number * len(row))
        finally:
            done.set()
            reader.join()
        assert torn == []

    def test_a_reader_sees_whole_puts_only(self, control):
        done = threading.Event()
        torn = []
        key = "d-1-staging-index.csv"
        control.put(key, b"0" * 50_000)

        def read() -> None:
            while not done.is_set():
                data, info = control.read(key)
                if len(set(data)) != 1 or len(data) != info.size:
                    torn.append(data[:10])

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for number in range(100):
                control.put(key, b"%d" % (number % 10) * (50_000 + number))
        finally:
            done.set()
            reader.join()
        assert torn == []
