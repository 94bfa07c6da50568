"""Starting the pipeline: asked once per run however often, its answer read strictly, its reasons passed on."""

import threading
import time
from typing import Any

import attrs
import pytest
from botocore.exceptions import ClientError

from tests.emulator import Fault
from upload_adapters.aws.pipeline import LambdaPipeline, client_config
from upload_adapters.aws.s3_control import S3ControlBucket
from upload_core.errors import ArchiveUnavailableError, ConfigurationError, IdentityError, PipelineError
from upload_core.wire import Keys, encode_rows

ARN = "arn:aws:lambda:us-east-1:000000000000:function:init"
KEYS = Keys("d", "1", "staging")
START: dict[str, Any] = {"agent_id": "us", "idempotency_key": "us:1", "client_config": None}


class Init:
    """A pipeline's function that remembers what it was asked and answers what a test wants."""

    def __init__(self):
        self.asked = []
        self.answer: object = "status: success"
        self.before = lambda: None

    def __call__(self, payload):
        self.asked.append(payload)
        self.before()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def init(aws):
    aws.functions.by_name["init"] = Init()
    return aws.functions.by_name["init"]


@pytest.fixture
def bucket(archive_places):
    return archive_places.bucket(directory=True)


@pytest.fixture
def control(bucket):
    return S3ControlBucket(lambda: bucket)


@pytest.fixture
def connect(aws, archive_places):
    return lambda config: archive_places.session.client("lambda", endpoint_url=aws.url, config=config)


@pytest.fixture
def pipeline(connect, control):
    return LambdaPipeline(connect, lambda: ARN, control, KEYS)


def row(category, status, message="", *, ago_s=0):
    time_ms = int((time.time() - ago_s) * 1000)
    return encode_rows([(time_ms, category, "self", status, message, "validator")], backslash_escapes=True)


def age(aws, bucket, key, seconds):
    objects = aws.store.bucket(bucket.name).objects
    objects[key] = attrs.evolve(objects[key], modified=objects[key].modified - seconds)


# ── asking ───────────────────────────────────────────────────────────────────────────────────────


def test_the_function_is_asked_for_this_delivery(pipeline, init):
    assert pipeline.start(**START) == ""
    assert init.asked == [
        {"dataset": "d", "delivery_id": "1", "transfer_type": "staging", "agent_id": "us", "idempotency_key": "us:1"}
    ]


RUNNING = "status: error\ndetails: a validation task is already running for this transfer\nstep: validation task check"


def test_a_validator_at_work_is_attached_to(pipeline, init, control):
    init.answer = RUNNING
    control.put(KEYS.validator_lock, b"validator")
    answer = pipeline.start(**START)
    assert "already running" in answer


def test_a_machine_whose_validator_has_ended_is_no_run_and_the_next_is_asked_for_until_it_starts(
    pipeline, init, control
):
    control.append(KEYS.validator_log, row("init", "ok") + row("stop", "ok"), offset=0)
    init.answer = RUNNING
    init.before = lambda: setattr(init, "answer", RUNNING if len(init.asked) < 2 else "status: success")
    assert pipeline.start(**START) == ""
    assert [asked["idempotency_key"] for asked in init.asked] == ["us:1", "us:1"]


def test_a_machine_whose_validator_has_yet_to_begin_is_attached_to_once_it_has(pipeline, init, control):
    init.answer = RUNNING
    init.before = lambda: control.put(KEYS.validator_lock, b"validator") if len(init.asked) == 2 else None
    assert "already running" in pipeline.start(**START)
    assert len(init.asked) == 2


def test_a_machine_that_goes_on_without_a_validator_is_the_archives_affair(connect, init, control):
    init.answer = RUNNING
    pipeline = LambdaPipeline(connect, lambda: ARN, control, KEYS, wind_down_s=0.1)
    with pytest.raises(PipelineError, match="no validator is at work"):
        pipeline.start(**START)


def test_another_invocation_at_work_is_waited_for(pipeline, init):
    init.answer = "status: error\ndetails: duplicate function execution, terminating\nstep: idempotency"
    assert "already running" not in pipeline.start(**START)


@pytest.mark.promise("R15")
@pytest.mark.parametrize("kind", ["lost", "refused", "reset", "duplicate", "duplicate_last"])
def test_a_lost_answer_is_answered_by_asking_again_with_the_same_key(pipeline, init, aws, kind, figure):
    aws.order(Fault(kind, operation="Invoke", code="InternalError"))
    pipeline.start(**START)
    assert {asked["idempotency_key"] for asked in init.asked} == {"us:1"}
    figure(1, "requests repeated under their key")


def test_when_nobody_answers_at_all_the_archive_is_unavailable(pipeline, init, aws):
    aws.order(Fault("lost", operation="Invoke", times=0))
    with pytest.raises(ArchiveUnavailableError):
        pipeline.start(**START)
    assert len(init.asked) == 3


def test_what_nobody_answered_is_not_asked_for_again_while_the_function_is_at_work(pipeline, init, control, aws):
    # an invocation that finds another at work takes the lock away, and the one after it would start a second run
    aws.order(Fault("lost", operation="Invoke"))
    at_work = []

    def work():
        at_work.append(control.head(KEYS.lambda_lock) is not None)
        if len(init.asked) == 1:
            control.put(KEYS.lambda_lock, b"exid")
            threading.Timer(0.5, control.delete, (KEYS.lambda_lock,)).start()

    init.before = work
    pipeline.start(**START)
    assert at_work == [False, False]


def test_it_is_waited_for_in_a_later_attempt_too_when_nobody_could_be_asked(pipeline, init, control, aws):
    aws.order(Fault("lost", operation="Invoke", times=3))
    with pytest.raises(ArchiveUnavailableError):
        pipeline.start(**START)
    control.put(KEYS.lambda_lock, b"exid")
    threading.Timer(0.5, control.delete, (KEYS.lambda_lock,)).start()
    init.before = lambda: init.asked.append(control.head(KEYS.lambda_lock))
    pipeline.start(**START)
    assert init.asked[-1] is None


def test_a_lock_that_a_killed_invocation_left_is_waited_for_no_longer_than_one_may_take(
    connect, init, control, aws, bucket
):
    pipeline = LambdaPipeline(connect, lambda: ARN, control, KEYS)
    control.put(KEYS.lambda_lock, b"exid")
    age(aws, bucket, KEYS.lambda_lock, 200)
    aws.order(Fault("lost", operation="Invoke"))
    pipeline.start(**START)
    assert len(init.asked) == 2


def test_each_request_is_one_attempt(pipeline, init, aws):
    fault = aws.order(Fault("refused", operation="Invoke", code="SlowDown", times=0))
    with pytest.raises(ArchiveUnavailableError):
        pipeline.start(**START)
    assert fault.fired == 3


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────


def test_the_archives_reason_is_told(pipeline, init):
    init.answer = "status: error\ndetails: transfer app lockfile invalid or not present\nstep: check lock"
    with pytest.raises(PipelineError, match=r"'check lock'.*lockfile invalid"):
        pipeline.start(**START)
    assert len(init.asked) == 1


def test_the_reason_in_the_validators_log_is_told_too(pipeline, init, control, aws, bucket):
    control.append(KEYS.validator_log, row("init", "failure", "an old reason"), offset=0)

    def start_badly():
        rows = (
            row("init", "failure", 'label: "refused"\nwhy: no such dataset')
            + row("shutdown", "error")
            + row("stop", "ok")
        )
        control.append(KEYS.validator_log, rows, offset=control.head(KEYS.validator_log).size)

    init.before = start_badly
    init.answer = "pipeline application failed to start"
    with pytest.raises(PipelineError, match="no such dataset") as caught:
        pipeline.start(**START)
    assert "old reason" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, {}, "", "yes", {"status": "success"}])
def test_an_answer_that_is_none_is_quoted(pipeline, init, answer):
    init.answer = answer
    with pytest.raises(PipelineError, match="not understood"):
        pipeline.start(**START)


def test_a_function_that_fails_is_a_pipeline_error_of_both_kinds(pipeline, init):
    init.answer = RuntimeError("out of memory")
    with pytest.raises(PipelineError, match=r"RuntimeError.*out of memory") as caught:
        pipeline.start(**START)
    assert isinstance(caught.value, ClientError)


def test_a_function_that_is_not_there_is_a_matter_of_configuration(pipeline):
    with pytest.raises(ConfigurationError, match="ResourceNotFoundException"):
        pipeline.start(**START)


def test_credentials_that_expired_are_the_identitys_affair(pipeline, init, aws):
    aws.order(Fault("refused", operation="Invoke", code="ExpiredToken"))
    with pytest.raises(IdentityError):
        pipeline.start(**START)


# ── its configuration ────────────────────────────────────────────────────────────────────────────


def test_the_configuration_is_honoured_over_one_attempt_and_300_s():
    ours = client_config(None)
    assert (ours.read_timeout, ours.retries["total_max_attempts"]) == (300.0, 1)
    given = client_config({"read_timeout": 5, "retries": {"total_max_attempts": 2}, "user_agent_extra": "host"})
    assert (given.read_timeout, given.retries["total_max_attempts"], given.user_agent_extra) == (5, 2, "host")
    assert given.connect_timeout == 10


@pytest.mark.parametrize(
    "wrong", [{"no_such_setting": 1}, {"retries": {"mode": "odd"}}, {"retries": {"total_max_attempts": 0}}]
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_asked(pipeline, init, wrong):
    with pytest.raises(ConfigurationError, match="lambda_client_config"):
        pipeline.start(**{**START, "client_config": wrong})
    assert init.asked == []


def test_a_timeout_of_the_hosts_is_kept(pipeline, init, aws):
    aws.order(Fault("hang", operation="Invoke", seconds=30, times=0))
    started = time.monotonic()
    with pytest.raises(ArchiveUnavailableError):
        pipeline.start(**{**START, "client_config": {"read_timeout": 0.2}})
    assert time.monotonic() - started < 10


# ── is a validator at work? ──────────────────────────────────────────────────────────────────────


def test_without_a_lock_there_is_none(pipeline, control):
    control.append(KEYS.validator_log, row("init", "ok"), offset=0)
    assert not pipeline.is_running()


def test_with_a_lock_there_is_one_until_its_log_says_stop(pipeline, control):
    control.put(KEYS.validator_lock, b"validator")
    assert pipeline.is_running()
    size = control.append(KEYS.validator_log, row("init", "ok"), offset=0).size
    assert pipeline.is_running()
    control.append(KEYS.validator_log, row("shutdown", "ok", "a: |\n  b\tstop\n") + row("stop", "ok"), offset=size)
    assert not pipeline.is_running()


def test_a_message_that_looks_like_a_stop_row_is_none(pipeline, control):
    control.put(KEYS.validator_lock, b"validator")
    hostile = "x\n" + row("stop", "ok").decode()
    control.append(KEYS.validator_log, row("init", "ok") + row("validation", "failure", hostile), offset=0)
    assert pipeline.is_running()


def test_a_validator_that_was_killed_is_known_by_its_silence(pipeline, control, aws, bucket):
    control.put(KEYS.validator_lock, b"validator")
    control.append(KEYS.validator_log, row("init", "ok"), offset=0)
    age(aws, bucket, KEYS.validator_lock, 600)
    assert pipeline.is_running()
    age(aws, bucket, KEYS.validator_log, 121)
    assert not pipeline.is_running()


def test_only_the_end_of_a_long_log_is_read(pipeline, control, aws):
    control.put(KEYS.validator_lock, b"validator")
    control.append(KEYS.validator_log, row("validation", "ok", "x" * 100) * 5_000, offset=0)
    assert pipeline.is_running()
    assert "range" in aws.log("GetObject")[-1].headers


def test_asking_from_two_threads_is_as_good_as_from_one(pipeline, init):
    threads = [threading.Thread(target=pipeline.start, kwargs=START) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(init.asked) == 4
