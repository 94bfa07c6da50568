"""Every way in which AWS can fail has one meaning: our error, whether to try again, whose fault, and what to do."""

import ast
import gzip
import inspect
import json
import pickle
import traceback
from pathlib import Path

import botocore
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from upload_adapters.aws import errors as aws_errors
from upload_adapters.aws.credentials import role_for_delivery
from upload_adapters.aws.errors import (
    CODES,
    EXCEPTIONS,
    STATUSES,
    AwsChecksumMismatchError,
    AwsError,
    AwsIdentityError,
    Meaning,
    may_retry,
    meaning_of,
    translate,
    translated,
)
from upload_adapters.aws.network import parse_network_parameters
from upload_adapters.aws.s3_copy import origin_pinned
from upload_adapters.aws.s3_stored import must_match
from upload_adapters.aws.transport import transport
from upload_core import errors as core_errors
from upload_core.effects import Fault
from upload_core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ChecksumMismatchError,
    ConfigurationError,
    IdentityError,
    OffsetConflictError,
    PipelineError,
    PreconditionFailedError,
    SourceError,
    UploadClientError,
)
from upload_core.worker import fault_of

AWS = Path(aws_errors.__file__).parent
MEANINGS = {name: value for name, value in vars(aws_errors).items() if isinstance(value, Meaning)}


def refusal(code="", status=0, **details) -> ClientError:
    response = {"Error": {"Code": code, "Message": "why", **details}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def botocore_exceptions() -> list[type[Exception]]:
    return [
        found
        for _, found in inspect.getmembers(botocore.exceptions, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == "botocore.exceptions" and not issubclass(found, Warning)
    ]


def modelled_codes() -> set[str]:
    """Every error that AWS's own models name for the operations we use."""
    used = {
        "s3": {
            *("PutObject", "GetObject", "HeadObject", "DeleteObject", "CopyObject", "ListObjectsV2", "UploadPart"),
            *("CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "ListParts", "CreateSession"),
        },
        "ssm": {"GetParameter"},
        "lambda": {"Invoke"},
    }
    codes = set()
    for service, operations in used.items():
        path = sorted(Path(botocore.__file__).parent.glob(f"data/{service}/*/service-2.json.gz"))[-1]
        model = json.loads(gzip.decompress(path.read_bytes()))
        assert operations <= model["operations"].keys()
        for operation in operations:
            for error in model["operations"][operation].get("errors", []):
                named = model["shapes"][error["shape"]].get("error", {}).get("code", error["shape"])
                codes.add(named)
    return codes


# ── the table is total ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", botocore_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_of_botocore_has_a_meaning(kind):
    if issubclass(kind, ClientError):
        error = kind({"Error": {"Code": "Odd"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "PutObject")
    else:
        error = kind.__new__(kind)
    assert any(parent.__name__ in EXCEPTIONS for parent in kind.__mro__) or issubclass(kind, ClientError)
    assert meaning_of(error) in MEANINGS.values()


def test_an_answer_that_cannot_be_parsed_has_one_too():
    assert meaning_of(ResponseParserError("cut")).error is aws_errors.AwsUnavailableError


@pytest.mark.parametrize("code", sorted(modelled_codes()))
def test_every_error_that_aws_models_for_our_calls_has_a_meaning(code):
    assert meaning_of(refusal(code, 400)) in MEANINGS.values()


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_has_a_meaning_without_a_code(status):
    meaning = meaning_of(refusal("NeverHeardOf", status))
    assert meaning.retry == (status >= 500 or status in {408, 407, 409, 429})


def test_a_refusal_without_code_and_status_may_pass():
    assert may_retry(translate(refusal(), "x"))


def test_no_status_stands_in_two_ranges_before_its_own():
    singles = [statuses for statuses, _ in STATUSES if len(statuses) == 1]
    wide = [statuses for statuses, _ in STATUSES if len(statuses) > 1]
    assert len({statuses.start for statuses in singles}) == len(singles)
    assert sorted((statuses.start, statuses.stop) for statuses in wide) == [(300, 400), (400, 500), (500, 600)]


def test_every_meaning_is_used_and_says_what_to_do():
    used = {id(m) for m in [*CODES.values(), *EXCEPTIONS.values(), *(meaning for _, meaning in STATUSES)]}
    used.add(id(aws_errors.UNTRUSTED))  # told by what the exception says
    assert used == {id(meaning) for meaning in MEANINGS.values()}
    assert all(meaning.advice for meaning in MEANINGS.values())


@pytest.mark.parametrize("name", sorted(MEANINGS))
def test_the_core_blames_whom_the_table_blames(name):
    meaning = MEANINGS[name]
    assert fault_of(meaning.error("x", {})) is meaning.fault


def test_only_what_is_refused_for_good_is_a_files_fault():
    blamed = {name for name, meaning in MEANINGS.items() if meaning.fault not in (Fault.WORLD, Fault.IDENTITY)}
    assert blamed == {"REFUSED", "PRECONDITION", "OFFSET"}
    assert not any(MEANINGS[name].retry for name in blamed)


# ── what is raised ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refusal("SlowDown", 503), ArchiveUnavailableError),
        (refusal("InternalError", 500), ArchiveUnavailableError),
        (refusal("RequestTimeTooSkewed", 403), ArchiveUnavailableError),
        (refusal("BadDigest", 400), ArchiveUnavailableError),
        (refusal("ConditionalRequestConflict", 409), ArchiveUnavailableError),
        (refusal("ExpiredToken", 400), IdentityError),
        (refusal("AccessDenied", 403), IdentityError),
        (refusal("403", 403), IdentityError),
        (refusal("400", 400), IdentityError),
        (refusal("NoSuchBucket", 404), ConfigurationError),
        (refusal("ParameterNotFound", 400), ConfigurationError),
        (refusal("PreconditionFailed", 412), PreconditionFailedError),
        (refusal("InvalidWriteOffset", 400), OffsetConflictError),
        (refusal("KeyTooLongError", 400), ArchiveError),
        (refusal("EntityTooLarge", 400), ArchiveError),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), ArchiveUnavailableError),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), ArchiveUnavailableError),
        (botocore.exceptions.NoCredentialsError(), IdentityError),
        (botocore.exceptions.NoRegionError(), ConfigurationError),
        (botocore.exceptions.SSLError(endpoint_url="x", error="CERTIFICATE_VERIFY_FAILED"), ConfigurationError),
        (botocore.exceptions.SSLError(endpoint_url="x", error="EOF"), ArchiveUnavailableError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:60],
)
def test_what_is_raised_is_ours_and_botocores_at_once(error, expected):
    raised = translate(error, "storing 'a.fits'")
    assert isinstance(raised, expected)
    assert isinstance(raised, UploadClientError)
    assert isinstance(raised, ClientError)
    assert "storing 'a.fits'" in str(raised)
    assert set(raised.response) >= {"Error", "ResponseMetadata"}
    assert raised.response["Error"]["Code"]


def test_a_refusal_for_good_is_not_taken_for_an_outage():
    assert not isinstance(translate(refusal("KeyTooLongError", 400), "x"), ArchiveUnavailableError)


def test_every_error_class_of_ours_can_cross_a_process():
    for kind in AwsError.__subclasses__():
        there = pickle.loads(pickle.dumps(kind("what", {"Error": {"Code": "C"}}, "PutObject")))
        assert (type(there), str(there), there.code, there.operation_name) == (kind, "what", "C", "PutObject")
    assert issubclass(aws_errors.AwsPipelineError, PipelineError)


NOT_OF_AWS = {
    "NotReadyError": "a host that calls in the wrong order",
    "LockLostError": "the core's own way to stop",
    "CutError": "the same",
}


@pytest.mark.parametrize("module", sorted(path.name for path in AWS.glob("*.py")))
def test_no_adapter_makes_an_error_that_is_not_botocores_too(module):
    """A plain error of the core would get past a host that catches botocore's."""
    made = {
        node.func.id
        for node in ast.walk(ast.parse((AWS / module).read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    plain = {name for name in made if name in vars(core_errors)} - NOT_OF_AWS.keys()
    assert plain == set()


def test_what_is_found_wrong_here_looks_like_an_answer_of_aws():
    error = AwsIdentityError("nobody is signed in")
    assert (str(error), error.code) == ("nobody is signed in", "Identity")
    assert error.response == {"Error": {"Code": "Identity", "Message": str(error)}, "ResponseMetadata": {}}
    for kind in AwsError.__subclasses__():
        alone = kind("what")
        assert alone.code
        assert isinstance(alone, CODES[alone.code].error if alone.code in CODES else kind), "AWS's own means the same"
        assert may_retry(alone) == isinstance(alone, ArchiveUnavailableError)


def test_a_wrong_checksum_names_its_file_and_both_sums_in_another_process_too():
    error = AwsChecksumMismatchError.of("a.fits", expected="E===", actual="A===")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (each.relpath, each.expected, each.actual) == ("a.fits", "E===", "A===")
        assert str(each) == str(core_errors.ChecksumMismatchError("a.fits", expected="E===", actual="A==="))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (ChecksumMismatchError, lambda: must_match("a", "E===", "A===")),
        (IdentityError, lambda: role_for_delivery([], "d", "1")),
        (ConfigurationError, lambda: parse_network_parameters("{}")),
        (ConfigurationError, lambda: transport("pigeon")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_we_refuse_by_ourselves_is_botocores_error_too(kind, call):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ClientError)
    assert caught.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("PreconditionFailed", 412, SourceError),
        ("NoSuchKey", 404, SourceError),
        ("InvalidObjectState", 403, SourceError),
    ],
)
def test_an_origin_that_is_another_is_a_source_error_and_botocores(code, status, kind):
    with pytest.raises(kind) as caught, origin_pinned("a.fits"), translated("copying"):
        raise refusal(code, status)
    assert isinstance(caught.value, ClientError)


def test_nothing_secret_is_kept_of_what_aws_sent():
    error = refusal("ExpiredToken", 400, **{"Token-0": "canary", "AWSAccessKeyId": "canary", "StringToSign": "canary"})
    raised = translate(error, "x")
    assert "canary" not in repr((raised, raised.response, raised.args, error.response))


TOKEN = "FwoGZXIvYXdzE" + "canary" * 80
QUOTING = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details.\n\nThe Canonical String for this request should "
    f"have been\n'POST\n/\n\nhost:ssm.us-east-1.amazonaws.com\nx-amz-security-token:{TOKEN}\n\nhost\n"
    "deadbeef'\n\nThe String-to-Sign should have been\n'AWS4-HMAC-SHA256\ncanary'\n"
)


@pytest.mark.parametrize(
    "said",
    [
        QUOTING,
        f"odd headers: host, X-Amz-Security-Token: {TOKEN}",
        f"odd query: X-Amz-Security-Token={TOKEN}&X-Amz-Signature=canary",
        f"bad session x-amz-s3session-token:{TOKEN}",
        "Authorization=AWS4-HMAC-SHA256 Credential=AKIA, Signature=canary",
    ],
)
@pytest.mark.parametrize("code", ["InvalidSignatureException", "IncompleteSignatureException", "Odd"])
def test_a_request_that_aws_quotes_is_not_told_on(code, said):
    """Services that speak JSON put the request as they would have signed it into their message."""
    error = refusal(code, 400, Message=said)
    error.response["message"] = said  # where botocore knows the error's shape
    with pytest.raises(AwsError) as caught, translated("reading the network parameter"):
        raise error
    raised = caught.value
    assert raised.__cause__ is error
    shown = "".join(traceback.format_exception(raised))
    assert "canary" not in shown + repr((raised, raised.response, raised.args, error, error.args, error.response))
    assert "canary" not in repr(pickle.loads(pickle.dumps(raised)).response)
    assert raised.code == code


def test_a_wrong_clock_is_still_known_by_its_message():
    said = f"Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z. {QUOTING}"
    raised = translate(refusal("InvalidSignatureException", 400, Message=said), "x")
    assert isinstance(raised, ArchiveUnavailableError)
    assert "Signature expired: 20260101T000000Z is now earlier" in str(raised)
    assert "canary" not in repr((raised, raised.response))


def test_text_from_aws_is_made_printable_and_short():
    raised = translate(refusal("Odd", 400, Message="\x1b[31m" + "x" * 10_000), "x")
    assert "\x1b" not in str(raised)
    assert len(str(raised)) < 1_000


def test_what_is_ours_already_stays_as_it_is():
    raised = translate(refusal("SlowDown", 503), "x")
    assert translate(raised, "y") is raised


def test_new_credentials_that_are_expired_already_are_the_identitys_matter():
    with pytest.raises(IdentityError, match="clock") as caught, translated("storing 'a'"):
        raise RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")
    assert may_retry(caught.value)
    with pytest.raises(RuntimeError, match="other"), translated("storing 'a'"):
        raise RuntimeError("other")
